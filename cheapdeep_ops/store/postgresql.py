"""Connections to PostgreSQL: to a server, through a pooler such as PgBouncer, and after a fail-over.

A pooler in transaction mode gives each transaction to another session of the server. So nothing here outlives a
transaction: no prepared statement, no SET, no lock.
"""

from importlib import import_module
from types import ModuleType
from typing import Any, Final

from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.store.url import Address

SCHEMA: Final = "cheapdeep"
"""The PostgreSQL schema that holds all tables; SQLite has no schemas."""

_ABANDONED_S: Final = 60.0
"""How long PostgreSQL keeps the transaction of a process that hangs: its locks block all other processes."""

_CONTENTION: Final = frozenset({"40001", "40P01", "55P03"})
"""The error codes that a retry can cure: serialization failure, deadlock, lock not available.

Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

_READ_ONLY: Final = "25006"
_DENIED: Final = "42501"
_TROUBLES: Final = {
    "25006": "is read-only",
    "53100": "has no room left on its disk",
    "53300": "has no connection left",
    "3D000": "lacks its database",
    "3F000": "lacks its schema",
    "42P01": "lacks a table",
    "57P01": "is stopping",
    "57P02": "has crashed",
    "57P03": "is starting or stopping",
}
"""What is the matter with the store, by the code of the error.

Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

_LOST: Final = ("08", "57P0", "25P03", _READ_ONLY)
"""How the codes begin after which a connection is of no more use.

The connection failed, the server stops, it ended an idle transaction, or it is a standby since a fail-over.
"""

_OLDEST: Final = 120_000
"""The oldest version of the server, as libpq numbers versions: 120000 is 12.0."""

_OPTIONS: Final[dict[str, Any]] = {
    "connect_timeout": 5,
    "client_encoding": "utf8",
    # A node that disappears sends nothing more, and the operating system would wait for it for hours.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


def driver() -> ModuleType:
    """The driver. Raises StoreError if it is not installed."""
    try:
        return import_module("psycopg")  # the extra `postgres` brings it
    except ModuleNotFoundError as error:
        raise StoreError(f"{error}; for PostgreSQL run pip install 'cheapdeep_ops[postgres]'") from None


def options_of(address: Address) -> dict[str, Any]:
    """What the driver needs beside the address itself; the address's own options win."""
    options = {name: value for name, value in _OPTIONS.items() if name not in address.options}
    return {**options, "prepare_threshold": None}


def connect(address: Address, *, kind: Any = None, **more: Any) -> Any:
    """A connection of the driver's, or of the class `kind`. Raises StoreError if the server cannot hold the store."""
    server = {"host": address.host, "port": address.port, "dbname": address.database}
    login = {"user": address.username, "password": address.password}
    named = {name: value for name, value in {**server, **login}.items() if value is not None}
    make = driver().Connection if kind is None else kind
    connection = make.connect(**{**options_of(address), **named, **address.options, **more})
    check(address, connection)
    return connection


def check(address: Address, connection: Any) -> None:
    """Close the connection and raise StoreError if its server cannot hold the store."""
    # The server has said this at the beginning of the session, so it costs no query.
    info = connection.info
    trouble = server_trouble(info.server_version, info.parameter_status("server_encoding") or "")
    if trouble:
        connection.close()
        raise StoreError(f"the store {address.shown} cannot be used: its server {trouble}")


def server_trouble(version: int, encoding: str) -> str:
    """Why a server of this version cannot hold the store, or a database with this encoding; '' if it can."""
    if version < _OLDEST:
        return f"says that it is version {version // 10_000}: the store needs PostgreSQL {_OLDEST // 10_000} or newer"
    if encoding != "UTF8":
        return (
            f"has a database with the encoding {encoding}, which cannot hold every text: make another with "
            "CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0"
        )
    return ""


def limits(lock_timeout_s: float) -> str:
    """The statement that bounds the wait for locks in its transaction, and ends that if this process hangs."""
    seconds = {"lock_timeout": lock_timeout_s, "idle_in_transaction_session_timeout": _ABANDONED_S}
    calls = (f"set_config('{name}', '{max(each * 1000, 1):.0f}', true)" for name, each in seconds.items())
    return f"SELECT {', '.join(calls)}"


def is_lost(error: BaseException | None) -> bool:
    """Whether the session can no longer be used; a proxy may lead to another server by the next one."""
    return _state(error).startswith(_LOST)


def is_contention(error: BaseException | None) -> bool:
    """Whether another process holds a lock."""
    # By the code, because messages may be translated.
    return _state(error) in _CONTENTION


def is_read_only(error: BaseException | None) -> bool:
    """Whether the server takes no writes."""
    return _state(error) == _READ_ONLY


def is_unanswered(error: BaseException | None) -> bool:
    """Whether the server did not answer in time, although it may still be there."""
    return any(kind.__name__ == "ConnectionTimeout" for kind in type(error).__mro__)


def trouble(error: BaseException | None) -> str:
    """What is the matter with the store, as the verb of its sentence."""
    if is_unanswered(error):
        return "does not answer"
    # An error of the connection itself comes from the client, and has no code.
    is_connection = not _state(error) and type(error).__name__ == "OperationalError"
    return _TROUBLES.get(_state(error), "cannot be reached" if is_connection else "failed")


def advice(error: BaseException | None, statement: str, address: Address) -> str:
    """What a person can do about the error, as the end of its sentence; '' if nothing is known."""
    if is_read_only(error):
        return (
            "; this server is a standby, or default_transaction_read_only is on: CHEAPDEEP_STORE_URL must lead to the "
            "primary (with several hosts, target_session_attrs=read-write finds it)"
        )
    return _grant(statement, address) if _state(error) == _DENIED else ""


def _grant(statement: str, address: Address) -> str:
    role = address.username or "ROLE"
    if statement.lstrip().upper().startswith(("CREATE", "ALTER")):
        return (
            f"; run cheapdeep-ops migrate as the owner of the tables, or GRANT CREATE ON DATABASE "
            f"{address.database or 'NAME'} TO {role} (if the schema exists: ON SCHEMA {SCHEMA})"
        )
    return (
        f"; a router and a guard need GRANT USAGE ON SCHEMA {SCHEMA} TO {role}, and GRANT SELECT, INSERT, UPDATE, "
        f"DELETE ON ALL TABLES and GRANT USAGE ON ALL SEQUENCES IN SCHEMA {SCHEMA} TO {role}"
    )


def _state(error: BaseException | None) -> str:
    return getattr(error, "sqlstate", None) or ""
