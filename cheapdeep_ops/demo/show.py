"""The demonstration: calm, storm, recovery, drift, recovery; each phase lasts until the guard has reacted.

It runs in virtual time (see `environment`), with the packaged rules. Its result depends on the seed alone, and not on
the machine's speed.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from cheapdeep_ops.claude.sdk import AnthropicError
from cheapdeep_ops.demo.environment import START, Environment, Simulators
from cheapdeep_ops.demo.mail import CHANGED, CLASSES, EASY, HARD, MIXED, SYSTEM
from cheapdeep_ops.demo.report import DemoReport, FinishedCall, PhaseReport, money_of, month_of
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
"""The share of confident answers that is graded; 1% of some minutes' traffic would be too few grades."""

STORM: Final = "EscalationStorm"
CLIMBING: Final = "FalseConfidenceClimbing"
CALM: Final = "calm"
_LATEST: Final = 20
_UPDATE_EVERY: Final = 10
"""Calls between two updates of the view: at 2 calls/s, the rules are evaluated as often."""

_EVERYDAY: Final = (EASY, MIXED)
_STORM: Final = (HARD, HARD, EASY, HARD)
_DRIFT: Final = (CHANGED, CHANGED, EASY, CHANGED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state of the demonstration at one moment; rates are the guard's latest measurements."""

    phase: str
    at: float
    """Virtual time, in Unix seconds."""
    lasted_s: float
    """Virtual seconds since the demonstration began."""
    real_s: float
    """Real seconds since the demonstration began."""
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
    """A period with one kind of traffic: `min_calls` calls, then more until `is_done`, but at most `max_calls`."""

    name: str
    what: str
    classes: Sequence[TrafficClass]
    min_calls: int
    max_calls: int
    is_done: Callable[["Driver"], bool] = lambda _stage: True


class View(Protocol):
    """Shows the demonstration while it runs."""

    def begin(self, phase: Phase) -> None:
        """Show that a phase begins."""

    def update(self, snapshot: Snapshot) -> None:
        """Show the current state."""


class Driver:
    """Makes the demonstration's calls, and observes their effects."""

    def __init__(self, environment: Environment, simulators: Simulators) -> None:
        self.environment = environment
        self.failures = 0
        self._was_correct = simulators.api.was_correct
        self._call_count = 0
        self._began = time.monotonic()

    def ask(self, classes: Sequence[TrafficClass]) -> None:
        """Ask the next question, of the next class in turn."""
        kind, number = classes[self._call_count % len(classes)], self._call_count
        self._call_count += 1
        try:
            self.environment.call(
                START + number / RATE,
                lambda router: router.ask(kind.prompt(number), system=SYSTEM, input_class=kind.name),
                correct=lambda routed: self._was_correct(routed.text),
            )
        except AnthropicError:
            self.failures += 1

    def decides_at(self, threshold: float) -> bool:
        """Whether the latest 20 calls were all decided at `threshold`."""
        latest = self.environment.outcomes[-_LATEST:]
        return len(latest) == _LATEST and all(each.decision.threshold == threshold for each in latest)

    def slack_shows(self, text: str) -> bool:
        """Whether the newest message on Slack contains `text`."""
        return text in self._slack_text()

    def _slack_text(self) -> str:
        posts = self.environment.slack.posts
        return posts[-1].text if posts else ""

    def snapshot(self, phase: str) -> Snapshot:
        """The current state, in the phase with this name."""
        environment, now = self.environment, self.environment.clock()
        state = present(environment.store, environment.settings, now)
        signals = {each["rule"]: each["signal"] for each in state["alerts"] if each["scope"] == ROUTE}
        storm, wrong = signals.get(STORM, {}), signals.get(CLIMBING, {})
        outcomes = environment.outcomes
        return Snapshot(
            phase=phase,
            at=now,
            lasted_s=now - START,
            real_s=time.monotonic() - self._began,
            calls=len(outcomes),
            base_rate=storm.get("recent_rate", storm.get("rate")),
            actual_rate=storm.get("actual_rate"),
            wrong_rate=wrong.get("rate"),
            graded=wrong.get("n", 0),
            threshold=outcomes[-1].decision.threshold if outcomes else environment.settings.base_threshold,
            firing=tuple(sorted({each["rule"] for each in state["alerts"] if each["state"] == "firing"})),
            slack=self._slack_text(),
        )


PHASES: Final = (
    Phase(
        name=CALM,
        what="everyday questions: about one in seven escalates, and the guard learns what is normal",
        classes=_EVERYDAY,
        min_calls=600,
        max_calls=600,
    ),
    Phase(
        name="storm",
        what="a new kind of question arrives, and most of it escalates",
        classes=_STORM,
        min_calls=20,
        max_calls=1_200,
        is_done=lambda driver: driver.decides_at(0.9) and driver.slack_shows(f"{STORM} firing"),
    ),
    Phase(
        name="recovery",
        what="everyday questions again",
        classes=_EVERYDAY,
        min_calls=20,
        max_calls=2_400,
        is_done=lambda driver: driver.decides_at(0.8) and driver.slack_shows(f"{STORM} resolved"),
    ),
    Phase(
        name="drift",
        what="the tariffs have changed: the cheap model is as sure as before, and often wrong",
        classes=_DRIFT,
        min_calls=20,
        max_calls=1_200,
        is_done=lambda driver: driver.decides_at(0.9) and driver.slack_shows(f"{CLIMBING} firing"),
    ),
    Phase(
        name="recovery from drift",
        what="everyday questions again, until enough right answers are graded",
        classes=_EVERYDAY,
        min_calls=20,
        max_calls=3_600,
        is_done=lambda driver: driver.decides_at(0.8) and driver.slack_shows(f"{CLIMBING} resolved"),
    ),
)


def run_demo(view: View, *, seed: int = 0) -> DemoReport:
    """Run all phases; returns the report with `phases`, `month` and `checks`: whether the guard reacted as it must.

    If a phase reaches its limit of calls before it is done, the phases after it are left out.
    """
    settings = _settings()
    with (
        Simulators(seed=seed, classes=CLASSES, models=_models(settings)) as simulators,
        Environment(simulators, settings=settings, route=ROUTE, ids=f"demo-{seed}") as environment,
    ):
        driver = Driver(environment, simulators)
        phases = list(_run_all(driver, view))
        environment.settle()
        report = environment.report()
        return {
            **report,
            "phases": phases,
            "month": month_of(
                _calm_calls(environment.outcomes, phases),
                report["grader_cost_usd"],
                graded=sum(report["grades"].values()),
            ),
            "windows_shortened_by": 1.0,
            "rate": RATE,
            "seed": seed,
            "sample_rate": SAMPLE_RATE,
            "checks": checks_of(Timeline.of(driver), is_complete=all(phase["is_done"] for phase in phases)),
        }


def _settings() -> Settings:
    """The default settings, except for the share of graded answers; environment variables are ignored."""
    defaults = {name: field.get_default(call_default_factory=True) for name, field in Settings.model_fields.items()}
    return Settings(**{**defaults, "sample_rate": SAMPLE_RATE})


def _models(settings: Settings) -> Sequence[Any]:
    """The catalogue of models, each with the tokenizer ratio that the router assumes."""
    return [replace(model, tokens_ratio=tokenizer_ratio(settings.tiers[0], model.id)) for model in MODELS]


def _run_all(driver: Driver, view: View) -> Iterable[PhaseReport]:
    for phase in PHASES:
        result = _run(phase, driver, view)
        yield result
        if not result["is_done"]:
            return


def _run(phase: Phase, driver: Driver, view: View) -> PhaseReport:
    view.begin(phase)
    began, first = time.monotonic(), len(driver.environment.outcomes)
    call_count, is_done = 0, False
    while call_count < phase.max_calls and not is_done:
        driver.ask(phase.classes)
        call_count += 1
        if call_count % _UPDATE_EVERY == 0:
            view.update(driver.snapshot(phase.name))
            is_done = call_count >= phase.min_calls and phase.is_done(driver)
    calls = driver.environment.outcomes[first:]
    return {
        "name": phase.name,
        "what": phase.what,
        "seconds": time.monotonic() - began,
        "virtual_seconds": call_count / RATE,
        "calls": len(calls),
        "escalation_rate": sum(each.decision.escalated for each in calls) / len(calls) if calls else None,
        **money_of([each.decision for each in calls]),
        "is_done": is_done,
    }


def _calm_calls(outcomes: Sequence[FinishedCall], phases: Sequence[PhaseReport]) -> Sequence[FinishedCall]:
    """The calls of the first phase."""
    # A team's usual month has no storm, so the estimate for a month leaves the other phases out.
    return outcomes[: phases[0]["calls"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The events of a demonstration, on which the checks are made; all in their order of time."""

    failures: int
    outcomes: Sequence[FinishedCall]
    changes: Sequence[PolicyChange]
    """Changes of policy."""
    messages: Sequence[Sequence[str]]
    """The texts of each Slack message: as it was posted, and after each edit."""

    @classmethod
    def of(cls, driver: Driver) -> "Timeline":
        """The events so far."""
        with driver.environment.store.reading() as connection:
            changes = policies.history(connection)[::-1]
        return cls(
            failures=driver.failures,
            outcomes=driver.environment.outcomes,
            changes=changes,
            messages=[[version.text for version in message.versions] for message in driver.environment.slack.posts],
        )


def checks_of(timeline: Timeline, *, is_complete: bool = True) -> dict[str, bool]:
    """Whether the guard did each thing that a working guard does; no check depends on durations."""
    acts = [(each["act"], each["cause"]) for each in timeline.changes]
    thresholds = [each.decision.threshold for each in timeline.outcomes]
    return {
        "every call was answered": bool(timeline.outcomes) and timeline.failures == 0,
        "each phase brought what it waited for": is_complete,
        "the storm raised the threshold, its end released it": acts[:2] == [("raise", STORM), ("release", STORM)],
        "climbing false confidence raised it, and graded answers released it": acts[2:]
        == [("raise", CLIMBING), ("release", CLIMBING)],
        "calls were decided at 0.9 meanwhile": 0.9 in thresholds,  # noqa: PLR2004 - the raised threshold
        "calls are decided at 0.8 again": thresholds[-1:] == [0.8],
        "every call begun after a change was decided by it": bool(timeline.changes) and _all_applied(timeline),
        "Slack was told of each in one message, and of nothing else": [_rules_in(texts) for texts in timeline.messages]
        == [[STORM], [CLIMBING]],
        "those messages were edited when it was over": bool(timeline.messages)
        and all("firing" in texts[0] and "resolved" in texts[-1] for texts in timeline.messages),
    }


def _rules_in(texts: Sequence[str]) -> list[str]:
    """The rules that all texts of one message name."""
    return [rule for rule in (STORM, CLIMBING) if all(rule in text for text in texts)]


def _all_applied(timeline: Timeline) -> bool:
    """Whether each policy decided all calls between its change and the next one."""
    ends = [*(change["at"] for change in timeline.changes[1:]), float("inf")]
    # A call at the moment of a change precedes it, see `Environment.advance_to`.
    return all(
        (each.decision.policy_version, each.decision.threshold) == (change["version"], change["to_threshold"])
        for change, end in zip(timeline.changes, ends, strict=True)
        for each in timeline.outcomes
        if change["at"] < each.begun_at <= end
    )
