"""How the grader's stored status changes with each result or error: pure."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from cheapdeep_ops.errors import GraderError
from cheapdeep_ops.guard.rules.self_monitoring.grader_facts import PAUSE_S
from cheapdeep_ops.store.grader_state import GraderStatus
from cheapdeep_ops.values import GradeFailure, GradeResult

LONGEST_WAIT_S: Final = 600.0
"""The longest wait, also if the API asks for more: an operator must know sooner whether the grader works."""


def after_error(status: GraderStatus, error: GraderError, now: float) -> GraderStatus:
    """The status after a failed request; grading pauses if the API asks for time or a person must fix something."""
    if error.asks_for_time:
        why = str(error) if error.pauses else status.paused_why
        status = replace(status, paused_why=why, paused_until=now + wait_s(error, PAUSE_S))
    return replace(status, failures_in_row=status.failures_in_row + 1, last_failure=str(error), last_failure_at=now)


def after_result(status: GraderStatus, result: GradeResult, now: float) -> GraderStatus:
    """The status after a grade or a grading failure; any reply of the API ends a pause."""
    if result.grade is not None:
        return replace(status, failures_in_row=0, paused_why="", paused_until=None, last_grade_at=now)
    failed = replace(
        status, failures_in_row=status.failures_in_row + 1, last_failure=str(result.failure), last_failure_at=now
    )
    # UNAVAILABLE stands for errors of the API; every other failure is a reply.
    has_replied = result.failure is not GradeFailure.UNAVAILABLE
    return replace(failed, paused_why="", paused_until=None) if has_replied else failed


def wait_s(error: GraderError, default_s: float) -> float:
    """Seconds until the next attempt: what the API asks for, else `default_s`; at most LONGEST_WAIT_S."""
    seconds = default_s if error.retry_after_s is None else max(error.retry_after_s, 0.0)
    return min(seconds, LONGEST_WAIT_S)


def is_paused(status: GraderStatus, now: float) -> bool:
    """Whether grading waits: a Retry-After is running, or a configuration error needs fixing."""
    until = status.paused_until
    # A later end than any pause can have was stored by a clock that ran ahead.
    return until is not None and now < until <= now + LONGEST_WAIT_S


def pausing_error(before: GraderStatus, errors: Sequence[GraderError]) -> GraderError | None:
    """The error that pauses grading; None if there is none, or if grading was paused before."""
    if before.paused_why:
        return None
    return next((error for error in errors if error.pauses), None)
