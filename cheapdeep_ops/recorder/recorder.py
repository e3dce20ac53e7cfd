"""A bounded queue and one background thread between the router and the store."""

import atexit
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from cheapdeep_ops.errors import StoreBusyError, StoreError
from cheapdeep_ops.policy import blank_book
from cheapdeep_ops.recorder.candidate_queue import CandidateQueue, ReadExchange
from cheapdeep_ops.recorder.counter_writer import CounterWriter
from cheapdeep_ops.recorder.guard_watch import DropCounter, GuardWatch
from cheapdeep_ops.recorder.lazy_store import LazyStore
from cheapdeep_ops.recorder.trouble_log import TroubleLog
from cheapdeep_ops.redaction import Redact, redact
from cheapdeep_ops.sampling import kept_share
from cheapdeep_ops.values import Decision

if TYPE_CHECKING:
    from cheapdeep_ops.settings import Settings
    from cheapdeep_ops.store.recording import Heartbeat, StoredPolicy

_log: Final = logging.getLogger(__name__)
POLL_S: Final = 0.25
"""How often the thread reads the policies: well below the two seconds within which a router must follow."""

_FIRST_POLICY_S: Final = 2.0
_IDLE_BEAT_S: Final = 10.0
_BUCKET_OPEN_S: Final = 10
_CLOSE_S: Final = 5.0
_RETRY_S: Final = 0.1
_BREATH_S: Final = 0.01
"""The pause before a retry while the store is busy, in which a fork or a closing thread can use the store."""

_REST_S: Final = 2.0
"""How long a fork waits for a write in progress to end."""

_RENAME_AFTER_S: Final = 43_200.0
"""A process that was silent for longer counts on under a new name: after a day, a guard seals a silent process."""

_PARTS: Final = {"refresh": "reading policies", "fold": "counting", "drain": "writing counters", "sign_off": "closing"}
"""The names of the thread's methods in the log."""


class Recorder:
    """Counts decisions into the store, and reads the policies in force from it.

    `put` takes about a microsecond, never blocks and never raises; a decision that does not fit is dropped and counted.
    A background thread writes every `flush_every_s` seconds, in short transactions, and reads the policies four times a
    second. While the store is busy or unreachable, counters and content wait (bounded), and the last policies stay in
    force.

    It keeps the content of a hash-chosen share of the answers with base outcome ship, for grading. A second thread
    redacts it with `redact`, and works at most a tenth of the time. No content is kept if no guard has written a
    heartbeat lately, or if CHEAPDEEP_SAMPLE_RATE or CHEAPDEEP_RETAIN_CONTENT_DAYS is 0.

    After a fork, the child has its own threads, queue and process name; the parent keeps what it had queued.
    With `background=False`, the caller runs `refresh` and `drain`, as replay and tests do. With `is_wanted`, the thread
    closes the recorder once that returns False, and the caller waits for the policies with `await_policies`.
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
        is_wanted: Callable[[], bool] | None = None,
    ) -> None:
        self._settings = settings
        self._folder = Path.cwd()
        self._drops = drops
        self._clock = clock
        self._background = background
        self._redact = redact
        self._share = kept_share(settings.graded_share)
        self._queue_size = queue_size
        self._is_wanted = is_wanted or (lambda: True)
        self.abandoned: SimpleQueue[Callable[[], None]] = SimpleQueue()
        """Functions that the thread calls soon: each records a stream that its caller has abandoned."""
        self._policies: list[StoredPolicy] = []
        self.book = blank_book(base=settings.base_threshold, raised=settings.raised_threshold)
        self._begin()
        _recorders.add(self)
        if background:
            self._start()
            if is_wanted is None:
                self.await_policies()

    def _begin(self) -> None:
        """Create everything that belongs to this process alone."""
        self.dropped = 0
        self._queue: deque[Decision] = deque()
        self._troubles = TroubleLog()
        self._samples = CandidateQueue(
            share=self._share, redact=self._redact, background=self._background, warn=self._troubles.warn
        )
        self._storing = threading.Lock()
        self._wake = threading.Event()
        self._informed = threading.Event()
        self._thread: threading.Thread | None = None
        self._store = LazyStore(self._settings.store_url, folder=self._folder)
        self._writer = CounterWriter(self._store, drop=self._drop)
        self._started_at = self._clock()
        self._guard = GuardWatch(self._drops, self._troubles, started_at=self._started_at)
        self._last_beat = float("-inf")
        self._closed = False
        self._rests = False

    @property
    def process(self) -> str:
        """The process's name in the store."""
        return self._writer.process

    @property
    def is_closed(self) -> bool:
        """Whether decisions are dropped, because the recorder was closed."""
        return self._closed

    def await_policies(self) -> None:
        """Return when the policies were read for the first time, or after two seconds."""
        self._informed.wait(_FIRST_POLICY_S)

    def put(self, decision: Decision, tell: ReadExchange | None = None, redact: Redact | None = None) -> None:
        """Queue a finished decision; if the queue is full, drop and count it.

        `tell` returns the call's questions and answer. It is called at once, and only if the answer is kept for
        grading. `redact` replaces the recorder's own hook for this answer.
        """
        if self._closed:
            self.refuse()
        elif len(self._queue) >= self._queue_size:
            self._drop(1, "the recorder's queue is full")
        else:
            self._queue.append(decision)
            if tell is not None:
                self._samples.offer(decision, tell, redact)

    def refuse(self) -> None:
        """Drop a decision that comes too late, and count it."""
        self._drop(1, "the recorder is closed")

    def refresh(self, now: float) -> None:
        """Read the policies and the guard's last heartbeat from the store. Raises StoreError."""
        from cheapdeep_ops.store import recording  # noqa: PLC0415 - see LazyStore

        if self._store.is_replaced:
            with self._storing:
                self._store.reopen()
        with self._storing:
            store = self._store()
            rows, seen = recording.read_policies(store)
        # Usually nothing has changed, and a new book would lose its look-ups.
        if rows != self._policies:
            base, raised = self._settings.base_threshold, self._settings.raised_threshold
            self._policies, self.book = rows, recording.book_of(rows, base=base, raised=raised)
        self._samples.is_watched = self._guard.note(seen, now, store=store)

    def fold(self, now: float) -> None:
        """Add the queued decisions to the counters, without storing them."""
        with self._storing:
            self._fold(now)

    def drain(self, now: float) -> None:
        """Add the queued decisions to the counters, and store them. Raises StoreError; the counters then wait."""
        with self._storing:
            self._fold(now)
            if self._has_unsaved or abs(now - self._last_beat) >= _IDLE_BEAT_S:
                self._save(now)

    def flush(self) -> None:
        """Store everything that was queued; if that takes too many seconds, log an error."""
        deadline = time.monotonic() + _CLOSE_S
        self._samples.hurry(within_s=_CLOSE_S)
        while self._attempt(self.drain) is not None:
            if time.monotonic() >= deadline:
                _log.error("a router was closed while the store did not take its counters; they wait")
                return
            time.sleep(_RETRY_S)

    def close(self) -> None:
        """Store everything that was queued, and stop; if that takes too many seconds, log an error."""
        is_first, self._closed = not self._closed, True
        self._wake.set()
        deadline = time.monotonic() + _CLOSE_S
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_S)
        if not is_first:
            return
        self._samples.close(within_s=max(deadline - time.monotonic(), 0))
        self._attempt(self.drain)
        while self.is_behind and time.monotonic() < deadline:
            time.sleep(_RETRY_S)
            self._attempt(self.drain)
        if self.is_behind:
            _log.error("the recorder was closed with counters or content that the store did not take")
        else:
            self._attempt(self._writer.sign_off)
        self._store.close()
        _recorders.discard(self)

    @property
    def is_behind(self) -> bool:
        """Whether anything that was put is not stored yet."""
        return self._has_unsaved or bool(self._queue)

    @property
    def _has_unsaved(self) -> bool:
        return self._writer.buffer.is_dirty or self._samples.has_rows

    def _save(self, now: float) -> None:
        self._writer.save(self._beat(now))
        self._writer.buffer.close(before=int(now) - _BUCKET_OPEN_S)
        silent_s, self._last_beat = now - self._last_beat, now
        self._samples.save(self._store())
        if _RENAME_AFTER_S < silent_s < float("inf"):
            self._attempt(self._writer.sign_off)
            self._writer.restart()

    def _fold(self, now: float) -> None:
        # The clock was set back. Under the old name, new counts would replace rows of seconds that are stored.
        if self._writer.buffer.is_ahead_of(int(now)):
            if self._writer.buffer.is_dirty:
                self._save(now)
            self._attempt(self._writer.sign_off)
            self._writer.restart()
        # A late decision counts in the oldest open second: closed seconds never change again.
        floor, ceiling, lost = int(now) - _BUCKET_OPEN_S + 1, int(now), 0
        while self._queue:
            decision = self._queue.popleft()
            finished = int(decision.started_at + decision.duration_s)
            lost += not self._writer.buffer.add(decision, at=min(max(finished, floor), ceiling))
        if lost:
            self._drop(lost, "too many counters wait for the store")
        self._samples.redact_all()

    def _beat(self, now: float) -> "Heartbeat":
        from cheapdeep_ops.store.recording import Heartbeat  # noqa: PLC0415 - see LazyStore

        return Heartbeat(
            process=self.process,
            kind="router",
            started_at=self._started_at,
            seen_at=now,
            base_threshold=self._settings.base_threshold,
            policy_version=max((scope.version for scope in self.book.scopes.values()), default=0),
            dropped=self.dropped,
            closed_before=self._writer.buffer.closed_before,
        )

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="cheapdeep-recorder", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        flush_at = float("-inf")  # on the monotonic clock, because the wall clock may be set
        while not self._closed:
            if not self._is_wanted():
                self.close()
                return
            self._attempt(self.refresh)
            self._informed.set()
            self._record_abandoned()
            # Folded at each turn, so that a full queue never waits for the next flush.
            if self._queue:
                self._attempt(self.fold)
            if time.monotonic() >= flush_at:
                if isinstance(self._attempt(self.drain), StoreBusyError):
                    self._wake.wait(_BREATH_S)
                    continue
                flush_at = time.monotonic() + self._settings.flush_every_s
            self._wake.wait(min(POLL_S, max(flush_at - time.monotonic(), 0)))

    def _record_abandoned(self) -> None:
        while not self.abandoned.empty():
            with suppress(Empty):  # a router's call has taken it
                self.abandoned.get_nowait()()

    def _attempt(self, work: Callable[[float], None]) -> Exception | None:
        """Run one part of the thread's work; returns its error, which is logged once, or None."""
        part = _PARTS[work.__name__]
        try:
            work(self._clock())
        except StoreError as error:
            self._troubles.failed(part, error, "%s; counters wait and the last policies stay in force", error)
            return error
        except Exception as error:  # noqa: BLE001 - the thread must survive every error of a driver
            self._troubles.failed(part, error, "the recorder failed at %s: %r", part, error)
            return error
        self._troubles.ended(part)
        return None

    def _drop(self, count: int, why: str) -> None:
        self.dropped += count
        if self._drops is not None:
            self._drops.record_dropped(count)
        self._troubles.warn(why, "%s: decisions are made and not counted", why)

    def before_fork(self) -> None:
        """Wait for a write to end, and close the store's connections before the process forks.

        Source: https://www.sqlite.org/howtocorrupt.html, "Carrying an open database connection across a fork()"
        """
        # A child that inherits an SQLite connection inherits its locks too, which are then never released.
        self._rests = self._storing.acquire(timeout=_REST_S)
        if self._rests:
            self._store.close()

    def after_fork_in_parent(self) -> None:
        """Allow writes again."""
        if self._rests:
            self._storing.release()

    def after_fork_in_child(self) -> None:
        """Start over with a queue, a thread and a process name of the child's own."""
        was_closed = self._closed
        _orphans.append(self._store.opened)
        self._begin()
        self._closed = was_closed
        if self._background and not was_closed:
            self._start()


_orphans: Final[list[object]] = []
"""The parent's stores in a forked child: kept alive, because closing their connections would harm the parent."""

_recorders: Final["weakref.WeakSet[Recorder]"] = weakref.WeakSet()


def _for_all(act: Callable[[Recorder], None]) -> Callable[[], None]:
    def run() -> None:
        for recorder in list(_recorders):
            act(recorder)

    return run


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_for_all(Recorder.before_fork),
        after_in_parent=_for_all(Recorder.after_fork_in_parent),
        after_in_child=_for_all(Recorder.after_fork_in_child),
    )
atexit.register(_for_all(Recorder.close))
