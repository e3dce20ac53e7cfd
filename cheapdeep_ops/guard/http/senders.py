"""The threads and connections that serve the routers which send over HTTP, and how many of them may wait."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Final, TypeVar

from cheapdeep_ops.admission import Admitted
from cheapdeep_ops.errors import StoreBusyError, StoreError
from cheapdeep_ops.guard.http.feed import Feed, FleetSnapshot, snapshot_of
from cheapdeep_ops.recorder.wire import flush_interval_s
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import admission, senders
from cheapdeep_ops.store.admission import Limits
from cheapdeep_ops.store.direct import DirectStore
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import require_schema

_T = TypeVar("_T")
_WRITERS: Final = 4
"""Threads that write to PostgreSQL, each with a connection; SQLite has one writer at a time anyway."""

_PATIENCE_S: Final = 2.0
_MOST_WAITING: Final = 256
_MOST_WAITING_BYTES: Final = 64_000_000
_COUNT_EVERY_S: Final = 5.0
_RETRY_S: Final = (0.5, 1.5)
"""The shortest and the longest wait that a sender is asked for beside its place in the queue: drawn at random."""

_LONGEST_RETRY_S: Final = 30.0
_FIRST_GUESS_S: Final = 0.005
_SMOOTHING: Final = 0.1

Work = Callable[[DirectStore], _T]


class Senders:
    """The store as routers use it that send over HTTP: with a few connections of its own, for any number of routers."""

    def __init__(self, store_url: str, settings: Settings, clock: Callable[[], float]) -> None:
        self._settings, self.clock = settings, clock
        self.limits = Limits(settings.max_routes, settings.max_input_classes)
        """How many routes and input classes are admitted."""
        self._admitted: Admitted | None = None
        self._url, self._folder = store_url, Path.cwd()
        self._stores: SimpleQueue[DirectStore] = SimpleQueue()
        self._all: list[DirectStore] = []
        self._files: dict[DirectStore, tuple[int, int] | None] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._reader: ThreadPoolExecutor | None = None
        self._watched: DirectStore | None = None
        self._waiting = self._waiting_bytes = 0
        self._each_s = _FIRST_GUESS_S
        self._next_at = 0.0
        self._counted_at, self._routers = float("-inf"), 0
        self.feed = Feed(self._read)

    def close(self) -> None:
        """End the threads and close the connections."""
        for pool in (self._pool, self._reader):
            if pool is not None:
                pool.shutdown(cancel_futures=True)
        for store in self._all:
            store.close()

    @contextmanager
    def admitted(self, size: int) -> Iterator[None]:
        """Count a request of `size` bytes as waiting. Raises StoreBusyError if too many wait."""
        if self._waiting >= _MOST_WAITING or self._waiting_bytes + size > _MOST_WAITING_BYTES:
            raise StoreBusyError("too many routers send at this moment")
        self._waiting += 1
        self._waiting_bytes += size
        try:
            yield
        finally:
            self._waiting -= 1
            self._waiting_bytes -= size

    def retry_after_s(self) -> float:
        """How long the next refused sender is asked to wait, in seconds: each gets a place of its own in time."""
        now = time.monotonic()
        # A place of its own for each, because senders that return together would be refused again.
        self._next_at = max(self._next_at, now + self._waiting * self._each_s) + self._each_s
        wait_s = self._next_at - now + random.uniform(*_RETRY_S)  # noqa: S311 - jitter
        return min(wait_s, _LONGEST_RETRY_S)

    def write(self, work: Work[_T]) -> Awaitable[_T]:
        """What `work` returns, which runs in one of the writing threads. Raises what it raises."""
        if self._pool is None:
            first = self._open()
            count = _WRITERS if first.dialect == "postgresql" else 1
            for store in (first, *(self._open() for _ in range(count - 1))):
                self._stores.put(store)
            self._pool = ThreadPoolExecutor(count, thread_name_prefix="flushes")
        return asyncio.get_running_loop().run_in_executor(self._pool, self._with_store, work)

    def _with_store(self, work: Work[_T]) -> _T:
        store, begun = self._stores.get(), time.monotonic()
        try:
            self._leave_if_replaced(store)
            answer = work(store)
            if self._leave_if_replaced(store):
                raise StoreError(f"the store {store.shown_url} was replaced during a write")
            return answer
        finally:
            took_s = (time.monotonic() - begun) / len(self._all)
            self._each_s += (took_s - self._each_s) * _SMOOTHING
            self._stores.put(store)

    def _open(self) -> DirectStore:
        store = DirectStore(self._url, patience_s=_PATIENCE_S, folder=self._folder)
        self._all.append(store)
        self._files[store] = store.address.file_identity()
        return store

    def _leave_if_replaced(self, store: DirectStore) -> bool:
        """Close a SQLite store whose file was deleted or replaced, and make its tables; returns whether it was."""
        if store.address.file_identity() == self._files[store]:
            return False
        # An open handle would go on writing into the deleted file, which no reader sees.
        store.close()
        whole = Store(self._url, folder=self._folder)
        try:
            require_schema(whole)
        finally:
            whole.close()
        self._files[store] = store.address.file_identity()
        return True

    async def _read(self) -> FleetSnapshot:
        if self._reader is None:
            self._watched = self._open()
            self._reader = ThreadPoolExecutor(1, thread_name_prefix="policies")
        return await asyncio.get_running_loop().run_in_executor(self._reader, self._snapshot)

    def _snapshot(self) -> FleetSnapshot:
        store = self._watched
        assert store is not None  # noqa: S101 - made before the thread
        if self._leave_if_replaced(store):
            self._admitted = None
        if time.monotonic() - self._counted_at >= _COUNT_EVERY_S:
            self._routers = senders.live_routers(store, now=self.clock())
            self._counted_at = time.monotonic()
        fleet = senders.read_fleet(store)
        if self._admitted is None or self._admitted.version != fleet.admitted_version:
            self._admitted = admission.read_admitted(store, self.limits)
        return snapshot_of(
            fleet,
            self._admitted,
            wants_candidates=self._settings.graded_share > 0,
            flush_every_s=flush_interval_s(self._routers),
        )
