"""How far sequential tests have come: kept here, so that a restart or another guard goes on where one ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, select

from cheapdeep_ops.store.grades import GraderVersion
from cheapdeep_ops.store.tables import DetectorRow, table_of
from cheapdeep_ops.store.upsert import upsert

_DETECTOR: Final = table_of(DetectorRow)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorState:
    """What a test holds, and the last grade that it has taken in."""

    grade_id: int = 0
    state: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDetector:
    """Whose state it is: the test of a rule in a scope."""

    rule: str
    scope: str
    kept: DetectorState


def read(connection: Connection, judge: GraderVersion, *, rule: str) -> dict[str, DetectorState]:
    """What the tests of a rule hold, by scope; a scope is missing before its test has begun."""
    found = select(_DETECTOR.c.scope, _DETECTOR.c.grade_id, _DETECTOR.c.state).where(
        _DETECTOR.c.rule == rule,
        _DETECTOR.c.grader_model == judge.model,
        _DETECTOR.c.grader_prompt == judge.prompt,
    )
    return {row.scope: DetectorState(grade_id=row.grade_id, state=row.state) for row in connection.execute(found)}


def write(connection: Connection, judge: GraderVersion, places: Sequence[StoredDetector], *, now: float) -> None:
    """Store the states of tests, all with one statement."""
    rows = [
        {
            "rule": place.rule,
            "scope": place.scope,
            "grader_model": judge.model,
            "grader_prompt": judge.prompt,
            "grade_id": place.kept.grade_id,
            "state": dict(place.kept.state),
            "updated_at": now,
        }
        for place in places
    ]
    upsert(connection, DetectorRow, rows)
