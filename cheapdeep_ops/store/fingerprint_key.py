"""The secret key for the fingerprints of requests: one for each store, made at its first use and never shown."""

import secrets
from functools import cache
from typing import Final

from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.store.direct import DirectStore
from cheapdeep_ops.store.inserts import Target, Transacting, prepare, table_name

SECRET: Final = Target(name="secret", keys=("name",))
_NAME: Final = "fingerprint"
_BYTES: Final = 32


def fingerprint_key(store: DirectStore) -> bytes:
    """The store's key, which is made if it has none. Raises StoreError."""
    stored = store.read(_query(store.dialect))
    if not stored:
        # Another process may have stored its key first, so it is read again.
        keep_key(store, secrets.token_bytes(_BYTES))
        stored = store.read(_query(store.dialect))
    if not stored:
        raise StoreError(f"the store {store.shown_url} did not keep its key for fingerprints")
    return bytes.fromhex(stored[0][0])


def keep_key(store: Transacting, key: bytes) -> None:
    """Store `key`, at most 64 bytes, unless the store has one. Raises StoreError."""
    store.transact(prepare(SECRET, [{"name": _NAME, "value": key.hex()}], "keep"))


@cache
def _query(dialect: str) -> str:
    return f"SELECT value FROM {table_name(dialect, 'secret')} WHERE name = '{_NAME}'"  # noqa: S608 - our names
