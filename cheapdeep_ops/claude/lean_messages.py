"""A lean `messages.create`: it copies an earlier request, and parses a reply in one step, in a tenth of the SDK's time.

The SDK builds a message field by field, because a reply may differ from its types. Nearly all replies fit the types.
Those are validated as a whole, strictly, and the result is equal to the SDK's. The SDK parses all other replies.
"""

# ruff: noqa: SLF001 - the SDK has no public names for sending a request without its retries

from collections.abc import Mapping
from typing import Any, Final

import httpx2
from anthropic import Anthropic, AnthropicError, APIResponse, AsyncAnthropic, AsyncAPIResponse, NotGiven
from anthropic._models import FinalRequestOptions
from anthropic.resources.messages import AsyncMessages, Messages
from anthropic.types import Message
from pydantic import ValidationError

from cheapdeep_ops.claude.instrumentation import is_plain, sends_plainly
from cheapdeep_ops.claude.lean_requests import RequestTemplate, connection_error
from cheapdeep_ops.claude.raw_message import RawMessage, raw_message
from cheapdeep_ops.claude.response_headers import ResponseHeaders
from cheapdeep_ops.ids import random_id

_PATH: Final = "/v1/messages"
_WHOLE: Final = APIResponse[Message]
_ASYNC_WHOLE: Final = AsyncAPIResponse[Message]


class LeanMessages(Messages):
    """The `messages` of the router's copy of a client, whose class is the SDK's own.

    With `is_raw`, `create` returns a `RawMessage`, which only the router reads.
    """

    def __init__(self, client: Anthropic, *, is_raw: bool) -> None:
        super().__init__(client)
        self._is_raw = is_raw
        self._template, self._options = RequestTemplate(client, _PATH), _options_for(client)
        self._post: Any = self._send  # the SDK's methods send by this attribute

    def _send(self, path: str, **request: Any) -> Any:
        client = self._client
        if not _is_lean(client, path, request):
            return client.post(path, **request)
        filled = self._template.filled(request)
        if filled is None:
            response = client.request(_WHOLE, _with(self._options, request))
        else:
            response = _whole(client, self._sent(filled), self._options)
        return self._read(response.http_response) or response.parse()

    def _read(self, response: httpx2.Response) -> Message | RawMessage | None:
        # A wrapper around `create` must see the SDK's message.
        return raw_message(response) if self._is_raw and is_plain(self.create) else parsed(response)

    def _sent(self, request: httpx2.Request) -> httpx2.Response:
        try:
            return self._client._client.send(request)
        except AnthropicError:  # a transport may raise one
            raise
        except Exception as error:
            raise connection_error(request, error) from error


class AsyncLeanMessages(AsyncMessages):
    """`LeanMessages` for asyncio."""

    def __init__(self, client: AsyncAnthropic, *, is_raw: bool) -> None:
        super().__init__(client)
        self._is_raw = is_raw
        self._template, self._options = RequestTemplate(client, _PATH), _options_for(client)
        self._post: Any = self._send

    async def _send(self, path: str, **request: Any) -> Any:
        client = self._client
        if not _is_lean(client, path, request):
            return await client.post(path, **request)
        filled = self._template.filled(request)
        if filled is None:
            response = await client.request(_ASYNC_WHOLE, _with(self._options, request))
        else:
            response = _whole(client, await self._sent(filled), self._options, kind=AsyncAPIResponse)
        return self._read(response.http_response) or await response.parse()

    def _read(self, response: httpx2.Response) -> Message | RawMessage | None:
        return raw_message(response) if self._is_raw and is_plain(self.create) else parsed(response)

    async def _sent(self, request: httpx2.Request) -> httpx2.Response:
        try:
            return await self._client._client.send(request)
        except AnthropicError:
            raise
        except Exception as error:
            raise connection_error(request, error) from error


def _whole(client: Any, response: httpx2.Response, options: FinalRequestOptions, *, kind: Any = APIResponse) -> Any:
    """The SDK's wrapper of a response. Raises the SDK's error for the status."""
    if not response.is_success:
        raise client._make_status_error_from_response(response) from None
    return kind(raw=response, cast_to=Message, client=client, stream=False, stream_cls=None, options=options)


def _options_for(client: Anthropic | AsyncAnthropic) -> FinalRequestOptions:
    """The options that all requests share. Their URL is absolute: a relative one is parsed at each request."""
    return FinalRequestOptions.construct(method="post", url=str(client._prepare_url(_PATH)))


def _with(options: FinalRequestOptions, request: Mapping[str, Any]) -> FinalRequestOptions:
    # The SDK would ask the system for a random key, which takes long in a container.
    own = {"json_data": request["body"], "idempotency_key": random_id(), **request["options"]}
    return options.model_copy(update={name: _given(value) for name, value in own.items()})


def _given(value: object) -> object:
    """The value without what is not given in it, as the SDK's constructor of options takes it."""
    if not isinstance(value, Mapping):
        return value
    return {name: each for name, each in value.items() if not isinstance(each, NotGiven)}


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
