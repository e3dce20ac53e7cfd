"""What an evaluation wants to change in the store, as values; each unit is committed whole or not at all."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from cheapdeep_ops.guard.incidents.links import links_of
from cheapdeep_ops.guard.notify.outbox import remind, tell
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import detectors, grades, incidents, policies
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.grades import Baseline, GraderVersion
from cheapdeep_ops.store.policies import PolicyStep

MOST_ROWS: Final = 200
"""Rows that one write transaction touches, as far as units allow: routers wait for its end, some 20 ms."""


@dataclass(slots=True, kw_only=True)
class OpenIncident:
    """An incident as an evaluation knows it; `id` is None until it is stored. Times are Unix seconds."""

    id: int | None = None
    rule: str
    scope: str
    started_at: float
    announced: Mapping[str, Any] = field(default_factory=dict)
    """The payload of the last message about it; empty before the first."""
    announced_at: float
    called_for_at: float | None = None
    collected_at: float | None = None
    held: Mapping[str, Any] | None = None
    acknowledged: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Something to say about an incident, and when.

    `tell` is now, `remind` repeats it, `collect` leaves it to the next digest, `hold` to the end of a silence.
    """

    way: Literal["tell", "remind", "collect", "hold"]
    incident: OpenIncident
    kind: Any
    payload: Mapping[str, Any]

    def store(self, connection: Connection, settings: Settings, now: float) -> None:
        """Put the message where it belongs; the incident has its number by now."""
        number, payload = _numbered(self.incident, self.payload, settings, kind=self.kind, now=now)
        if self.way == "tell":
            tell(connection, settings, number, kind=self.kind, payload=payload, at=now)
        elif self.way == "remind":
            remind(connection, number, payload, at=now)
        elif self.way == "collect":
            incidents.collect(connection, number, payload=payload, at=now)
        else:
            incidents.hold(connection, number, payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """One message about several incidents."""

    incidents: tuple[OpenIncident, ...]
    payload: Mapping[str, Any]


@dataclass(slots=True, kw_only=True)
class Unit:
    """Changes that belong together: those of one alert, or some that stand alone."""

    opens: OpenIncident | None = None
    resolves: OpenIncident | None = None
    steps: list[PolicyStep] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    releases: OpenIncident | None = None
    """The incident whose held message goes out."""
    digest: Digest | None = None
    alert: dict[str, Any] | None = None
    """The alert's row, but for the number of the incident that `opens`."""
    baseline: Baseline | None = None
    detector: detectors.StoredDetector | None = None
    """The state of a test, with its rule and scope."""

    @property
    def rows(self) -> int:
        """About how many rows it touches; 0 where there is nothing to store."""
        single = (self.opens, self.resolves, self.releases, self.alert, self.baseline, self.detector)
        digest = len(self.digest.incidents) + 1 if self.digest else 0
        return sum(each is not None for each in single) + 2 * len(self.steps) + 4 * len(self.messages) + digest

    def store(self, connection: Connection, settings: Settings, now: float) -> None:
        """Store what has an order of its own; numbers that the store gives are filled in."""
        if self.opens is not None:
            opened = self.opens
            opened.id = incidents.open_incident(connection, rule=opened.rule, scope=opened.scope, at=opened.started_at)
        if self.resolves is not None and self.resolves.id is not None:
            incidents.resolve_incident(connection, self.resolves.id, at=now)
        for step in self.steps:
            policies.write(connection, step, at=now)
        for message in self.messages:
            message.store(connection, settings, now)
        if self.releases is not None and self.releases.id is not None:
            incidents.hold(connection, self.releases.id, None)
        if self.digest is not None:
            numbers = [each.id for each in self.digest.incidents if each.id is not None]
            incidents.digest(connection, numbers, payload=self.digest.payload, at=now)

    @property
    def alert_row(self) -> dict[str, Any] | None:
        """The alert's row, with the number of its incident once that is stored."""
        if self.alert is None or self.opens is None:
            return self.alert
        return {**self.alert, "incident_id": self.opens.id}


def groups(units: Iterable[Unit]) -> Iterator[list[Unit]]:
    """The units in their order, in groups for one transaction each; the first group may be empty, and always comes."""
    group: list[Unit] = []
    rows = 0
    for unit in units:
        if group and rows + unit.rows > MOST_ROWS:
            yield group
            group, rows = [], 0
        if unit.rows:
            group.append(unit)
            rows += unit.rows
    yield group


def store_group(
    connection: Connection, group: Iterable[Unit], settings: Settings, judge: GraderVersion, now: float
) -> None:
    """Store a group of units; alerts, baselines and tests go by one statement each."""
    group = list(group)
    for unit in group:
        unit.store(connection, settings, now)
    incidents.save_alerts(connection, [row for unit in group if (row := unit.alert_row) is not None])
    grades.save_baselines(connection, judge, [unit.baseline for unit in group if unit.baseline is not None])
    detectors.write(connection, judge, [unit.detector for unit in group if unit.detector is not None], now=now)


def _numbered(
    incident: OpenIncident, payload: Mapping[str, Any], settings: Settings, *, kind: str, now: float
) -> tuple[int, Mapping[str, Any]]:
    """The incident's number, and the payload with it and the links that name it."""
    if incident.id is None:
        raise AssertionError("an incident is stored before the messages about it")
    if "incident_id" in payload:
        return incident.id, payload
    links = links_of(
        settings,
        incident_id=incident.id,
        scope=incident.scope,
        runbook=payload.get("runbook", ""),
        started_at=incident.started_at,
        over_at=now if kind == "resolved" else None,
    )
    return incident.id, {**payload, "incident_id": incident.id, "links": links}
