"""Stores calls that have ended, in a thread of its own, so that any gateway on the store can tell of them."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from cheapdeep_ops.errors import CheapdeepError, RowError
from cheapdeep_ops.store import gateway_calls
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import require_schema

CallFacts = dict[str, Any]
_log: Final = logging.getLogger(__name__)
_MOST_WAITING: Final = 20_000
"""If the store is away, the oldest further calls are dropped: when it is back, they can no longer be asked for."""

_FORGET_AFTER_S: Final = 660.0
"""Longer than calls can be asked for, because the clocks of gateways differ."""

_PATIENCE_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedCall:
    """A call that has ended at `at` (Unix time). `fingerprint` is the hash of its caller's key."""

    call_id: str
    fingerprint: str
    at: float
    facts: CallFacts


class StoredCalls:
    """The calls in the store at `url`. `clock` returns Unix seconds."""

    def __init__(self, url: str, *, every_s: float, clock: Callable[[], float] = time.time) -> None:
        self._store = Store(url, patience_s=_PATIENCE_S)
        self._every_s, self._clock = every_s, clock
        self._waiting: deque[EndedCall] = deque(maxlen=_MOST_WAITING)
        self._key = b""
        self._is_failing = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gateway-calls", daemon=True)

    def start(self) -> None:
        """Start to store."""
        self._thread.start()

    def put(self, call: EndedCall) -> None:
        """Have a call stored. Never blocks, never raises."""
        self._waiting.append(call)

    def find(self, call_id: str, fingerprint: str, *, since: float) -> CallFacts | None:
        """The facts of a call of this caller that ended at `since` or later; None if there is none.

        Raises StoreError.
        """
        caller = self._caller(fingerprint)
        with self._store.reading() as connection:
            return gateway_calls.find(connection, call_id, caller=caller, since=since)

    def stop(self) -> None:
        """Store what waits, and close the store."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_PATIENCE_S)
        self._store.close()

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            self._flush_safely()
        self._flush_safely()

    def _flush_safely(self) -> None:
        try:
            self._flush()
            self._is_failing = False
        except CheapdeepError as error:
            if not self._is_failing:
                _log.warning("calls cannot be stored, so only this gateway can tell of them: %s", error)
            self._is_failing = True

    def _flush(self) -> None:
        calls: list[EndedCall] = []
        with suppress(IndexError):
            while True:
                calls.append(self._waiting.popleft())
        if not calls:
            return
        try:
            self._keep(calls)
        except RowError:
            raise  # sent again, they would be rejected again, and hold up all later calls
        except CheapdeepError:
            self._waiting.extendleft(reversed(calls[-_MOST_WAITING // 2 :]))
            raise

    def _keep(self, calls: list[EndedCall]) -> None:
        rows = [
            {"call_id": call.call_id, "caller": self._caller(call.fingerprint), "at": call.at, "facts": call.facts}
            for call in calls
        ]
        before = self._clock() - _FORGET_AFTER_S
        self._store.transact(lambda connection: gateway_calls.keep(connection, rows, forget_before=before))

    def _caller(self, fingerprint: str) -> str:
        """What the store has in place of a caller's key. Raises StoreError."""
        if not self._key:
            require_schema(self._store)
            self._key = self._store.transact(gateway_calls.caller_key)
        return blake2b(fingerprint.encode(), key=self._key, digest_size=16).hexdigest()
