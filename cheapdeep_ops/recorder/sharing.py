"""One recorder for all routers of a process that would record in one way.

A service may make a router for each request and never close one. Each recorder has a thread and connections, so routers
share it. It ends soon after the last of its routers was closed or collected.
"""

import os
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Protocol
from weakref import WeakSet

from cheapdeep_ops.policy import PolicyBook
from cheapdeep_ops.recorder.candidate_queue import ReadExchange
from cheapdeep_ops.recorder.guard_watch import DropCounter
from cheapdeep_ops.recorder.recorder import Recorder
from cheapdeep_ops.recorder.spending import Spending
from cheapdeep_ops.redaction import Redact, redact
from cheapdeep_ops.values import Decision

if TYPE_CHECKING:
    from cheapdeep_ops.settings import Settings

_LINGER_S: Final = 2.0
"""How long a recorder waits for the next router: a service that makes one for each request has none in between."""

_OUTAGE_S: Final = 60.0
"""How long it waits for a store that does not take its last counters, before it gives them up."""


class SharedDropCounter(DropCounter, Protocol):
    """A drop counter that says where it counts."""

    @property
    def destination(self) -> Hashable:
        """Equal for counters that count into one provider."""


class RecorderShare:
    """One router's share of a recorder. Its views and its open streams hold it too.

    The recorder notices when a share is collected: no code runs at that moment, which may come at any time.
    """

    def __init__(self, recorder: Recorder, redact: Redact, *, close: "Callable[[RecorderShare], None]") -> None:
        self.recorder = recorder
        self._redact, self._close = redact, close
        self._is_closed = False

    @property
    def book(self) -> PolicyBook:
        """The policies in force."""
        return self.recorder.book

    @property
    def spending(self) -> Spending:
        """See `Recorder.spending`."""
        return self.recorder.spending

    @property
    def abandoned(self) -> SimpleQueue[Callable[[], None]]:
        """See `Recorder.abandoned`."""
        return self.recorder.abandoned

    def put(self, decision: Decision, tell: ReadExchange | None = None) -> None:
        """Queue a finished decision; see `Recorder.put`."""
        if self._is_closed:
            self.recorder.refuse()
        else:
            self.recorder.put(decision, tell, self._redact)

    def close(self) -> None:
        """Store everything that was queued; the last share closes the recorder."""
        if not self._is_closed:
            self._is_closed = True
            self._close(self)


@dataclass(eq=False)
class _Shared:
    """A recorder with its shares; `unused_since` (monotonic clock) is when its thread first saw none."""

    recorder: Recorder = field(init=False)
    shares: WeakSet[RecorderShare] = field(default_factory=WeakSet)
    unused_since: float | None = None


class SharedRecorders:
    """The recorders of this process, by all that makes a difference to them."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._shared: dict[Hashable, _Shared] = {}

    def share(self, settings: "Settings", *, drops: SharedDropCounter, redact: Redact = redact) -> RecorderShare:
        """A share of the recorder for these settings, which is made if there is none."""
        key = (_key(settings), drops.destination)
        with self.lock:
            shared = self._shared.get(key)
            if shared is None or shared.recorder.is_closed:
                shared = self._shared[key] = _Shared()
                is_wanted = partial(self._is_wanted, key, shared)
                shared.recorder = Recorder(settings, drops=drops, is_wanted=is_wanted)
            share = RecorderShare(shared.recorder, redact, close=partial(self._close, key, shared))
            shared.shares.add(share)
        # Outside of the lock, so that a slow store holds up no other router.
        shared.recorder.await_policies()
        return share

    def _is_wanted(self, key: Hashable, shared: _Shared) -> bool:
        """Whether a recorder goes on. Its thread asks this at each turn, and closes the recorder otherwise."""
        with self.lock:
            if shared.shares:
                shared.unused_since = None
                return True
            if shared.unused_since is None:
                shared.unused_since = time.monotonic()
            unused_s = time.monotonic() - shared.unused_since
            if unused_s < (_OUTAGE_S if shared.recorder.is_behind else _LINGER_S):
                return True
            self._forget(key, shared)
            return False

    def _close(self, key: Hashable, shared: _Shared, share: RecorderShare) -> None:
        """Close the recorder of a share if it is the last one; else store what it has."""
        with self.lock:
            shared.shares.discard(share)
            is_last = not shared.shares
            if is_last:
                self._forget(key, shared)
        if is_last:
            shared.recorder.close()
        else:
            shared.recorder.flush()

    def _forget(self, key: Hashable, shared: _Shared) -> None:
        """Have the next share made of another recorder."""
        if self._shared.get(key) is shared:
            del self._shared[key]


def _key(settings: "Settings") -> Hashable:
    """All that a recorder reads from its settings; the working directory is where a relative path begins."""
    return (
        Path.cwd(),
        settings.store_url,
        settings.guard_token,
        settings.flush_every_s,
        settings.spool_dir,
        settings.graded_share,
        settings.base_threshold,
        settings.raised_threshold,
        settings.max_routes,
        settings.max_input_classes,
        settings.usd_per_day,
        settings.deep_usd_per_day,
        settings.at_budget,
        settings.at_budget_otherwise,
    )


_shared_recorders: Final = SharedRecorders()
share_recorder: Final = _shared_recorders.share

if hasattr(os, "register_at_fork"):
    # A child must not inherit the lock from a thread that it does not have.
    os.register_at_fork(
        before=_shared_recorders.lock.acquire,
        after_in_parent=_shared_recorders.lock.release,
        after_in_child=_shared_recorders.lock.release,
    )
