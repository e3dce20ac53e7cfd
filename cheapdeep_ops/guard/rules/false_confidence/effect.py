"""Whether a raise has helped: what it lets ship, compared with what it withholds in the same period; pure.

Answers from before the raise are no measure. The rule raises when many answers were wrong, so the rate would fall by
chance alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cheapdeep_ops.guard.rules.false_confidence.detection import estimate
from cheapdeep_ops.guard.statistics.comparison import TwoGroups
from cheapdeep_ops.guard.statistics.intervals import Estimate
from cheapdeep_ops.store.grades import DecidedGrade

ALPHA: Final = 0.05
"""The largest share of incidents in which a raise without effect is called helpful or harmful, at any time."""

MOST: Final = 5_000
"""The first grades since a raise that are compared; later ones change nothing."""


class EffectKind(StrEnum):
    """Whether a raise has helped."""

    UNKNOWN = "unknown"
    HELPS = "helps"
    NO_SIGN = "no_sign"
    WORSE = "worse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Whether a raise has helped, and the rates that show it, in words."""

    kind: EffectKind
    why: str


def effect_of(grades: Sequence[DecidedGrade], *, enough: int) -> Effect:
    """The effect of a raise, from the grades of calls since, in the order of grading.

    It helps if the answers that it withholds are wrong more often than those that ship, route by route. Without a
    decision, fewer than `enough` grades of either leave the effect unknown. It may be called after every grade.
    """
    test = TwoGroups()
    for each in grades:
        test.add(each.route, is_first=not each.shipped, is_hit=each.incorrect)
    shipped, withheld = (estimate([each for each in grades if each.shipped is wanted]) for wanted in (True, False))
    if shipped is not None and withheld is not None and test.evidence >= -math.log(ALPHA):
        kind = EffectKind.HELPS if test.is_higher else EffectKind.WORSE
        return Effect(kind=kind, why=f"{_EFFECTS[kind]}: {_rates(shipped, withheld)}")
    counts = [each.count if each else 0 for each in (shipped, withheld)]
    if shipped is None or withheld is None or min(counts) < enough:
        graded = f"{counts[0]} grades of shipped and {counts[1]} of withheld answers since, of {enough} each"
        return Effect(kind=EffectKind.UNKNOWN, why=f"{_EFFECTS[EffectKind.UNKNOWN]}: {graded}")
    return Effect(kind=EffectKind.NO_SIGN, why=f"{_EFFECTS[EffectKind.NO_SIGN]}: {_rates(shipped, withheld)}")


def _rates(shipped: Estimate, withheld: Estimate) -> str:
    return (
        f"{shipped.rate:.1%} of the answers that shipped since are wrong (n {shipped.count}), "
        f"and {withheld.rate:.1%} of those that it withheld (n {withheld.count})"
    )


_EFFECTS: Final = {
    EffectKind.UNKNOWN: "it is not known yet whether the raise helps",
    EffectKind.HELPS: "the raise helps",
    EffectKind.WORSE: "the raise withholds the better answers",
    EffectKind.NO_SIGN: "there is no sign that the raise helps",
}
