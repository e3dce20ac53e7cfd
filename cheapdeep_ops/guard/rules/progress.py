"""How far a rule is from firing in one scope, and what it waits for; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cheapdeep_ops.guard.formatting import duration, percent
from cheapdeep_ops.guard.rules.model import Finding, Level, Rule
from cheapdeep_ops.guard.statistics.sequential import Bets

_CLIMB: Final = 2.0
"""The climb that is named as an example, as a multiple of the limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast the data of a scope comes: triaged calls and grades a second, and its grades so far."""

    calls: float = 0.0
    grades: float = 0.0
    known_grades: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a rule is from firing: `have` of `needed` observations, which are `unit`; texts are sentences."""

    found: str
    missing: str
    unit: str = ""
    have: int = 0
    needed: int = 0
    wait_s: float | None = None
    """The expected seconds until it fires, or until it has enough data; None if it would do neither."""
    example: str = ""


def of_finding(_rule: Rule, finding: Finding, _pace: Pace) -> Progress:
    """The progress of a rule that waits for no evidence: its problem, or that there is none."""
    why = str(finding.signal.get("why") or "")
    if finding.level is Level.NO_DATA:
        return Progress(found=why, missing="It has no data.")
    return Progress(found=why, missing="" if finding.level is Level.ABOVE else "It has found no problem.")


def lacking(unit: str, have: int, needed: int, per_s: float, *, why: str) -> Progress:
    """The progress of a rule that has too few observations; they come at `per_s` a second."""
    wait_s = (needed - have) / per_s if per_s > 0 else None
    missing = f"It needs {needed:,} {unit} {why}, and has {have:,}."
    return Progress(found="", missing=missing, unit=unit, have=have, needed=needed, wait_s=wait_s)


def growth_of(rate: float, target: float, factors: Sequence[float]) -> float:
    """The most that an observation at `rate` adds to the evidence against `target`, on average."""
    bets = Bets.on_climb(target, factors)
    hits, misses = bets.growth(1, 1), bets.growth(0, 1)
    return max(rate * hit + (1 - rate) * miss for hit, miss in zip(hits, misses, strict=True))


def of_evidence(
    finding: Finding, *, unit: str, n: int, growth: float, per_s: float, limit: float, example: str = ""
) -> Progress:
    """The progress of a sequential test whose evidence grows by `growth` an observation.

    `limit` is the rate that the test finds; `per_s` is the pace of observations.
    """
    signal = finding.signal
    rate, left = signal.get("rate"), float(signal["evidence_limit"]) - float(signal.get("evidence") or 0.0)
    found = f"{percent(rate)} of {n:,} {unit}; it finds a rate above {percent(limit)}."
    if finding.level is Level.ABOVE:
        return Progress(found=found, missing="", unit=unit, have=n, needed=n)
    if growth <= 0:
        missing = "At this rate it does not fire."
        return Progress(found=found, missing=missing, unit=unit, have=n, needed=n, example=example)
    more = max(left, 0.0) / growth
    missing = f"It needs about {more:,.0f} more {unit} at this rate."
    wait_s = more / per_s if per_s > 0 else None
    return Progress(
        found=found, missing=missing, unit=unit, have=n, needed=n + round(more), wait_s=wait_s, example=example
    )


def example_of(evidence: float, limit: float, factors: Sequence[float], *, unit: str, per_s: float, by: float) -> str:
    """How soon a climb to twice the limit would be detected, in a sentence; `by` divides what an observation adds."""
    rate = min(_CLIMB * limit, (1 + limit) / 2)
    needed = evidence / growth_of(rate, limit, factors) * by
    time = f", in {duration(needed / per_s)}" if per_s > 0 else ""
    return f"A climb to {percent(rate)} would fire it after about {needed:,.0f} {unit}{time}."
