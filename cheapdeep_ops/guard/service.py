"""Wiring of store, guard, scheduler and HTTP server; the only module that imports APScheduler."""

import logging
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
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
from cheapdeep_ops.guard.formatting import duration
from cheapdeep_ops.guard.grading.grader import Grader
from cheapdeep_ops.guard.guard import Guard
from cheapdeep_ops.guard.http.api import make_api
from cheapdeep_ops.guard.http.metrics import FleetCollector
from cheapdeep_ops.guard.jobs import RESCHEDULED, Job
from cheapdeep_ops.guard.lifecycle_check import check_models
from cheapdeep_ops.guard.notify.receivers import senders_for
from cheapdeep_ops.guard.notify.sender import Sender
from cheapdeep_ops.guard.retention import RETAIN_EVERY_S
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate
from cheapdeep_ops.units import DAY_S

_log: Final = logging.getLogger(__name__)
_DELIVER_EVERY_S: Final = 1.0
_GRACEFUL_SHUTDOWN_S: Final = 1
NO_CONSOLE: Final = "The console needs an extra: pip install 'cheapdeep_ops[console]'"
_LONGEST_SHUTDOWN_S: Final = 6.0
"""A little longer than the timeout of a request to a receiver."""

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


class Service:
    """A guard with its scheduler and its HTTP server."""

    def __init__(
        self,
        settings: Settings,
        *,
        senders: Mapping[str, Sender] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._jobs: Counter[tuple[str, str]] = Counter()
        self._stopping = threading.Event()
        self._watchdog = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        rulebook = read_rulebook(settings.rules_file)
        senders = senders or senders_for(settings)
        self.store = Store(settings.store_url)
        migrate(self.store)
        self.guard = Guard(
            self.store,
            settings=settings,
            rulebook=rulebook,
            senders=senders,
            grader=Grader(self.store, settings=settings, api=GraderApi()),
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
        """Start the scheduled jobs."""
        self._scheduler.start()
        self._watchdog.start()

    def stop(self) -> None:
        """End the jobs, deliver the messages that are due, release the lease and close the store.

        If a receiver hangs, this takes about one request's timeout; messages that were not sent stay in the outbox.
        """
        is_prompt = self._end_jobs()
        try:
            # After a slow end of the jobs, a receiver hangs, and would hang here too.
            if is_prompt:
                self.guard.deliver(self._clock())
        finally:
            self.guard.close()
            self.store.close()

    def _end_jobs(self) -> bool:
        """End the jobs; returns whether that was quick."""
        begun = time.monotonic()
        self._stopping.set()
        self.guard.stop_grading()
        if self._watchdog.is_alive():
            self._watchdog.join()
        if self._scheduler.running:
            # In a thread with a time limit, because the scheduler waits forever for a job that hangs.
            ending = threading.Thread(target=self._scheduler.shutdown, name="shutdown", daemon=True)
            ending.start()
            ending.join(_LONGEST_SHUTDOWN_S)
        return time.monotonic() - begun < _PROMPT_SHUTDOWN_S

    def serve(self) -> None:
        """Run the jobs and the HTTP server until SIGTERM or SIGINT. Raises SettingsError if the port is taken."""
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
                # An open page keeps its connection, which would otherwise delay the end of the guard.
                timeout_graceful_shutdown=_GRACEFUL_SHUTDOWN_S,
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
        """Serve the console under `/`; without its extra, the command to install it."""
        if find_spec("nicegui") is None:

            @api.get("/", response_class=PlainTextResponse, include_in_schema=False)
            def no_console() -> str:
                return NO_CONSOLE

            return
        # Imported here, because it takes half a second, and commands other than `serve` do without it.
        from cheapdeep_ops.guard.console import add_console  # noqa: PLC0415

        add_console(api, store=self.store, settings=self._settings, clock=self._clock)

    def _make_scheduler(self) -> BackgroundScheduler:
        # No grace time and coalescing: after a suspended process, each missed job runs once, and at once.
        defaults = {"misfire_grace_time": None, "coalesce": True, "max_instances": _MAX_INSTANCES}
        scheduler = BackgroundScheduler(job_defaults=defaults, timezone="UTC")
        self._add_job(scheduler, "evaluate", self.guard.step, self._settings.evaluate_every_s)
        self._add_job(scheduler, "grade", self.guard.grade, self._settings.grade_every_s)
        self._add_job(scheduler, "deliver", self.guard.deliver, min(_DELIVER_EVERY_S, self._settings.evaluate_every_s))
        if self._settings.report_every != "never":
            self._add_job(scheduler, "report", self.guard.report, _REPORT_EVERY_S)
        self._add_job(scheduler, "retain", self.guard.retain, RETAIN_EVERY_S)
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
        """Schedule `work` every `every_s` seconds, first after `after_s` (default: `every_s`)."""
        job = Job(name, lambda: work(self._clock()), every_s=every_s, runs=self._jobs)
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
        last, limit_s = self.guard.last_evaluation, 3 * self._settings.evaluate_every_s + 5
        if last is None:
            return "no evaluation yet, or another guard holds the lease"
        age_s = self._clock() - last
        if age_s < -_CLOCK_TOLERANCE_S:
            return f"the last evaluation lies {duration(-age_s)} in the future: the clock was set back"
        return "" if age_s <= limit_s else f"the last evaluation is {duration(age_s)} old"


@contextmanager
def _own_signals() -> Iterator[None]:
    """Inside the block, SIGTERM and SIGINT end the server but not the process."""
    # When its server has ended, uvicorn raises the signal again, before the guard has delivered its messages.
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With an explicit protocol, because asyncio sets TCP_NODELAY only then.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # From now on connections wait instead of being refused, so `serve` may log its address.
        listener.listen()
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another port with CHEAPDEEP_PORT"
        ) from None
    return listener
