"""A router and a guard in virtual time, with a simulated Claude API and a simulated Slack over real HTTP.

Virtual time passes only with calls and with the guard's scheduled work: results do not depend on the machine's speed.
"""

import heapq
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from hashlib import blake2b
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Self

from cheapdeep_ops.claude.clients import make_client_for
from cheapdeep_ops.claude.grade_request import GraderApi
from cheapdeep_ops.demo.report import FinishedCall, RunReport, report_of
from cheapdeep_ops.guard.grading.grader import MAX_PER_RUN, Grader
from cheapdeep_ops.guard.guard import Guard
from cheapdeep_ops.guard.notify import slack
from cheapdeep_ops.guard.notify.receivers import senders_for
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.recorder import Recorder
from cheapdeep_ops.router import Routed, Router
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.fingerprint_key import keep_key
from cheapdeep_ops.store.schema import migrate
from cheapdeep_ops.testing import CLASSES, FrozenClock, SimulatedAnthropic, SimulatedSlack, TrafficClass
from cheapdeep_ops.testing.messages_api.models import MODELS, SimulatedModel

START: Final = 1_790_000_000.0
"""When virtual time begins. It is constant because prices have dates, and equal calls must give equal reports."""

_TRIAGE_TIMEOUT_S: Final = 3_600.0
"""In real time, and long: on a busy machine, a slow reply must not become a triage error."""


def no_proxy_on_loopback() -> None:
    """Exclude the loopback address from the proxies that the environment variables name."""
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"


class ClosedAtExit:
    """A context manager that closes what `_open` holds."""

    _open: ExitStack

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._open.close()


class Simulators(ClosedAtExit):
    """The simulated Claude API and Slack, and a client for the API; use it as a context manager.

    Several environments may use them one after another.
    """

    def __init__(
        self, *, seed: int = 0, classes: Sequence[TrafficClass] = CLASSES, models: Sequence[SimulatedModel] = MODELS
    ) -> None:
        no_proxy_on_loopback()
        self._clock = FrozenClock(START)
        with ExitStack() as opening:
            self.api = opening.enter_context(
                SimulatedAnthropic(seed=seed, classes=classes, models=models, clock=self._now)
            )
            self.slack = opening.enter_context(SimulatedSlack(clock=self._now))
            self.client = opening.enter_context(make_client_for(self.api.url, api_key="simulated"))
            self._open = opening.pop_all()

    def reset(self) -> FrozenClock:
        """Clear all records; returns a clock at START."""
        # Restarting the servers instead would take longer than a short replay.
        self.api.clear()
        self.slack.clear()
        self._clock = FrozenClock(START)
        return self._clock

    def _now(self) -> float:
        return self._clock()


class Environment(ClosedAtExit):
    """A router and a guard with a temporary store; use it as a context manager.

    `outcomes` holds the answered calls. The guard works at the intervals of `settings`, measured by `clock`; work that
    is due before a call is done before the call.
    """

    def __init__(self, simulators: Simulators, *, settings: Settings, route: str, ids: str) -> None:
        self.slack = simulators.slack
        self.outcomes: list[FinishedCall] = []
        self.clock = simulators.reset()
        with ExitStack() as opening:
            folder = opening.enter_context(TemporaryDirectory(prefix="cheapdeep-"))
            self.settings = _isolated(settings, Path(folder), simulators.slack)
            self.store = self._make_store(opening, ids)
            self._guard = self._make_guard(simulators)
            self._recorder = Recorder(self.settings, clock=self.clock, background=False)
            opening.callback(self._recorder.close)
            self.router = opening.enter_context(self._make_router(simulators, route, ids))
            self._open = opening.pop_all()
        self._due = self._timetable()

    def _make_store(self, opening: ExitStack, ids: str) -> Store:
        store = Store(self.settings.store_url)
        opening.callback(store.close)
        migrate(store)
        # A key from the seed, so that equal runs have equal fingerprints.
        keep_key(store, blake2b(ids.encode()).digest())
        return store

    def _make_guard(self, simulators: Simulators) -> Guard:
        return Guard(
            self.store,
            settings=self.settings,
            rulebook=read_rulebook(self.settings.rules_file),
            senders=senders_for(self.settings, [slack.RECEIVER]),  # no other, because those are real
            make_grader=partial(Grader, settings=self.settings, api=GraderApi(simulators.client)),
            started_at=START,
            monotonic=self.clock,
        )

    def _make_router(self, simulators: Simulators, route: str, ids: str) -> Router:
        numbers = count()
        return Router(
            settings=self.settings,
            client=simulators.client,
            route=route,
            recorder=self._recorder,
            clock=self.clock,
            new_id=lambda: f"{ids}-{next(numbers)}",
        )

    def call(
        self,
        at: float,
        ask: Callable[[Router], Routed],
        *,
        correct: Callable[[Routed], bool | None],
        is_comparable: bool = True,
    ) -> None:
        """Make one call at the virtual time `at`; `correct` returns whether the answer is right, None if unknown."""
        self.advance_to(at)
        routed = ask(self.router)
        # Fold now, so that the call counts in its second of virtual time.
        self._recorder.fold(at)
        self.outcomes.append(
            FinishedCall(
                routed=routed, begun_at=at, finished_at=at, correct=correct(routed), is_comparable=is_comparable
            )
        )

    def advance_to(self, moment: float) -> None:
        """Advance the clock to `moment`, and do the guard's work that is due before it."""
        # Work due exactly at `moment` waits: a call at that time comes first.
        while self._due[0][0] < moment:
            at, order, every_s, work = self._due[0]
            self.clock.set(at)
            work(at)
            heapq.heapreplace(self._due, (at + every_s, order, every_s, work))
        self.clock.set(moment)

    def settle(self) -> None:
        """Count and grade all calls, and evaluate the rules on them."""
        # Evaluated before the grades and after them, as by a guard that goes on.
        for work in (self.evaluate, self._grade, self.evaluate):
            work(self.clock.advance(self.settings.evaluate_every_s))

    def drain(self) -> None:
        """Store the counters."""
        self._recorder.drain(self.clock())

    def report(self) -> RunReport:
        """The report of the calls so far."""
        return report_of(self.outcomes, self.store, self.settings, since=START, until=self.clock())

    def evaluate(self, now: float) -> None:
        """Evaluate the rules, deliver messages, and refresh the router's policy."""
        self._recorder.drain(now)
        self._guard.step(now)
        self._guard.deliver(now)
        self._recorder.refresh(now)

    def _grade(self, now: float) -> None:
        self._recorder.drain(now)
        while self._guard.grade(now) >= MAX_PER_RUN:
            pass

    def _timetable(self) -> list[tuple[float, int, float, Callable[[float], None]]]:
        """A heap of (time, order, interval, work)."""
        # Grading comes before an evaluation that is due with it, so that its grades count there.
        evaluate_s, grade_s = self.settings.evaluate_every_s, self.settings.grade_every_s
        due: list[tuple[float, int, float, Callable[[float], None]]] = [
            (START + evaluate_s, 2, evaluate_s, self.evaluate),
            (START + grade_s, 1, grade_s, self._grade),
        ]
        heapq.heapify(due)
        return due


def _isolated(settings: Settings, folder: Path, slack: SimulatedSlack) -> Settings:
    """`settings` with a temporary store, the simulated Slack, and no limit on spending or stored content."""
    overrides: Mapping[str, Any] = {
        "store_url": f"sqlite:///{folder}/environment.db",
        "record": True,
        "slack_bot_token": slack.token,
        "slack_channel": "C0ALERTS",
        "slack_base_url": slack.url,
        "slack_webhook_url": None,
        "grade_by": "direct",
        # One request at a time, so that grades are stored in a repeatable order.
        "grade_concurrency": 1,
        "max_grader_usd_per_day": 1e9,
        "max_candidates": 10_000_000,
        "retain_content_days": 3650,
        "triage_timeout_s": _TRIAGE_TIMEOUT_S,
    }
    return Settings(**{**settings.model_dump(), **overrides})
