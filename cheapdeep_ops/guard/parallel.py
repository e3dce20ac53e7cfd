"""Waiting for several slow answers at once, without waiting for them at the end."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
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
        self._done: SimpleQueue[tuple[_T, Future[_R]] | None] = SimpleQueue()

    def finish(self) -> None:
        """Begin nothing more."""
        self._is_finishing.set()

    def stop(self) -> None:
        """Begin nothing more, and have `results` end at once."""
        self.finish()
        self._done.put(None)

    def results(self, items: Iterator[_T]) -> Iterator[tuple[_T, _R]]:
        """Each item with what `work` made of it, as it is done; an item is taken when there is a hand for it."""
        under_way = sum(self._begin(items) for _ in range(self._size))
        while under_way:
            done = self._done.get()
            if done is None:
                return
            under_way -= 1
            item, result = done
            yield item, result.result()
            under_way += self._begin(items)

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
