"""Streams that go back to the caller: of the SDK's own types, and recorded when they end, however they end."""

import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from copy import copy
from typing import Any, Final, Generic, TypeVar

from cheapdeep_ops.flow import CascadeResult
from cheapdeep_ops.partial import Early
from cheapdeep_ops.router.calls import Call
from cheapdeep_ops.router.core import CallRunner, OpenCall
from cheapdeep_ops.router.model_call import ModelCall
from cheapdeep_ops.router.provider import (
    AsyncStream,
    Event,
    RawMessageStreamEvent,
    Shown,
    Stream,
    StreamProgress,
    claude,
)
from cheapdeep_ops.values import Decision, TierReply

_log: Final = logging.getLogger(__name__)
_LONGEST_TAIL: Final = 64
"""How much of a reply is read for its trace alone, in characters: `"answer": null}` is shorter, an answer longer."""

TAIL_S: Final = 0.5
"""How long the end of such a reply is waited for, in seconds."""

Part = TypeVar("Part", Event, str)
Upstream = TypeVar("Upstream", Stream[RawMessageStreamEvent], AsyncStream[RawMessageStreamEvent])


class OpenStream(Generic[Upstream]):
    """A model's open stream; `passed` is what the caller gets first."""

    def __init__(self, stream: Upstream, progress: StreamProgress, model_call: ModelCall) -> None:
        self.stream: Upstream = stream
        self.progress, self.model_call = progress, model_call
        self.passed: list[Event | str] = []
        self._tail, self._is_read = 0, False

    @property
    def is_undecided(self) -> bool:
        """Whether more of it must be read to know whether its answer ships."""
        return self.progress.decision is Early.UNDECIDED

    @property
    def ships(self) -> bool:
        """Whether the caller gets its answer."""
        return self.progress.decision is Early.SHIP

    @property
    def is_withheld(self) -> bool:
        """Whether its answer would ship at the base threshold, and more of it is to come."""
        return self.progress.is_withheld

    @property
    def has_tail(self) -> bool:
        """Whether to read the end of a reply that escalates: its trace has no final figures else, or is lost."""
        is_watched = self.model_call.is_traced or not self.model_call.is_plain
        return is_watched and not (self._is_read or self.progress.is_withheld)

    def take_tail(self, event: Event) -> bool:
        """Process an event after the decision; False if the end of the reply is too far."""
        self.progress.take(event)
        text = getattr(getattr(event, "delta", None), "text", "")
        self._tail += len(text) if isinstance(text, str) else 0
        return self._tail <= _LONGEST_TAIL

    def take(self, shown: Shown) -> None:
        """Keep what the caller gets."""
        self.passed += shown

    def read(self) -> None:
        """Its last event was read."""
        self._is_read = True
        self.take(self.progress.end())

    def shown(self, parts: Shown, of_text: Callable[[str], Part]) -> Iterator[Event | Part]:
        """The events, with what `of_text` makes of a text. The time that the caller spends on each is not the model's.

        Raises an `anthropic.APIError` after the last event of an answer that was cut.
        """
        for part in parts:
            given = of_text(part) if isinstance(part, str) else part
            self.model_call.pause()
            yield given
            self.model_call.resume()
        if self.progress.is_cut:
            raise claude.cut_answer_error(self.stream.response)

    def reply(self) -> TierReply:
        """The reply so far, for the flow; its message is this stream if the caller gets it."""
        reply = self.progress.reply()
        return TierReply(verdict=reply.verdict, usage=reply.usage, message=self) if self.ships else reply

    def end(self, error: BaseException | None = None) -> None:
        """End the model call: the stream is read to its end, given up, or has failed with `error`."""
        self.model_call.note(self.progress.reply())
        self.model_call.end(error)


def begun(result: CascadeResult) -> OpenStream[Any]:
    """The stream that the caller gets. Raises the error of a call that failed, unchanged."""
    if result.answer is None:
        raise result.error or AssertionError("a call ends with an answer or an error")
    opened = result.answer.message
    if not isinstance(opened, OpenStream):
        raise TypeError(f"the API answered with something else than a stream: {type(opened).__name__}")
    return opened


class StreamFinalizer:
    """Records a streamed call when it ends. Only the first report of its end counts."""

    def __init__(self, runner: CallRunner, open_call: OpenCall, opened: OpenStream[Any]) -> None:
        self._runner, self._opened = runner, opened
        self.open_call = open_call
        self._is_over = False
        self._process = os.getpid()
        runner.open_streams.add(self)

    def __call__(self, error: BaseException | None = None) -> None:
        """The stream was read to its end, was closed, or failed with `error`. Never raises."""
        if self._is_over or self._process != os.getpid():  # after a fork, only one process records it
            return
        self._is_over = True
        try:
            if isinstance(error, Exception) and claude.interruption(error) is not None:
                self.open_call.call.interruption = error
            self._opened.end(error)
            self._runner.end_stream(self.open_call, self._opened.progress.reply(), error)
        except Exception:  # noqa: BLE001 - the caller's stream has ended, and a failure to record must not change how
            _log.exception("a streamed call could not be recorded")

    def later(self) -> None:
        """The stream was dropped, perhaps while a lock is held that recording needs."""
        if not self._is_over:
            self._runner.abandoned.put(self)


class _DropNotice:
    """Tells the finalizer of a stream when nothing refers to the stream any more."""

    # Not `weakref.finalize`, whose registry would keep the finalizer alive. It refers to the errors of failed triage,
    # those to the frames that raised them, and those to the stream: none of it would ever be collected.
    def __init__(self, finalizer: StreamFinalizer) -> None:
        self._finalizer = finalizer

    def __del__(self) -> None:
        self._finalizer.later()


class _RecordedStream(Generic[Upstream]):
    """What the streams of both routers share: the stream below, and the record of the call when it ends."""

    def __init__(self, opened: OpenStream[Upstream], finalizer: StreamFinalizer) -> None:
        # The SDK's constructor would decode the response; the stream below has done so.
        self.response = opened.stream.response
        self._opened: OpenStream[Upstream] = opened
        self._finalizer = finalizer
        opened.model_call.pause()
        # The SDK iterates over a copy of this stream, which shares the notice.
        self._notice = _DropNotice(finalizer)

    @property
    def _observer(self) -> Any:
        """What writes the SDK's own span of an original stream: it sees what the caller reads.

        None for another stream, because the one below has its own.
        """
        return super()._observer if self._is_sdks_own else None  # type: ignore[misc]

    @property
    def _arriving(self) -> Upstream:
        """The events of the stream below. With an observer here, it is passed by there."""
        return self._opened.stream._iterator if self._is_sdks_own else self._opened.stream  # type: ignore[return-value]  # noqa: SLF001

    @property
    def _is_sdks_own(self) -> bool:
        return self._opened.model_call.ask.kind == "original" and type(self._opened.stream) in (Stream, AsyncStream)

    @property
    def gives_texts(self) -> bool:
        """Whether its parts are events and, within a message that has begun, a text for each delta."""
        return self._opened.progress.gives_texts

    @property
    def call(self) -> Call:
        """The call whose stream this is."""
        return self._finalizer.open_call.call

    @property
    def result(self) -> CascadeResult | None:
        """How the call was decided so far: which tier's stream this is, and why."""
        return self._finalizer.open_call.result

    @property
    def decision(self) -> Decision | None:
        """How the call was decided, and what it cost; None before its end."""
        return self._finalizer.open_call.decision


class RoutedStream(_RecordedStream[Stream[RawMessageStreamEvent]], Stream[RawMessageStreamEvent]):
    """The stream of the tier that answers; `decision` is None until it has ended.

    A stream that is dropped before its end is recorded soon, by the recorder's thread. With a recorder of the caller's
    own, it is recorded at the next call, or when its router is closed.
    """

    def __stream__(self) -> Iterator[RawMessageStreamEvent]:
        """The events for the caller."""
        return self._parts(claude.text_event)

    def parts(self) -> Iterator[RawMessageStreamEvent | str]:
        """The events for the caller; a text stands for the event of a delta that is not built yet."""
        # On a copy, as in the SDK: the generator must not keep this stream alive.
        return copy(self)._parts(str)  # noqa: SLF001 - a copy of this object

    def _parts(self, of_text: Callable[[str], Part]) -> Iterator[RawMessageStreamEvent | Part]:
        opened = self._opened
        opened.model_call.resume()
        try:
            yield from opened.shown(opened.passed, of_text)
            for event in self._arriving:
                yield from opened.shown(opened.progress.take(event), of_text)
            yield from opened.shown(opened.progress.end(), of_text)
        except GeneratorExit:
            self._finalizer.later()
            raise
        except BaseException as error:
            self._finalizer(error)
            raise
        else:
            self._finalizer()
        finally:
            opened.stream.close()

    def close(self) -> None:
        """Record the call as far as it went, and close the connection."""
        self._finalizer()
        self._opened.stream.close()


class AsyncRoutedStream(_RecordedStream[AsyncStream[RawMessageStreamEvent]], AsyncStream[RawMessageStreamEvent]):
    """`RoutedStream` for asyncio."""

    def __stream__(self) -> AsyncIterator[RawMessageStreamEvent]:
        """The events for the caller."""
        return self._parts(claude.text_event)

    def parts(self) -> AsyncIterator[RawMessageStreamEvent | str]:
        """The events for the caller; a text stands for the event of a delta that is not built yet."""
        return copy(self)._parts(str)  # noqa: SLF001 - a copy of this object

    async def _parts(self, of_text: Callable[[str], Part]) -> AsyncIterator[RawMessageStreamEvent | Part]:
        opened = self._opened
        opened.model_call.resume()
        try:
            for part in opened.shown(opened.passed, of_text):
                yield part
            async for event in self._arriving:
                for part in opened.shown(opened.progress.take(event), of_text):
                    yield part
            for part in opened.shown(opened.progress.end(), of_text):
                yield part
        except GeneratorExit:
            self._finalizer.later()
            raise
        except BaseException as error:
            self._finalizer(error)
            raise
        else:
            self._finalizer()
        finally:
            await opened.stream.close()

    async def close(self) -> None:
        """Record the call as far as it went, and close the connection."""
        self._finalizer()
        await self._opened.stream.close()
