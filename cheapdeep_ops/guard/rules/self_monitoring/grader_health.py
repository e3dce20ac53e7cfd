"""Whether the grader works; pure. A failed grader must never look like a low false-confident rate."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cheapdeep_ops.guard.formatting import waiting_time
from cheapdeep_ops.guard.rules.model import Finding, Level

_FAILURES: Final = 3
"""So many failures in a row mean that the grader fails. Fewer may come from single answers that the API refuses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraderFacts:
    """The facts that decide whether the grader works; times are Unix seconds.

    `oldest` is when the oldest waiting sample was chosen. A sample may wait for `patience_s` seconds. `missing` names
    the results of batches that the API does not find; empty if there are none.
    """

    is_off: bool
    paused_why: str
    failures_in_row: int
    last_failure: str
    last_grade_at: float | None
    waiting: int
    oldest: float | None
    patience_s: float
    missing: str = ""


class TroubleKind(StrEnum):
    """The kinds of problems of a grader."""

    PAUSED = "paused"
    MISSING = "missing"
    FAILING = "failing"
    BEHIND = "behind"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """The problem of the grader: its kind, and its description."""

    kind: TroubleKind
    why: str


def trouble_of(facts: GraderFacts, now: float) -> Trouble | None:
    """The problem of the grader; None if it works."""
    if facts.is_off:
        return None
    if facts.paused_why:
        return Trouble(kind=TroubleKind.PAUSED, why=f"the grader is paused: {facts.paused_why}")
    if facts.missing:
        return Trouble(kind=TroubleKind.MISSING, why=f"grading waits: the API does not find {facts.missing}")
    if facts.failures_in_row >= _FAILURES:
        why = f"{facts.failures_in_row} gradings in a row failed, the last one: {facts.last_failure}"
        return Trouble(kind=TroubleKind.FAILING, why=why)
    late_s = now - facts.oldest if facts.oldest is not None else 0.0
    if late_s > facts.patience_s:
        why = f"{facts.waiting} samples wait for a grade, the oldest for {waiting_time(late_s)}"
        return Trouble(kind=TroubleKind.BEHIND, why=why)
    return None


def state_of(facts: GraderFacts, now: float) -> str:
    """The grader's state in one word: off, idle, running, or the kind of its problem."""
    if facts.is_off:
        return "off"
    if trouble := trouble_of(facts, now):
        return trouble.kind.value
    return "running" if facts.waiting or facts.last_grade_at is not None else "idle"


def finding_of(facts: GraderFacts, now: float) -> Finding:
    """Above while the grader has a problem; no data before its first grade."""
    trouble = trouble_of(facts, now)
    numbers = {"waiting": facts.waiting, "failures_in_row": facts.failures_in_row}
    if trouble:
        return Finding(level=Level.ABOVE, signal={"kind": trouble.kind.value, "why": trouble.why, **numbers})
    is_known = facts.is_off or facts.last_grade_at is not None
    why = f"{state_of(facts, now)}: {facts.waiting} samples wait"
    return Finding(level=Level.BELOW if is_known else Level.NO_DATA, signal={"kind": "", "why": why, **numbers})
