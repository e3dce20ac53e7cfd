"""A simulated morning of a fleet, as its guard's page tells it to Prometheus.

Calm, a storm in one route, answers of another that go wrong, a grader and a receiver of messages that are away for a
while, labels; in virtual time, so that nine hours take minutes and the story is the same every time.
"""

import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY

from cheapdeep_ops.errors import DeliveryError, GraderError
from cheapdeep_ops.guard.actions.labels import label
from cheapdeep_ops.guard.actions.operation import ActionContext
from cheapdeep_ops.guard.grading.grader import Grader
from cheapdeep_ops.guard.guard import Guard
from cheapdeep_ops.guard.http.metrics import FleetCollector
from cheapdeep_ops.guard.notify.sender import Sender
from cheapdeep_ops.guard.reports.review import next_sample
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.recorder import Recorder
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate
from cheapdeep_ops.telemetry.handler import Telemetry
from cheapdeep_ops.testing import FrozenClock
from cheapdeep_ops.values import BypassCause, Decision, Exchange, Grade, Reason, TextTurn, Usage
from tests.guard.conftest import Bench, Inbox, decided
from tests.prometheus import tool

START: Final = 1_772_431_200.0
"""Monday, 2 March 2026, 06:00 UTC."""
HOUR: Final = 3600
STEP_S: Final = 15
SHOWN: Final = (START + 2.95 * HOUR, START + 8.95 * HOUR)
"""What the boards show; before it the guard learns what is normal."""


@dataclass(frozen=True)
class Stream:
    """One input class of a route: how much of it comes, how hard it is, and how often its answers are wrong."""

    route: str
    cls: str
    per_step: float
    hard: float = 0.15
    wrong: float = 0.03
    tokens: float = 1.0


STREAMS: Final = (
    Stream("support", "refund", 7, tokens=1.2),
    Stream("support", "tariffs", 5, hard=0.2, wrong=0.04),
    Stream("billing", "invoice-pdf", 5, hard=0.25, tokens=3.0),
    Stream("billing", "question", 3),
    Stream("search", "", 4, hard=0.08, wrong=0.02, tokens=0.5),
)


def _hours(moment: float) -> float:
    return (moment - START) / HOUR


def _now(stream: Stream, moment: float) -> Stream:
    """The stream at that time: what goes wrong this morning is here."""
    hours = _hours(moment)
    if stream.cls == "invoice-pdf" and 4.5 <= hours < 5.3:
        return replace(stream, hard=0.85)
    if stream.cls == "tariffs" and hours >= 6.5:
        return replace(stream, wrong=0.35 if hours < 8.2 else 0.04)
    return stream


class Judge(Bench):
    """A grader that uses as many tokens as a real one."""

    def grade(self, request):
        return replace(super().grade(request), usage=Usage(input_tokens=800, output_tokens=60))


class Fleet:
    """Two routers and a guard on one store; `tell` gives what the guard's page says now."""

    def __init__(self, folder: Path, *, sender: Sender | None = None, **settings: Any) -> None:
        self.settings = Settings(
            store_url=f"sqlite:///{folder / 'fleet.db'}", evaluate_every_s=STEP_S, sample_rate=0.04,
            grade_concurrency=1, **settings,
        )  # fmt: skip
        self.clock, self.random, self.jobs = FrozenClock(START), Random(7), Counter[tuple[str, str]]()
        self.store, self.inbox = Store(self.settings.store_url), Inbox()
        migrate(self.store)
        self.routers = [Recorder(self.settings, clock=self.clock, background=False) for _ in range(2)]
        self.judge = Judge()
        rulebook, grader = read_rulebook(), Grader(self.store, settings=self.settings, api=self.judge)
        self.guard = Guard(
            self.store, settings=self.settings, rulebook=rulebook, senders={"slack": sender or self.inbox},
            make_grader=lambda _: grader, started_at=START,
        )  # fmt: skip
        self.collector = FleetCollector(
            self.store, settings=self.settings, rulebook=rulebook, jobs=lambda: self.jobs,
            clock=self.clock,
        )  # fmt: skip
        self._provider = MeterProvider([PrometheusMetricReader()], shutdown_on_exit=False)
        self._telemetry, self._pace = Telemetry(meter_provider=self._provider), Random(8)
        self._number = 0

    def close(self) -> None:
        self._provider.shutdown()
        for router in self.routers:
            router.close()
        self.guard.close()
        self.store.close()

    def live(self) -> None:
        """One step: calls, a look of the guard, and once a minute grades and labels."""
        for stream in STREAMS:
            self._calls(_now(stream, self.clock()))
        self.clock.advance(STEP_S)
        self._look()

    def _calls(self, stream: Stream) -> None:
        whole, part = divmod(stream.per_step * (1 + 0.3 * self.random.uniform(-1, 1)), 1)
        for _ in range(int(whole) + (self.random.random() < part)):
            self._call(stream)

    def _call(self, stream: Stream) -> None:
        router = self.random.choice(self._running())
        confidence = self._confidence(stream)
        policy = router.book.for_route(stream.route)
        decision = decided(confidence, policy, route=stream.route, cls=stream.cls, at=self.clock())
        self._number += 1
        decision = self._varied(replace(decision, call_id=f"call-{self._number}"), stream.tokens)
        self._time(decision, stream.tokens)
        is_wrong = self.random.random() < stream.wrong * _doubt(confidence)
        answer = "incorrect" if is_wrong else "correct"
        turns = (TextTurn(role="user", text="How much is it?"),)
        router.put(decision, lambda: Exchange(turns=turns, answer=answer, response_id="msg_1"))

    def _time(self, decision: Decision, tokens: float) -> None:
        """What the routers' own figures say of a call: how long its models took, and routing it."""
        size = 0.4 + 0.6 * tokens
        model_s = [size * self._pace.lognormvariate(mean, 0.35) for mean in (-0.3, 1.2)[: len(decision.hops)]]
        overhead_s = 0.00015 * self._pace.lognormvariate(0, 0.5)
        timed = replace(decision, duration_s=sum(model_s) + overhead_s)
        self._telemetry.record_decision(
            trace.INVALID_SPAN, timed, provider="anthropic", hop_s=model_s, waited_s=sum(model_s)
        )

    def _running(self) -> list[Recorder]:
        is_one_away = 7.2 <= _hours(self.clock()) < 7.5
        return self.routers[:1] if is_one_away else self.routers

    def _confidence(self, stream: Stream) -> float | None:
        if self.random.random() < 0.006:
            return None
        low, high = (0.35, 0.79) if self.random.random() < stream.hard else (0.82, 1.0)
        return round(self.random.uniform(low, high), 2)

    def _varied(self, decision: Decision, tokens: float) -> Decision:
        """With costs of a call of about that length, and now and then a call that goes another way."""
        size, luck = tokens * self.random.lognormvariate(0, 0.4), self.random.random()
        triage, deep = 0.0011 * size, 0.0085 * size
        costs = {
            "triage_cost_usd": triage,
            "cost_usd": triage + (deep if decision.escalated else 0),
            "baseline_cost_usd": deep,
        }
        if luck < 0.03:
            return replace(decision, **(costs | _bypassed(deep)))
        if luck < 0.036 and decision.base_reason is Reason.LOW_CONFIDENCE:
            return replace(decision, reason=Reason.NO_ANSWER, base_reason=Reason.NO_ANSWER, **costs)
        return replace(decision, error="APIConnectionError" if luck > 0.9985 else "", **costs)

    def _look(self) -> None:
        now = self.clock()
        hours = _hours(now)
        self.inbox.failures = [DeliveryError("away", unreachable=True)] * 9 if 4.4 <= hours < 4.8 else []
        for router in self._running():
            router.drain(now)
        self.guard.step(now)
        self.guard.deliver(now)
        self.judge.error = GraderError("APIConnectionError") if 3.6 <= hours < 3.9 else None
        if now % 60 == 0:
            self.guard.grade(now)
            self.jobs["grade", "done"] += 1
            self._label()
        for router in self._running():
            router.refresh(now)
        self.jobs["evaluate", "done"] += 1
        self.jobs["deliver", "done"] += 1

    def _label(self) -> None:
        """A person reads some: mostly as the judge has."""
        if _hours(self.clock()) < 2 or self.clock() % 300:
            return
        with self.store.reading() as connection:
            sample = next_sample(connection, self.settings)
        if sample is not None:
            own = Grade.INCORRECT if self.random.random() < 0.04 else Grade(sample.answer)
            context = ActionContext(store=self.store, settings=self.settings, clock=self.clock)
            label.perform(context, call_id=sample.call_id, verdict=own, author="ann")

    def tell(self) -> Iterator[str]:
        """The samples of the guard's page and of the routers' in OpenMetrics' words, with the time."""
        own = (each for each in REGISTRY.collect() if each.name.startswith(("cheapdeep_", "gen_ai_")))
        for family in (*self.collector.collect(), *own):
            for sample in family.samples:
                labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
                yield f"{sample.name}{{{labels}}} {sample.value} {self.clock()}\n"


def _doubt(confidence: float | None) -> float:
    """How much likelier a wrong answer is than on average: the surer, the less, among those that ship."""
    return 2.0 if confidence is None else max(0.1, 1 + 12 * (0.91 - confidence))


def _bypassed(deep: float) -> dict[str, object]:
    return {
        "confidence": None, "escalated": True, "reason": Reason.BYPASS, "bypass_cause": BypassCause.TOOLS,
        "base_outcome": None, "base_reason": None, "tier": 1, "cost_usd": deep, "triage_cost_usd": 0.0,
    }  # fmt: skip


def history(folder: Path) -> Path:
    """Let the morning happen; the folder of Prometheus' data that has it."""
    told, data = folder / "morning.om", folder / "data"
    fleet = Fleet(folder)
    try:
        with told.open("w") as out:
            while fleet.clock() < SHOWN[1]:
                fleet.live()
                if fleet.clock() >= SHOWN[0] - HOUR:
                    out.writelines(fleet.tell())
            out.write("# EOF\n")
    finally:
        fleet.close()
    command = [tool("promtool"), "tsdb", "create-blocks-from", "openmetrics", told, data]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return data
