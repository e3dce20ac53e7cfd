"""One reader of the store for all routers that wait for policies."""

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from cheapdeep_ops.admission import Admitted
from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.recorder.wire import written
from cheapdeep_ops.store.senders import FleetState

_log: Final = logging.getLogger(__name__)
_POLL_S: Final = 0.25
"""How often the store is read while a router waits."""

_ASKED_LATELY_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """What the store said at one moment; `etag` changes with everything that routers act on."""

    etag: str
    version: int
    policies: list[list[Any]]
    admitted: Admitted
    wants_candidates: bool
    evaluated_at: float | None
    flush_every_s: float
    store: str = ""

    def age_s(self, now: float) -> float | None:
        """The age of the acting guard's last evaluation in seconds; None if there was none."""
        return None if self.evaluated_at is None else max(now - self.evaluated_at, 0.0)

    def body(self, now: float, *, knows: str = "") -> dict[str, Any]:
        """The state as JSON; without policies and names if their tag is `knows`."""
        body: dict[str, Any] = {
            "time": now,
            "evaluated_age_s": self.age_s(now),
            "flush_every_s": self.flush_every_s,
            "version": self.version,
            "etag": self.etag,
            "wants_candidates": self.wants_candidates,
            "store": self.store,
        }
        return body if knows == self.etag else {**body, "policies": self.policies, "admitted": written(self.admitted)}


def snapshot_of(
    fleet: FleetState, admitted: Admitted, *, wants_candidates: bool, flush_every_s: float
) -> FleetSnapshot:
    """The snapshot of what was read."""
    policies = sorted([row.scope, row.version, row.pin, row.raised, _listed(row.causes)] for row in fleet.policies)
    said = json.dumps([policies, wants_candidates, admitted.version, fleet.store], separators=(",", ":"))
    return FleetSnapshot(
        etag=f'"{hashlib.sha256(said.encode()).hexdigest()[:32]}"',
        version=max((row.version for row in fleet.policies), default=0),
        policies=policies,
        admitted=admitted,
        wants_candidates=wants_candidates,
        evaluated_at=fleet.evaluated_at,
        flush_every_s=flush_every_s,
        store=fleet.store,
    )


def _listed(causes: Any) -> list[str]:
    # SQLite's driver gives the text of JSON, and PostgreSQL's the list.
    return list(json.loads(causes) if isinstance(causes, str) else causes)


class Feed:
    """The newest snapshot, which a task reads four times a second while routers ask. Belongs to one event loop.

    `read` returns a snapshot, or raises StoreError.
    """

    def __init__(self, read: Callable[[], Awaitable[FleetSnapshot]]) -> None:
        self._read = read
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._asked_at = 0.0
        self._newest: FleetSnapshot | None = None
        self._failure: StoreError | None = None
        self._is_ended = False

    async def newest(self) -> FleetSnapshot:
        """The newest snapshot, at most a quarter of a second old. Raises StoreError if the store cannot be read."""
        self._keep_reading()
        async with self._changed:
            await self._changed.wait_for(self._is_known)
        return self._known()

    async def other_than(self, etag: str, *, within_s: float) -> FleetSnapshot:
        """The first snapshot with another tag, or the newest one after `within_s` seconds. Raises StoreError."""
        self._keep_reading()
        async with self._changed:
            try:
                async with asyncio.timeout(within_s):
                    await self._changed.wait_for(lambda: self._is_known() and self._is_other(etag))
            except TimeoutError:
                self._keep_reading()
        return self._known()

    def end(self) -> None:
        """Have all routers that wait be answered at once."""
        self._is_ended = True
        if self._task is not None:
            self._task.cancel()

    def _is_known(self) -> bool:
        return self._is_ended or self._newest is not None or self._failure is not None

    def _is_other(self, etag: str) -> bool:
        return self._is_ended or self._newest is None or self._newest.etag != etag

    def _known(self) -> FleetSnapshot:
        if self._newest is not None and self._failure is None:
            return self._newest
        raise self._failure or StoreError("the guard is ending")

    def _keep_reading(self) -> None:
        self._asked_at = time.monotonic()
        if self._is_ended:
            return
        if self._task is None or self._task.done():
            self._newest = self._failure = None
            self._task = asyncio.get_running_loop().create_task(self._follow())

    async def _follow(self) -> None:
        try:
            while time.monotonic() - self._asked_at < _ASKED_LATELY_S:
                await self._look()
                await asyncio.sleep(_POLL_S)
        finally:
            # Whoever waits now must not wait for a reader that has ended.
            async with self._changed:
                self._changed.notify_all()

    async def _look(self) -> None:
        try:
            found = await self._read()
        except StoreError as error:
            self._newest, self._failure = None, error
        except Exception as error:  # noqa: BLE001 - the reader must survive every error of a driver
            _log.warning("reading the policies for routers failed", exc_info=True)
            self._newest, self._failure = None, StoreError(f"reading the policies failed: {type(error).__name__}")
        else:
            is_other = self._newest is None or self._newest.etag != found.etag
            self._newest, self._failure = found, None
            if not is_other:
                return
        async with self._changed:
            self._changed.notify_all()
