"""Connections to PostgreSQL: to a server, through a pooler such as PgBouncer, and after a fail-over.

A pooler in transaction mode gives each transaction to another session of the server. So nothing here outlives a
transaction: no prepared statement, no SET, no lock.
"""

from contextlib import closing
from functools import partial
from typing import Any, Final

from sqlalchemy import URL, Engine, PoolProxiedConnection, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError

from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.store.url import shown

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


def make_engine(url: URL, *, lock_timeout_s: float) -> Engine:
    """An engine for `url` whose statements wait at most `lock_timeout_s` seconds for a lock."""
    options = {name: value for name, value in _OPTIONS.items() if name not in url.query}
    engine = create_engine(
        url,
        hide_parameters=True,  # they may be content, and an error's text reaches the log
        pool_pre_ping=True,
        connect_args={**options, "prepare_threshold": None},
        # Statements name the schema, because a session may have any search path.
        execution_options={"schema_translate_map": {None: SCHEMA}},
    )
    # Before SQLAlchemy's own first look at a server, which fails on servers that it does not know.
    event.listen(engine, "connect", partial(_check, url), insert=True)
    # Here, because no statement precedes it, and an error in it is handled like that of a statement.
    engine.dialect.do_begin = partial(_begin, lock_timeout_s)  # type: ignore[method-assign]
    event.listen(engine, "handle_error", _give_up_lost)
    return engine


def _check(url: URL, connection: DBAPIConnection, _record: object) -> None:
    # The server has said this at the beginning of the session, so it costs no query.
    info: Any = connection.info
    trouble = server_trouble(info.server_version, info.parameter_status("server_encoding") or "")
    if trouble:
        connection.close()
        raise StoreError(f"the store {shown(url)} cannot be used: its server {trouble}")


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


def _begin(lock_timeout_s: float, connection: PoolProxiedConnection) -> None:
    """Bound the wait for locks in this transaction, and end it if this process hangs."""
    limits = {"lock_timeout": lock_timeout_s, "idle_in_transaction_session_timeout": _ABANDONED_S}
    calls = (f"set_config('{name}', '{max(seconds * 1000, 1):.0f}', true)" for name, seconds in limits.items())
    with closing(connection.cursor()) as cursor:
        cursor.execute(f"SELECT {', '.join(calls)}")


def _give_up_lost(context: ExceptionContext) -> None:
    """Have the pool connect anew if the session can no longer be used; a proxy may lead to another server by then."""
    if _state(context.original_exception).startswith(_LOST):
        context.is_disconnect = True


def is_contention(error: DBAPIError) -> bool:
    """Whether another process holds a lock."""
    # By the code, because messages may be translated.
    return _state(error.orig) in _CONTENTION


def is_read_only(error: DBAPIError) -> bool:
    """Whether the server takes no writes."""
    return _state(error.orig) == _READ_ONLY


def advice(error: DBAPIError, url: URL) -> str:
    """What a person can do about the error, as the end of its sentence; '' if nothing is known."""
    if is_read_only(error):
        return (
            "; this server is a standby, or default_transaction_read_only is on: CHEAPDEEP_STORE_URL must lead to the "
            "primary (with several hosts, target_session_attrs=read-write finds it)"
        )
    return _grant(error, url) if _state(error.orig) == _DENIED else ""


def _grant(error: DBAPIError, url: URL) -> str:
    role = url.username or "ROLE"
    if (error.statement or "").lstrip().upper().startswith(("CREATE", "ALTER")):
        return (
            f"; run cheapdeep-ops migrate as the owner of the tables, or GRANT CREATE ON DATABASE "
            f"{url.database or 'NAME'} TO {role} (if the schema exists: ON SCHEMA {SCHEMA})"
        )
    return (
        f"; a router and a guard need GRANT USAGE ON SCHEMA {SCHEMA} TO {role}, and GRANT SELECT, INSERT, UPDATE, "
        f"DELETE ON ALL TABLES and GRANT USAGE ON ALL SEQUENCES IN SCHEMA {SCHEMA} TO {role}"
    )


def _state(error: BaseException | None) -> str:
    return getattr(error, "sqlstate", None) or ""
