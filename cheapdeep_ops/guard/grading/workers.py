"""Waiting for several slow answers at once, without waiting for them at the end."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")


class Workers(Generic[_T, _R]):
    """Runs `work` on items in daemon threads, `size` at a time.

    `finish` begins nothing more and waits for what is under way. `stop` does not wait for it either: it is left to end
    unheard, so that a process need not wait.
    """

    def __init__(self, work: Callable[[_T], _R], *, size: int) -> None:
        self._work = work
        self._size = size
        self._is_finishing = threading.Event()
        self._is_stopped = False
        self._done: SimpleQueue[tuple[_T, Future[_R]] | None] = SimpleQueue()

    def finish(self) -> None:
        """Begin nothing more."""
        self._is_finishing.set()

    def stop(self) -> None:
        """Begin nothing more, and have `results` and `chunks` end at once."""
        self._is_stopped = True
        self.finish()
        self._done.put(None)

    def results(self, items: Iterator[_T]) -> Iterator[tuple[_T, _R]]:
        """Each item with its result, as it is done; the next item is begun when a thread is free."""
        for chunk in self.chunks(items, most=1, within_s=0.0):
            yield from chunk

    def chunks(
        self, items: Iterator[_T], *, most: int, within_s: float, ends: Callable[[_R], bool] = lambda _result: False
    ) -> Iterator[list[tuple[_T, _R]]]:
        """The results in chunks: of `most`, or those of `within_s` seconds.

        A result for which `ends` is true closes its chunk.
        """
        under_way, is_over = 0, False
        while not is_over:
            chunk: list[tuple[_T, _R]] = []
            until = 0.0
            while len(chunk) < most:
                while under_way < self._size and self._begin(items):
                    under_way += 1
                is_over = not under_way
                done = None if is_over else self._take(until if chunk else None)
                if done is None:
                    break
                item, future = done
                chunk.append((item, future.result()))
                under_way -= 1
                until = until or time.monotonic() + within_s
                if ends(chunk[-1][1]):
                    break
            is_over = is_over or self._is_stopped
            if chunk:
                yield chunk

    def _take(self, until: float | None) -> tuple[_T, Future[_R]] | None:
        """The next result; None where none comes by `until` (monotonic), or after `stop`."""
        try:
            return self._done.get(timeout=None if until is None else max(until - time.monotonic(), 0.0))
        except Empty:
            return None

    def _begin(self, items: Iterator[_T]) -> bool:
        """Start on the next item, if there is one."""
        if self._is_finishing.is_set():
            return False
        for item in items:
            threading.Thread(target=self._run, args=(item,), name="grader", daemon=True).start()
            return True
        return False

    def _run(self, item: _T) -> None:
        result: Future[_R] = Future()
        try:
            result.set_result(self._work(item))
        except BaseException as error:  # noqa: BLE001 - raised again where the results are read
            result.set_exception(error)
        self._done.put((item, result))
