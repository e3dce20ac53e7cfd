"""The changes that an evaluation makes in the store, as values; a unit is committed as a whole."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from cheapdeep_ops.guard.incidents.links import links_of
from cheapdeep_ops.guard.notify.outbox import announce, remind
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import detectors, grades, incidents, policies
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.grades import Baseline, GraderVersion
from cheapdeep_ops.store.policies import PolicyStep
from cheapdeep_ops.store.records import StoredAlert

MOST_ROWS: Final = 200
"""About how many rows one write transaction may touch: routers wait for its end, about 20 ms."""


@dataclass(slots=True, kw_only=True)
class OpenIncident:
    """An incident during an evaluation; `id` is None until it is stored. Times are Unix seconds."""

    id: int | None = None
    rule: str
    scope: str
    started_at: float
    announced: Mapping[str, Any] = field(default_factory=dict)
    """The payload of the last message about it; empty before the first."""
    announced_at: float
    called_for_at: float | None = None
    """When people were last notified of it; None before the first message."""
    collected_at: float | None = None
    """When a message about it began to wait for the next digest; None if none waits."""
    held: Mapping[str, Any] | None = None
    """The payload of its resolved message while a silence suppresses it; otherwise None."""
    acknowledged: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message about an incident, and how it is sent.

    `send` and `remind` send it now, `defer` sends it with the next digest, `suppress` at the end of a silence.
    """

    way: Literal["send", "remind", "defer", "suppress"]
    incident: OpenIncident
    kind: Any
    payload: Mapping[str, Any]

    def store(self, connection: Connection, settings: Settings, now: float) -> None:
        """Store the message; its incident is stored before it. Raises StoreError."""
        number, payload = _numbered(self.incident, self.payload, settings, kind=self.kind, now=now)
        if self.way == "send":
            announce(connection, settings, number, kind=self.kind, payload=payload, at=now)
        elif self.way == "remind":
            remind(connection, number, payload, at=now)
        elif self.way == "defer":
            incidents.defer_to_digest(connection, number, payload=payload, at=now)
        else:
            incidents.suppress(connection, number, payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """One message about several incidents."""

    incidents: tuple[OpenIncident, ...]
    payload: Mapping[str, Any]


@dataclass(slots=True, kw_only=True)
class Unit:
    """Changes that belong together, for example those of one alert."""

    opens: OpenIncident | None = None
    resolves: OpenIncident | None = None
    steps: list[PolicyStep] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    unsuppresses: OpenIncident | None = None
    """The incident whose suppressed message is sent now."""
    digest: Digest | None = None
    alert: StoredAlert | None = None
    """The alert's row; the id of an incident in `opens` is not in it yet."""
    baseline: Baseline | None = None
    detector: detectors.StoredDetector | None = None
    """The state of a sequential test, with its rule and scope."""

    @property
    def rows(self) -> int:
        """About how many rows it touches; 0 for an empty unit."""
        single = (self.opens, self.resolves, self.unsuppresses, self.alert, self.baseline, self.detector)
        digest = len(self.digest.incidents) + 1 if self.digest else 0
        return sum(each is not None for each in single) + 2 * len(self.steps) + 4 * len(self.messages) + digest

    def store(self, connection: Connection, settings: Settings, now: float) -> None:
        """Store the changes whose order matters, and set the id of a new incident."""
        if self.opens is not None:
            opened = self.opens
            opened.id = incidents.open_incident(connection, rule=opened.rule, scope=opened.scope, at=opened.started_at)
        if self.resolves is not None and self.resolves.id is not None:
            incidents.resolve_incident(connection, self.resolves.id, at=now)
        for step in self.steps:
            policies.write(connection, step, at=now)
        for message in self.messages:
            message.store(connection, settings, now)
        if self.unsuppresses is not None and self.unsuppresses.id is not None:
            incidents.suppress(connection, self.unsuppresses.id, None)
        if self.digest is not None:
            numbers = [each.id for each in self.digest.incidents if each.id is not None]
            incidents.digest(connection, numbers, payload=self.digest.payload, at=now)

    @property
    def alert_row(self) -> StoredAlert | None:
        """The alert's row, with the id of its new incident once that is stored."""
        if self.alert is None or self.opens is None:
            return self.alert
        return {**self.alert, "incident_id": self.opens.id}


def groups(units: Iterable[Unit]) -> Iterator[list[Unit]]:
    """The units in their order, in one group for each transaction.

    There is at least one group, though it may be empty: its commit renews the lease.
    """
    group: list[Unit] = []
    rows = 0
    for unit in units:
        # A unit is never split: its alert and its message belong together.
        if group and rows + unit.rows > MOST_ROWS:
            yield group
            group, rows = [], 0
        if unit.rows:
            group.append(unit)
            rows += unit.rows
    yield group


def store_group(
    connection: Connection, group: Iterable[Unit], settings: Settings, grader: GraderVersion, now: float
) -> None:
    """Store a group of units, with one statement each for all alerts, baselines and tests."""
    group = list(group)
    for unit in group:
        unit.store(connection, settings, now)
    incidents.save_alerts(connection, [row for unit in group if (row := unit.alert_row) is not None])
    grades.save_baselines(connection, grader, [unit.baseline for unit in group if unit.baseline is not None])
    detectors.write(connection, grader, [unit.detector for unit in group if unit.detector is not None], now=now)


def _numbered(
    incident: OpenIncident, payload: Mapping[str, Any], settings: Settings, *, kind: str, now: float
) -> tuple[int, Mapping[str, Any]]:
    """The incident's id, and the payload with the id and the links."""
    if incident.id is None:
        raise AssertionError("an incident is stored before the messages about it")
    # A payload that was sent or suppressed before has its id and links already.
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
    return incident.id, {**payload, "incident_id": incident.id, "started_at": incident.started_at, "links": links}
