"""Wiring of store, guard, scheduler and HTTP server; the only module that imports APScheduler."""

import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.util import find_spec
from types import FrameType
from typing import Final

import uvicorn
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from fastapi import FastAPI
from starlette.responses import PlainTextResponse

from cheapdeep_ops.claude.grade_request import GraderApi
from cheapdeep_ops.guard.formatting import duration
from cheapdeep_ops.guard.grading.grader import Grader
from cheapdeep_ops.guard.guard import Guard
from cheapdeep_ops.guard.http.access import Access
from cheapdeep_ops.guard.http.api import make_api
from cheapdeep_ops.guard.http.connections import BoundedConnection
from cheapdeep_ops.guard.http.metrics import FleetCollector
from cheapdeep_ops.guard.http.senders import Senders
from cheapdeep_ops.guard.jobs import RESCHEDULED, Job
from cheapdeep_ops.guard.lease import keep_every_s
from cheapdeep_ops.guard.lifecycle_check import check_models
from cheapdeep_ops.guard.notify.receivers import receivers_of, senders_for
from cheapdeep_ops.guard.notify.sender import Sender
from cheapdeep_ops.guard.outages import OutageLog
from cheapdeep_ops.guard.reports.liveness import is_stale
from cheapdeep_ops.guard.retention import RETAIN_EVERY_S
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.guard.slack_actions.clicks import Clicks
from cheapdeep_ops.listening import listen, own_signals
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import processes
from cheapdeep_ops.store.clock import SKEW_S, SKEW_WARNING, StoreClock
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate
from cheapdeep_ops.units import DAY_S

_log: Final = logging.getLogger(__name__)
_DELIVER_EVERY_S: Final = 1.0
_DRAW_EVERY_S: Final = 2.0
_GRACEFUL_SHUTDOWN_S: Final = 1
_KEEP_ALIVE_S: Final = 75
_LARGEST_WEBSOCKET_MESSAGE: Final = 1_000_000
"""In bytes: what a page of the console sends is far smaller."""

NO_CONSOLE: Final = "The console needs an extra: pip install 'cheapdeep_ops[console]'"
_STOP_S: Final = 7.5
"""How long `stop` takes at most, whatever hangs: after the second for HTTP it stays well below 10 s."""

_JOBS_END_S: Final = 4.5
_CLOSE_S: Final = 1.5
_CLICKS_END_S: Final = 4.0
_PROMPT_SHUTDOWN_S: Final = 2.0
_CLOCK_TOLERANCE_S: Final = 5.0
_REPORT_EVERY_S: Final = 60.0
"""The interval of the check whether a receipt is due."""

_MODELS_EVERY_S: Final = float(DAY_S)
_MODELS_AFTER_S: Final = 30.0
_CLOCK_CHECK_S: Final = 0.3
"""The shortest interval between two checks whether the clock was set back."""

_ADJUSTED: Final = timedelta(seconds=1)
"""A clock that is set back by less does not reschedule jobs."""

_MAX_INSTANCES: Final = 1_000
"""APScheduler's limit of simultaneous runs is out of the way, because a `Job` skips them and logs it better."""


class Every(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Fires every `interval`, first after `first`; the next time is never more than one interval ahead."""

    def __init__(self, interval: timedelta, *, first: timedelta) -> None:
        self.interval = interval
        self._first = first

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """The next time after `previous_fire_time`, by a clock that shows `now`."""
        if previous_fire_time is None:
            return now + self._first
        # One run makes up for all missed ones. APScheduler's interval trigger would list every missed time:
        # after a clock's jump of 60 days, 5 million of them.
        due, latest = previous_fire_time + self.interval, now + self.interval
        return due if now < due < latest else latest


class _Server(uvicorn.Server):
    """uvicorn's server, which calls `on_signal` when it is to end, and `before_shutdown` when it begins to."""

    def __init__(
        self, config: uvicorn.Config, *, on_signal: Callable[[], None], before_shutdown: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._on_signal, self._before_shutdown = on_signal, before_shutdown

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end. uvicorn calls it in a signal handler, which works even while its event loop is blocked."""
        self._on_signal()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End all connections."""
        # Requests that wait for something end first: otherwise the server would wait for them, and then cancel them.
        self._before_shutdown()
        await super().shutdown(sockets)


class Service:
    """A guard with its scheduler and its HTTP server."""

    def __init__(
        self,
        settings: Settings,
        *,
        senders: Mapping[str, Sender] | None = None,
        clock: Callable[[], float] = time.time,
        steady_clock: Callable[[], float] | None = None,
    ) -> None:
        self._settings = settings
        self._clock = StoreClock(clock, steady_clock=steady_clock)
        self._is_skewed = False
        self._access = Access(settings, clock=self._clock)
        self._jobs: Counter[tuple[str, str]] = Counter()
        self._outages = OutageLog()
        self._stopping = threading.Event()
        self._watchdog = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        rulebook = read_rulebook(settings.rules_file)
        senders = senders or senders_for(settings, receivers_of(rulebook.receivers))
        self.store = Store(settings.store_url)
        migrate(self.store)
        self._file = self.store.file_identity()
        self._read_time()
        self.guard = Guard(
            self.store,
            settings=settings,
            rulebook=rulebook,
            senders=senders,
            make_grader=partial(Grader, settings=settings, api=GraderApi()),
            started_at=self._clock(),
            monotonic=self._clock.steady,
            clock_ahead_s=lambda: self._clock.ahead_s,
        )
        self._clicks = Clicks(self.store, settings, self._clock) if settings.has_buttons else None
        self._senders = Senders(settings.store_url, settings, self._clock)
        self._scheduler = self._make_scheduler()
        self._collector = FleetCollector(
            self.store,
            settings=settings,
            rulebook=rulebook,
            jobs=lambda: dict(self._jobs),
            clock=self._clock,
        )

    def start(self) -> None:
        """Start the scheduled jobs."""
        self._scheduler.start()
        self._watchdog.start()
        if self._clicks is not None:
            self._clicks.start()

    def stop(self) -> None:
        """End the jobs, deliver the messages that are due, release the leases and close the store.

        This takes at most 7.5 s, also if the store, the API or a receiver hangs. Messages that were not sent stay in
        the outbox. Leases that were not released are taken over after their time.
        """
        until = time.monotonic() + _STOP_S
        if self._clicks is not None:
            # Beside the jobs' end, because slack_sdk waits up to three seconds for its connection.
            self._clicks.ask_to_stop()
        # After a slow end of the jobs, something hangs, and would hang here too.
        if self._end_jobs():
            _try("delivering", lambda: self.guard.deliver(self._clock()), until - _CLOSE_S)
        _try("signing off", self._sign_off, until)

    def _sign_off(self) -> None:
        try:
            self._senders.close()
            self.guard.close()
            if self._clicks is not None:
                # After the leases are released, because slack_sdk may take three seconds.
                self._clicks.stop(_CLICKS_END_S)
        finally:
            self.store.close()

    def _end_jobs(self) -> bool:
        """End the jobs; returns whether that was quick."""
        begun = time.monotonic()
        self._stopping.set()
        self.guard.stop_grading()
        if self._watchdog.is_alive():
            self._watchdog.join(_PROMPT_SHUTDOWN_S)
        if self._scheduler.running:
            # In a thread with a time limit, because the scheduler waits forever for a job that hangs.
            ending = threading.Thread(target=self._scheduler.shutdown, name="shutdown", daemon=True)
            ending.start()
            ending.join(_JOBS_END_S)
        return time.monotonic() - begun < _PROMPT_SHUTDOWN_S

    def serve(self, *, on_signal: Callable[[], None] = lambda: None) -> None:
        """Run the jobs and the HTTP server until SIGTERM or SIGINT; then call `on_signal`, and `stop`.

        Raises SettingsError if the port is taken.
        """
        listener = listen(self._settings.host, self._settings.port, setting="CHEAPDEEP_PORT")
        api = make_api(
            self.store,
            settings=self._settings,
            collector=self._collector,
            is_ready=self._missing,
            clock=self._clock,
            access=self._access,
            served=self._senders,
        )
        # Before the console, which takes every other path.
        api.router.routes.extend(self._clicks.routes if self._clicks is not None else ())
        self._add_console(api)
        server = _Server(
            uvicorn.Config(
                api,
                log_level="warning",
                access_log=False,
                # An open page keeps its connection, which would otherwise delay the end of the guard.
                timeout_graceful_shutdown=_GRACEFUL_SHUTDOWN_S,
                # A router at rest sends every ten seconds, and should find its connection open.
                timeout_keep_alive=_KEEP_ALIVE_S,
                ssl_certfile=self._settings.tls_cert,
                ssl_keyfile=self._settings.tls_key,
                http=BoundedConnection,
                ws_max_size=_LARGEST_WEBSOCKET_MESSAGE,
                server_header=False,
            ),
            on_signal=on_signal,
            before_shutdown=self._senders.feed.end,
        )
        self.start()
        try:
            with own_signals(), listener:
                host, port = listener.getsockname()[:2]
                scheme = "https" if self._settings.tls_cert else "http"
                _log.info("watching %s; %s://%s:%s", self.store.shown_url, scheme, host, port)
                server.run(sockets=[listener])
        finally:
            self.stop()

    def _add_console(self, api: FastAPI) -> None:
        """Serve the console under `/`; without its extra, the command to install it."""
        if find_spec("nicegui") is None:

            @api.get("/", response_class=PlainTextResponse, include_in_schema=False)
            def no_console() -> str:
                return NO_CONSOLE

            return
        # Imported here, because it takes half a second, and commands other than `serve` do without it.
        from cheapdeep_ops.guard.console import add_console  # noqa: PLC0415

        add_console(api, store=self.store, settings=self._settings, clock=self._clock, access=self._access)

    def _make_scheduler(self) -> BackgroundScheduler:
        # No grace time and coalescing: after a suspended process, each missed job runs once, and at once.
        defaults = {"misfire_grace_time": None, "coalesce": True, "max_instances": _MAX_INSTANCES}
        scheduler = BackgroundScheduler(job_defaults=defaults, timezone="UTC")
        self._add_job(scheduler, "evaluate", self.guard.step, self._settings.evaluate_every_s)
        self._add_job(scheduler, "grade", self.guard.grade, self._settings.grade_every_s)
        self._add_job(scheduler, "leases", self._keep_leases, keep_every_s(self._settings.evaluate_every_s))
        self._add_job(scheduler, "deliver", self.guard.deliver, min(_DELIVER_EVERY_S, self._settings.evaluate_every_s))
        self._add_job(scheduler, "draw", self.guard.draw, _DRAW_EVERY_S)
        if self._settings.report_every != "never":
            self._add_job(scheduler, "report", self.guard.report, _REPORT_EVERY_S)
        self._add_job(scheduler, "retain", self.guard.retain, RETAIN_EVERY_S)
        self._add_job(scheduler, "models", self._check_models, _MODELS_EVERY_S, after_s=_MODELS_AFTER_S)
        return scheduler

    def _keep_leases(self, now: float) -> None:
        """Read the store's time and renew the leases; a guard that has just taken over evaluates at once."""
        self._leave_if_replaced()
        self._read_time()
        is_taken = self.guard.keep_leases(now)
        # This job reads and writes at each run, so its success shows that the store works.
        self._outages.worked()
        if is_taken:
            self._scheduler.modify_job("evaluate", next_run_time=datetime.now(UTC))

    def _leave_if_replaced(self) -> None:
        """Open the SQLite file that is there now, with all tables, if the one before was deleted or replaced."""
        if self.store.file_identity() == self._file:
            return
        # An open handle would go on reading and writing the deleted file, which routers have left.
        self.store.close()
        migrate(self.store)
        self._file = self.store.file_identity()
        self.guard.store_replaced()
        _log.warning("the file of the store %s was replaced: the guard goes on with the new one", self.store.shown_url)

    def _read_time(self) -> None:
        asked_at = self._clock.steady()
        with self.store.reading() as connection:
            self._clock.note(processes.store_time(connection), asked_at=asked_at)
        is_skewed = abs(self._clock.ahead_s) > SKEW_S
        if is_skewed and not self._is_skewed:
            _log.warning(SKEW_WARNING, socket.gethostname(), self._clock.ahead_s)
        self._is_skewed = is_skewed

    def _check_models(self, now: float) -> None:
        check_models(self.store, self._settings, now)

    def _add_job(
        self,
        scheduler: BackgroundScheduler,
        name: str,
        work: Callable[[float], object],
        every_s: float,
        *,
        after_s: float | None = None,
    ) -> None:
        """Schedule `work` every `every_s` seconds, first after `after_s` (default: `every_s`)."""
        job = Job(name, lambda: work(self._clock()), every_s=every_s, runs=self._jobs, outages=self._outages)
        first_s = every_s if after_s is None else after_s
        trigger = Every(timedelta(seconds=every_s), first=timedelta(seconds=first_s))
        scheduler.add_job(job, trigger, id=name, name=name)

    def _watch(self) -> None:
        """Reschedule jobs that are late because the clock was set back."""
        # The scheduler waits by wall time, this thread by monotonic time.
        while not self._stopping.wait(max(self._settings.evaluate_every_s, _CLOCK_CHECK_S)):
            self._wake_sleepers(datetime.now(UTC))

    def _wake_sleepers(self, now: datetime) -> None:
        """Run those jobs now whose next run is more than one interval ahead."""
        late = [job for job in self._scheduler.get_jobs() if job.next_run_time > now + job.trigger.interval + _ADJUSTED]
        for job in late:
            job.func.count(RESCHEDULED)
            job.modify(next_run_time=now)
        if late:
            names = ", ".join(job.id for job in late)
            _log.warning("the clock was set back: these jobs run now instead of much later: %s", names)

    def _missing(self) -> str:
        """Why the guard is not ready; empty if it is ready."""
        last = self.guard.last_evaluation
        if last is None:
            return "no evaluation yet, or another guard holds the lease"
        now = self._clock()
        age_s = now - last
        if age_s < -_CLOCK_TOLERANCE_S:
            return f"the last evaluation lies {duration(-age_s)} in the future: the clock was set back"
        is_late = is_stale(last, now, evaluate_every_s=self._settings.evaluate_every_s)
        return f"the last evaluation is {duration(age_s)} old" if is_late else ""


def _try(what: str, work: Callable[[], object], until: float) -> None:
    """Do `work`, and log if it fails or has not ended at `until` (monotonic seconds)."""

    def run() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the rest of the end must follow, whatever fails
            _log.warning("%s failed at the end: %s", what, error)

    # A thread that can be abandoned, because a driver may wait for a server that hangs.
    thread = threading.Thread(target=run, name=what, daemon=True)
    thread.start()
    thread.join(max(until - time.monotonic(), 0.0))
    if thread.is_alive():
        _log.warning("%s takes too long at the end, and is abandoned", what)
