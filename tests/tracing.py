"""What every write transaction of this process does while it holds the store's lock."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from cheapdeep_ops.store import direct


@dataclass(slots=True)
class Transaction:
    """One write transaction: its statements by their first word, the rows given to them, and its CPU time in seconds.

    The time is that of the thread, so a busy machine does not change it much.
    """

    statements: Counter[str] = field(default_factory=Counter)
    texts: list[str] = field(default_factory=list)
    rows: int = 0
    begun: float = 0.0
    cpu_s: float = 0.0
    is_committed: bool = False


class Tracer:
    """Keeps the write transactions of all stores that are open while `traced` lasts, in the order of their end."""

    def __init__(self) -> None:
        self.transactions: list[Transaction] = []
        self._open: dict[int, Transaction] = {}

    def execute(self, connection: Connection, _cursor: Any, text: str, parameters: Any, *context: Any) -> None:
        many: bool = context[-1]
        if text == "BEGIN IMMEDIATE" or (self._is_postgresql_write(connection) and id(connection) not in self._open):
            self._open[id(connection)] = Transaction(begun=time.thread_time())
        opened = self._open.get(id(connection))
        if opened is None or text == "BEGIN IMMEDIATE":
            return
        opened.statements[text.split(None, 1)[0].upper()] += 1
        opened.texts.append(text)
        opened.rows += len(parameters) if many else 1

    @staticmethod
    def _is_postgresql_write(connection: Connection) -> bool:
        isolation = connection.get_execution_options().get("isolation_level")
        return connection.dialect.name == "postgresql" and isolation is None

    def commit(self, connection: Connection) -> None:
        self._end(connection, is_committed=True)

    def rollback(self, connection: Connection) -> None:
        self._end(connection, is_committed=False)

    def begin_directly(self, link: Any) -> None:
        """A recorder's transaction, which goes to the driver and not through SQLAlchemy."""
        self._open[id(link)] = Transaction(begun=time.thread_time())

    def execute_directly(self, link: Any, text: str, parameters: Any = None) -> None:
        opened = self._open[id(link)]
        opened.statements[text.split(None, 1)[0].upper()] += 1
        opened.texts.append(text)
        opened.rows += len(parameters)

    def end_directly(self, link: Any, how: str) -> None:
        self._end(link, is_committed=how == "COMMIT")

    def _end(self, connection: object, *, is_committed: bool) -> None:
        opened = self._open.pop(id(connection), None)
        if opened is not None:
            opened.cpu_s, opened.is_committed = time.thread_time() - opened.begun, is_committed
            self.transactions.append(opened)


@contextmanager
def traced() -> Iterator[Tracer]:
    """A tracer of all write transactions until the context ends."""
    tracer = Tracer()
    listeners = [("before_cursor_execute", tracer.execute), ("commit", tracer.commit), ("rollback", tracer.rollback)]
    with pytest.MonkeyPatch.context() as patch:
        for kind in (direct._SqliteLink, direct._PostgresqlLink):
            _tell_after(patch, kind, "begin", tracer.begin_directly)
            _tell_after(patch, kind, "exec_driver_sql", tracer.execute_directly)
            _tell_after(patch, kind, "end", tracer.end_directly)
        for name, listener in listeners:
            event.listen(Engine, name, listener)
        try:
            yield tracer
        finally:
            for name, listener in listeners:
                event.remove(Engine, name, listener)


def _tell_after(patch: pytest.MonkeyPatch, kind: type, name: str, listener: Callable[..., None]) -> None:
    method = getattr(kind, name)

    def told(link: object, *arguments: object) -> object:
        result = method(link, *arguments)
        listener(link, *arguments)
        return result

    patch.setattr(kind, name, told)
