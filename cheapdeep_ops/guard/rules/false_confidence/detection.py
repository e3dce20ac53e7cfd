"""When false confidence climbs, and when it is over: from grades, pure like the rules.

This is the one place where that is decided. Two sequential tests run side by side over grades in the order in which
they become known (see `detector`). One bets that the rate lies above `target`: the upper end of what is normal, or a
limit that somebody has set. It alone raises, with one false alarm in 1 / alpha grades at most. The other bets that the
rate lies below `level`, one and a half times that target; together with a plain interval below the same level it alone
lets go.

Of learned normals the target is the upper 90% bound (one-sided), so that the promise holds for nine routes of ten. By
simulation over what 200 grades may have shown, all of them together have one false alarm in 245,000 to 311,000 grades
over 20,000 grades each, at rates of 2% to 10%, where alpha promises one in 125,000; the unlucky ones come early, so
over the first 3,000 grades it is one in 106,000 to 144,000. 3% -> 10% is found after 305 grades (median; nine of ten
within 1,122), 5% -> 24% after 67, 10% -> 30% after 89.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, Protocol, Self, TypeVar

from cheapdeep_ops.guard.rules.model import Finding, Level, QualityRule
from cheapdeep_ops.guard.statistics.intervals import Estimate, difference, weighted
from cheapdeep_ops.guard.statistics.sequential import Bets, Detector

_TARGET_CONFIDENCE: Final = 0.8
"""Two-sided, of the interval of what is normal, whose upper end is the target: one-sided it is 90%."""


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
        """Whether the answer went out; else it was withheld by a raise."""


T = TypeVar("T", bound=Observation)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmLevel:
    """What is too much: more than `target` raises, and less than `level` lets go; and what that rests on."""

    target: float
    level: float
    normal: Estimate | None = None


def learned(normal: Estimate) -> AlarmLevel:
    """The alarm of a scope whose normal is known."""
    target = min(normal.interval(_TARGET_CONFIDENCE)[1], _HIGHEST_TARGET)
    return AlarmLevel(target=target, level=Bets.on_climb(target).rates[0], normal=normal)


_HIGHEST_TARGET: Final = 0.99


def at_rate(rate: float) -> AlarmLevel:
    """The alarm of a rate that somebody has set: what is above raises, what is below lets go."""
    return AlarmLevel(target=rate, level=rate)


def estimate(grades: Sequence[Observation]) -> Estimate | None:
    """The false-confident rate of `grades`, weighted by inclusion; None where there are none."""
    return weighted((each.incorrect, each.inclusion, 1) for each in grades)


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialTest:
    """Both tests of one rule in one scope, since the scope's state last changed; `phase` says what state that is."""

    phase: tuple[Any, ...] = ()
    climb: Detector = field(default_factory=Detector)
    fall: Detector = field(default_factory=Detector)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The watch that `row` gave."""
        return cls(phase=tuple(row["phase"]), **{name: Detector.from_row(row[name]) for name in ("climb", "fall")})

    def row(self) -> dict[str, Any]:
        """The watch as JSON."""
        return {"phase": list(self.phase), "climb": self.climb.row(), "fall": self.fall.row()}

    def after(self, grade: Observation, alarm: AlarmLevel) -> "SequentialTest":
        """The watch after one more grade, held against what is too much for its own route."""
        at = grade.called_at
        climb = self.climb.after(Bets.on_climb(alarm.target), int(grade.incorrect), 1, at=at)
        fall = self.fall.after(Bets.on_fall(alarm.level), int(grade.incorrect), 1, at=at)
        return replace(self, climb=climb, fall=fall)


def finding_of(
    rule: QualityRule, watch: SequentialTest, grades: Sequence[Observation], alarm: AlarmLevel | None, *, fires: bool
) -> Finding:
    """What a watch and the latest `grades` of its scope (newest first) say, held against `alarm`."""
    level = level_of(rule, watch, grades, alarm, fires=fires)
    looks_for_a_fall = level is Level.BELOW or (fires and level is not Level.ABOVE)
    run, alpha = (watch.fall, rule.release_alpha) if looks_for_a_fall else (watch.climb, rule.alpha)
    window = _run_of(run, grades) if level in (Level.ABOVE, Level.BELOW) else grades
    evidence = {"evidence": max(run.evidence, 0.0), "evidence_limit": -math.log(alpha)}
    return Finding(level=level, signal={**_signal(estimate(window), alarm, grades), **evidence})


def level_of(
    rule: QualityRule, watch: SequentialTest, grades: Sequence[Observation], alarm: AlarmLevel | None, *, fires: bool
) -> Level:
    """Which side of the alarm a watch is on; `grades` are needed only while the rule fires."""
    if alarm is None or watch.climb.total < rule.min_grades:
        return Level.NO_DATA
    if fires and _is_back(rule, watch.fall, grades, alarm):
        return Level.BELOW
    return Level.ABOVE if watch.climb.alarms(rule.alpha) else Level.UNCLEAR


def _is_back(rule: QualityRule, fall: Detector, grades: Sequence[Observation], alarm: AlarmLevel) -> bool:
    found = estimate(_run_of(fall, grades))
    if found is None or not fall.alarms(rule.release_alpha):
        return False
    return found.interval(rule.release_confidence)[1] < alarm.level


def _run_of(run: Detector, grades: Sequence[T]) -> Sequence[T]:
    """The grades of calls since the evidence began to grow."""
    return [each for each in grades if run.since is not None and each.called_at >= run.since]


def _signal(shown: Estimate | None, alarm: AlarmLevel | None, grades: Sequence[Observation]) -> dict[str, Any]:
    return {
        **_estimated("", shown),
        "limit": alarm.level if alarm else None,
        "target": alarm.target if alarm else None,
        **_estimated("normal_", alarm.normal if alarm else None),
        **_estimated("shipped_", estimate([each for each in grades if each.shipped])),
    }


def _estimated(prefix: str, found: Estimate | None) -> dict[str, Any]:
    """Rate, 95% interval and number of grades; unknown where there are none."""
    low, high = found.interval() if found else (0.0, 1.0)
    return {
        f"{prefix}rate": found.rate if found else None,
        f"{prefix}low": low,
        f"{prefix}high": high,
        f"{prefix}n": found.count if found else 0,
    }


class EffectKind(StrEnum):
    """Whether a raise has helped."""

    UNKNOWN = "unknown"
    HELPS = "helps"
    NO_SIGN = "no_sign"
    WORSE = "worse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Whether a raise has helped, as a word and in words."""

    kind: EffectKind
    why: str


def effect_of(before: Estimate | None, after: Estimate | None, *, enough: int) -> Effect:
    """The false-confident rate of what shipped before a raise, held against that of what ships since."""
    if before is None or after is None or after.count < enough:
        known = f"{after.count if after else 0} of {enough} grades of what ships since"
        return Effect(kind=EffectKind.UNKNOWN, why=f"not known yet whether the raise helps: {known}")
    low, high = difference(after, before, 0.95)
    kind = EffectKind.HELPS if high < 0 else EffectKind.WORSE if low > 0 else EffectKind.NO_SIGN
    change = f"{before.rate:.1%} before it (n {before.count}), {after.rate:.1%} of what ships since (n {after.count})"
    return Effect(kind=kind, why=f"{_EFFECTS[kind]}: {change}")


_EFFECTS: Final = {
    EffectKind.HELPS: "the raise helps",
    EffectKind.WORSE: "the raise makes it no better",
    EffectKind.NO_SIGN: "no sign that the raise helps",
}
