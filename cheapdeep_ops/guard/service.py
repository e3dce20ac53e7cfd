"""Wiring: store, guard, scheduler, HTTP server; the only place that knows APScheduler."""

import logging
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import Final

import uvicorn
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from fastapi import FastAPI
from starlette.responses import PlainTextResponse

from cheapdeep_ops.claude.grade_request import GraderApi
from cheapdeep_ops.errors import SettingsError
from cheapdeep_ops.guard.grading.grader import Grader, GradingApi
from cheapdeep_ops.guard.guard import Guard
from cheapdeep_ops.guard.http.api import make_api
from cheapdeep_ops.guard.http.metrics import FleetCollector
from cheapdeep_ops.guard.jobs import RESCHEDULED, Job
from cheapdeep_ops.guard.lifecycle_check import check_models
from cheapdeep_ops.guard.notify.notifier import Sender
from cheapdeep_ops.guard.notify.slack import sender_for
from cheapdeep_ops.guard.rules.book import Rulebook, read_rulebook
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate
from cheapdeep_ops.units import DAY_S

_log: Final = logging.getLogger(__name__)
_DELIVER_EVERY_S: Final = 1.0
_LONGEST_GOODBYE_S: Final = 1
NO_CONSOLE: Final = "The console needs an extra: pip install 'cheapdeep_ops[console]'"
_LONGEST_SHUTDOWN_S: Final = 6.0
"""A little more than one request to Slack may take."""

_PROMPT_SHUTDOWN_S: Final = 2.0
_CLOCK_TOLERANCE_S: Final = 5.0
_REPORT_EVERY_S: Final = 60.0
"""How often it is looked whether a receipt is due."""

_MODELS_EVERY_S: Final = float(DAY_S)
_MODELS_AFTER_S: Final = 30.0
_CLOCK_CHECK_S: Final = 0.3
"""The shortest time between two looks at whether the clock was set back."""

_ADJUSTED: Final = timedelta(seconds=1)
"""By how much a clock may be adjusted without a job being woken."""

_MOST_AT_ONCE: Final = 1_000
"""Runs of one job that APScheduler may begin. A `Job` skips those that come too early, and says it in better words."""


class Every(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """A time every `interval`, the first one after `first`: always after now, and at most one interval after it.

    APScheduler lists all times between the last run and now. With its own interval trigger, a clock that jumps forward
    by 60 days makes a list of 5 million; here one run makes up for all of them.
    """

    def __init__(self, interval: timedelta, *, first: timedelta) -> None:
        self.interval = interval
        self._first = first

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """The next time after `previous_fire_time`, by a clock that shows `now`."""
        if previous_fire_time is None:
            return now + self._first
        due, latest = previous_fire_time + self.interval, now + self.interval
        return due if now < due < latest else latest


class Service:
    """A guard with its scheduler and its HTTP server, from start to stop."""

    def __init__(
        self,
        settings: Settings,
        *,
        rulebook: Rulebook | None = None,
        sender: Sender | None = None,
        grader_api: GradingApi | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._jobs: Counter[tuple[str, str]] = Counter()
        self._stopping = threading.Event()
        self._watchdog = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        rulebook = rulebook or read_rulebook(settings.rules_file)
        sender = sender or sender_for(settings)
        self.store = Store(settings.store_url)
        migrate(self.store)
        self.guard = Guard(
            self.store,
            settings=settings,
            rulebook=rulebook,
            sender=sender,
            grader=Grader(self.store, settings=settings, api=grader_api or GraderApi()),
            started_at=clock(),
        )
        self._scheduler = self._make_scheduler()
        self._collector = FleetCollector(
            self.store,
            settings=settings,
            rulebook=rulebook,
            guard=self.guard,
            jobs=lambda: dict(self._jobs),
            clock=clock,
        )

    def start(self) -> None:
        """Begin to watch."""
        self._scheduler.start()
        self._watchdog.start()

    def stop(self) -> None:
        """Finish what runs, deliver what is due, and let go of the lease and the store.

        Takes about as long as one request to Slack may take where Slack hangs; what was not sent stays in the outbox.
        """
        is_prompt = self._end_jobs()
        try:
            if is_prompt:
                self.guard.deliver(self._clock())
        finally:
            self.guard.close()
            self.store.close()

    def _end_jobs(self) -> bool:
        """End the jobs; returns whether that was prompt, otherwise a receiver hangs, and would once more."""
        begun = time.monotonic()
        self._stopping.set()
        self.guard.stop_grading()
        if self._watchdog.is_alive():
            self._watchdog.join()
        if self._scheduler.running:
            # The scheduler itself would wait without end for a job that hangs.
            ending = threading.Thread(target=self._scheduler.shutdown, name="shutdown", daemon=True)
            ending.start()
            ending.join(_LONGEST_SHUTDOWN_S)
        return time.monotonic() - begun < _PROMPT_SHUTDOWN_S

    def serve(self) -> None:
        """Watch and answer HTTP until SIGTERM or SIGINT.

        Raises SettingsError where the port is taken.
        """
        listener = _listen(self._settings.host, self._settings.port)
        api = make_api(
            self.store, settings=self._settings, collector=self._collector, is_ready=self._missing, clock=self._clock
        )
        self._add_console(api)
        server = uvicorn.Server(
            uvicorn.Config(
                api,
                log_level="warning",
                access_log=False,
                # A page that is open keeps its connection, and would keep the guard from ending.
                timeout_graceful_shutdown=_LONGEST_GOODBYE_S,
            )
        )
        self.start()
        try:
            with _own_signals(), listener:
                host, port = listener.getsockname()[:2]
                _log.info("watching %s; http://%s:%s", self.store.shown_url, host, port)
                server.run(sockets=[listener])
        finally:
            self.stop()

    def _add_console(self, api: FastAPI) -> None:
        """Put the console under `/`, or what it takes to have one."""
        if find_spec("nicegui") is None:

            @api.get("/", response_class=PlainTextResponse, include_in_schema=False)
            def no_console() -> str:
                return NO_CONSOLE

            return
        # Loaded here, because it takes half a second that nothing else of the package needs.
        from cheapdeep_ops.guard.console import add_console  # noqa: PLC0415

        add_console(api, store=self.store, settings=self._settings, clock=self._clock)

    def _make_scheduler(self) -> BackgroundScheduler:
        """Late runs are made up for, once: a guard that was busy or suspended must not skip its next look."""
        defaults = {"misfire_grace_time": None, "coalesce": True, "max_instances": _MOST_AT_ONCE}
        scheduler = BackgroundScheduler(job_defaults=defaults, timezone="UTC")
        self._add_job(scheduler, "evaluate", self.guard.step, self._settings.evaluate_every_s)
        self._add_job(scheduler, "grade", self.guard.grade, self._settings.grade_every_s)
        self._add_job(scheduler, "deliver", self.guard.deliver, min(_DELIVER_EVERY_S, self._settings.evaluate_every_s))
        if self._settings.report_every != "never":
            self._add_job(scheduler, "report", self.guard.report, _REPORT_EVERY_S)
        self._add_job(scheduler, "models", self._check_models, _MODELS_EVERY_S, after_s=_MODELS_AFTER_S)
        return scheduler

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
        """Have `work` done every `every_s` seconds, the first time after `after_s`, or after `every_s` by default."""
        job = Job(name, lambda: work(self._clock()), every_s=every_s, runs=self._jobs)
        first_s = every_s if after_s is None else after_s
        trigger = Every(timedelta(seconds=every_s), first=timedelta(seconds=first_s))
        scheduler.add_job(job, trigger, id=name, name=name)

    def _watch(self) -> None:
        """Wake jobs that sleep on because the clock was set back: the scheduler goes by wall time, this does not."""
        while not self._stopping.wait(max(self._settings.evaluate_every_s, _CLOCK_CHECK_S)):
            self._wake_sleepers(datetime.now(UTC))

    def _wake_sleepers(self, now: datetime) -> None:
        """Run the jobs now whose next run is more than one interval ahead: only a clock that was set back does that."""
        late = [job for job in self._scheduler.get_jobs() if job.next_run_time > now + job.trigger.interval + _ADJUSTED]
        for job in late:
            job.func.count(RESCHEDULED)
            job.modify(next_run_time=now)
        if late:
            names = ", ".join(job.id for job in late)
            _log.warning("the clock was set back: these jobs run now, and would have waited too long: %s", names)

    def _missing(self) -> str:
        """What keeps the guard from being ready, or nothing."""
        last, limit_s = self.guard.last_evaluation, 3 * self._settings.evaluate_every_s + 5
        if last is None:
            return "no evaluation yet, or another guard holds the lease"
        age_s = self._clock() - last
        if age_s < -_CLOCK_TOLERANCE_S:
            return f"the last evaluation lies {-age_s:.0f} s in the future: the clock was set back"
        return "" if age_s <= limit_s else f"the last evaluation is {age_s:.0f} s old"


@contextmanager
def _own_signals() -> Iterator[None]:
    """SIGTERM and SIGINT end the server and nothing else.

    uvicorn raises the signal that ended it once more on the way out; by default that would end the process before the
    guard has delivered what is due.
    """
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio: TCP_NODELAY for TCP only
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()  # from here on callers wait, where they would be refused: `serve` may say where it is
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another with CHEAPDEEP_PORT"
        ) from None
    return listener
