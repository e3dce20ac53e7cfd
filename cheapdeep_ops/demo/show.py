"""The demonstration: calm, storm, recovery, drift, recovery, each until the guard has done its part or time is up."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cheapdeep_ops.demo.report import report_of
from cheapdeep_ops.demo.world import ROUTE, SAMPLE_RATE, World, named
from cheapdeep_ops.guard.status import present
from cheapdeep_ops.store import policies
from cheapdeep_ops.testing import TrafficClass

SHORTENED_BY: Final = 20.0
"""What every duration of the rules is divided by, so that a storm of minutes fits into seconds."""

RATE: Final = 40.0
"""Calls per second."""

POLICY_REACHES_S: Final = 2.0
"""How soon a change of policy reaches every router."""

_LOOK_EVERY_S: Final = 0.25
_CALM: Final = named("faq", "billing", "faq")
_STORM: Final = named("legal", "legal", "faq", "legal")
_DRIFT: Final = named("outdated", "outdated", "faq", "outdated")
STORM: Final = "EscalationStorm"
CLIMBING: Final = "FalseConfidenceClimbing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What an onlooker sees at one moment; rates are those that the guard last measured."""

    phase: str
    calls: int
    base_rate: float | None
    actual_rate: float | None
    wrong_rate: float | None
    graded: int
    threshold: float
    firing: tuple[str, ...]
    slack: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A stretch of one kind of traffic: over when `is_done`, but not before `least_s` nor after `most_s` seconds."""

    name: str
    what: str
    classes: Sequence[TrafficClass]
    least_s: float
    most_s: float
    is_done: Callable[["Stage"], bool]


class Audience(Protocol):
    """Who watches the demonstration."""

    def begin(self, phase: Phase) -> None:
        """A phase begins."""

    def look(self, glance: Glance) -> None:
        """Something may have changed."""


class Stage:
    """The world while a demonstration runs, with what can be seen of it."""

    def __init__(self, world: World) -> None:
        self._world = world

    def runs_at(self, threshold: float, *, last: int = 20) -> bool:
        """Whether the latest calls were all decided at `threshold`."""
        latest = self._world.outcomes[-last:]
        return len(latest) == last and all(each.routed.decision.threshold == threshold for each in latest)

    def says(self, text: str) -> bool:
        """Whether the newest message on Slack says so."""
        return text in self.slack_text()

    def slack_text(self) -> str:
        """The newest text on Slack."""
        posts = self._world.slack.posts
        return posts[-1].text if posts else ""

    def glance(self, phase: str, seconds: float) -> Glance:
        """What is so at this moment."""
        state = present(self._world.service.store, self._world.settings, time.time())
        signals = {each["rule"]: each["signal"] for each in state["alerts"] if each["scope"] == ROUTE}
        storm, wrong = signals.get(STORM, {}), signals.get(CLIMBING, {})
        return Glance(
            phase=phase,
            calls=len(self._world.outcomes),
            base_rate=storm.get("recent_rate", storm.get("rate")),
            actual_rate=storm.get("actual_rate"),
            wrong_rate=wrong.get("rate"),
            graded=wrong.get("n", 0),
            threshold=self._world.outcomes[-1].decision.threshold if self._world.outcomes else 0.8,
            firing=tuple(sorted({each["rule"] for each in state["alerts"] if each["state"] == "firing"})),
            slack=self.slack_text(),
            seconds=seconds,
        )


PHASES: Final = (
    Phase(
        name="calm",
        what="everyday questions; about one in seven escalates, and what is normal is learned",
        classes=_CALM,
        least_s=7,
        most_s=7,
        is_done=lambda _stage: True,
    ),
    Phase(
        name="storm",
        what="a bad input class arrives; most of it escalates",
        classes=_STORM,
        least_s=2,
        most_s=20,
        is_done=lambda stage: stage.runs_at(0.9) and stage.says(f"{STORM} firing"),
    ),
    Phase(
        name="recovery",
        what="everyday questions again",
        classes=_CALM,
        least_s=2,
        most_s=25,
        is_done=lambda stage: stage.runs_at(0.8) and stage.says(f"{STORM} resolved"),
    ),
    Phase(
        name="drift",
        what="the tariffs have changed: the cheap tier stays as sure as before, and is wrong",
        classes=_DRIFT,
        least_s=2,
        most_s=20,
        is_done=lambda stage: stage.runs_at(0.9) and stage.says(f"{CLIMBING} firing"),
    ),
    Phase(
        name="recovery from drift",
        what="everyday questions again, graded until there is no doubt",
        classes=_CALM,
        least_s=2,
        most_s=30,
        is_done=lambda stage: stage.runs_at(0.8) and stage.says(f"{CLIMBING} resolved"),
    ),
)


def run_demo(audience: Audience, *, seed: int = 0) -> dict[str, Any]:
    """Run all phases; returns the report with `phases` and `checks`, which say whether the guard did its part."""
    with World(shortened_by=SHORTENED_BY, seed=seed) as world:
        stage, began = Stage(world), time.time()
        phases = [_run(phase, world, stage, audience) for phase in PHASES]
        world.settle()
        report = report_of(world.outcomes, world.service.store, world.settings, since=began, until=time.time())
        shown = {"phases": phases, "windows_shortened_by": SHORTENED_BY, "sample_rate": SAMPLE_RATE}
        return {**report, **shown, "checks": _checks(world)}


def _run(phase: Phase, world: World, stage: Stage, audience: Audience) -> dict[str, Any]:
    audience.begin(phase)
    began, first_call = time.monotonic(), len(world.outcomes)
    for seconds in _beats(phase.most_s):
        world.ask(phase.classes)
        if int(seconds / _LOOK_EVERY_S) != int((seconds - 1 / RATE) / _LOOK_EVERY_S):
            audience.look(stage.glance(phase.name, seconds))
            if seconds >= phase.least_s and phase.is_done(stage):
                break
    audience.look(stage.glance(phase.name, time.monotonic() - began))
    calls = len(world.outcomes) - first_call
    return {"name": phase.name, "what": phase.what, "seconds": time.monotonic() - began, "calls": calls}


def _beats(most_s: float) -> Iterator[float]:
    """Seconds since the beginning, one for each call that is due."""
    began, due = time.monotonic(), 0.0
    while due < most_s:
        time.sleep(max(began + due - time.monotonic(), 0))
        yield time.monotonic() - began
        due += 1 / RATE


def _checks(world: World) -> dict[str, bool]:
    """What a working guard must have done, each by its own evidence."""
    with world.service.store.reading() as connection:
        changes = policies.history(connection)[::-1]
    acts = [(each["act"], each["cause"]) for each in changes]
    thresholds = [each.decision.threshold for each in world.outcomes]
    told = [[update.text for update in message.updates] for message in world.slack.posts]
    return {
        "every call was answered": world.failures == 0,
        "the storm raised the threshold, its end released it": acts[:2] == [("raise", STORM), ("release", STORM)],
        "climbing false confidence raised it, and graded answers released it": acts[2:]
        == [("raise", CLIMBING), ("release", CLIMBING)],
        "calls were decided at 0.9 meanwhile": 0.9 in thresholds,  # noqa: PLR2004 - the raised threshold
        "calls are decided at 0.8 again": bool(thresholds) and thresholds[-1] == 0.8,  # noqa: PLR2004 - the base
        "each change held for every call begun 2 s later": all(_held(world, changes)),
        "Slack was told of each in one message": len(told) == 2,  # noqa: PLR2004 - two incidents
        "those messages were edited when it was over": all(_ends_resolved(texts) for texts in told),
    }


def _ends_resolved(texts: Sequence[str]) -> bool:
    return bool(texts) and "resolved" in texts[-1]


def _held(world: World, changes: Sequence[Mapping[str, Any]]) -> Iterator[bool]:
    """Whether calls begun two seconds after a change, and before the next one, were decided by it."""
    ends = [*(change["at"] for change in changes[1:]), float("inf")]
    for change, end in zip(changes, ends, strict=True):
        for each in world.outcomes:
            if change["at"] + POLICY_REACHES_S <= each.begun_at < end:
                yield each.routed.decision.threshold == change["to_threshold"]
