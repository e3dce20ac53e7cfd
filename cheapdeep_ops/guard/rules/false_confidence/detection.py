"""Detects from grades that false confidence climbs, and that it is back; pure.

Two sequential tests (see `statistics.sequential`) read the grades in the order in which they become known. One bets
that the rate lies above `target`: the upper bound of the baseline, or a limit from the settings. It alone fires the
rule, with at most one false alarm in 1 / alpha grades. The other bets that the rate lies below `level`, one and a half
times that target. It alone resolves the rule, together with a plain interval below that level.

A baseline goes on learning (see `calm`), so its target comes closer to the rate. The target is the one-sided upper 95%
bound of all of its grades. It is never above the 97.5% bound of its first ones. A new target leaves the evidence as it
is, because each grade was bet on at a target that was known before. So the promise holds as long as the targets lie
above the rate. For 5% of routes the first target does not. `tests/bench/normals.py` shows delays and false alarms.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, Protocol, Self, TypeVar

from cheapdeep_ops.guard.rules.false_confidence.calm import CalmGrades, CalmLearner
from cheapdeep_ops.guard.rules.false_confidence.rule import QualityRule
from cheapdeep_ops.guard.rules.model import Finding, Level
from cheapdeep_ops.guard.statistics.dependence import Given, GrowthLimiter, Traffic, TrafficLearner
from cheapdeep_ops.guard.statistics.intervals import Estimate, weighted
from cheapdeep_ops.guard.statistics.sequential import Bets, Detector, Observed

TARGET_CONFIDENCE: Final = 0.9
"""Two-sided, of the baseline's interval, whose upper bound is the target: one-sided it is 95%."""

FIRST_CONFIDENCE: Final = 0.95
"""Until the first grades are complete, the bound is wider: one-sided it is 97.5%."""

CEILING_CONFIDENCE: Final = 0.95
"""Of the first grades: their upper bound of 97.5% (one-sided) is the highest target."""


class Observation(Protocol):
    """A decided grade of an answer that ships at base; `inclusion` is the probability that its call was chosen."""

    @property
    def called_at(self) -> float:
        """When the call began, in Unix seconds."""

    @property
    def incorrect(self) -> bool:
        """Whether the answer is wrong."""

    @property
    def inclusion(self) -> float:
        """In (0, 1]."""

    @property
    def shipped(self) -> bool:
        """Whether the answer shipped; else a raise withheld it."""

    @property
    def steered(self) -> bool:
        """Whether earlier grades led to its choice."""

    @property
    def fingerprint(self) -> str:
        """Equal for calls with equal turns; empty if it is not known."""


T = TypeVar("T", bound=Observation)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmLevel:
    """The limits of a scope: a rate above `target` fires the rule, one below `level` resolves it.

    `normal` is the baseline that they follow from; None for a limit from the settings.
    """

    target: float
    level: float
    normal: Estimate | None = None


def learned(normal: Estimate, ceiling: float | None = 1.0) -> AlarmLevel:
    """The alarm level of a scope with a learned baseline.

    `ceiling` is the highest target, None until the baseline's first grades are complete.
    """
    if ceiling is None:
        target = normal.interval(FIRST_CONFIDENCE)[1]
    else:
        # Without the ceiling, a slow drift would be learned as normal, little by little.
        target = min(normal.interval(TARGET_CONFIDENCE)[1], ceiling)
    # A target near 1 leaves no higher rate to bet on.
    target = min(target, _HIGHEST_TARGET)
    return AlarmLevel(target=target, level=Bets.on_climb(target).rates[0], normal=normal)


_HIGHEST_TARGET: Final = 0.99


def ceiling_of(first: Estimate) -> float:
    """The highest target that a baseline with these first grades may ever lead to."""
    return first.interval(CEILING_CONFIDENCE)[1]


def at_rate(rate: float) -> AlarmLevel:
    """The alarm level of a rate from the rules file or the settings."""
    return AlarmLevel(target=rate, level=rate)


def estimate(grades: Sequence[Observation]) -> Estimate | None:
    """The false-confident rate of `grades`, weighted by inclusion; None if there are none."""
    return weighted((each.incorrect, each.inclusion, 1) for each in grades)


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialTest:
    """Both tests of one rule in one scope; `phase` identifies the state of the scope since which they run.

    `climb_given` and `fall_given` are where their evidence comes from, and `traffic` is what is usual in the scope.
    `calm` are the grades that the scope's baseline has not learned from yet.
    """

    phase: tuple[Any, ...] = ()
    climb: Detector = field(default_factory=Detector)
    fall: Detector = field(default_factory=Detector)
    climb_given: Given = field(default_factory=Given)
    fall_given: Given = field(default_factory=Given)
    traffic: Traffic = field(default_factory=Traffic)
    calm: CalmGrades = field(default_factory=CalmGrades)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The tests from the result of `row`."""
        return cls(phase=tuple(row["phase"]), **{name: kind.from_row(row[name]) for name, kind in _PARTS.items()})

    def row(self) -> dict[str, object]:
        """The tests as JSON."""
        return {"phase": list(self.phase), **{name: getattr(self, name).row() for name in _PARTS}}

    def in_phase(self, phase: tuple[Any, ...]) -> "SequentialTest":
        """The tests in a phase: in a new one they begin again, and only what is usual stays known."""
        if self.phase == phase:
            return self
        return SequentialTest(phase=phase, traffic=self.traffic.without_evidence(), calm=self.calm.without_evidence())

    def after(self, grade: Observation, alarm: AlarmLevel) -> "SequentialTest":
        """The tests after one more grade, against the alarm level of its route, for a rule with the default alphas."""
        return self.after_all([(grade, Stakes.at(alarm))], _BY_DEFAULT, fires=True)

    def after_all(
        self,
        graded: Sequence[tuple[Observation, "Stakes"]],
        needed: "NeededEvidence",
        *,
        fires: bool,
    ) -> "SequentialTest":
        """The tests after more grades, each with the stakes of its route, in the order in which they became known.

        The test for a fall reads them only while the alert fires. It begins then, so it misses no grade. See
        `statistics.dependence` for how much one grade may add.
        """
        if not graded:
            return self
        learner, calm = TrafficLearner(self.traffic), CalmLearner(self.calm)
        climbing = GrowthLimiter(self.climb_given, needed.climb, learner)
        falling = GrowthLimiter(self.fall_given, needed.fall, learner)

        def limit_climb(observed: Observed, run: float) -> tuple[float, ...]:
            growth = climbing.limited(observed, run)
            # Only afterwards: an observation must not raise its own bound.
            evidence = math.inf if fires else run
            learner.learn(observed, evidence)
            calm.learn(observed.weight, incorrect=bool(observed.hits), evidence=evidence)
            return growth

        climb = self.climb.after_all(
            (_observed(each, stakes.climb, stakes.share) for each, stakes in graded), limit=limit_climb
        )
        after = replace(self, climb=climb, climb_given=climbing.given, traffic=learner.traffic)
        if not fires:
            calm.settle(climb.run)
            return replace(after, calm=calm.calm)
        fall = self.fall.after_all((_observed(each, stakes.fall) for each, stakes in graded), limit=falling.limited)
        return replace(after, fall=fall, fall_given=falling.given)


_PARTS: Final[Mapping[str, Any]] = {
    "climb": Detector, "fall": Detector, "climb_given": Given, "fall_given": Given, "traffic": Traffic,
    "calm": CalmGrades,
}  # fmt: skip


class NeededEvidence(NamedTuple):
    """The evidence at which each test decides: natural logarithms."""

    climb: float
    fall: float

    @classmethod
    def of(cls, rule: QualityRule) -> Self:
        """What a rule needs."""
        return cls(climb=-math.log(rule.alpha), fall=-math.log(rule.release_alpha))


_BY_DEFAULT: Final = NeededEvidence(
    *(-math.log(QualityRule.model_fields[name].default) for name in ("alpha", "release_alpha"))
)


_DIGITS: Final = 4
"""How many of a fingerprint's 32 digits a test keeps. One text in 65,536 shares them, so they identify no question."""


def _observed(
    grade: Observation, stakes: tuple[tuple[float, ...], tuple[float, ...]], share: float | None = None
) -> Observed:
    growth, weight = stakes[grade.incorrect], weight_of(grade, share) if share else 0.0
    return Observed(growth, grade.incorrect, 1, grade.called_at, grade.fingerprint[:_DIGITS], weight)


def weight_of(grade: Observation, share: float) -> float:
    """How much a grade counts for a baseline whose first grades were chosen with the probability `share`.

    It is known before the grade. A call that was chosen because of other grades does not count. Calls that a suspicion
    chooses with a higher probability count less. Else suspected times would count most for normal.
    """
    return 0.0 if grade.steered else min(share / grade.inclusion, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stakes:
    """How the bets of both tests grow by one grade: by a correct one (first entry), by an incorrect one (second)."""

    climb: tuple[tuple[float, ...], tuple[float, ...]]
    fall: tuple[tuple[float, ...], tuple[float, ...]]
    share: float | None = None
    """The probability with which the first grades of the route's baseline were chosen."""

    @classmethod
    def at(cls, alarm: AlarmLevel, share: float | None = None) -> Self:
        """The stakes against an alarm level."""
        climb, fall = Bets.on_climb(alarm.target), Bets.on_fall(alarm.level)
        return cls(
            climb=(climb.growth(0, 1), climb.growth(1, 1)), fall=(fall.growth(0, 1), fall.growth(1, 1)), share=share
        )


def finding_of(
    rule: QualityRule,
    test: SequentialTest,
    grades: Sequence[Observation],
    alarm: AlarmLevel | None,
    *,
    fires: bool,
    held: int = 0,
) -> Finding:
    """The finding from a test and the latest `grades` of its scope (newest first), against `alarm`.

    `held` is the number of raises within a day, if only a person may end the incident because of them; else 0.
    """
    level = level_of(rule, test, grades, alarm, fires=fires)
    if held and level is Level.BELOW:
        level = Level.UNCLEAR
    # While the rule fires, the evidence in the signal is that of the test that resolves it.
    looks_for_a_fall = level is Level.BELOW or (fires and level is not Level.ABOVE)
    needed = NeededEvidence.of(rule)
    run, limit = (test.fall, needed.fall) if looks_for_a_fall else (test.climb, needed.climb)
    window = _run_of(run, grades) if level in (Level.ABOVE, Level.BELOW) else grades
    evidence: dict[str, object] = {"evidence": max(run.evidence, 0.0), "evidence_limit": limit}
    evidence["dispersion"] = test.traffic.dispersion
    is_held = {"raises_in_day": held} if held and (fires or level is Level.ABOVE) else {}
    return Finding(level=level, signal={**_signal(estimate(window), alarm, grades), **evidence, **is_held})


MOST_RAISES: Final = 3
"""Grades do not end the last of so many raises of a scope within a day: a person has to decide."""


def level_of(
    rule: QualityRule, test: SequentialTest, grades: Sequence[Observation], alarm: AlarmLevel | None, *, fires: bool
) -> Level:
    """The side of the alarm level on which a test is; `grades` are needed only while the rule fires."""
    if alarm is None or test.climb.total < rule.min_grades:
        return Level.NO_DATA
    # Resolving comes first: the evidence of the climb may still be high when the rate is back.
    if fires and _is_back(rule, test.fall, grades, alarm):
        return Level.BELOW
    return Level.ABOVE if test.climb.alarms(rule.alpha) else Level.UNCLEAR


def _is_back(rule: QualityRule, fall: Detector, grades: Sequence[Observation], alarm: AlarmLevel) -> bool:
    # The interval keeps an incident open while the shown rate may still be above the level.
    rate = estimate(_run_of(fall, grades))
    if rate is None or not fall.alarms(rule.release_alpha):
        return False
    return rate.interval(rule.release_confidence)[1] < alarm.level


def _run_of(run: Detector, grades: Sequence[T]) -> Sequence[T]:
    """The grades of calls since the evidence of a test began to grow."""
    return [each for each in grades if run.since is not None and each.called_at >= run.since]


def _signal(shown: Estimate | None, alarm: AlarmLevel | None, grades: Sequence[Observation]) -> dict[str, object]:
    return {
        **_estimated("", shown),
        "limit": alarm.level if alarm else None,
        "target": alarm.target if alarm else None,
        **_estimated("normal_", alarm.normal if alarm else None),
        **_estimated("shipped_", estimate([each for each in grades if each.shipped])),
    }


def _estimated(prefix: str, rate: Estimate | None) -> dict[str, object]:
    """Rate, 95% interval and number of grades; a rate of None without grades."""
    low, high = rate.interval() if rate else (0.0, 1.0)
    return {
        f"{prefix}rate": rate.rate if rate else None,
        f"{prefix}low": low,
        f"{prefix}high": high,
        f"{prefix}n": rate.count if rate else 0,
    }
