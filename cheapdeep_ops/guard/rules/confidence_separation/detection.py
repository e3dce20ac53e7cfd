"""Whether confidence separates right answers from wrong ones, and whether only some calls escalate; pure."""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from cheapdeep_ops.guard.rules.confidence_separation.rule import GateRule
from cheapdeep_ops.guard.rules.model import Finding, Level
from cheapdeep_ops.guard.statistics.calibration import separation

NO_GRADES: Final[Sequence[tuple[float, bool]]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparationReading:
    """The data of one route: the latest grades (confidence, whether it is wrong), and the calls of a period."""

    grades: Sequence[tuple[float, bool]] = NO_GRADES
    triaged: int = 0
    escalated: int = 0


def finding_of(rule: GateRule, reading: SeparationReading, *, firing: AbstractSet[str] = frozenset()) -> Finding:
    """Above if the AUROC is below the limit, or if all or none of the calls escalate.

    `firing` are the kinds of trouble for which the alert fires. The finding is below once all of them are over.
    """
    parts = {"confidence": _separates(rule, reading), "share": _differs(rule, reading, fires="share" in firing)}
    kinds = [kind for kind, level in parts.items() if _is_open(level, fires=kind in firing)]
    why = "; ".join(_whys(rule, kinds, reading))
    signal = {"kind": ",".join(kinds or sorted(firing)), "why": why, **_measured(reading)}
    return Finding(level=_together(parts, firing), signal=signal)


def _is_open(level: Level, *, fires: bool) -> bool:
    return level is Level.ABOVE or (fires and level is not Level.BELOW)


def kinds_in(signal: object) -> frozenset[str]:
    """The kinds of trouble in a stored `kind`."""
    return frozenset(part for part in str(signal or "").split(",") if part)


def _together(parts: dict[str, Level], firing: AbstractSet[str]) -> Level:
    # One kind of trouble is enough to fire; to resolve, every kind that fired must be over.
    levels = set(parts.values())
    if Level.ABOVE in levels:
        return Level.ABOVE
    if levels == {Level.NO_DATA}:
        return Level.NO_DATA
    is_over = all(parts.get(kind) is Level.BELOW for kind in firing) if firing else Level.UNCLEAR not in levels
    return Level.BELOW if is_over else Level.UNCLEAR


def _separates(rule: GateRule, reading: SeparationReading) -> Level:
    """Unclear while the interval contains the limit: few grades prove little."""
    wrong = sum(is_wrong for _, is_wrong in reading.grades)
    auroc = separation(reading.grades)
    if len(reading.grades) < rule.min_grades or wrong < rule.min_wrong or auroc is None:
        return Level.NO_DATA
    area, _, high = auroc
    return Level.ABOVE if high < rule.limit else Level.BELOW if area >= rule.limit else Level.UNCLEAR


def _differs(rule: GateRule, reading: SeparationReading, *, fires: bool) -> Level:
    # One call with another outcome is enough to resolve it, even if there are too few calls to fire.
    differ = 0 < reading.escalated < reading.triaged
    if reading.triaged < rule.min_calls:
        return Level.BELOW if fires and differ else Level.NO_DATA
    return Level.BELOW if differ else Level.ABOVE


def _measured(reading: SeparationReading) -> dict[str, object]:
    area, low, high = separation(reading.grades) or (None, 0.0, 1.0)
    return {
        "auroc": area,
        "auroc_low": low,
        "auroc_high": high,
        "grades": len(reading.grades),
        "wrong": sum(is_wrong for _, is_wrong in reading.grades),
        "triaged": reading.triaged,
        "escalated": reading.escalated,
    }


def _whys(rule: GateRule, kinds: Sequence[str], reading: SeparationReading) -> Iterator[str]:
    if "share" in kinds:
        yield _share_text(reading)
    if "confidence" in kinds:
        yield _confidence_text(rule, reading)


def _share_text(reading: SeparationReading) -> str:
    if not reading.triaged:
        return "no recent calls; before, all or none of them escalated"
    share = {0: "none", reading.triaged: "each"}.get(reading.escalated, f"{reading.escalated:,}")
    return f"{share} of {reading.triaged:,} calls escalated at base"


def _confidence_text(rule: GateRule, reading: SeparationReading) -> str:
    auroc = separation(reading.grades)
    wrong = sum(is_wrong for _, is_wrong in reading.grades)
    known = f"on {len(reading.grades):,} grades, {wrong} wrong"
    if auroc is None or _separates(rule, reading) is Level.NO_DATA:
        return f"too few grades to show what confidence is worth ({known})"
    area, low, high = auroc
    bounds = f"{low:.2f} to {high:.2f}; 0.5 is chance"
    return f"confidence hardly separates wrong answers from right ones: AUROC {area:.2f} ({bounds}) {known}"
