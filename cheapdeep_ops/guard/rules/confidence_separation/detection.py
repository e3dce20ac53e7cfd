"""Whether the gate does anything: confidence tells right from wrong, and some calls pass and some do not; pure."""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from cheapdeep_ops.guard.rules.model import Finding, GateRule, Level
from cheapdeep_ops.guard.statistics.calibration import separation

NO_GRADES: Final[Sequence[tuple[float, bool]]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparationReading:
    """What was seen of one route: the latest grades (confidence, whether it is wrong), and the calls of a period."""

    grades: Sequence[tuple[float, bool]] = NO_GRADES
    triaged: int = 0
    escalated: int = 0


def finding_of(rule: GateRule, look: SeparationReading, *, firing: AbstractSet[str] = frozenset()) -> Finding:
    """Above while confidence does not separate, or all calls fare the same.

    `firing` are the kinds of trouble that the alert was last about: it is over when all of them are known to be.
    """
    parts = {"confidence": _separates(rule, look), "share": _differs(rule, look, fires="share" in firing)}
    kinds = [kind for kind, level in parts.items() if _is_open(level, fires=kind in firing)]
    signal = {"kind": ",".join(kinds or sorted(firing)), "why": "; ".join(_whys(rule, kinds, look)), **_measured(look)}
    return Finding(level=_together(parts, firing), signal=signal)


def _is_open(level: Level, *, fires: bool) -> bool:
    return level is Level.ABOVE or (fires and level is not Level.BELOW)


def kinds_in(signal: object) -> frozenset[str]:
    """The kinds of trouble that a stored `kind` names."""
    return frozenset(part for part in str(signal or "").split(",") if part)


def _together(parts: dict[str, Level], firing: AbstractSet[str]) -> Level:
    levels = set(parts.values())
    if Level.ABOVE in levels:
        return Level.ABOVE
    if levels == {Level.NO_DATA}:
        return Level.NO_DATA
    is_over = all(parts.get(kind) is Level.BELOW for kind in firing) if firing else Level.UNCLEAR not in levels
    return Level.BELOW if is_over else Level.UNCLEAR


def _separates(rule: GateRule, look: SeparationReading) -> Level:
    """Unclear where the interval holds the limit: few grades of confident answers tell little."""
    wrong = sum(is_wrong for _, is_wrong in look.grades)
    found = separation(look.grades)
    if len(look.grades) < rule.min_grades or wrong < rule.min_wrong or found is None:
        return Level.NO_DATA
    area, _, high = found
    return Level.ABOVE if high < rule.limit else Level.BELOW if area >= rule.limit else Level.UNCLEAR


def _differs(rule: GateRule, look: SeparationReading, *, fires: bool) -> Level:
    """One call that fared otherwise is enough to end it, however few there were."""
    differ = 0 < look.escalated < look.triaged
    if look.triaged < rule.min_calls:
        return Level.BELOW if fires and differ else Level.NO_DATA
    return Level.BELOW if differ else Level.ABOVE


def _measured(look: SeparationReading) -> dict[str, object]:
    found = separation(look.grades)
    area, low, high = found or (None, 0.0, 1.0)
    return {
        "auroc": area,
        "auroc_low": low,
        "auroc_high": high,
        "grades": len(look.grades),
        "wrong": sum(is_wrong for _, is_wrong in look.grades),
        "triaged": look.triaged,
        "escalated": look.escalated,
    }


def _whys(rule: GateRule, kinds: Sequence[str], look: SeparationReading) -> Iterator[str]:
    if "share" in kinds:
        yield _share_text(look)
    if "confidence" in kinds:
        yield _confidence_text(rule, look)


def _share_text(look: SeparationReading) -> str:
    if not look.triaged:
        return "no calls lately, where all fared the same before"
    share = {0: "none", look.triaged: "each"}.get(look.escalated, f"{look.escalated:,}")
    return f"{share} of {look.triaged:,} calls escalated at base"


def _confidence_text(rule: GateRule, look: SeparationReading) -> str:
    found = separation(look.grades)
    wrong = sum(is_wrong for _, is_wrong in look.grades)
    known = f"on {len(look.grades):,} grades, {wrong} wrong"
    if found is None or _separates(rule, look) is Level.NO_DATA:
        return f"too little is graded to tell what confidence is worth ({known})"
    area, low, high = found
    bounds = f"{low:.2f} to {high:.2f}; 0.5 is chance"
    return f"confidence hardly tells wrong answers from right ones: AUROC {area:.2f} ({bounds}) {known}"
