"""The demonstration: calm, storm, recovery, drift, recovery, each until the guard has done its part.

It runs in virtual time (see `world`), with the packaged rules and their own windows. What it shows depends on the seed
alone; a slow machine only makes it take longer.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from cheapdeep_ops.claude.sdk import AnthropicError
from cheapdeep_ops.demo.mail import CHANGED, CLASSES, EASY, HARD, MIXED, SYSTEM
from cheapdeep_ops.demo.report import Answered, DemoReport, PhaseReport, money_of, month_of
from cheapdeep_ops.demo.world import START, Environment, Simulators
from cheapdeep_ops.guard.reports.status import present
from cheapdeep_ops.pricing import tokenizer_ratio
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import policies
from cheapdeep_ops.store.records import PolicyChange
from cheapdeep_ops.testing import TrafficClass
from cheapdeep_ops.testing.messages_api.models import MODELS

ROUTE: Final = "support"
RATE: Final = 2.0
"""Calls a second of virtual time: about five million a month."""

SAMPLE_RATE: Final = 1.0
"""The share of confident answers that is graded, instead of 1%: minutes have not the traffic of days."""

STORM: Final = "EscalationStorm"
CLIMBING: Final = "FalseConfidenceClimbing"
CALM: Final = "calm"
_LATEST: Final = 20
_LOOK_EVERY: Final = 10
"""Calls between two looks: what the rules find changes no sooner."""

_EVERYDAY: Final = (EASY, MIXED)
_STORM: Final = (HARD, HARD, EASY, HARD)
_DRIFT: Final = (CHANGED, CHANGED, EASY, CHANGED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What there is to see at one moment; rates are those that the guard last measured.

    `at` is virtual time, `lasted_s` the virtual and `real_s` the real seconds since the demonstration began.
    """

    phase: str
    at: float
    lasted_s: float
    real_s: float
    calls: int
    base_rate: float | None
    actual_rate: float | None
    wrong_rate: float | None
    graded: int
    threshold: float
    firing: tuple[str, ...]
    slack: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A stretch of one kind of traffic: at least `least` calls, then until `is_done`, and at most `most` calls."""

    name: str
    what: str
    classes: Sequence[TrafficClass]
    least: int
    most: int
    is_done: Callable[["Driver"], bool] = lambda _stage: True


class View(Protocol):
    """Who watches the demonstration."""

    def begin(self, phase: Phase) -> None:
        """A phase begins."""

    def look(self, glance: Snapshot) -> None:
        """Something may have changed."""


class Driver:
    """The world while a demonstration runs, with what can be seen of it."""

    def __init__(self, world: Environment, simulators: Simulators) -> None:
        self.world = world
        self.failures = 0
        self._was_correct = simulators.api.was_correct
        self._asked = 0
        self._began = time.monotonic()

    def ask(self, classes: Sequence[TrafficClass]) -> None:
        """Ask the next question, of the next class in turn."""
        kind, number = classes[self._asked % len(classes)], self._asked
        self._asked += 1
        try:
            self.world.call(
                START + number / RATE,
                lambda router: router.ask(kind.prompt(number), system=SYSTEM, input_class=kind.name),
                correct=lambda routed: self._was_correct(routed.text),
            )
        except AnthropicError:
            self.failures += 1

    def runs_at(self, threshold: float) -> bool:
        """Whether the latest calls were all decided at `threshold`."""
        latest = self.world.outcomes[-_LATEST:]
        return len(latest) == _LATEST and all(each.decision.threshold == threshold for each in latest)

    def says(self, text: str) -> bool:
        """Whether the newest message on Slack says so."""
        return text in self._slack_text()

    def _slack_text(self) -> str:
        posts = self.world.slack.posts
        return posts[-1].text if posts else ""

    def glance(self, phase: str) -> Snapshot:
        """What is so at this moment."""
        world, now = self.world, self.world.clock()
        state = present(world.store, world.settings, now)
        signals = {each["rule"]: each["signal"] for each in state["alerts"] if each["scope"] == ROUTE}
        storm, wrong = signals.get(STORM, {}), signals.get(CLIMBING, {})
        return Snapshot(
            phase=phase,
            at=now,
            lasted_s=now - START,
            real_s=time.monotonic() - self._began,
            calls=len(world.outcomes),
            base_rate=storm.get("recent_rate", storm.get("rate")),
            actual_rate=storm.get("actual_rate"),
            wrong_rate=wrong.get("rate"),
            graded=wrong.get("n", 0),
            threshold=world.outcomes[-1].decision.threshold if world.outcomes else world.settings.base_threshold,
            firing=tuple(sorted({each["rule"] for each in state["alerts"] if each["state"] == "firing"})),
            slack=self._slack_text(),
        )


PHASES: Final = (
    Phase(
        name=CALM,
        what="everyday questions: about one in seven escalates, and the guard learns what is normal",
        classes=_EVERYDAY,
        least=600,
        most=600,
    ),
    Phase(
        name="storm",
        what="a new kind of question arrives, and most of it escalates",
        classes=_STORM,
        least=20,
        most=1_200,
        is_done=lambda stage: stage.runs_at(0.9) and stage.says(f"{STORM} firing"),
    ),
    Phase(
        name="recovery",
        what="everyday questions again",
        classes=_EVERYDAY,
        least=20,
        most=2_400,
        is_done=lambda stage: stage.runs_at(0.8) and stage.says(f"{STORM} resolved"),
    ),
    Phase(
        name="drift",
        what="the tariffs have changed: the cheap model is as sure as before, and often wrong",
        classes=_DRIFT,
        least=20,
        most=1_200,
        is_done=lambda stage: stage.runs_at(0.9) and stage.says(f"{CLIMBING} firing"),
    ),
    Phase(
        name="recovery from drift",
        what="everyday questions again, until enough right answers are graded",
        classes=_EVERYDAY,
        least=20,
        most=3_600,
        is_done=lambda stage: stage.runs_at(0.8) and stage.says(f"{CLIMBING} resolved"),
    ),
)


def run_demo(audience: View, *, seed: int = 0) -> DemoReport:
    """Run all phases; returns the report with `phases`, `month` and `checks`: whether the guard did its part.

    A phase that does not bring what it waits for is the last one.
    """
    settings = _settings()
    with (
        Simulators(seed=seed, classes=CLASSES, models=_models(settings)) as simulators,
        Environment(simulators, settings=settings, route=ROUTE, ids=f"demo-{seed}") as world,
    ):
        stage = Driver(world, simulators)
        phases = list(_run_all(stage, audience))
        world.settle()
        report = world.report()
        return {
            **report,
            "phases": phases,
            "month": month_of(
                _of_calm(world.outcomes, phases), report["grader_cost_usd"], graded=sum(report["grades"].values())
            ),
            "windows_shortened_by": 1.0,
            "rate": RATE,
            "seed": seed,
            "sample_rate": SAMPLE_RATE,
            "checks": checks_of(Timeline.of(stage), is_complete=all(phase["is_done"] for phase in phases)),
        }


def _settings() -> Settings:
    """The defaults, whatever the environment says, but for the share that is graded."""
    defaults = {name: field.get_default(call_default_factory=True) for name, field in Settings.model_fields.items()}
    return Settings(**{**defaults, "sample_rate": SAMPLE_RATE})


def _models(settings: Settings) -> Sequence[Any]:
    """The catalogue, in which the newer tokenizers count as many more tokens as the router expects of them."""
    return [replace(model, tokens_ratio=tokenizer_ratio(settings.tiers[0], model.id)) for model in MODELS]


def _run_all(stage: Driver, audience: View) -> Iterable[PhaseReport]:
    for phase in PHASES:
        report = _run(phase, stage, audience)
        yield report
        if not report["is_done"]:
            return


def _run(phase: Phase, stage: Driver, audience: View) -> PhaseReport:
    audience.begin(phase)
    began, first = time.monotonic(), len(stage.world.outcomes)
    asked, is_done = 0, False
    while asked < phase.most and not is_done:
        stage.ask(phase.classes)
        asked += 1
        if asked % _LOOK_EVERY == 0:
            audience.look(stage.glance(phase.name))
            is_done = asked >= phase.least and phase.is_done(stage)
    calls = stage.world.outcomes[first:]
    return {
        "name": phase.name,
        "what": phase.what,
        "seconds": time.monotonic() - began,
        "virtual_seconds": asked / RATE,
        "calls": len(calls),
        "escalation_rate": sum(each.decision.escalated for each in calls) / len(calls) if calls else None,
        **money_of([each.decision for each in calls]),
        "is_done": is_done,
    }


def _of_calm(outcomes: Sequence[Answered], phases: Sequence[PhaseReport]) -> Sequence[Answered]:
    """The calls of the first phase: no storm is part of a team's usual traffic."""
    return outcomes[: phases[0]["calls"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What the checks are made on: calls in their order, changes of policy (oldest first), and each Slack message.

    A message is its text as it was posted, and then as each edit left it.
    """

    failures: int
    outcomes: Sequence[Answered]
    changes: Sequence[PolicyChange]
    messages: Sequence[Sequence[str]]

    @classmethod
    def of(cls, stage: Driver) -> "Timeline":
        """What has happened so far."""
        with stage.world.store.reading() as connection:
            changes = policies.history(connection)[::-1]
        return cls(
            failures=stage.failures,
            outcomes=stage.world.outcomes,
            changes=changes,
            messages=[[version.text for version in message.versions] for message in stage.world.slack.posts],
        )


def checks_of(found: Timeline, *, is_complete: bool = True) -> dict[str, bool]:
    """What a working guard must have done, each by its own evidence; no check depends on how long anything took."""
    acts = [(each["act"], each["cause"]) for each in found.changes]
    thresholds = [each.decision.threshold for each in found.outcomes]
    return {
        "every call was answered": bool(found.outcomes) and found.failures == 0,
        "each phase brought what it waited for": is_complete,
        "the storm raised the threshold, its end released it": acts[:2] == [("raise", STORM), ("release", STORM)],
        "climbing false confidence raised it, and graded answers released it": acts[2:]
        == [("raise", CLIMBING), ("release", CLIMBING)],
        "calls were decided at 0.9 meanwhile": 0.9 in thresholds,  # noqa: PLR2004 - the raised threshold
        "calls are decided at 0.8 again": thresholds[-1:] == [0.8],
        "every call begun after a change was decided by it": bool(found.changes) and _all_held(found),
        "Slack was told of each in one message, and of nothing else": [_rules_in(texts) for texts in found.messages]
        == [[STORM], [CLIMBING]],
        "those messages were edited when it was over": bool(found.messages)
        and all("firing" in texts[0] and "resolved" in texts[-1] for texts in found.messages),
    }


def _rules_in(texts: Sequence[str]) -> list[str]:
    """The rules that every text of one message is about."""
    return [rule for rule in (STORM, CLIMBING) if all(rule in text for text in texts)]


def _all_held(found: Timeline) -> bool:
    """Whether the calls begun after a change, up to the next one, were decided by it.

    A call at the very moment of a change comes before it, see `World.go_to`.
    """
    ends = [*(change["at"] for change in found.changes[1:]), float("inf")]
    return all(
        (each.decision.policy_version, each.decision.threshold) == (change["version"], change["to_threshold"])
        for change, end in zip(found.changes, ends, strict=True)
        for each in found.outcomes
        if change["at"] < each.begun_at <= end
    )
