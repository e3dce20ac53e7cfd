"""The recorder's store, opened at its first use."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cheapdeep_ops.store.direct import DirectStore

_PATIENCE_S: Final = 0.25
"""How long one write waits for the store's lock; the thread then reads the policies and retries at once."""


class LazyStore:
    """The store at `url`, opened and checked at its first use. `opened` is None before that use."""

    def __init__(self, url: str, *, folder: Path) -> None:
        self._url = url
        self._folder = folder
        self._file: tuple[int, int] | None = None
        self.opened: DirectStore | None = None

    def __call__(self) -> "DirectStore":
        """The open store. Raises StoreError."""
        # A database's driver takes some time to load. Here the background thread waits, not the importer.
        if self.opened is None:
            from cheapdeep_ops.store.direct import DirectStore  # noqa: PLC0415 - see above
            from cheapdeep_ops.store.version import is_current  # noqa: PLC0415

            store = DirectStore(self._url, patience_s=_PATIENCE_S, folder=self._folder)
            if not is_current(store.version()):
                self._require_schema(store)
            self.opened, self._file = store, store.address.file_identity()
        return self.opened

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
    def is_replaced(self) -> bool:
        """Whether the store's file was replaced since it was opened."""
        # An open handle would go on writing into the deleted file, which no reader sees.
        return self.opened is not None and self.opened.address.file_identity() != self._file

    def close(self) -> None:
        """Close the connections; the next use opens them again."""
        if self.opened is not None:
            self.opened.close()

    def reopen(self) -> None:
        """Close the store; the next use opens the file that is there then."""
        self.close()
        self.opened = None
