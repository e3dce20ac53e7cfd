"""The store as a recorder's destination, opened at its first use."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from cheapdeep_ops.recorder.destination import News

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cheapdeep_ops.admission import Admitted
    from cheapdeep_ops.store.direct import DirectStore
    from cheapdeep_ops.store.recording import Heartbeat, Rejected, Rows
    from cheapdeep_ops.values import Name

_PATIENCE_S: Final = 0.25
"""How long one write waits for the store's lock; the thread then reads the policies and retries at once."""

# A database's driver takes some time to load. So this module imports the store in its methods: the background thread
# waits, and not the importer.


class StoreDestination:
    """The store at `url`. A relative SQLite path starts at `folder`; see `Destination` for the methods."""

    def __init__(self, url: str, *, folder: Path, max_routes: int, max_classes: int) -> None:
        self._url = url
        self._folder = folder
        self._file: tuple[int, int] | None = None
        self._opened: DirectStore | None = None
        self._max = (max_routes, max_classes)
        self._admitted: Admitted | None = None

    @property
    def shown_url(self) -> str:
        """The URL without its password and without the secrets in its query."""
        return self._store().shown_url

    def read(self) -> News:
        """All stored policies, and the guard's last heartbeat. Raises StoreError."""
        from cheapdeep_ops.store import admission, recording  # noqa: PLC0415 - see above

        if self._is_replaced:
            self.close()
            self._opened = self._admitted = None
        policies, guard_seen, version = recording.read_policies(self._store())
        if self._admitted is None or self._admitted.version != version:
            self._admitted = admission.read_admitted(self._store(), admission.Limits(*self._max))
        return News(policies, guard_seen, self._admitted)

    def admit(self, names: "Sequence[Name]", now: float) -> "Admitted":
        """See `admission.admit`."""
        from cheapdeep_ops.store import admission  # noqa: PLC0415 - see above

        self._admitted = admission.admit(self._store(), names, limits=admission.Limits(*self._max), now=now)
        return self._admitted

    def write_counters(self, *, buckets: "Rows", totals: "Rows", beat: "Heartbeat") -> "Rejected":
        """See `recording.write_counters`."""
        from cheapdeep_ops.store import recording  # noqa: PLC0415 - see above

        return recording.write_counters(self._store(), buckets=buckets, totals=totals, beat=beat)

    def write_candidates(self, rows: "Rows") -> "Rejected":
        """See `recording.write_candidates`."""
        from cheapdeep_ops.store import recording  # noqa: PLC0415 - see above

        return recording.write_candidates(self._store(), rows)

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
            from cheapdeep_ops.store.direct import DirectStore  # noqa: PLC0415 - see above
            from cheapdeep_ops.store.version import is_current  # noqa: PLC0415

            store = DirectStore(self._url, patience_s=_PATIENCE_S, folder=self._folder)
            if not is_current(store.version()):
                self._require_schema(store)
            self._opened, self._file = store, store.address.file_identity()
        return self._opened

    def _require_schema(self, store: "DirectStore") -> None:
        """Create or migrate a SQLite store. Raises SchemaError if that is not this code's to do."""
        # Only here, because SQLAlchemy and SQLModel take a quarter of a second to load.
        from cheapdeep_ops.store.engine import Store  # noqa: PLC0415
        from cheapdeep_ops.store.schema import require_schema  # noqa: PLC0415

        store.close()  # before a refusal, after which the thread tries again with another store
        whole = Store(self._url, patience_s=_PATIENCE_S, folder=self._folder)
        try:
            require_schema(whole)
        finally:
            whole.close()

    @property
    def _is_replaced(self) -> bool:
        """Whether the store's file was replaced since it was opened."""
        # An open handle would go on writing into the deleted file, which no reader sees.
        return self._opened is not None and self._opened.address.file_identity() != self._file
