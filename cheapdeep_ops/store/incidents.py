"""Alert states, incidents, and the messages about them; `deliveries` has the state of each message."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, and_, func, insert, or_, select, update

from cheapdeep_ops.errors import MissingError
from cheapdeep_ops.store import silences
from cheapdeep_ops.store.places import LEFT
from cheapdeep_ops.store.records import Incident, IncidentBase, Payload, StoredAlert, record_of
from cheapdeep_ops.store.tables.alert_tables import AlertRow, IncidentRow, MessageRefRow, OutboxRow
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.store.upsert import upsert

_ALERT: Final = table_of(AlertRow)
_INCIDENT: Final = table_of(IncidentRow)
_OUTBOX: Final = table_of(OutboxRow)
_REF: Final = table_of(MessageRefRow)
_SLACK: Final = "slack"
"""The receiver of the settings, whose message the API names first in `slack_channel` and `slack_ts`."""

_PLACE: Final = _REF.alias("place")
# A rules file may have several receivers, and only Slack's have a message that is edited. One that was left comes last.
_NAMED: Final = (
    select(_PLACE.c.receiver)
    .where(_PLACE.c.incident_id == _INCIDENT.c.id, _PLACE.c.ts != "")
    .order_by(_PLACE.c.receiver != _SLACK, _PLACE.c.receiver.contains(LEFT), _PLACE.c.receiver)
    .limit(1)
    .correlate(_INCIDENT)
    .scalar_subquery()
)
# An outer join, because incidents without a message on Slack are shown too.
_SHOWN: Final = select(
    *(column for column in _INCIDENT.c if column.name != "held"),
    func.coalesce(_REF.c.channel, "").label("slack_channel"),
    func.coalesce(_REF.c.ts, "").label("slack_ts"),
).select_from(_INCIDENT.outerjoin(_REF, and_(_REF.c.incident_id == _INCIDENT.c.id, _REF.c.receiver == _NAMED)))
"""The columns that people see; not `held`, which is a message that is not sent yet."""


def alerts(connection: Connection) -> list[StoredAlert]:
    """Every alert's state."""
    return [record_of(StoredAlert, row) for row in connection.execute(select(_ALERT)).mappings()]


def save_alerts(connection: Connection, rows: Sequence[StoredAlert]) -> None:
    """Store the states of alerts, all with one statement."""
    upsert(connection, AlertRow, rows)


def open_incident(connection: Connection, *, rule: str, scope: str, at: float) -> int:
    """Insert a new incident; returns its id."""
    statement = insert(_INCIDENT).values(rule=rule, scope=scope, started_at=at, announced={}, announced_at=at)
    key = connection.execute(statement).inserted_primary_key
    return int(key[0]) if key else 0


def announce(connection: Connection, incident_id: int, *, kind: str, payload: Mapping[str, object], at: float) -> None:
    """Put a message about an incident into the outbox, and store its payload as the incident's last announcement."""
    enqueue(connection, incident_id=incident_id, kind=kind, payload=payload, at=at)
    one = update(_INCIDENT).where(_INCIDENT.c.id == incident_id)
    connection.execute(one.values(announced=dict(payload), announced_at=at))


def defer_to_digest(connection: Connection, incident_id: int, *, payload: Mapping[str, object], at: float) -> None:
    """Defer an incident to the next digest with this payload, which a later one replaces."""
    values = {"announced": dict(payload), "announced_at": at, "collected_at": at}
    connection.execute(update(_INCIDENT).where(_INCIDENT.c.id == incident_id).values(**values))


def unfinished(connection: Connection, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """The incidents with these ids, and those whose message waits for a digest or for a silence's end; oldest first."""
    columns = _INCIDENT.c
    wanted = or_(columns.id.in_(numbers), columns.collected_at.is_not(None), columns.held.is_not(None))
    statement = select(_INCIDENT).where(wanted).order_by(columns.id)
    return [dict(row) for row in connection.execute(statement).mappings()]


def digest(connection: Connection, incident_ids: Sequence[int], *, payload: Mapping[str, object], at: float) -> None:
    """Put one digest of several incidents into the outbox; the incidents no longer wait for a digest."""
    enqueue(connection, incident_id=None, kind="digest", payload=payload, at=at)
    included = update(_INCIDENT).where(_INCIDENT.c.id.in_(incident_ids))
    connection.execute(included.values(collected_at=None, called_for_at=at))


def start_messages_since(connection: Connection, since: float) -> list[tuple[float, Payload]]:
    """(time, payload) of the messages after `since` that announce incidents: single ones and digests."""
    conditions = (_OUTBOX.c.created_at > since, _OUTBOX.c.kind.in_(("started", "digest")))
    rows = connection.execute(select(_OUTBOX.c.created_at, _OUTBOX.c.payload).where(*conditions).order_by(_OUTBOX.c.id))
    return [(row.created_at, row.payload) for row in rows]


def was_enqueued(connection: Connection, *, kind: str, since: float) -> bool:
    """Whether a message of this kind was put into the outbox at `since` or later."""
    conditions = (_OUTBOX.c.created_at >= since, _OUTBOX.c.kind == kind)
    return connection.execute(select(_OUTBOX.c.id).where(*conditions).limit(1)).first() is not None


def mark_notified(connection: Connection, incident_id: int, *, at: float) -> None:
    """Store when people were last notified of an open incident: by its first message or by a reminder."""
    connection.execute(update(_INCIDENT).where(_INCIDENT.c.id == incident_id).values(called_for_at=at))


def resolve_incident(connection: Connection, incident_id: int, *, at: float) -> None:
    """Mark an incident as resolved, and end the silences that last until then."""
    connection.execute(update(_INCIDENT).where(_INCIDENT.c.id == incident_id).values(resolved_at=at))
    silences.end_with_incident(connection, incident_id, at=at)


def suppress(connection: Connection, incident_id: int, payload: Mapping[str, object] | None) -> None:
    """Store a resolved message that a silence suppresses; None clears it."""
    suppressed = None if payload is None else dict(payload)
    connection.execute(update(_INCIDENT).where(_INCIDENT.c.id == incident_id).values(held=suppressed))


def incidents(connection: Connection, *, limit: int = 50) -> list[Incident]:
    """The newest incidents, newest first, each with its acknowledgement (`acknowledged`) or None."""
    statement = _SHOWN.order_by(_INCIDENT.c.id.desc()).limit(limit)
    return _acknowledged(connection, [record_of(IncidentBase, row) for row in connection.execute(statement).mappings()])


def within(connection: Connection, *, since: float, until: float) -> list[IncidentBase]:
    """The incidents that began in `[since, until)`, oldest first."""
    conditions = (_INCIDENT.c.started_at >= since, _INCIDENT.c.started_at < until)
    rows = connection.execute(_SHOWN.where(*conditions).order_by(_INCIDENT.c.id)).mappings()
    return [record_of(IncidentBase, row) for row in rows]


def open_within(connection: Connection, *, since: float, until: float, limit: int) -> list[Incident]:
    """The incidents that were open at some time in `[since, until)`, newest first, each with its acknowledgement."""
    columns = _INCIDENT.c
    conditions = (columns.started_at < until, or_(columns.resolved_at.is_(None), columns.resolved_at >= since))
    statement = _SHOWN.where(*conditions).order_by(columns.id.desc()).limit(limit)
    return _acknowledged(connection, [record_of(IncidentBase, row) for row in connection.execute(statement).mappings()])


def _acknowledged(connection: Connection, rows: Sequence[IncidentBase]) -> list[Incident]:
    known = silences.acknowledgements(connection, [row["id"] for row in rows])
    return [{**row, "acknowledged": known.get(row["id"])} for row in rows]


def shown(connection: Connection, incident_id: int) -> Incident:
    """One incident with its acknowledgement. Raises MissingError if there is no such incident."""
    row = connection.execute(_SHOWN.where(_INCIDENT.c.id == incident_id)).mappings().one_or_none()
    if row is None:
        raise MissingError(f"there is no incident {incident_id}")
    known = silences.acknowledgements(connection, [incident_id])
    return {**record_of(IncidentBase, row), "acknowledged": known.get(incident_id)}


def is_open(connection: Connection, incident_id: int) -> bool:
    """Whether this incident exists and is not resolved."""
    statement = select(_INCIDENT.c.id).where(_INCIDENT.c.id == incident_id, _INCIDENT.c.resolved_at.is_(None))
    return connection.execute(statement).first() is not None


def open_ones(connection: Connection) -> list[dict[str, Any]]:
    """All columns of the incidents that are open, oldest first."""
    # By their alerts, of which there are few: incidents are kept for ever.
    numbers = select(_ALERT.c.incident_id).where(_ALERT.c.incident_id.is_not(None))
    rows = connection.execute(select(_INCIDENT).where(_INCIDENT.c.id.in_(numbers)).order_by(_INCIDENT.c.id)).mappings()
    return [dict(row) for row in rows]


def incident(connection: Connection, incident_id: int) -> dict[str, Any]:
    """All columns of one incident, which must exist."""
    return dict(connection.execute(select(_INCIDENT).where(_INCIDENT.c.id == incident_id)).mappings().one())


def is_message_of(connection: Connection, incident_id: int, *, channel: str, ts: str) -> bool:
    """Whether any receiver keeps the incident's message in this place; a rules file may name several channels."""
    at_place = (_REF.c.channel == channel, _REF.c.ts == ts, _REF.c.ts != "")
    statement = select(_REF.c.ts).where(_REF.c.incident_id == incident_id, *at_place)
    return connection.execute(statement).first() is not None


def last_announcement(connection: Connection, *, rule: str, scope: str, started_at: float) -> Payload:
    """The last announced payload of a rule's incident that began at `started_at`; empty if there was none."""
    columns = _INCIDENT.c
    of_it = (columns.rule == rule, columns.scope == scope, columns.started_at == started_at)
    payload = connection.execute(select(columns.announced).where(*of_it).order_by(columns.id.desc()).limit(1)).scalar()
    return dict(payload or {})


def started_by_scope(connection: Connection, *, rule: str, since: float) -> dict[str, list[float]]:
    """When the incidents of a rule began that did so after `since` (Unix times), by scope."""
    statement = select(_INCIDENT.c.scope, _INCIDENT.c.started_at)
    started: dict[str, list[float]] = defaultdict(list)
    for scope, at in connection.execute(statement.where(_INCIDENT.c.rule == rule, _INCIDENT.c.started_at > since)):
        started[scope].append(at)
    return dict(started)


def last_resolved(connection: Connection, *, rule: str) -> dict[str, float]:
    """When an incident of this rule was last resolved, by scope."""
    over = (_INCIDENT.c.rule == rule, _INCIDENT.c.resolved_at.is_not(None))
    statement = (
        select(_INCIDENT.c.scope, func.max(_INCIDENT.c.resolved_at).label("at"))
        .where(*over)
        .group_by(_INCIDENT.c.scope)
    )
    return {row.scope: row.at for row in connection.execute(statement)}


def spans(connection: Connection, *, rules: Collection[str]) -> list[tuple[float, float | None]]:
    """(start, end) of all incidents of these rules (Unix times); the end of an open one is None."""
    statement = select(_INCIDENT.c.started_at, _INCIDENT.c.resolved_at).where(_INCIDENT.c.rule.in_(rules))
    return [(row.started_at, row.resolved_at) for row in connection.execute(statement.order_by(_INCIDENT.c.id))]


def since_of(connection: Connection, *, rule: str, since: float) -> list[tuple[str, float, float | None]]:
    """(scope, start, end) of the rule's incidents that were open at `since` or later (Unix times).

    The end is None while the incident is open.
    """
    columns = _INCIDENT.c
    recent = or_(columns.resolved_at.is_(None), columns.resolved_at >= since)
    statement = select(columns.scope, columns.started_at, columns.resolved_at).where(columns.rule == rule, recent)
    return [(row.scope, row.started_at, row.resolved_at) for row in connection.execute(statement)]


def enqueue(
    connection: Connection, *, incident_id: int | None, kind: str, payload: Mapping[str, object], at: float
) -> int:
    """Put a message into the outbox; the guard routes it to the receivers. Returns its id."""
    statement = insert(_OUTBOX).values(
        incident_id=incident_id, kind=kind, payload=dict(payload), created_at=at, routed=False,
        in_thread=bool(payload.get("in_thread")),
    )  # fmt: skip
    key = connection.execute(statement).inserted_primary_key
    return int(key[0]) if key else 0
