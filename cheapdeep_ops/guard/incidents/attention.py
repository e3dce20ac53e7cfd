"""A person's hand on alerts: acknowledge an incident, silence a rule for a while."""

from collections.abc import Iterable, Mapping
from typing import Final

from cheapdeep_ops.errors import MissingError
from cheapdeep_ops.guard.notify.outbox import tell
from cheapdeep_ops.guard.report_types.state import Silence
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import incidents, revisions, silences
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.store.records import Incident, record_of
from cheapdeep_ops.units import DAY_S

LONGEST_SILENCE_S: Final = 30.0 * DAY_S
"""A silence that should last longer is a rule to be taken out."""


def acknowledge(store: Store, settings: Settings, incident_id: int, *, author: str, why: str, now: float) -> Incident:
    """Note that somebody looks after an open incident, and have its message say so; returns the incident.

    Raises MissingError where no such incident is open, StoreError where the store is out of reach.
    """

    def work(connection: Connection) -> None:
        revisions.advance(connection)
        if not incidents.is_open(connection, incident_id):
            raise MissingError(f"there is no open incident {incident_id}")
        silences.acknowledge(connection, incident_id, author=author, why=why, at=now)
        _show_acknowledged(connection, settings, incident_id, now)

    store.transact(work)
    with store.reading() as connection:
        return incidents.shown(connection, incident_id)


def _show_acknowledged(connection: Connection, settings: Settings, incident_id: int, now: float) -> None:
    """Bring the incident's message up to date, unless nothing may or could be said of it so far."""
    incident = incidents.incident(connection, incident_id)
    lasting = silences.active(connection, at=now)
    if (
        incident["announced"]
        and incident["collected_at"] is None
        and not is_silenced(lasting, incident["rule"], incident["scope"])
    ):
        payload = {**incident["announced"], **acknowledged_fact(connection, incident_id)}
        tell(connection, settings, incident_id, kind="acknowledged", payload=payload, at=now)


def acknowledged_fact(connection: Connection, incident_id: int) -> dict[str, object]:
    """Who looks after an incident, as a message says it; nothing where nobody has said so."""
    found = silences.acknowledgements(connection, [incident_id])
    return {"acknowledged": found[incident_id]} if incident_id in found else {}


def silence(
    store: Store, settings: Settings, *, rule: str, route: str | None, lasts_s: float, author: str, why: str, now: float
) -> list[Silence]:
    """Keep messages of a rule back for so many seconds, in one route or everywhere; returns all silences that last.

    The rule itself goes on, and does what it does to thresholds. Raises MissingError where there is no such rule,
    StoreError where the store is out of reach.
    """
    known = [each.alert for each in read_rulebook(settings.rules_file).rules]
    if rule not in known:
        raise MissingError(f"there is no rule {rule}; rules are: {', '.join(known)}")

    def work(connection: Connection) -> None:
        revisions.advance(connection)
        times = {"since": now, "until": now + lasts_s}
        silences.add_silence(connection, rule=rule, scope=route, author=author, why=why, **times)

    store.transact(work)
    with store.reading() as connection:
        return active_silences(connection, now)


def unsilence(store: Store, silence_id: int, *, author: str, why: str, now: float) -> list[Silence]:
    """End a silence; returns those that still last.

    Raises MissingError where it does not last, StoreError where the store is out of reach.
    """

    def work(connection: Connection) -> None:
        revisions.advance(connection)
        if not silences.end_silence(connection, silence_id, author=author, why=why, at=now):
            raise MissingError(f"there is no silence {silence_id} that lasts")

    store.transact(work)
    with store.reading() as connection:
        return active_silences(connection, now)


def active_silences(connection: Connection, now: float) -> list[Silence]:
    """The silences that have not ended, as the API shows them: `route` is None where it holds in every route."""
    return [record_of(Silence, {**row, "route": row["scope"]}) for row in silences.active(connection, at=now)]


def is_silenced(lasting: Iterable[Mapping[str, object]], rule: str, scope: str) -> bool:
    """Whether one of these silences is of that rule in that scope."""
    return any(each["rule"] == rule and each["scope"] in (None, scope) for each in lasting)
