"""The store as a recorder's destination, opened at its first use."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cheapdeep_ops.budgets import SliceRequest, Slices
from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.recorder.destination import News

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cheapdeep_ops.admission import Admitted
    from cheapdeep_ops.recorder.wake import Wake
    from cheapdeep_ops.store.direct import DirectStore
    from cheapdeep_ops.store.recording import Heartbeat, Rejected, Rows
    from cheapdeep_ops.values import Name

_PATIENCE_S: Final = 0.25
"""How long one write waits for the store's lock; the thread then reads the policies and retries at once."""

POLL_S: Final = 1 / 3
"""The seconds between two looks of a process for news.

Processes are to follow 99 of 100 policy changes within half a second. At rest, waking up costs most.
"""

_LOOK_EVERY_S: Final = 2.0
"""How often a reader looks whether the store's file is still there: the look costs as much as a third of a read."""

_ASK_TIME_EVERY_S: Final = 10.0
"""How often a reader asks for the store's time, if nothing else has changed."""

_READ_EVERY_S: Final = 2.0
"""How old the guard's last heartbeat may be in a process at rest, and a policy whose announcement was lost."""

# A database's driver takes some time to load. So this module imports the store in its methods: the background thread
# waits, and not the importer.


class StoreDestination:
    """The store at `url`. A relative SQLite path starts at `folder`; see `Destination` for the methods.

    `max_routes` and `max_classes` bound the names that are admitted. `steady` is a clock that never steps, in seconds.
    With `always_reads`, each read asks the database, and sees what was committed before. Else it does so only if the
    database has told that something changed, or every two seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        folder: Path,
        max_routes: int,
        max_classes: int,
        steady: Callable[[], float],
        always_reads: bool = False,
    ) -> None:
        self._url = url
        self._always_reads = always_reads
        self._folder = folder
        self._steady = steady
        self._file: tuple[int, int] | None = None
        self._opened: DirectStore | None = None
        self._query = ""
        self._found: Any = None
        self._news: News | None = None
        self._generation = 0
        self._look_at = self._read_at = self._ask_at = float("-inf")  # on the monotonic clock
        self._max = (max_routes, max_classes)
        self._admitted: Admitted | None = None
        self._fingerprint_key = b""

    @property
    def shown_url(self) -> str:
        """The URL without its password and without the secrets in its query."""
        return self._store().shown_url

    def read(self) -> News:
        """All stored policies, and the guard's last heartbeat. Raises StoreError."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_EVERY_S
            self._leave_if_replaced()
        store = self._opened or self._store()
        if self._news is not None and time.monotonic() < self._read_at and store.is_unchanged():
            return self._news
        self._read_at = float("-inf")  # for the case that this read fails
        found = store.poll(self._query)
        if not self._always_reads:
            self._read_at = time.monotonic() + _READ_EVERY_S
        if self._news is None or found != self._found or time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + _ASK_TIME_EVERY_S
            self._news = self._read(store, found)
            self._found = found
        return self._news

    def await_news(self, wake: "Wake", seconds: float) -> bool:
        """See `Destination.await_news`."""
        # A process at rest spends most of its time here, so the loop does nothing beside the look itself.
        now, store = time.monotonic(), self._opened
        end, beside = now + seconds, store.news_socket if store else None
        each_s = POLL_S if beside is None else seconds
        # A write may have taken the call from the socket. After a failed read, a pause comes first.
        if store is not None and beside is not None and now < self._read_at and not store.is_unchanged():
            return True
        while True:
            is_woken = wake.wait(max(min(each_s, end - now), 0), beside=beside)
            now = time.monotonic()
            if now >= self._read_at or store is None or not store.is_unchanged():
                return True
            if is_woken or now >= end:
                return False

    def _read(self, store: "DirectStore", found: Any) -> News:
        from cheapdeep_ops.store import admission, recording  # noqa: PLC0415 - see above
        from cheapdeep_ops.store.clock import Reading  # noqa: PLC0415 - see above

        # Another server may have taken over, without the last transactions of the one before.
        identity, asked_at = (recording.identity_in(found, store.dialect), self._generation), self._steady()
        policies, guard_seen, told, version = recording.read_policies(store)
        time_read = Reading(told, asked_at, self._steady())
        self._fingerprint_key = b""  # a store that was made anew has another one
        if self._admitted is None or self._admitted.version != version:
            self._admitted = admission.read_admitted(store, admission.Limits(*self._max))
        return News(policies, guard_seen, self._admitted, time=time_read, store=identity)

    def _leave_if_replaced(self) -> None:
        """Close the store if its file was replaced since it was opened."""
        # An open handle would go on writing into the deleted file, which no reader sees.
        if self._opened is not None and self._opened.address.file_identity() != self._file:
            self.close()
            self._opened = self._news = self._admitted = None
            self._fingerprint_key = b""
            self._generation += 1

    def admit(self, names: "Sequence[Name]", now: float) -> "Admitted":
        """See `admission.admit`."""
        from cheapdeep_ops.store import admission  # noqa: PLC0415 - see above

        self._admitted = admission.admit(self._store(), names, limits=admission.Limits(*self._max), now=now)
        return self._admitted

    def write_counters(self, *, buckets: "Rows", totals: "Rows", beat: "Heartbeat") -> "Rejected":
        """See `recording.write_counters`."""
        from cheapdeep_ops.store import recording  # noqa: PLC0415 - see above

        self._leave_if_replaced()
        rejected = recording.write_counters(self._store(), buckets=buckets, totals=totals, beat=beat)
        self._leave_if_replaced()
        if self._opened is None:
            raise StoreError(f"the store {self.shown_url} was replaced during a write")
        return rejected

    def write_candidates(self, rows: "Rows") -> "Rejected":
        """See `recording.write_candidates`."""
        from cheapdeep_ops.store import recording  # noqa: PLC0415 - see above

        return recording.write_candidates(self._store(), rows)

    def fingerprint_key(self) -> bytes:
        """See `store.fingerprint_key`."""
        from cheapdeep_ops.store import fingerprint_key  # noqa: PLC0415 - see above

        self._fingerprint_key = self._fingerprint_key or fingerprint_key.fingerprint_key(self._store())
        return self._fingerprint_key

    def ask_budgets(self, now: float, holder: str, number: int, asks: "Sequence[SliceRequest]") -> "Slices":
        """See `slices.ask`; a process without budgets only reads those that the guard has set."""
        from cheapdeep_ops.store import slices  # noqa: PLC0415 - see above

        store = self._store()
        if not asks:
            return Slices([], slices.read_limits(store))
        return slices.ask(store, holder, number, asks, now=now)

    def sign_off(self, process: str) -> None:
        """Mark the process as stopped. Raises StoreError."""
        from cheapdeep_ops.store import recording  # noqa: PLC0415 - see above

        if self._opened is not None:
            self._opened.transact(recording.prepare_stop(process))

    def close(self) -> None:
        """Close the connections; the next use opens them again."""
        if self._opened is not None:
            self._opened.close()

    def _store(self) -> "DirectStore":
        """The open store. Raises StoreError."""
        if self._opened is None:
            from cheapdeep_ops.store import recording  # noqa: PLC0415 - see above
            from cheapdeep_ops.store.direct import DirectStore  # noqa: PLC0415 - see above
            from cheapdeep_ops.store.version import is_current  # noqa: PLC0415

            store = DirectStore(self._url, patience_s=_PATIENCE_S, folder=self._folder)
            try:
                if not is_current(store.version()):
                    self._require_schema(store)
            except BaseException:  # as where a role may not read the version: the thread tries again with another store
                store.close()
                raise
            self._opened, self._file = store, store.address.file_identity()
            self._query = recording.poll_query(store.dialect)
        return self._opened

    def _require_schema(self, store: "DirectStore") -> None:
        """Create or migrate a SQLite store. Raises SchemaError if that is not this code's to do."""
        # Only here, because SQLAlchemy and SQLModel take a quarter of a second to load.
        from cheapdeep_ops.store.engine import Store  # noqa: PLC0415
        from cheapdeep_ops.store.schema import require_schema  # noqa: PLC0415

        store.close()
        whole = Store(self._url, patience_s=_PATIENCE_S, folder=self._folder)
        try:
            require_schema(whole)
        finally:
            whole.close()
