"""`router.messages`: the SDK's resource with its calling methods routed, for threads and for asyncio."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Literal, NotRequired, Required, Unpack, cast, overload

from typing_extensions import TypeVar  # `default` comes with Python 3.13

from cheapdeep_ops.router.provider import (
    Anthropic,
    AsyncAnthropic,
    AsyncMessageStreamManager,
    AsyncStream,
    CallParams,
    Message,
    MessageParam,
    MessageStreamManager,
    ModelParam,
    Omit,
    Params,
    ParsedMessage,
    RawMessageStreamEvent,
    SdkAsyncMessages,
    SdkMessages,
    Stream,
    omit,
    wants_raw_response,
)

_Parsed = TypeVar("_Parsed", default=None)
_Events = Stream[RawMessageStreamEvent]
_AsyncEvents = AsyncStream[RawMessageStreamEvent]

Answer = Callable[[Params, str | None, str], object]
"""From a request, its route and its input class to what goes back to the caller."""

AsyncAnswer = Callable[[Params, str | None, str], Awaitable[object]]


class _CreateParams(CallParams):
    """The arguments of `create` but `stream`, which decides the type of the answer."""

    max_tokens: Required[int]
    messages: Required[Iterable[MessageParam]]
    route: NotRequired[str | None]
    input_class: NotRequired[str]


class Messages(SdkMessages):
    """`router.messages`: `create`, `stream` and `parse` are routed; all else is the SDK's own, unrouted."""

    def __init__(self, router: Anthropic, *, answer: Answer, parse: Answer, manage: Answer) -> None:
        super().__init__(router)
        self._answer, self._parse, self._manage = answer, parse, manage

    @overload
    def create(self, *, stream: Literal[False] | Omit = ..., **params: Unpack[_CreateParams]) -> Message: ...

    @overload
    def create(self, *, stream: Literal[True], **params: Unpack[_CreateParams]) -> _Events: ...

    @overload
    def create(self, *, stream: bool, **params: Unpack[_CreateParams]) -> Message | _Events: ...

    def create(
        self,
        *,
        max_tokens: int,
        messages: Iterable[MessageParam],
        stream: bool | Omit = omit,
        route: str | None = None,
        input_class: str = "",
        **params: Unpack[CallParams],
    ) -> Message | _Events:
        """Answer one request with the SDK's `Message`, whose content is the answer.

        `model` names another deep tier. With `stream=True` the SDK's stream of events comes back. An answer of a triage
        tier begins to arrive when its confidence is known to suffice; what has arrived is not taken back.
        """
        request = {"max_tokens": max_tokens, "messages": messages, "stream": stream, **params}
        if wants_raw_response(request):  # the response belongs to one request, so there is nothing to route
            unrouted: Any = super().create
            return cast("Message", unrouted(**request))
        return cast("Message", self._answer(request, route, input_class))

    def stream(
        self,
        *,
        max_tokens: int,
        messages: Iterable[MessageParam],
        output_format: type[_Parsed] | Omit | None = omit,
        route: str | None = None,
        input_class: str = "",
        **params: Unpack[CallParams],
    ) -> MessageStreamManager[_Parsed]:
        """The SDK's stream helper, for the tier that answers; the call is made when it is entered."""
        request = {
            "max_tokens": max_tokens, "messages": messages, "output_format": output_format, "stream": True, **params,
        }  # fmt: skip
        _reject_schema(output_format)
        return cast("MessageStreamManager[_Parsed]", self._manage(request, route, input_class))

    def parse(
        self,
        *,
        max_tokens: int,
        messages: Iterable[MessageParam],
        model: ModelParam,
        output_format: type[_Parsed] | Omit | None = omit,
        route: str | None = None,
        input_class: str = "",
        **params: Any,
    ) -> "ParsedMessage[_Parsed]":
        """Answer one request, parsed into `output_format`.

        The deep tier answers, because a triage reply has a schema of its own. Without `output_format` the call is not
        routed.
        """
        request = {
            "max_tokens": max_tokens, "messages": messages, "model": model, "output_format": output_format, **params,
        }  # fmt: skip
        if not output_format:
            return cast("ParsedMessage[_Parsed]", super().parse(**request))
        return cast("ParsedMessage[_Parsed]", self._parse(request, route, input_class))


class AsyncMessages(SdkAsyncMessages):
    """`Messages` for asyncio."""

    def __init__(self, router: AsyncAnthropic, *, answer: AsyncAnswer, parse: AsyncAnswer, manage: Answer) -> None:
        super().__init__(router)
        self._answer, self._parse, self._manage = answer, parse, manage

    @overload
    async def create(self, *, stream: Literal[False] | Omit = ..., **params: Unpack[_CreateParams]) -> Message: ...

    @overload
    async def create(self, *, stream: Literal[True], **params: Unpack[_CreateParams]) -> _AsyncEvents: ...

    @overload
    async def create(self, *, stream: bool, **params: Unpack[_CreateParams]) -> Message | _AsyncEvents: ...

    async def create(
        self,
        *,
        max_tokens: int,
        messages: Iterable[MessageParam],
        stream: bool | Omit = omit,
        route: str | None = None,
        input_class: str = "",
        **params: Unpack[CallParams],
    ) -> Message | _AsyncEvents:
        """Answer one request with the SDK's `Message`, whose content is the answer. See `Messages.create`."""
        request = {"max_tokens": max_tokens, "messages": messages, "stream": stream, **params}
        if wants_raw_response(request):  # the response belongs to one request, so there is nothing to route
            unrouted: Any = super().create
            return cast("Message", await unrouted(**request))
        return cast("Message", await self._answer(request, route, input_class))

    def stream(
        self,
        *,
        max_tokens: int,
        messages: Iterable[MessageParam],
        output_format: type[_Parsed] | Omit | None = omit,
        route: str | None = None,
        input_class: str = "",
        **params: Unpack[CallParams],
    ) -> AsyncMessageStreamManager[_Parsed]:
        """The SDK's stream helper, for the tier that answers. See `Messages.stream`."""
        request = {
            "max_tokens": max_tokens, "messages": messages, "output_format": output_format, "stream": True, **params,
        }  # fmt: skip
        _reject_schema(output_format)
        return cast("AsyncMessageStreamManager[_Parsed]", self._manage(request, route, input_class))

    async def parse(
        self,
        *,
        max_tokens: int,
        messages: Iterable[MessageParam],
        model: ModelParam,
        output_format: type[_Parsed] | Omit | None = omit,
        route: str | None = None,
        input_class: str = "",
        **params: Any,
    ) -> "ParsedMessage[_Parsed]":
        """Answer one request, parsed into `output_format`. See `Messages.parse`."""
        request = {
            "max_tokens": max_tokens, "messages": messages, "model": model, "output_format": output_format, **params,
        }  # fmt: skip
        if not output_format:
            return cast("ParsedMessage[_Parsed]", await super().parse(**request))
        return cast("ParsedMessage[_Parsed]", await self._parse(request, route, input_class))


def _reject_schema(output_format: object) -> None:
    """Raises the SDK's TypeError for a schema, as the SDK does: before the call, and not when the stream is entered."""
    if isinstance(output_format, Mapping):
        raise TypeError("`output_format` must be a type; pass a schema dict as `output_config={'format': ...}` instead")
