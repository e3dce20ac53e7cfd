"""Streams that go back to the caller: of the SDK's own types, recorded when they end, however they end.

What is read from a model's stream, and when it is decided, is the same for threads and asyncio; the waiting differs.
"""

import asyncio
import logging
import os
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Generic, TypeVar

from cheapdeep_ops.claude.clients import abort_response
from cheapdeep_ops.claude.sdk import AsyncStream, NotGiven, RawMessageStreamEvent, Stream
from cheapdeep_ops.claude.stream_events import Events, OriginalProgress, TriageProgress
from cheapdeep_ops.flow import CascadeResult, completed
from cheapdeep_ops.partial import Early
from cheapdeep_ops.router.background import BackgroundTask
from cheapdeep_ops.router.core import CallRunner, ModelCall, OpenCall
from cheapdeep_ops.values import Decision, TierReply

_log: Final = logging.getLogger(__name__)
Upstream = TypeVar("Upstream", Stream[RawMessageStreamEvent], AsyncStream[RawMessageStreamEvent])


class OpenStream(Generic[Upstream]):
    """A model's stream that has begun: `passed` are the events that the caller gets first."""

    def __init__(self, stream: Upstream, reading: OriginalProgress | TriageProgress, question: ModelCall) -> None:
        self.stream: Upstream = stream
        self.reading, self.question = reading, question
        self.passed: list[RawMessageStreamEvent] = []

    @property
    def is_undecided(self) -> bool:
        """Whether more of it must be read to tell whether it ships."""
        return isinstance(self.reading, TriageProgress) and self.reading.decision is Early.UNDECIDED

    @property
    def goes_out(self) -> bool:
        """Whether it is the caller's from here on."""
        return not isinstance(self.reading, TriageProgress) or self.reading.decision is Early.SHIP

    def take(self, events: Events) -> None:
        """Keep events for the caller."""
        self.passed += events

    def shown(self, events: Events) -> Iterator[RawMessageStreamEvent]:
        """The events for the caller, whose own time with each of them is not the model's."""
        for event in events:
            self.question.pause()
            yield event
            self.question.resume()

    @property
    def is_withheld(self) -> bool:
        """Whether its answer would ship at the base threshold, and there is more of it."""
        is_first = self.question.ask.tier.index == 0  # the tier whose answers are graded
        return is_first and isinstance(self.reading, TriageProgress) and self.reading.is_withheld

    def reply(self) -> TierReply:
        """What the flow learns: the reply so far, with the stream itself where the caller gets it."""
        reply = self.reading.reply()
        return TierReply(verdict=reply.verdict, usage=reply.usage, message=self) if self.goes_out else reply

    def end(self, error: BaseException | None = None) -> None:
        """Nobody reads it any more."""
        self.question.note(self.reading.reply())
        self.question.end(error)


def begun(course: CascadeResult) -> OpenStream[Any]:
    """The stream that the caller gets. Raises the course's own error, unchanged, where there is none."""
    if course.answer is None:
        raise course.error or AssertionError("a course ends with an answer or an error")
    opened = course.answer.message
    if not isinstance(opened, OpenStream):
        raise TypeError(f"the API answered with something else than a stream: {type(opened).__name__}")
    return opened


class StreamFinalizer:
    """What is done when a streamed call is over: its decision is made, once, by whatever ends it first."""

    def __init__(self, core: CallRunner, asked: OpenCall, opened: OpenStream[Any]) -> None:
        self._core, self._opened = core, opened
        self.asked = asked
        self._is_over = False
        self._process = os.getpid()
        core.open_streams.add(self)

    def __call__(self, error: BaseException | None = None) -> None:
        """The stream was read to its end, failed with `error`, or was left. Never raises."""
        if self._is_over or self._process != os.getpid():  # a fork's other half records it
            return
        self._is_over = True
        try:
            self._end(error)
        except Exception:  # noqa: BLE001 - the caller's stream is over, well or not; this must not add to it
            _log.exception("a streamed call could not be recorded")

    def later(self) -> None:
        """The stream was dropped, perhaps while a lock is held that recording needs."""
        self._core.late.put(self)

    def _end(self, error: BaseException | None) -> None:
        opened, asked = self._opened, self.asked
        opened.end(error)
        if asked.course is not None:
            base = self._core.plan.settings.base_threshold
            asked.course = completed(asked.course, opened.reading.reply(), base_threshold=base, error=error)
        self._core.end(asked)


class RoutedStream(Stream[RawMessageStreamEvent]):
    """The stream of whichever tier answers; `decision` is known when it has ended.

    One that is dropped unread is recorded at the next call, or when its router is closed.
    """

    def __init__(self, opened: OpenStream[Stream[RawMessageStreamEvent]], ending: StreamFinalizer) -> None:
        # Not the SDK's: there is no response to decode, the stream below has done so.
        self.response = opened.stream.response
        self._opened, self._ending = opened, ending
        opened.question.pause()
        weakref.finalize(self, ending.later).atexit = False

    @property
    def _observer(self) -> None:
        """None: the stream below it has its own."""

    @property
    def decision(self) -> Decision | None:
        """How the call was decided, and what it cost; None before its end."""
        return self._ending.asked.decision

    def __stream__(self) -> Iterator[RawMessageStreamEvent]:
        """The events."""
        opened = self._opened
        opened.question.resume()
        try:
            yield from opened.shown(opened.passed)
            for event in opened.stream:
                yield from opened.shown(opened.reading.take(event))
            yield from opened.shown(opened.reading.end())
        except GeneratorExit:
            self._ending.later()
            raise
        except BaseException as error:
            self._ending(error)
            raise
        else:
            self._ending()
        finally:
            opened.stream.close()

    def close(self) -> None:
        """Record the call as far as it went, and close the connection."""
        self._ending()
        self._opened.stream.close()


class AsyncRoutedStream(AsyncStream[RawMessageStreamEvent]):
    """The same for asyncio."""

    def __init__(self, opened: OpenStream[AsyncStream[RawMessageStreamEvent]], ending: StreamFinalizer) -> None:
        self.response = opened.stream.response
        self._opened, self._ending = opened, ending
        opened.question.pause()
        weakref.finalize(self, ending.later).atexit = False

    @property
    def _observer(self) -> None:
        """None: the stream below it has its own."""

    @property
    def decision(self) -> Decision | None:
        """How the call was decided, and what it cost; None before its end."""
        return self._ending.asked.decision

    async def __stream__(self) -> AsyncIterator[RawMessageStreamEvent]:
        """The events."""
        opened = self._opened
        opened.question.resume()
        try:
            for event in opened.shown(opened.passed):
                yield event
            async for arrived in opened.stream:
                for event in opened.shown(opened.reading.take(arrived)):
                    yield event
            for event in opened.shown(opened.reading.end()):
                yield event
        except GeneratorExit:
            self._ending.later()
            raise
        except BaseException as error:
            self._ending(error)
            raise
        else:
            self._ending()
        finally:
            await opened.stream.close()

    async def close(self) -> None:
        """Close the connection, and record the call as far as it went."""
        self._ending()
        await self._opened.stream.close()


def read_until_decided(opened: OpenStream[Stream[RawMessageStreamEvent]]) -> None:
    """Read a triage stream as far as it takes to decide."""
    for event in opened.stream:
        opened.take(opened.reading.take(event))
        if not opened.is_undecided:
            return
    opened.take(opened.reading.end())


def read_the_rest(opened: OpenStream[Stream[RawMessageStreamEvent]], beside: BackgroundTask, seconds: float) -> None:
    """Read a withheld answer to its end, for the grades that let go of a raise. Never raises."""
    failure = None
    watch = threading.Timer(seconds, abort_response, [opened.stream.response])
    watch.daemon = True
    watch.start()
    try:
        for event in opened.stream:
            opened.reading.take(event)
        opened.reading.end()
    except Exception as error:  # noqa: BLE001 - the call has its answer from elsewhere
        failure = error
    finally:
        watch.cancel()
        opened.end(failure)
        beside.over()
        opened.stream.close()


async def aread_until_decided(opened: OpenStream[AsyncStream[RawMessageStreamEvent]]) -> None:
    """The same for asyncio, where the one who waits sets the time."""
    async for event in opened.stream:
        opened.take(opened.reading.take(event))
        if not opened.is_undecided:
            return
    opened.take(opened.reading.end())


async def aread_the_rest(
    opened: OpenStream[AsyncStream[RawMessageStreamEvent]], beside: BackgroundTask, seconds: float
) -> None:
    """The same for asyncio; a loop that ends takes it along."""
    failure: BaseException | None = None
    try:
        async with asyncio.timeout(seconds):
            async for event in opened.stream:
                opened.reading.take(event)
        opened.reading.end()
    except Exception as error:  # noqa: BLE001 - the call has its answer from elsewhere
        failure = error
    finally:
        opened.end(failure)
        beside.over()
        await opened.stream.close()


class TimedOpen:
    """A triage stream that is opened and read in a thread of its own, so that whoever waits may leave in time.

    The timeouts of a connection cannot do that: they are for each read, which any ping satisfies, and those of a stream
    hold for what comes after the decision too.
    """

    def __init__(self, begin: Callable[[], OpenStream[Stream[RawMessageStreamEvent]]]) -> None:
        self._begin = begin
        self._lock, self._is_done = threading.Lock(), threading.Event()
        self._opened: OpenStream[Stream[RawMessageStreamEvent]] | None = None
        self._error: BaseException | None = None
        self._is_left = False

    def run(self) -> None:
        """Open and read it. Never raises."""
        try:
            opened = self._begin()
            with self._lock:
                self._opened = opened
            if not self._is_left:
                read_until_decided(opened)
        except BaseException as error:  # noqa: BLE001 - told to whoever waits
            self._error = error
        finally:
            self._is_done.set()
            with self._lock:
                is_left = self._is_left
            if self._opened is not None and (is_left or self._error is not None):
                self._opened.stream.close()

    def outcome(self, seconds: float) -> OpenStream[Stream[RawMessageStreamEvent]]:
        """The stream, decided. Raises what it failed with, or TimeoutError; nothing is left open then."""
        try:
            in_time = self._is_done.wait(seconds)
        except BaseException:
            self._leave()
            raise
        if not in_time and self._leave():
            raise TimeoutError("the triage stream took too long to be decided")
        if self._error is not None:
            raise self._error
        if self._opened is None:
            raise AssertionError("an attempt ends with a stream or an error")
        return self._opened

    def _leave(self) -> bool:
        """Nobody waits any more; whether that was before it was done."""
        with self._lock:
            if self._is_done.is_set():
                return False
            self._is_left = True
            opened = self._opened
        if opened is not None:
            abort_response(opened.stream.response)
        return True


@asynccontextmanager
async def aclosing_on_failure(stream: AsyncStream[RawMessageStreamEvent]) -> AsyncIterator[None]:
    """A stream that fails while it is read leaves no connection behind."""
    try:
        yield
    except BaseException:
        await stream.close()
        raise


class BackgroundThreads:
    """Threads that read beside the callers' own."""

    def __init__(self) -> None:
        self._running: set[threading.Thread] = set()
        self._process = os.getpid()

    def run(self, work: Callable[[], None], *, most: int | None = None) -> None:
        """Do `work` in a thread; RuntimeError where there can be no more of them, or there are as many as `most`."""
        thread = threading.Thread(target=self._work, args=(work,), name="cheapdeep-beside", daemon=True)
        self._leave_parents()
        self._running.add(thread)
        if most is not None and len(self._running) > most:  # of two that come together both may give way: no lock
            self._running.discard(thread)
            raise RuntimeError(f"{most} threads are at work already")
        try:
            thread.start()
        except RuntimeError:
            self._running.discard(thread)
            raise

    def join(self, seconds: float) -> None:
        """Wait for all of them, for so long at most."""
        until = time.monotonic() + seconds
        for thread in list(self._running):
            thread.join(max(until - time.monotonic(), 0))

    def _leave_parents(self) -> None:
        """The child of a fork has none of its parent's threads."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._running.clear()

    def _work(self, work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            self._running.discard(threading.current_thread())


def output_format(request: Mapping[str, Any]) -> Any:
    """What the SDK's stream helper is to parse the text into, if anything."""
    return request.get("output_format", NotGiven())


def without_stream(request: Mapping[str, Any]) -> dict[str, Any]:
    """A request for the SDK's `messages.stream`, which knows by its name that it streams."""
    return {name: value for name, value in request.items() if name != "stream"}
