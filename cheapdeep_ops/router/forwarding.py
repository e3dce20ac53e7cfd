"""A router whose deep tier gets the caller's own bytes, and whose replies go back as they came; for a gateway."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, cast

import httpx2

from cheapdeep_ops.flow import Bypass, CascadeResult
from cheapdeep_ops.router.asynchronous import AsyncRouter, Events
from cheapdeep_ops.router.calls import Call
from cheapdeep_ops.router.provider import (
    AnyMessage,
    AsyncAnthropic,
    Message,
    Params,
    PassedStream,
    StreamProgress,
    answer_json,
    as_whole,
    client_for_caller,
    raise_for_status,
    refuses_unstreamed,
    streamed_error,
    whole_reply,
)
from cheapdeep_ops.router.streams import AsyncRoutedStream
from cheapdeep_ops.values import BypassCause, Decision

_NEW_ACCOUNT: Final = {"api_key": ""}
"""The option of a client that says that its account is another one."""


class Forward(Protocol):
    """One request of a caller, as it came."""

    def begun(self, call: Call) -> None:
        """The call has begun, and nothing is sent yet."""

    async def send(self, *, streamed: bool = False) -> httpx2.Response:
        """The API's response to it, of which the body is not read yet. Raises errors of httpx2.

        With `streamed`, a response that was to be whole is asked for as a stream.
        """


class Outline(NamedTuple):
    """What is known of a call, without its content; None where it is not known yet, or there is none."""

    call_id: str
    threshold: float
    tier: int | None = None
    confidence: float | None = None
    reason: str | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The whole answer of a call, as the body of a response with `headers`; `is_triage` is whose answer it is."""

    decision: Decision
    is_triage: bool
    status: int
    headers: httpx2.Headers
    body: bytes


def outline_of(call: Call, result: CascadeResult | None = None) -> Outline:
    """What is known of a call that has begun, or whose answer begins."""
    begun = Outline(call_id=call.id, threshold=call.labels.policy.threshold)
    if result is None:
        return begun
    return begun._replace(tier=result.answered.ask.tier.index, confidence=result.confidence, reason=result.reason)


def send_deep(call: Call, cause: BypassCause) -> None:
    """Have a call that has just begun answered by its deep tier, without triage."""
    call.bypass = call.bypass or Bypass(tier=call.tiers[-1], cause=cause)
    call.is_shadowed = False


class ForwardingRouter(AsyncRouter):
    """An `AsyncRouter` that triages requests by their arguments, and forwards them as they came to the deep tier."""

    def for_caller(self, headers: Mapping[str, str]) -> "ForwardingRouter":
        """A view that sends triage with these headers, and has breakers of its own."""
        # A limit of one account says nothing about the others.
        return self._view(client_for_caller(self._sdk, headers), self._core.for_view(_NEW_ACCOUNT))

    async def answer_whole(self, params: Params, forward: Forward, *, route: str | None, input_class: str) -> Answered:
        """One call from begin to end. Raises the error of its last model call, with the decision attached."""
        original = _Original(forward, self._sdk)
        open_call = await self._run(params, route, input_class, original=original)
        result, decision = open_call.result, open_call.decision
        if result is None or decision is None:
            raise AssertionError("the call has not ended")
        if result.answer is None:
            raise result.error or AssertionError("a call ends with an answer or an error")
        message, verdict = result.answer.message, result.answer.verdict
        if verdict is not None and verdict.answer is not None and isinstance(message, AnyMessage):
            body, headers = answer_json(message, verdict.answer)
            return Answered(decision=decision, is_triage=True, status=200, headers=headers, body=body)
        response = original.response
        if response is None:
            raise AssertionError("only triage and the forwarded request can answer")
        return Answered(
            decision=decision,
            is_triage=False,
            status=response.status_code,
            headers=response.headers,
            body=response.content,
        )

    async def answer_streamed(
        self, params: Params, forward: Forward, *, route: str | None, input_class: str
    ) -> AsyncRoutedStream:
        """One call until it is known which tier answers; the parts of the deep tier's stream are its bytes.

        Reading it raises StreamedError after the last byte if the API has sent an error event.
        """
        return await self._stream(params, route, input_class, original=_Original(forward, self._sdk))

    @property
    def http_client(self) -> httpx2.AsyncClient:
        """The HTTP client, whose connections all callers share."""
        return self._sdk._client  # noqa: SLF001 - the SDK has no public name for it


class _Original:
    """Sends what `forward` sends, and reads the figures of the reply. `response` is the last one, once it was read."""

    def __init__(self, forward: Forward, client: AsyncAnthropic) -> None:
        self._forward, self._client = forward, client
        self._call: Call | None = None
        self.response: httpx2.Response | None = None

    def begun(self, call: Call) -> None:
        call.is_forwarded, self._call = True, call
        self._forward.begun(call)

    async def send(self, **_request: Any) -> Message:
        # Nothing would arrive for minutes, and networks drop idle connections. A bypassed request keeps its bytes.
        call = self._call
        is_long = (
            call is not None
            and call.bypass is None
            and refuses_unstreamed(self._client, call.params, model=call.tiers[-1].model)
        )
        response = await _read(await self._forward.send(streamed=is_long))
        is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
        self.response = as_whole(response) if is_long and is_stream else response
        return cast("Message", whole_reply(self.response, self._client))

    async def open(self) -> tuple[Events, StreamProgress]:
        response = await self._forward.send()
        if not response.is_success:
            raise_for_status(await _read(response), self._client)
        progress = PassedStream()
        return cast("Events", _Passed(response, progress)), progress


async def _read(response: httpx2.Response) -> httpx2.Response:
    """The response with its body."""
    try:
        await response.aread()
    finally:
        await response.aclose()
    return response


class _Passed:
    """The bytes of a response, as a stream whose events they are."""

    def __init__(self, response: httpx2.Response, progress: PassedStream) -> None:
        self.response, self._progress = response, progress

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self.response.aiter_raw():
            yield chunk
        if self._progress.error is not None:
            raise streamed_error(self._progress.error)

    async def close(self) -> None:
        await self.response.aclose()
