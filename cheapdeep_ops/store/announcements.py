"""Tells routers through PostgreSQL that policies have changed, so that a router at rest sends no statement.

Source: https://www.postgresql.org/docs/current/sql-notify.html
"""

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cheapdeep_ops.store.inserts import Statements

CHANNEL: Final = "cheapdeep_news"


def announce(connection: "Statements") -> None:
    """Have routers read anew what they follow, once this transaction is committed.

    Every transaction that changes what `recording.poll_query` finds runs this, except for heartbeats. It does nothing
    on SQLite, where routers see a commit in the file's log.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"NOTIFY {CHANNEL}", [()])


class Listener:
    """Listens on a connection of `answer_limit` for what `announce` tells; deaf where the session is not its own."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._is_called = False
        self._is_deaf = not _keeps_session(connection)
        if not self._is_deaf:
            # The driver takes notifications from the socket while it waits for the answer to a statement.
            connection.add_notify_handler(self._hear)
            connection.poll(f"LISTEN {CHANNEL}".encode())

    def forget(self) -> None:
        """Begin anew: only calls from now on count. A read that begins after this sees what was announced before."""
        self._is_called = False

    @property
    def is_uncalled(self) -> bool:
        """Whether no call came since `forget`; False if calls cannot be heard.

        Sends nothing and does not wait. Raises the driver's error if the connection is lost.
        """
        if self._is_deaf:
            return False
        pgconn = self._connection.pgconn
        pgconn.consume_input()
        while pgconn.notifies():
            self._is_called = True
        return not self._is_called

    @property
    def socket(self) -> int | None:
        """The number of the socket on which calls come; None if they cannot be heard, or the connection is closed."""
        return None if self._is_deaf or self._connection.closed else self._connection.fileno()

    def _hear(self, _notification: object) -> None:
        self._is_called = True


def _keeps_session(connection: Any) -> bool:
    """Whether all statements of the connection run in one session of a server that can notify."""
    # A pooler makes up the number that it tells its client: to the pooler, it is the key for cancelling.
    # A standby refuses LISTEN.
    ((process, is_standby),) = connection.poll(b"SELECT pg_backend_pid(), pg_is_in_recovery()")
    return bool(int(process) == connection.info.backend_pid and is_standby == b"f")
