"""Stores with their tables, for tests: on SQLite making the tables takes a hundred times as long as copying a file."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate

_SQLITE = "sqlite:///"


@cache
def _migrated_file() -> tuple[bytes, int]:
    """What a file is after `migrate`, and its mode."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        store = Store(f"{_SQLITE}{path}")
        migrate(store)
        store.close()
        return path.read_bytes(), path.stat().st_mode


def migrated(url: str) -> Store:
    """The store at `url`, with its tables."""
    path = Path(url.removeprefix(_SQLITE))
    if url.startswith(_SQLITE) and not path.exists():
        content, mode = _migrated_file()
        path.write_bytes(content)
        path.chmod(mode)
    store = Store(url)
    migrate(store)
    return store
