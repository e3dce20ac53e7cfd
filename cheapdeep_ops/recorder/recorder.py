"""A bounded queue and one background thread between the router and the store."""

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from cheapdeep_ops.admission import Admitted
from cheapdeep_ops.errors import StoreBusyError, StoreError
from cheapdeep_ops.policy import blank_book
from cheapdeep_ops.recorder.candidate_queue import CandidateQueue, ReadExchange
from cheapdeep_ops.recorder.counter_writer import CounterWriter
from cheapdeep_ops.recorder.destination import AskedToWaitError, News
from cheapdeep_ops.recorder.destinations import destination_of, spool_of
from cheapdeep_ops.recorder.forks import forget_recorder, keep_alive, note_recorder
from cheapdeep_ops.recorder.guard_watch import DropCounter, GuardWatch
from cheapdeep_ops.recorder.remainder import Remainder
from cheapdeep_ops.recorder.spending import spending_of
from cheapdeep_ops.recorder.trouble_log import TroubleLog
from cheapdeep_ops.recorder.wake import Wake
from cheapdeep_ops.redaction import Redact, redact
from cheapdeep_ops.sampling import kept_share
from cheapdeep_ops.store.clock import SKEW_S, SKEW_WARNING, StoreClock, corrected
from cheapdeep_ops.values import Decision

if TYPE_CHECKING:
    from cheapdeep_ops.settings import Settings
    from cheapdeep_ops.store.recording import Heartbeat, StoredPolicy

_log: Final = logging.getLogger(__name__)
_EACH_S: Final = 1.0
"""How often the thread looks at least for work, and whether routers are there."""

_FIRST_POLICY_S: Final = 2.0
_IDLE_BEAT_S: Final = 10.0
_BUCKET_OPEN_S: Final = 10
_CLOSE_S: Final = 5.0
_RETRY_S: Final = 0.1
_SLOW_S: Final = 1.0
"""After how long a failure is one of a store that hangs."""

_SLOWEST_S: Final = 3.0
"""How long one use of such a store may take: see `store.direct.ANSWER_S`."""

_BREATH_S: Final = 0.01
"""The pause before a retry while the store is busy, in which a fork or a closing thread can use the store."""

_REST_S: Final = 2.0
"""How long a fork waits for a write in progress to end."""

_RENAME_AFTER_S: Final = 43_200.0
"""A process that was silent for longer writes under a new name: after a day, a guard seals a silent process."""

_PARTS: Final = {
    "refresh": "reading policies",
    "fold": "counting",
    "drain": "writing counters",
    "sign_off": "closing",
    "ask_budgets": "asking for budgets",
    "_give_back": "giving budgets back",
}
"""The names of the thread's methods in the log."""


class Recorder:
    """Counts decisions into the store, and reads the policies in force from it.

    `put` takes about a microsecond, never blocks and never raises; a decision that does not fit is dropped and counted.
    A background thread writes every `flush_every_s` seconds, in short transactions, and follows the policies within
    half a second. While the store is away, no count is lost: seconds add up to minutes, so that memory stays bounded.
    At most 500 answers for grading wait, and the last policies stay in force. `close` takes at most five seconds. What
    the store has not taken by then is lost, or left in CHEAPDEEP_SPOOL_DIR for the next process.

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
        steady_clock: Callable[[], float] | None = None,
        background: bool = True,
        redact: Redact = redact,
        queue_size: int = 10_000,
        is_wanted: Callable[[], bool] | None = None,
    ) -> None:
        self._settings = settings
        self._folder = Path.cwd()
        self._drops = drops
        self._clock = StoreClock(clock, steady_clock=steady_clock)
        self._background = background
        self._redact = redact
        self._share = kept_share(settings.graded_share)
        self._queue_size = queue_size
        self._is_wanted = is_wanted or (lambda: True)
        self.abandoned: SimpleQueue[Callable[[], None]] = SimpleQueue()
        """Functions that the thread calls soon: each records a stream that its caller has abandoned."""
        self._read: tuple[list[StoredPolicy], Admitted | None] = ([], None)
        self.book = blank_book(base=settings.base_threshold, raised=settings.raised_threshold)
        self.spending: Final = spending_of(settings, on_low=self._wake_up, now=self._clock)
        """The budgets, and what this process has spent of them."""
        self._begin()
        note_recorder(self)
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
            share=self._share, redact=self._redact, background=self._background, troubles=self._troubles
        )
        self._storing = threading.Lock()
        self._wake = Wake()
        self._informed = threading.Event()
        self._flushes: SimpleQueue[SimpleQueue[Exception | None]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        # A caller that runs `refresh` itself relies on what was committed just before.
        always_reads = not self._background
        self._destination = destination_of(
            self._settings, folder=self._folder, clock=self._clock, wake=self._wake, always_reads=always_reads
        )
        self._interval_s = self._settings.flush_every_s
        limits = {"max_routes": self._settings.max_routes, "max_classes": self._settings.max_input_classes}
        self._writer = CounterWriter(self._destination, Admitted(called={}, **limits), drop=self._drop)
        self._remainder = Remainder(spool_of(self._settings, self._folder), self._writer, self._samples)
        self._started = self._clock.steady()
        self._guard = GuardWatch(self._drops, self._troubles)
        self._news: News | None = None
        self._last_beat = float("-inf")
        self._closed = self._is_finished = self._is_away = self._rests = False
        self._close_by = float("inf")  # on the monotonic clock

    @property
    def process(self) -> str:
        """The process's name in the store; a guard gives a process that sends to it another name."""
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
            return
        waiting = len(self._queue)
        if waiting >= self._queue_size:
            self._drop(1, "the recorder's queue is full")
        else:
            self._queue.append(decision)
            if waiting == self._queue_size // 2:
                self._wake.set()  # else the thread may rest for a second
            if tell is not None:
                self._samples.offer(decision, tell, redact)

    def refuse(self) -> None:
        """Drop a decision that comes too late, and count it."""
        self._drop(1, "the recorder is closed")

    def refresh(self, now: float) -> None:
        """Read the policies, the admitted names and the guard's last heartbeat from the store. Raises StoreError."""
        with self._storing:
            before, news = self._clock(), self._destination.read()
        if news is not self._news:  # usually nothing has changed
            self._learn(news)
            # The first reading may move the time a lot, and `now` is from before it.
            now += self._clock() - before
        self._samples.offset_s = -self._clock.ahead_s
        if abs(self._clock.ahead_s) > SKEW_S:
            self._troubles.warn("clock", SKEW_WARNING, socket.gethostname(), self._clock.ahead_s)
        is_guarded = self._guard.note(news.guard_seen, now, started_at=self._started_at, destination=self._destination)
        self._samples.is_watched = is_guarded and news.wants_candidates

    @property
    def _started_at(self) -> float:
        """When this process began to record, in the store's time as it is known now."""
        return self._clock() - (self._clock.steady() - self._started)

    def fold(self, now: float) -> None:
        """Add the queued decisions to the counters, without storing them."""
        with self._storing:
            self._fold(now)

    def drain(self, now: float) -> None:
        """Add the queued decisions to the counters, and store them. Raises StoreError; the counters then wait."""
        if not self._background and self.spending.is_due:
            self.ask_budgets(now)
        with self._storing:
            self._fold(now)
            if self._has_unsaved or abs(now - self._last_beat) >= _IDLE_BEAT_S:
                self._save(now)

    def ask_budgets(self, now: float, *, is_last: bool = False) -> None:
        """Tell the store what was spent of each budget, and fetch the next slices. Raises StoreError."""
        with self._storing:
            self.spending.renew(partial(self._destination.ask_budgets, now), is_last=is_last)

    def _give_back(self, now: float) -> None:
        self.ask_budgets(now, is_last=True)

    def flush(self) -> None:
        """Store everything that was queued. If the store does not take it within five seconds, it waits."""
        deadline = time.monotonic() + _CLOSE_S
        self._samples.hurry(within_s=_CLOSE_S)
        if self._thread is None or self._thread is threading.current_thread() or not self._thread.is_alive():
            self._attempt(self.drain)
            return
        answer: SimpleQueue[Exception | None] = SimpleQueue()
        self._flushes.put(answer)
        self._wake.set()
        failure: object = "no answer"
        with suppress(Empty):
            failure = answer.get(timeout=max(deadline - time.monotonic(), 0))
        if failure is not None:
            self._troubles.warn("flush", "a router was closed while the store did not take its counters; they wait")

    def close(self) -> None:
        """Store everything that was queued, and stop, within five seconds; logs how much the store did not take."""
        self.end()
        if self._thread is None:
            self._finish()
        elif self._thread is not threading.current_thread():
            self._thread.join(max(self._close_by - time.monotonic(), 0))
            if self._thread.is_alive():
                self._give_up()

    def end(self) -> None:
        """Take no more decisions, and have the thread finish."""
        if not self._closed:
            self._close_by = time.monotonic() + _CLOSE_S
            self._closed = True
            self._wake.set()

    @property
    def is_behind(self) -> bool:
        """Whether anything that was put is not stored yet."""
        return self._has_unsaved or bool(self._queue)

    @property
    def _has_unsaved(self) -> bool:
        return self._writer.is_dirty or self._samples.has_rows

    def _learn(self, news: News) -> None:
        from cheapdeep_ops.store import recording  # noqa: PLC0415 - see StoreDestination

        if self._news is not None and news.store != self._news.store:
            with self._storing:
                self._writer.store_lost()
        if news.time is not None and (self._news is None or news.time is not self._news.time):
            told, asked_at, answered_at = news.time
            self._clock.note(told, asked_at=asked_at, answered_at=answered_at)
        self._news = news
        self._interval_s = max(self._settings.flush_every_s, news.flush_every_s or 0.0)
        with self._storing:
            self._writer.admitted = news.admitted
        # Usually nothing has changed, and with a new book routers look up all labels again.
        read = (news.policies, news.admitted)
        if read != self._read:
            base, raised = self._settings.base_threshold, self._settings.raised_threshold
            self.book = recording.book_of(news.policies, base=base, raised=raised, admitted=news.admitted)
            self._read = read

    def _save(self, now: float) -> None:
        if _RENAME_AFTER_S < now - self._last_beat < float("inf"):
            self._rename(now)
            # Once: the new name has not been silent, however many attempts the first write takes.
            self._last_beat = now
        self._writer.settle(now)
        self._writer.save(self._beat(now))
        self._writer.close_seconds(before=int(now) - _BUCKET_OPEN_S)
        self._last_beat = now
        self._samples.save(self._destination, self._writer.stored)
        self._remainder.take_over(self._destination)
        self._note_folded()

    def _rename(self, now: float) -> None:
        """Go on under a new process name; only what was sent stays under the old one."""
        self._writer.restart(self._beat(now))

    def _note_folded(self) -> None:
        names = self._writer.names
        if names.folded:
            shown = ", ".join(names.folded_names)
            self._troubles.warn(
                "labels",
                "the store has no room for further routes or input classes: %s count as "
                "`other`; see cheapdeep-ops routes list",
                shown,
            )

    def _fold(self, now: float) -> None:
        # The clock was set back. Under the old name, new counts would replace rows of seconds that are stored.
        if self._writer.buffer.is_ahead_of(int(now)):
            self._rename(now)
        # A late decision counts in the oldest open second: closed seconds never change again.
        floor, ceiling, lost = int(now) - _BUCKET_OPEN_S + 1, int(now), 0
        offset_s = -self._clock.ahead_s
        while self._queue:
            decision = self._queue.popleft()
            finished = int(corrected(decision.started_at + decision.duration_s, offset_s))
            lost += not self._writer.add(decision, at=min(max(finished, floor), ceiling))
        if lost:
            self._drop(lost, "too many counters wait for the store")
        self._writer.coarsen(before=floor)
        self._samples.redact_all()

    def _beat(self, now: float) -> "Heartbeat":
        from cheapdeep_ops.store.recording import Heartbeat  # noqa: PLC0415 - see StoreDestination

        return Heartbeat(
            process=self.process,
            kind="router",
            started_at=self._started_at,
            seen_at=now,
            base_threshold=self._settings.base_threshold,
            policy_version=max((scope.version for scope in self.book.scopes.values()), default=0),
            dropped=self.dropped - self._writer.dropped_before,
            clock_ahead_s=self._clock.ahead_s,
            folded=self._writer.names.folded,
            folded_names=self._writer.names.folded_names,
            closed_before=self._writer.buffer.closed_before,
        )

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="cheapdeep-recorder", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        flush_at = look_at = float("-inf")  # on the monotonic clock, because the wall clock may be set
        is_due = True
        while not self._closed:
            begun = time.monotonic()
            if begun >= look_at:
                look_at = begun + _EACH_S
                if not self._is_wanted():
                    self.end()
                    break
            failure = self._catch_up(reads=is_due)
            if not self._informed.is_set():
                self._informed.set()
            if not self.abandoned.empty():
                self._record_abandoned()
            # Folded at each turn, so that a full queue never waits for the next flush.
            if self._queue:
                self._attempt(self.fold)
            # A store that hangs holds the thread long enough: it is used once in each turn.
            hangs = failure is not None and time.monotonic() - begun > _SLOW_S
            if hangs:
                self._answer_flushes(failure)
            elif time.monotonic() >= flush_at or not self._flushes.empty():
                wait_s = self._drain_for_flushes()
                if wait_s is None:
                    self._wake.wait(_BREATH_S)
                    is_due = True
                    continue
                flush_at = time.monotonic() + wait_s
            rest_s = min(max(flush_at - time.monotonic(), 0), _EACH_S, self.spending.due_in_s)
            is_due = self._destination.await_news(self._wake, rest_s)
        self._finish()

    def _catch_up(self, *, reads: bool) -> Exception | None:
        """Ask the store what has changed, and for slices of budgets that are due; returns the error, if any."""
        failure = self._attempt(self.refresh) if reads else None
        return self._attempt(self.ask_budgets) if failure is None and self.spending.is_due else failure

    def _wake_up(self) -> None:
        self._wake.set()

    def _drain_for_flushes(self) -> float | None:
        """Write, and answer those who waited for that when it began.

        Returns the seconds until the next write; None if the store is busy, which is tried again at once.
        """
        waiting = self._flushes.qsize()
        if not waiting and self._has_nothing_to_say():
            return self._interval_s
        failure = self._attempt(self.drain)
        if isinstance(failure, StoreBusyError) and not isinstance(failure, AskedToWaitError):
            return None
        self._answer_flushes(failure, most=waiting)
        return failure.retry_after_s if isinstance(failure, AskedToWaitError) else self._interval_s

    def _has_nothing_to_say(self) -> bool:
        """Whether a write would store nothing, not even a heartbeat: to find that out here costs a third."""
        is_beat_due = abs(self._clock() - self._last_beat) >= _IDLE_BEAT_S
        return not (self.is_behind or is_beat_due or self._is_away)

    def _answer_flushes(self, failure: Exception | None, *, most: int | None = None) -> None:
        for _ in range(self._flushes.qsize() if most is None else most):
            self._flushes.get().put(failure)

    def _finish(self) -> None:
        """Store the rest, or give it up; runs in the thread, so that no caller of `close` waits for a store."""
        if self._is_finished:
            return
        self._is_finished = True
        self._samples.close(within_s=max(self._close_by - time.monotonic(), 0))
        # As long as the last attempt took, so will the next.
        needed_s = _SLOWEST_S if self._is_away else 0.0
        while self.is_behind and time.monotonic() + needed_s < self._close_by:
            begun = time.monotonic()
            if self._attempt(self.drain) is not None:
                needed_s = time.monotonic() - begun + _RETRY_S
                time.sleep(_RETRY_S)
        if self.is_behind:
            self._give_up()
        elif not self._is_away:
            self._attempt(self._writer.sign_off)
        if self.spending.is_on and not self._is_away:
            self._attempt(self._give_back)
        self._answer_flushes(None)
        self._destination.close()
        self._wake.close()
        forget_recorder(self)

    def _give_up(self) -> None:
        """Leave what the store did not take in the spool, or lose it; says so in the log."""
        # The thread may hold the lock for as long as a store hangs. It changes no counter then.
        is_held = self._storing.acquire(timeout=_BREATH_S)
        try:
            self._fold(self._clock())
            self._writer.settle_unasked()
            # The next process may come after a day, when a guard has sealed the name that the store knows.
            if self._last_beat > float("-inf"):
                self._rename(self._clock())
            self._remainder.leave(self._beat(self._clock()))
        except Exception as error:  # noqa: BLE001 - closing must not fail, whatever the disk does
            self._troubles.failed("closing", error, "the recorder failed at closing: %r", error)
        finally:
            if is_held:
                self._storing.release()

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
            self._is_away = not isinstance(error, StoreBusyError)
            self._troubles.failed(part, error, "%s; counters wait and the last policies stay in force", error)
            return error
        except Exception as error:  # noqa: BLE001 - the thread must survive every error of a driver
            self._troubles.failed(part, error, "the recorder failed at %s: %r", part, error)
            return error
        self._is_away = self._is_away and part == _PARTS["fold"]
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
            self._destination.close()

    def after_fork_in_parent(self) -> None:
        """Allow writes again."""
        if self._rests:
            self._storing.release()

    def after_fork_in_child(self) -> None:
        """Start over with a queue, a thread and a process name of the child's own."""
        was_closed = self._closed
        keep_alive(self._destination)
        self._wake.close()
        self._begin()
        self.spending.restart()
        self._closed = was_closed
        if self._background and not was_closed:
            self._start()
