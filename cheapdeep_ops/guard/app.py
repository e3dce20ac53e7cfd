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
from typing import Any, Final

import uvicorn
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED
from apscheduler.schedulers.background import BackgroundScheduler
from fastapi import FastAPI
from starlette.responses import PlainTextResponse

from cheapdeep_ops.claude.grading import GraderApi
from cheapdeep_ops.errors import SettingsError
from cheapdeep_ops.guard.api import make_api
from cheapdeep_ops.guard.grading import Api, Grader
from cheapdeep_ops.guard.guard import Guard
from cheapdeep_ops.guard.lives import check_models
from cheapdeep_ops.guard.metrics import FleetCollector
from cheapdeep_ops.guard.notify import Sender
from cheapdeep_ops.guard.rulebook import Rulebook, read_rulebook
from cheapdeep_ops.guard.slack import sender_for
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate

_log: Final = logging.getLogger(__name__)
_OUTCOMES: Final = {
    EVENT_JOB_EXECUTED: "done",
    EVENT_JOB_ERROR: "failed",
    EVENT_JOB_MISSED: "missed",
    EVENT_JOB_MAX_INSTANCES: "skipped",
}
_RESCHEDULED: Final = "rescheduled"
_DELIVER_EVERY_S: Final = 1.0
_LONGEST_GOODBYE_S: Final = 1
NO_CONSOLE: Final = "The console needs an extra: pip install 'cheapdeep_ops[console]'"
_LONGEST_SHUTDOWN_S: Final = 6.0
"""A little more than one request to Slack may take."""

_PROMPT_SHUTDOWN_S: Final = 2.0
_CLOCK_TOLERANCE_S: Final = 5.0
_REPORT_EVERY_S: Final = 60.0
"""How often it is looked whether a receipt is due."""

_MODELS_EVERY_S: Final = 86_400.0
_MODELS_AFTER_S: Final = 30.0
_SHORTEST_SLEEP_S: Final = 1.0


class Service:
    """A guard with its scheduler and its HTTP server, from start to stop."""

    def __init__(
        self,
        settings: Settings,
        *,
        rulebook: Rulebook | None = None,
        sender: Sender | None = None,
        grader_api: Api | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._jobs: Counter[tuple[str, str]] = Counter()
        self._every_s: dict[str, float] = {}
        self._seen: dict[str, float] = {}
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
        defaults = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        scheduler = BackgroundScheduler(job_defaults=defaults, timezone="UTC")
        scheduler.add_listener(self._count, sum(_OUTCOMES))
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
        """Have `work` done every `every_s` seconds, for the first time after `after_s` where that is given."""
        self._jobs.update({(name, outcome): 0 for outcome in (*_OUTCOMES.values(), _RESCHEDULED)})
        self._every_s[name] = every_s
        due = {"next_run_time": datetime.now(UTC) + timedelta(seconds=after_s)} if after_s is not None else {}
        scheduler.add_job(lambda: work(self._clock()), "interval", seconds=every_s, id=name, **due)

    def _watch(self) -> None:
        """Wake jobs that sleep on because the clock was set back: the scheduler goes by wall time, this does not."""
        while not self._stopping.wait(max(self._settings.evaluate_every_s, _SHORTEST_SLEEP_S / 3)):
            self._wake_sleepers(time.monotonic())

    def _wake_sleepers(self, now: float) -> None:
        for job in self._scheduler.get_jobs():
            limit_s = max(3 * self._every_s[job.id], _SHORTEST_SLEEP_S)
            if now - self._seen.setdefault(job.id, now) > limit_s:
                self._seen[job.id] = now
                self._wake(job.id)

    def _wake(self, name: str) -> None:
        self._jobs[(name, _RESCHEDULED)] += 1
        _log.warning("the job %s has slept for too long; was the clock set back? It runs now", name)
        self._scheduler.modify_job(name, next_run_time=datetime.now(UTC))

    def _count(self, event: Any) -> None:
        self._seen[event.job_id] = time.monotonic()
        self._jobs[(event.job_id, _OUTCOMES[event.code])] += 1
        if event.code == EVENT_JOB_ERROR:
            _log.error("the job %s failed: %s", event.job_id, event.exception)

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
