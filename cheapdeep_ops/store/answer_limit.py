"""Connections to PostgreSQL that wait only so long for an answer.

A server that hangs keeps its connections open and acknowledges what it receives. So no time limit of TCP ends the wait,
and none that the server itself keeps.
"""

import logging
import select
import selectors
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, Final, NoReturn, TypeVar

from cheapdeep_ops.store import postgresql

_T = TypeVar("_T")
_SELECTOR: Final = getattr(selectors, "PollSelector", selectors.DefaultSelector)
"""It needs no system call to be made and closed; Windows lacks it."""

_LONGEST_S: Final = 3600.0
"""The longest wait where `allow` has set none: a selector takes no infinite one."""

RawRows = list[tuple[bytes | None, ...]]


class _Limited:
    """What is added to the driver's connection: its statements end within the seconds that `allow` has set."""

    pgconn: Any
    """The connection of PostgreSQL's own library: see https://www.psycopg.org/psycopg3/docs/api/pq.html"""

    _deadline = float("inf")  # on the monotonic clock
    _allowed_s = float("inf")
    _poller: Any = None

    def allow(self, seconds: float) -> None:
        """Let all that follows end within `seconds`; after that, the connection is closed."""
        self._allowed_s, self._deadline = seconds, time.monotonic() + seconds

    def wait(self, gen: Generator[Any, Any, _T], *_: Any, **__: Any) -> _T:
        """What the driver's generator returns: it yields what it waits for, and takes what is ready.

        Source: https://www.psycopg.org/psycopg3/docs/api/connections.html
        """
        try:
            wanted = next(gen)
            while True:
                try:
                    ready = self._await(wanted)
                except Exception as error:  # noqa: BLE001 - its clean-up runs now, not when the generator is collected
                    wanted = gen.throw(error)
                else:
                    wanted = gen.send(ready)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        except BaseException:
            # Here, because an error in the generator's own end would be printed with its traceback later.
            with suppress(Exception):
                gen.close()
            raise

    def _await(self, wanted: int) -> int:
        with _SELECTOR() as selector:
            selector.register(self.pgconn.socket, wanted)
            ready = selector.select(self._left_s())
        return ready[0][1] if ready else self._gave_up()

    def poll(self, statement: bytes) -> RawRows:
        """The rows of the last statement as the server writes them, at a third of a cursor's cost."""
        pgconn = self.pgconn
        pgconn.send_query(statement)
        pgconn.flush()
        # All results are fetched, also after an error: the next statement may not be sent before.
        results = list(iter(self._next_result, None))
        found = results[-1]
        if found.error_message:
            raise postgresql.driver().errors.error_from_result(found)
        columns = range(found.nfields)
        return [tuple([found.get_value(row, each) for each in columns]) for row in range(found.ntuples)]

    def _next_result(self) -> Any:
        while self.pgconn.is_busy():
            self._await_input()
            self.pgconn.consume_input()
        return self.pgconn.get_result()

    def _await_input(self) -> None:
        if not hasattr(select, "poll"):
            with _SELECTOR() as selector:
                selector.register(self.pgconn.socket, selectors.EVENT_READ)
                return None if selector.select(self._left_s()) else self._gave_up()
        if self._poller is None:
            self._poller = select.poll()
            self._poller.register(self.pgconn.socket, select.POLLIN)
        return None if self._poller.poll(self._left_s() * 1000) else self._gave_up()

    def _left_s(self) -> float:
        return min(max(self._deadline - time.monotonic(), 0.0), _LONGEST_S)

    def _gave_up(self) -> NoReturn:
        # The answer may still come, and the next statement would take it for its own.
        self.pgconn.finish()
        raise postgresql.driver().errors.ConnectionTimeout(f"no answer within {self._allowed_s:.1f} s")


class _Writing(threading.local):
    """Whether this thread runs a statement of ours."""

    is_ours = False


_writing: Final = _Writing()


@contextmanager
def unlogged() -> Iterator[None]:
    """Keep the driver from logging errors that it raises as well: in an outage, that is a line for each try."""
    _writing.is_ours = True
    try:
        yield
    finally:
        _writing.is_ours = False


def _is_not_ours(_record: logging.LogRecord) -> bool:
    return not _writing.is_ours


@cache
def connection_class() -> Any:
    """A connection of the driver's with `allow` and `poll`. Raises StoreError if the driver is not installed."""
    logging.getLogger("psycopg").addFilter(_is_not_ours)
    # A class with this base cannot be written down, because the driver is loaded late.
    return type("LimitedConnection", (_Limited, postgresql.driver().Connection), {})
