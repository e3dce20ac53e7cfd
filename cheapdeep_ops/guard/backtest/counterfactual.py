"""What other thresholds would have done, from what is recorded: pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cheapdeep_ops.guard.statistics.intervals import Proportion, weighted
from cheapdeep_ops.values import Reason

_ROUNDING: Final = 1e-7
"""Of a hundredth: 0.29 * 100 is a hair less than 29 in binary."""


class KnownOutcomes(Protocol):
    """A recorded call, as far as it is known: a confidence that is None stands for a reply that cannot ship."""

    @property
    def confidence(self) -> float | None:
        """What the cheap model said of its answer."""

    @property
    def cheap_correct(self) -> bool | None:
        """Whether its answer was right."""

    @property
    def deep_correct(self) -> bool | None:
        """Whether the deep model's was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriageCounts:
    """The triaged calls of a period: by confidence in hundredths, rounded down, and base escalations by reason."""

    triaged: int
    confidence: Mapping[str, int]
    base_reasons: Mapping[str, int]


def of_recorded(rows: Sequence[KnownOutcomes], threshold: float) -> dict[str, Any]:
    """What `threshold` would have done to recorded calls; every call at or above it ships."""
    ships = [row for row in rows if _ships(row, threshold)]
    judged = [row.cheap_correct for row in ships if row.cheap_correct is not None]
    escalated = Proportion(hits=len(rows) - len(ships), n=len(rows))
    wrong = Proportion(hits=sum(not correct for correct in judged), n=len(judged))
    right = _cascade(rows, threshold)
    return {
        **_escalation(threshold, escalated),
        "false_confident_rate": wrong.rate,
        "false_confident_interval": wrong.interval() if judged else None,
        "graded": wrong.n,
        "cascade_accuracy": right.rate,
        "cascade_interval": right.interval() if right.n else None,
        "compared": right.n,
        "data": True,
        "why": "" if judged else "nothing that would ship is known to be right or wrong",
    }


def of_stored(
    counted: TriageCounts, grades: Sequence[tuple[float, bool, float]], threshold: float, *, base: float
) -> dict[str, Any]:
    """What `threshold` would have done to stored calls.

    A grade is (confidence, whether it is wrong, inclusion probability); none is below `base`, so nothing can be said
    of a threshold there.
    """
    if threshold < base or not counted.triaged:
        why = "no call was triaged" if threshold >= base else f"below the base threshold {base:g} nothing is graded"
        return _without_data(counted.triaged, threshold, why)
    found = weighted((wrong, inclusion, 1) for confidence, wrong, inclusion in grades if confidence >= threshold)
    return {
        **_escalation(threshold, Proportion(hits=_escalated(counted, threshold), n=counted.triaged)),
        "false_confident_rate": found.rate if found else None,
        "false_confident_interval": found.interval() if found else None,
        "graded": found.count if found else 0,
        "data": True,
        "why": "; ".join(_reservations(counted, threshold, base, is_graded=found is not None)),
    }


def _ships(row: KnownOutcomes, threshold: float) -> bool:
    return row.confidence is not None and row.confidence >= threshold


def _cascade(rows: Sequence[KnownOutcomes], threshold: float) -> Proportion:
    compared = [row for row in rows if row.deep_correct is not None]
    answers = [row.cheap_correct if _ships(row, threshold) else row.deep_correct for row in compared]
    known = [correct for correct in answers if correct is not None]
    return Proportion(hits=sum(known), n=len(known))


def _escalation(threshold: float, escalated: Proportion) -> dict[str, Any]:
    return {
        "threshold": threshold,
        "calls": escalated.n,
        "escalation_rate": escalated.rate,
        "escalation_interval": escalated.interval(),
    }


def _without_data(calls: int, threshold: float, why: str) -> dict[str, Any]:
    rates = ("escalation_rate", "escalation_interval", "false_confident_rate", "false_confident_interval")
    return {
        "threshold": threshold,
        "calls": calls,
        **dict.fromkeys(rates),
        "graded": 0,
        "data": False,
        "why": why,
    }


def _escalated(counted: TriageCounts, threshold: float) -> int:
    """Calls below the threshold, and those whose answer could never ship."""
    below = sum(count for name, count in counted.confidence.items() if int(name) < threshold * 100 - _ROUNDING)
    return min(below + _unusable(counted), counted.triaged)


def _unusable(counted: TriageCounts) -> int:
    return sum(count for name, count in counted.base_reasons.items() if name != Reason.LOW_CONFIDENCE)


def _reservations(counted: TriageCounts, threshold: float, base: float, *, is_graded: bool) -> Iterator[str]:
    if not is_graded:
        yield "no grade at or above it"
    if abs(threshold * 100 - round(threshold * 100)) > _ROUNDING:
        yield "confidence is counted in hundredths: the one it lies in counts as escalated"
    confident = _unusable(counted) - (counted.triaged - sum(counted.confidence.values()))
    if threshold > base and confident > 0:
        yield f"{confident:,} unusable replies stated a confidence and may count twice"
