"""Reads the facts about the grader's health from the store."""

from typing import Final

from cheapdeep_ops.guard.formatting import moment
from cheapdeep_ops.guard.rules.interface import ReaderContext
from cheapdeep_ops.guard.rules.self_monitoring.grader_health import GraderFacts
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import candidates, grader_state
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.grader_state import OpenBatch

PAUSE_S: Final = 600.0
"""How long a paused grader waits before it tries a single sample again."""

_BATCH_WAIT_S: Final = 25 * 3_600.0
"""The Message Batches API may take 24 hours for a batch."""

_NAMED: Final = 3
"""How many missing batches a message names."""


def facts_of(connection: Connection, settings: Settings) -> GraderFacts:
    """The facts that the grader's health follows from."""
    state, backlog = grader_state.state(connection), candidates.backlog(connection)
    missing = [each for each in grader_state.open_batches(connection) if each.missing_since is not None]
    # Ten runs and a pause: a shorter wait for the API is normal.
    patience_s = 10 * settings.grade_every_s + PAUSE_S
    return GraderFacts(
        is_off=not settings.graded_share,
        paused_why=state.paused_why,
        failures_in_row=state.failures_in_row,
        last_failure=state.last_failure,
        last_grade_at=state.last_grade_at,
        missing="; ".join(map(_missing_text, missing[:_NAMED])),
        waiting=backlog.waiting,
        oldest=backlog.oldest,
        patience_s=patience_s + (_BATCH_WAIT_S if settings.grade_by == "batch" else 0),
    )


def _missing_text(batch: OpenBatch) -> str:
    results = "1 result" if batch.unread == 1 else f"{batch.unread} results"
    return f"{results} of batch {batch.id}, since {moment(batch.missing_since or 0.0)} ({batch.missing_why})"


def grader_facts(context: ReaderContext) -> GraderFacts:
    """The facts for one evaluation."""
    return facts_of(context.connection, context.settings)
