"""A lean `messages.create`: it copies an earlier request, and parses a reply in one step, in a tenth of the SDK's time.

The SDK builds a message field by field, because a reply may differ from its types. Nearly all replies fit the types.
Those are validated as a whole, strictly, and the result is equal to the SDK's. The SDK parses all other replies.
"""

# ruff: noqa: SLF001 - the SDK has no public names for sending a request that is built already

from collections.abc import Mapping
from typing import Any, Final

import httpx2
from anthropic import Anthropic, APIResponse, AsyncAnthropic, AsyncAPIResponse
from anthropic._models import FinalRequestOptions
from anthropic.resources.messages import AsyncMessages, Messages
from anthropic.types import Message
from pydantic import ValidationError

from cheapdeep_ops.claude.instrumentation import are_of_the_sdk, sends_plainly
from cheapdeep_ops.claude.lean_requests import RequestTemplate, sdk_error
from cheapdeep_ops.claude.raw_message import RawMessage, raw_message
from cheapdeep_ops.claude.response_headers import ResponseHeaders
from cheapdeep_ops.claude.retry_wait import after_failed_attempt

_PATH: Final = "/v1/messages"
_WHOLE: Final = APIResponse[Message]
_ASYNC_WHOLE: Final = AsyncAPIResponse[Message]
_WRAPPER: Final[Mapping[str, Any]] = {
    "cast_to": Message,
    "stream": False,
    "stream_cls": None,
    "options": FinalRequestOptions.construct(method="post", url=_PATH),
}
"""What the SDK's wrapper of a response is told of the request."""

_NONE: Final[Mapping[str, object]] = {}


class LeanMessages(Messages):
    """The `messages` of the router's copy of a client, whose class is the SDK's own.

    With `is_raw`, `create` returns a `RawMessage`, which only the router reads. `extensions` are those of all requests.
    """

    def __init__(self, client: Anthropic, *, is_raw: bool, extensions: Mapping[str, object] = _NONE) -> None:
        super().__init__(client)
        self._is_raw = is_raw
        self._template = RequestTemplate(client, _PATH, extensions)
        self._post: Any = self._send  # the SDK's methods send by this attribute

    def _send(self, path: str, **request: Any) -> Any:
        client = self._client
        if not _is_lean(client, path, request):
            return client.post(path, **request)
        filled = self._template.filled(request)
        outcome = None if filled is None else self._outcome(filled)
        if not isinstance(outcome, APIResponse) or not outcome.http_response.is_success:
            _raise_if_final(outcome, client)
            with after_failed_attempt(outcome):
                outcome = client.post(path, **{**request, "cast_to": _WHOLE})
        return self._read(outcome.http_response) or outcome.parse()

    def _read(self, response: httpx2.Response) -> Message | RawMessage | None:
        # A wrapper around `create` must see the SDK's message.
        return raw_message(response) if self._is_raw and are_of_the_sdk(self.create) else parsed(response)

    def _outcome(self, request: httpx2.Request) -> APIResponse[Message] | Exception:
        """The response to a request, or the SDK's error if there was none."""
        try:
            response = self._client._client.send(request)
        except Exception as error:  # noqa: BLE001 - the SDK decides whether to retry
            return sdk_error(request, error)
        return APIResponse(raw=response, client=self._client, **_WRAPPER)


class AsyncLeanMessages(AsyncMessages):
    """`LeanMessages` for asyncio."""

    def __init__(self, client: AsyncAnthropic, *, is_raw: bool, extensions: Mapping[str, object] = _NONE) -> None:
        super().__init__(client)
        self._is_raw = is_raw
        self._template = RequestTemplate(client, _PATH, extensions)
        self._post: Any = self._send

    async def _send(self, path: str, **request: Any) -> Any:
        client = self._client
        if not _is_lean(client, path, request):
            return await client.post(path, **request)
        filled = self._template.filled(request)
        outcome = None if filled is None else await self._outcome(filled)
        if not isinstance(outcome, AsyncAPIResponse) or not outcome.http_response.is_success:
            _raise_if_final(outcome, client)
            with after_failed_attempt(outcome):
                outcome = await client.post(path, **{**request, "cast_to": _ASYNC_WHOLE})
        return self._read(outcome.http_response) or await outcome.parse()

    def _read(self, response: httpx2.Response) -> Message | RawMessage | None:
        return raw_message(response) if self._is_raw and are_of_the_sdk(self.create) else parsed(response)

    async def _outcome(self, request: httpx2.Request) -> AsyncAPIResponse[Message] | Exception:
        try:
            response = await self._client._client.send(request)
        except Exception as error:  # noqa: BLE001 - as above
            return sdk_error(request, error)
        return AsyncAPIResponse(raw=response, client=self._client, **_WRAPPER)


def _raise_if_final(outcome: Any, client: Any) -> None:
    """Raises the error of a failed attempt if the client does not retry."""
    if outcome is None or client.middleware:
        return
    error = (
        outcome if isinstance(outcome, Exception) else client._make_status_error_from_response(outcome.http_response)
    )
    raise error from error.__cause__


def _is_lean(client: object, path: str, request: Mapping[str, Any]) -> bool:
    """Whether the reply is one message, and only the SDK's own code could see it before it is parsed."""
    is_one_message = request["cast_to"] is Message and not request["stream"] and "post_parser" not in request["options"]
    return is_one_message and path == _PATH and sends_plainly(client)


def parsed(response: httpx2.Response) -> Message | None:
    """The message in a response; None if it is not exactly as the SDK's types say."""
    headers = ResponseHeaders(response)
    if not headers.is_json:
        return None
    try:
        # Without `strict`, Pydantic would turn "12" into 12.
        message = Message.model_validate_json(response.content, strict=True)
    except ValidationError:
        return None
    headers.add_ids_to(message)
    return message
