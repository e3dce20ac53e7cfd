"""`messages.create` whose replies are parsed in one step, in a tenth of the time that the SDK takes.

The SDK builds a message field by field, so that it can return replies that are not as its types say. Nearly all replies
are. Those are validated as a whole, strictly, and the result is equal to the SDK's. All others the SDK parses.
"""

from collections.abc import Mapping
from typing import Any, Final

import httpx2
from anthropic import Anthropic, APIResponse, AsyncAnthropic, AsyncAPIResponse
from anthropic.resources.messages import AsyncMessages, Messages
from anthropic.types import Message
from pydantic import ValidationError

from cheapdeep_ops.claude.instrumentation import sends_plainly
from cheapdeep_ops.ids import random_id

_WHOLE: Final = APIResponse[Message]
_ASYNC_WHOLE: Final = AsyncAPIResponse[Message]


class LeanMessages(Messages):
    """The `messages` of a client that the router has copied."""

    def __init__(self, client: Anthropic) -> None:
        super().__init__(client)
        self._post: Any = self._send  # the SDK's methods send by this attribute

    def _send(self, path: str, **request: Any) -> Any:
        if not _is_lean(self._client, request):
            return self._client.post(path, **request)
        response = self._client.post(path, **_lean(request, _WHOLE))
        return parsed(response.http_response) or response.parse()


class AsyncLeanMessages(AsyncMessages):
    """`LeanMessages` for asyncio."""

    def __init__(self, client: AsyncAnthropic) -> None:
        super().__init__(client)
        self._post: Any = self._send

    async def _send(self, path: str, **request: Any) -> Any:
        if not _is_lean(self._client, request):
            return await self._client.post(path, **request)
        response = await self._client.post(path, **_lean(request, _ASYNC_WHOLE))
        return parsed(response.http_response) or await response.parse()


def _is_lean(client: object, request: Mapping[str, Any]) -> bool:
    """Whether the reply is one message, which nothing but the SDK's own code is to see before it is parsed."""
    is_one_message = request["cast_to"] is Message and not request["stream"] and "post_parser" not in request["options"]
    return is_one_message and sends_plainly(client)


def _lean(request: Mapping[str, Any], cast_to: object) -> dict[str, Any]:
    """The request with the response itself as its result."""
    # The SDK would ask the system for a random key, which takes long in a container.
    return {**request, "cast_to": cast_to, "options": {**request["options"], "idempotency_key": random_id()}}


def parsed(response: httpx2.Response) -> Message | None:
    """The message in a response; None if it is not exactly as the SDK's types say."""
    # Read in one pass, because each look-up by name goes through the whole list.
    headers = {name.lower(): value for name, value in response.headers.raw}
    if not headers.get(b"content-type", b"").partition(b";")[0].endswith(b"json"):
        return None
    try:
        # Without `strict`, Pydantic would turn "12" into 12.
        message = Message.model_validate_json(response.content, strict=True)
    except ValidationError:
        return None
    message._request_id = _text(headers.get(b"request-id"))  # noqa: SLF001 - public in all but its name, says the SDK
    message._workspace_id = _text(headers.get(b"anthropic-workspace-id"))  # noqa: SLF001
    return message


def _text(header: bytes | None) -> str | None:
    return None if header is None else header.decode("latin-1")
