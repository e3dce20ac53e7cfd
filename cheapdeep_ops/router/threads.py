"""Threads of the router's own: they open triage streams with a time limit, and run background tasks."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from threading import Timer
from typing import TypeVar

from cheapdeep_ops.router.background import BackgroundTask
from cheapdeep_ops.router.provider import RawMessageStreamEvent, Stream, claude
from cheapdeep_ops.router.streams import TAIL_S, OpenStream

_T = TypeVar("_T")
ThreadStream = OpenStream[Stream[RawMessageStreamEvent]]


class BackgroundThreads:
    """The running threads of one router."""

    def __init__(self) -> None:
        self._running: set[threading.Thread] = set()
        self._process = os.getpid()

    def run(self, work: Callable[[], None], *, most: int | None = None) -> None:
        """Run `work` in a thread. Raises RuntimeError if `most` are running, or if no more can be started."""
        thread = threading.Thread(target=self._work, args=(work,), name="cheapdeep-background", daemon=True)
        self._forget_parents()
        self._running.add(thread)
        # Without a lock, two threads that start together may both be refused: a missed trial costs nothing.
        if most is not None and len(self._running) > most:
            self._running.discard(thread)
            raise RuntimeError(f"{most} threads are at work already")
        try:
            thread.start()
        except RuntimeError:
            self._running.discard(thread)
            raise

    def join(self, seconds: float) -> None:
        """Wait until all have ended, or for so many seconds."""
        until = time.monotonic() + seconds
        for thread in list(self._running):
            thread.join(max(until - time.monotonic(), 0))

    def _forget_parents(self) -> None:
        """Forget the threads of the parent process, which a fork does not copy."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._running.clear()

    def _work(self, work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            self._running.discard(threading.current_thread())


class TimedOpen:
    """Opens a triage stream in a thread of its own and reads it until it is decided, within a time limit.

    A connection's timeouts cannot set that limit. They hold for each read, so that a ping resets them, and they would
    hold for the answer after the decision too.
    """

    def __init__(self, begin: Callable[[], ThreadStream]) -> None:
        self._begin = begin
        self._lock, self._is_done = threading.Lock(), threading.Event()
        self._opened: ThreadStream | None = None
        self._error: BaseException | None = None
        self._is_left = False

    def run(self) -> None:
        """Open and read the stream. Never raises."""
        try:
            opened = self._begin()
            with self._lock:
                self._opened = opened
            if not self._is_left:
                read_until_decided(opened)
        except BaseException as error:  # noqa: BLE001 - `outcome` raises it in the caller's thread
            self._error = error
        finally:
            self._is_done.set()
            with self._lock:
                is_left = self._is_left
            if self._opened is not None and (is_left or self._error is not None):
                self._opened.stream.close()

    def outcome(self, seconds: float) -> ThreadStream:
        """The stream, decided. Raises its error, or TimeoutError; then nothing is left open."""
        try:
            in_time = self._is_done.wait(seconds)
        except BaseException:  # such as an interrupt
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
        """Give the stream up; False if it was decided in the meantime."""
        with self._lock:
            if self._is_done.is_set():
                return False
            self._is_left = True
            opened = self._opened
        if opened is not None:
            claude.abort_response(opened.stream.response)
        return True


def in_time(threads: BackgroundThreads, work: Callable[[], _T], seconds: float) -> _T:
    """What `work` returns. Raises its error, or TimeoutError after so many seconds, while its thread goes on."""
    outcome: Future[_T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            outcome.set_exception(error)

    threads.run(partial(copy_context().run, run))
    return outcome.result(seconds)


def read_until_decided(opened: ThreadStream) -> None:
    """Read a triage stream until it is known whether its answer ships."""
    for event in opened.stream:
        opened.take(opened.progress.take(event))
        if not opened.is_undecided:
            return
    opened.read()


def read_tail(opened: ThreadStream) -> None:
    """Read a triage stream to its end, if that is near. Raises only what others raise into the caller's thread."""
    try:
        with _aborted_after(TAIL_S, opened):
            for event in opened.stream:
                if not opened.take_tail(event):
                    return
        opened.read()
    except Exception as error:  # the call escalates in any case
        if claude.interruption(error) is not None:
            raise


@contextmanager
def _aborted_after(seconds: float, opened: ThreadStream) -> Iterator[None]:
    """End the stream's response if the block takes longer."""
    watch = Timer(seconds, claude.abort_response, [opened.stream.response])
    watch.daemon = True
    watch.start()
    try:
        yield
    finally:
        watch.cancel()


def read_the_rest(opened: ThreadStream, task: BackgroundTask, seconds: float) -> None:
    """Read a withheld answer to its end, for grading, for so many seconds at most. Never raises."""
    failure = None
    try:
        with _aborted_after(seconds, opened):
            for event in opened.stream:
                opened.progress.take(event)
        opened.progress.end()
    except Exception as error:  # noqa: BLE001 - the caller has an answer from another tier
        failure = error
    finally:
        opened.end(failure)
        task.over()
        opened.stream.close()
