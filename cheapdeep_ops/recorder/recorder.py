"""A bounded queue and one background thread between the router and the store."""

import atexit
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from uuid import uuid4

from cheapdeep_ops.errors import StoreBusyError, StoreError
from cheapdeep_ops.policy import blank_book
from cheapdeep_ops.recorder.candidate_queue import CandidateQueue, Tell
from cheapdeep_ops.recorder.counter_buffer import CounterBuffer, Second
from cheapdeep_ops.recorder.trouble_log import TroubleLog, shown
from cheapdeep_ops.redaction import Redact, redact
from cheapdeep_ops.sampling import kept_share
from cheapdeep_ops.values import Decision

if TYPE_CHECKING:
    from cheapdeep_ops.settings import Settings
    from cheapdeep_ops.store.engine import Store
    from cheapdeep_ops.store.processes import Heartbeat
    from cheapdeep_ops.store.upsert import Write

_log: Final = logging.getLogger(__name__)
POLL_S: Final = 0.25
"""How often the thread asks for a new policy: well below the two seconds that are promised."""

GUARD_SILENT_S: Final = 60.0
_FIRST_POLICY_S: Final = 2.0
_IDLE_BEAT_S: Final = 10.0
_BUCKET_OPEN_S: Final = 10
_CLOSE_S: Final = 5.0
_RETRY_S: Final = 0.1
_PATIENCE_S: Final = 0.25
"""How long one write waits for the store's lock. It is tried again at once, after a look at the policies."""

_BREATH_S: Final = 0.01
"""The pause before that, in which a fork or a closing thread can have the store."""

_SECONDS_AT_ONCE: Final = 400
"""Buckets that one transaction writes at most, each with its total: other processes wait meanwhile."""

_REST_S: Final = 2.0

_PARTS: Final = {"refresh": "reading policies", "fold": "counting", "drain": "writing counters", "_sign_off": "closing"}
"""What the parts of the thread's work are called in the log."""


class DropCounter(Protocol):
    """What is told of decisions that could not be taken, and of the guard."""

    def record_dropped(self, count: int) -> None:
        """Count them."""

    def record_guard_age(self, seconds: float) -> None:
        """Note how long ago a guard last showed itself, or, where none has, how long one was waited for."""


class NullRecorder:
    """Records nothing and follows no policy: every call is decided at the base threshold."""

    def __init__(self, settings: "Settings") -> None:
        self.book = blank_book(base=settings.base_threshold, raised=settings.raised_threshold)

    def put(self, decision: Decision, tell: Tell | None = None) -> None:
        """Forget the decision."""

    def close(self) -> None:
        """Nothing to close."""


class Recorder:
    """Counts decisions into the store and knows the policies in force.

    `put` takes about a microsecond, never blocks and never raises; what does not fit is dropped and counted. A
    background thread writes every `flush_every_s` seconds, in short transactions, and reads the policies four times a
    second. While the store is busy or out of reach, counters and content wait (bounded), and the last policies stay in
    force.
    Of a hash-chosen share of the answers that ship at base, it keeps the content for grading: `redact` first, in a
    thread of its own that works a tenth of the time at most, then the store. Nothing is kept where no guard has written
    a heartbeat lately, or where CHEAPDEEP_SAMPLE_RATE or CHEAPDEEP_RETAIN_CONTENT_DAYS is 0.
    After a fork the child has a thread, a queue and a name of its own; what the parent had queued stays the parent's.
    `background=False` leaves `refresh` and `drain` to the caller, as replay and tests do.
    """

    def __init__(
        self,
        settings: "Settings",
        *,
        drops: DropCounter | None = None,
        clock: Callable[[], float] = time.time,
        background: bool = True,
        redact: Redact = redact,
        queue_size: int = 10_000,
        ledger_size: int = 20_000,
    ) -> None:
        self._settings = settings
        self._folder = Path.cwd()
        self._drops = drops
        self._clock = clock
        self._background = background
        self._redact = redact
        self._share = kept_share(settings.graded_share)
        self._queue_size = queue_size
        self._ledger_size = ledger_size
        self.book = blank_book(base=settings.base_threshold, raised=settings.raised_threshold)
        self._begin()
        _living.add(self)
        if background:
            self._start()
            self._informed.wait(_FIRST_POLICY_S)

    def _begin(self) -> None:
        """Everything that belongs to this process alone."""
        self._begin_ledger()
        self.dropped = 0
        self._queue: deque[Decision] = deque()
        self._troubles = TroubleLog()
        self._samples = CandidateQueue(
            share=self._share, redact=self._redact, background=self._background, complain=self._troubles.warn
        )
        self._storing = threading.Lock()
        self._wake = threading.Event()
        self._informed = threading.Event()
        self._thread: threading.Thread | None = None
        self._store: Store | None = None
        self._started_at = self._clock()
        self._last_beat = float("-inf")
        self._opened_file: tuple[int, int] | None = None
        self._closed = False
        self._rests = False

    def put(self, decision: Decision, tell: Tell | None = None) -> None:
        """Take a finished decision in, or drop and count it where the queue is full.

        `tell` says what the call was about, and is asked at once where the answer is one of those that are kept.
        """
        if self._closed:
            self._drop(1, "the recorder is closed")
        elif len(self._queue) >= self._queue_size:
            self._drop(1, "the recorder's queue is full")
        else:
            self._queue.append(decision)
            if tell is not None:
                self._samples.offer(decision, tell)

    def refresh(self, now: float) -> None:
        """Learn of new policies and of the guard's last sign of life. Raises StoreError."""
        from cheapdeep_ops.store import policies, processes  # noqa: PLC0415 - see _opened

        settings = self._settings
        self._leave_moved_store()
        with self._storing, self._opened().reading() as connection:
            self.book = policies.read_book(connection, base=settings.base_threshold, raised=settings.raised_threshold)
            seen = processes.last_seen(connection, "guard")
        self._watch_guard(seen, now)

    def fold(self, now: float) -> None:
        """Take what is queued into the counters, without storing them."""
        with self._storing:
            self._fold(now)

    def drain(self, now: float) -> None:
        """Fold the queue into counters and store them. Raises StoreError; nothing is lost by that."""
        with self._storing:
            self._fold(now)
            if self._has_unsaved or abs(now - self._last_beat) >= _IDLE_BEAT_S:
                self._save(now)

    def close(self) -> None:
        """Store everything that was put, and stop; what the store does not take within some seconds is logged."""
        if self._closed:
            return
        self._closed = True
        self._wake.set()
        deadline = time.monotonic() + _CLOSE_S
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_S)
        self._samples.close(within_s=max(deadline - time.monotonic(), 0))
        self._attempt(self.drain)
        while self._is_behind and time.monotonic() < deadline:
            time.sleep(_RETRY_S)
            self._attempt(self.drain)
        if self._is_behind:
            _log.error("the recorder was closed with counters or content that the store did not take")
        else:
            self._attempt(self._sign_off)
        if self._store is not None:
            self._store.close()
        _living.discard(self)

    def _sign_off(self, _now: float) -> None:
        from cheapdeep_ops.store import processes  # noqa: PLC0415 - see _opened

        if self._store is not None:
            self._store.transact(lambda connection: processes.sign_off(connection, self.process))

    @property
    def _is_behind(self) -> bool:
        return self._has_unsaved or bool(self._queue)

    @property
    def _has_unsaved(self) -> bool:
        return self._ledger.is_dirty or self._samples.waits

    def _renew(self, now: float) -> None:
        """Go on under a new name: the clock was set back, and seconds that are stored must not be counted again."""
        if self._ledger.is_dirty:
            self._save(now)
        self._attempt(self._sign_off)
        self._begin_ledger()

    def _begin_ledger(self) -> None:
        """What was stored under the old name stays as it is; the new one starts from nothing."""
        self.process, self._ledger = uuid4().hex, CounterBuffer(capacity=self._ledger_size)

    def _save(self, now: float) -> None:
        seconds, beat = self._ledger.unsaved, self._beat(now)
        for start in range(0, max(len(seconds), 1), _SECONDS_AT_ONCE):
            self._save_seconds(seconds[start : start + _SECONDS_AT_ONCE], beat)
        self._ledger.close(before=int(now) - _BUCKET_OPEN_S)
        self._last_beat = now
        self._save_candidates()

    def _save_seconds(self, seconds: Sequence[Second], beat: "Heartbeat") -> None:
        """Store these counters and the heartbeat; what the store refuses is given up, and nothing beside it."""
        from cheapdeep_ops.store import counters, processes, upsert  # noqa: PLC0415 - see _opened

        def prepare(some: Sequence[Second]) -> "Write":
            buckets, totals = self._ledger.rows(some, self.process)
            return upsert.together(counters.prepare(buckets=buckets, totals=totals), processes.prepare_beat(beat))

        refused = upsert.write_accepted(self._opened(), seconds, prepare)
        if refused:
            lost = self._ledger.refused([second for second, _ in refused])
            self._drop(lost, f"the store refused counters ({shown(refused[0][1])})")
        self._ledger.saved(seconds)

    def _save_candidates(self) -> None:
        """Store what was redacted; a row that the store refuses is left out."""
        from cheapdeep_ops.store import candidates, upsert  # noqa: PLC0415 - see _opened

        rows = self._samples.rows
        if not rows:
            return
        refused = upsert.write_accepted(self._opened(), rows, candidates.prepare)
        self._samples.taken(len(rows))
        if refused:
            self._troubles.warn(
                "samples",
                "%s answers were left out of the sample: the store refused them (%s)",
                len(refused),
                shown(refused[0][1]),
            )

    def _fold(self, now: float) -> None:
        if self._ledger.is_ahead_of(int(now)):
            self._renew(now)
        floor, ceiling, lost = int(now) - _BUCKET_OPEN_S + 1, int(now), 0
        while self._queue:
            decision = self._queue.popleft()
            finished = int(decision.started_at + decision.duration_s)
            lost += not self._ledger.add(decision, at=min(max(finished, floor), ceiling))
        if lost:
            self._drop(lost, "too many counters wait for the store")
        self._samples.redact_all()

    def _beat(self, now: float) -> "Heartbeat":
        from cheapdeep_ops.store.processes import Heartbeat  # noqa: PLC0415 - see _opened

        return Heartbeat(
            process=self.process,
            kind="router",
            started_at=self._started_at,
            seen_at=now,
            base_threshold=self._settings.base_threshold,
            policy_version=max((scope.version for scope in self.book.scopes.values()), default=0),
            dropped=self.dropped,
        )

    def _opened(self) -> "Store":
        """The store, opened and checked at first use.

        Imported here because the store's libraries take a quarter of a second to load, which is the background
        thread's time and not the importer's.
        """
        if self._store is None:
            from cheapdeep_ops.store.engine import Store  # noqa: PLC0415 - see above
            from cheapdeep_ops.store.schema import require_schema  # noqa: PLC0415 - see above

            store = Store(self._settings.store_url, patience_s=_PATIENCE_S, folder=self._folder)
            require_schema(store)
            self._store, self._opened_file = store, store.file_identity()
        return self._store

    def _leave_moved_store(self) -> None:
        """Open the store anew where its file was replaced: writing on into a deleted file would be seen by nobody."""
        if self._store is not None and self._store.file_identity() != self._opened_file:
            with self._storing:
                self._store.close()
                self._store = None

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="cheapdeep-recorder", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        flush_at = float("-inf")  # on the monotonic clock: the other one may be set
        while not self._closed:
            self._attempt(self.refresh)
            self._informed.set()
            self._attempt(self.fold)
            if time.monotonic() >= flush_at:
                if isinstance(self._attempt(self.drain), StoreBusyError):
                    self._wake.wait(_BREATH_S)
                    continue
                flush_at = time.monotonic() + self._settings.flush_every_s
            self._wake.wait(min(POLL_S, max(flush_at - time.monotonic(), 0)))

    def _attempt(self, work: Callable[[float], None]) -> Exception | None:
        """Run one part of the thread's work; returns its failure, which is logged once, or None."""
        part = _PARTS[work.__name__]
        try:
            work(self._clock())
        except StoreError as error:
            self._troubles.failed(part, error, "%s; counters wait and the last policies stay in force", error)
            return error
        except Exception as error:  # noqa: BLE001 - the thread must outlive whatever a driver throws
            self._troubles.failed(part, error, "the recorder failed at %s: %r", part, error)
            return error
        self._troubles.ended(part)
        return None

    def _watch_guard(self, seen: float | None, now: float) -> None:
        quiet_since = max(seen or 0, self._started_at)
        if self._drops is not None:
            self._drops.record_guard_age(max(now - (seen or self._started_at), 0.0))
        self._samples.is_watched = now - quiet_since < GUARD_SILENT_S
        if self._samples.is_watched:
            self._troubles.forget("guard")
            return
        self._troubles.warn(
            "guard",
            "no guard has written a heartbeat to the store %s for %.0f s: thresholds are neither raised nor released; "
            "run cheapdeep-ops serve with the same CHEAPDEEP_STORE_URL",
            self._opened().shown_url,
            now - quiet_since,
        )

    def _drop(self, count: int, why: str) -> None:
        self.dropped += count
        if self._drops is not None:
            self._drops.record_dropped(count)
        self._troubles.warn(why, "%s: decisions are made and not counted", why)

    def before_fork(self) -> None:
        """Bring the store to rest: a child that inherits a connection of SQLite's inherits locks that nobody frees.

        Source: https://www.sqlite.org/howtocorrupt.html, "Carrying an open database connection across a fork()"
        """
        self._rests = self._storing.acquire(timeout=_REST_S)
        if self._rests and self._store is not None:
            self._store.close()  # opens again at its next use

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._rests:
            self._storing.release()

    def after_fork_in_child(self) -> None:
        """Become the child's own recorder."""
        was_closed = self._closed
        _orphans.append(self._store)
        self._begin()
        self._closed = was_closed
        if self._background and not was_closed:
            self._start()


_orphans: Final[list[object]] = []
"""Stores that a fork caught at work: kept, because collecting them would close connections that the parent uses."""

_living: Final["weakref.WeakSet[Recorder]"] = weakref.WeakSet()


def _for_all(act: Callable[[Recorder], None]) -> Callable[[], None]:
    def run() -> None:
        for recorder in list(_living):
            act(recorder)

    return run


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_for_all(Recorder.before_fork),
        after_in_parent=_for_all(Recorder.after_fork_in_parent),
        after_in_child=_for_all(Recorder.after_fork_in_child),
    )
atexit.register(_for_all(Recorder.close))
