"""Puts the events of a stream together to the message that the API sends whole.

Source: https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from collections.abc import Iterator
from typing import Any, Final

import httpx2
from pydantic_core import from_json, to_json

from cheapdeep_ops.claude.conversion import merged_usage

_STATUSES: Final = {
    "invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
    "not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429, "api_error": 500,
    "timeout_error": 504, "overloaded_error": 529,
}  # fmt: skip
"""Source: https://platform.claude.com/docs/en/api/errors"""

_OF_THE_STREAM: Final = frozenset({"content-type", "content-length", "content-encoding", "transfer-encoding"})
_APPENDED: Final = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


def as_whole(response: httpx2.Response) -> httpx2.Response:
    """The response that a request without `stream` would have got; that of the stream `response` was read.

    An error event becomes a response with the status of the error. Raises httpx2.RemoteProtocolError if the stream is
    not in the API's format, or has broken off.
    """
    try:
        status, body = _status_and_body(response.content)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise httpx2.RemoteProtocolError(f"the stream is not in the API's format: {error!r}") from error
    headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in _OF_THE_STREAM]
    return httpx2.Response(
        status,
        headers=[*headers, ("content-type", "application/json")],
        content=to_json(body),
        request=response.request,
    )


def _status_and_body(content: bytes) -> tuple[int, dict[str, Any]]:
    """Those of the whole response. Raises other errors than ValueError too if the events lack their fields."""
    message: dict[str, Any] = {}
    for event in _events(content):
        if event["type"] == "error":
            return _STATUSES.get(event["error"]["type"], 500), event
        if event["type"] == "message_stop":
            return 200, message
        message = _with_event(message, event)
    raise ValueError("it has no end")


def _events(content: bytes) -> Iterator[dict[str, Any]]:
    for line in content.splitlines():
        if line.startswith(b"data:"):
            yield from_json(line[5:])


def _with_event(message: dict[str, Any], event: Any) -> Any:
    """The message after another event; the dictionaries inside may change in place."""
    kind = event["type"]
    if kind == "message_start":
        return event["message"] | {"content": []}
    if kind == "content_block_start":
        message["content"].append(dict(event["content_block"]))
    elif kind == "content_block_delta":
        _add_delta(message["content"][event["index"]], event["delta"])
    elif kind == "content_block_stop":
        block = message["content"][event["index"]]
        if isinstance(text := block.pop("partial_json", None), str):
            block["input"] = from_json(text) if text else {}
    elif kind == "message_delta":
        usage = merged_usage(message.get("usage") or {}, event.get("usage") or {})
        return message | event["delta"] | {"usage": usage}
    return message


def _add_delta(block: dict[str, Any], delta: dict[str, Any]) -> None:
    if delta["type"] == "citations_delta":
        block["citations"] = [*(block.get("citations") or []), delta["citation"]]
    elif delta["type"] == "input_json_delta":
        block["partial_json"] = block.get("partial_json", "") + delta["partial_json"]
    elif name := _APPENDED.get(delta["type"]):
        block[name] = block.get(name, "") + delta[name]
