"""The states of the sequential tests: a restarted guard, or another one, continues from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, select

from cheapdeep_ops.store.grades import GraderVersion
from cheapdeep_ops.store.tables.grade_tables import DetectorRow
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.store.upsert import upsert

_DETECTOR: Final = table_of(DetectorRow)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorState:
    """The state of one test, and the id of the last grade that it has used."""

    grade_id: int = 0
    state: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDetector:
    """The state of one rule's test in one scope."""

    rule: str
    scope: str
    kept: DetectorState


def read(connection: Connection, grader: GraderVersion, *, rule: str) -> dict[str, DetectorState]:
    """The states of a rule's tests, by scope; a scope whose test has not begun is absent."""
    # Graders err at different rates, so each grader version has tests of its own.
    statement = select(_DETECTOR.c.scope, _DETECTOR.c.grade_id, _DETECTOR.c.state).where(
        _DETECTOR.c.rule == rule,
        _DETECTOR.c.grader_model == grader.model,
        _DETECTOR.c.grader_prompt == grader.prompt,
    )
    return {row.scope: DetectorState(grade_id=row.grade_id, state=row.state) for row in connection.execute(statement)}


def write(connection: Connection, grader: GraderVersion, places: Sequence[StoredDetector], *, now: float) -> None:
    """Store the states of tests in one statement."""
    rows = [
        {
            "rule": place.rule,
            "scope": place.scope,
            "grader_model": grader.model,
            "grader_prompt": grader.prompt,
            "grade_id": place.kept.grade_id,
            "state": dict(place.kept.state),
            "updated_at": now,
        }
        for place in places
    ]
    upsert(connection, DetectorRow, rows)
