"""The outcomes that other thresholds would have had, from recorded data: pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypedDict

from cheapdeep_ops.guard.statistics.intervals import Proportion, weighted
from cheapdeep_ops.values import Reason

_ROUNDING: Final = 1e-7
"""Tolerance in hundredths: 0.29 * 100 is slightly less than 29 in binary."""


class KnownOutcomes(Protocol):
    """The known outcomes of a recorded call; a confidence of None means a reply that cannot ship."""

    @property
    def confidence(self) -> float | None:
        """The confidence that the cheap model stated."""

    @property
    def cheap_correct(self) -> bool | None:
        """Whether the cheap answer is right; None if unknown."""

    @property
    def deep_correct(self) -> bool | None:
        """Whether the deep answer is right; None if unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriageCounts:
    """The triaged calls of a period: by confidence in hundredths, rounded down, and base escalations by reason."""

    triaged: int
    confidence: Mapping[str, int]
    base_reasons: Mapping[str, int]


class EscalationAt(TypedDict):
    """The escalation rate that a threshold would have had; None without data."""

    threshold: float
    calls: int
    escalation_rate: float | None
    escalation_interval: tuple[float, float] | None


class OutcomeAt(EscalationAt):
    """The outcomes that a threshold would have had, and why some of them are unknown."""

    false_confident_rate: float | None
    false_confident_interval: tuple[float, float] | None
    graded: int
    data: bool
    why: str


class RecordedOutcomeAt(OutcomeAt):
    """The outcomes of recorded calls, with the share of right answers of the whole cascade."""

    cascade_accuracy: float | None
    cascade_interval: tuple[float, float] | None
    compared: int


def of_recorded(rows: Sequence[KnownOutcomes], threshold: float) -> RecordedOutcomeAt:
    """The outcomes of recorded calls at `threshold`; every call at or above it ships."""
    ships = [row for row in rows if _ships(row, threshold)]
    known = [row.cheap_correct for row in ships if row.cheap_correct is not None]
    escalated = Proportion(hits=len(rows) - len(ships), n=len(rows))
    wrong = Proportion(hits=sum(not correct for correct in known), n=len(known))
    right = _cascade(rows, threshold)
    return {
        **_escalation(threshold, escalated),
        "false_confident_rate": wrong.rate,
        "false_confident_interval": wrong.interval() if known else None,
        "graded": wrong.n,
        "cascade_accuracy": right.rate,
        "cascade_interval": right.interval() if right.n else None,
        "compared": right.n,
        "data": True,
        "why": "" if known else "no answer that would ship is known to be right or wrong",
    }


def of_stored(
    counted: TriageCounts, grades: Sequence[tuple[float, bool, float]], threshold: float, *, base: float
) -> OutcomeAt:
    """The outcomes of stored calls at `threshold`.

    A grade is (confidence, whether it is wrong, inclusion probability). No grade is below `base`, so a lower threshold
    has no data.
    """
    # Answers below base never ship, so they are never graded.
    if threshold < base or not counted.triaged:
        why = "no call was triaged" if threshold >= base else f"no answer below the base threshold {base:g} is graded"
        return _without_data(counted.triaged, threshold, why)
    rate = weighted((wrong, inclusion, 1) for confidence, wrong, inclusion in grades if confidence >= threshold)
    return {
        **_escalation(threshold, Proportion(hits=_escalated(counted, threshold), n=counted.triaged)),
        "false_confident_rate": rate.rate if rate else None,
        "false_confident_interval": rate.interval() if rate else None,
        "graded": rate.count if rate else 0,
        "data": True,
        "why": "; ".join(_reservations(counted, threshold, base, is_graded=rate is not None)),
    }


def _ships(row: KnownOutcomes, threshold: float) -> bool:
    return row.confidence is not None and row.confidence >= threshold


def _cascade(rows: Sequence[KnownOutcomes], threshold: float) -> Proportion:
    compared = [row for row in rows if row.deep_correct is not None]
    answers = [row.cheap_correct if _ships(row, threshold) else row.deep_correct for row in compared]
    known = [correct for correct in answers if correct is not None]
    return Proportion(hits=sum(known), n=len(known))


def _escalation(threshold: float, escalated: Proportion) -> EscalationAt:
    return {
        "threshold": threshold,
        "calls": escalated.n,
        "escalation_rate": escalated.rate,
        "escalation_interval": escalated.interval(),
    }


def _without_data(calls: int, threshold: float, why: str) -> OutcomeAt:
    return {
        "threshold": threshold,
        "calls": calls,
        "escalation_rate": None,
        "escalation_interval": None,
        "false_confident_rate": None,
        "false_confident_interval": None,
        "graded": 0,
        "data": False,
        "why": why,
    }


def _escalated(counted: TriageCounts, threshold: float) -> int:
    """How many calls are below the threshold, or have an answer that can never ship."""
    below = sum(count for name, count in counted.confidence.items() if int(name) < threshold * 100 - _ROUNDING)
    # An unusable reply may have stated a confidence, and then is in both counts.
    return min(below + _unusable(counted), counted.triaged)


def _unusable(counted: TriageCounts) -> int:
    return sum(count for name, count in counted.base_reasons.items() if name != Reason.LOW_CONFIDENCE)


def _reservations(counted: TriageCounts, threshold: float, base: float, *, is_graded: bool) -> Iterator[str]:
    if not is_graded:
        yield "no grade at or above this threshold"
    if abs(threshold * 100 - round(threshold * 100)) > _ROUNDING:
        yield "confidence is counted in hundredths: that of the threshold counts as escalated"
    confident = _unusable(counted) - (counted.triaged - sum(counted.confidence.values()))
    if threshold > base and confident > 0:
        yield f"{confident:,} unusable replies stated a confidence and may count twice"
