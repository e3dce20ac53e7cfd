"""Operations on alerts: acknowledge an incident, silence a rule, end a silence, drop or retry a message."""

from collections.abc import Mapping
from typing import Final

from pydantic import Field

from cheapdeep_ops.errors import MissingError, PolicyError
from cheapdeep_ops.guard.actions.announcements import announce_change
from cheapdeep_ops.guard.actions.operation import (
    ActionContext,
    ActionRequest,
    Author,
    FilledText,
    Route,
    RowId,
    Text,
    operation,
)
from cheapdeep_ops.guard.actions.routes import check_route
from cheapdeep_ops.guard.incidents.attention import acknowledged_fact, active_silences
from cheapdeep_ops.guard.report_types.state import Silence
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.store import delivery_acts, incidents, receivers, silences, subjects
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.records import Incident, UndeliveredMessage
from cheapdeep_ops.suggestions import did_you_mean, likely_names
from cheapdeep_ops.units import DAY_S

# A rule that should be silent for longer should leave the rules file.
LONGEST_SILENCE_S: Final = 30.0 * DAY_S


class AcknowledgeRequest(ActionRequest):
    """Acknowledge an incident."""

    author: Author
    why: FilledText


class SilenceRequest(ActionRequest):
    """Suppress the messages of a rule for `for_s` seconds, in one route; without a route, in all routes."""

    rule: Author
    route: Route | None = None
    new_route: bool = Field(
        default=False, strict=True, description="true: silence it although it resembles one that calls name"
    )
    for_s: float = Field(gt=0, le=LONGEST_SILENCE_S, strict=True, allow_inf_nan=False)
    incident_id: RowId | None = Field(default=None, description="an open incident whose message shall say so")
    ends_with_incident: bool = Field(
        default=False, strict=True, description="true: the silence ends when that incident is over"
    )
    author: Author
    why: FilledText


class UnsilenceRequest(ActionRequest):
    """End a silence."""

    author: Author
    why: Text = ""


class DropRequest(ActionRequest):
    """Give a message up."""

    author: Author
    why: FilledText


class RetryRequest(ActionRequest):
    """Have a message sent again."""

    author: Author
    why: Text = ""


def _incident(connection: Connection, _request: object, ids: Mapping[str, int]) -> set[str | None]:
    return {subjects.of_incident(connection, ids["incident_id"])}


def _silence(connection: Connection, _request: object, ids: Mapping[str, int]) -> set[str | None]:
    return {subjects.of_silence(connection, ids["silence_id"])}


def _message(connection: Connection, _request: object, ids: Mapping[str, int]) -> set[str | None]:
    return {subjects.of_message(connection, ids["message_id"])}


@operation(
    "POST",
    "/api/v1/incidents/{incident_id}/ack",
    name="post_ack",
    summary="Acknowledge an incident",
    touches=_incident,
)
def acknowledge(context: ActionContext, request: AcknowledgeRequest, incident_id: RowId) -> Incident:
    """Acknowledge an open incident: its message shows the person, and its reminders stop. Returns the incident.

    Raises MissingError if no such incident is open.
    """
    now = context.clock()

    def work(connection: Connection) -> None:
        if not incidents.is_open(connection, incident_id):
            numbers = sorted(each["incident_id"] for each in incidents.alerts(connection) if each["incident_id"])
            shown = f"; open are {', '.join(map(str, numbers))}" if numbers else ""
            raise MissingError(f"there is no open incident {incident_id}{shown}")
        silences.acknowledge(connection, incident_id, author=request.author, why=request.why, at=now)
        fact = acknowledged_fact(connection, incident_id)
        incident = incidents.incident(connection, incident_id)
        announce_change(
            connection, context.settings, incident, now=now, kind="acknowledged", changes=lambda _payload: fact
        )

    context.change(work)
    return context.read(lambda connection: incidents.shown(connection, incident_id))


@operation("POST", "/api/v1/silences", name="post_silence", summary="Silence a rule")
def silence(context: ActionContext, request: SilenceRequest) -> list[Silence]:
    """Suppress the messages of a rule for `for_s`; the rule still raises thresholds. Returns the active silences.

    Raises MissingError if there is no such rule or open incident, PolicyError if the route is probably misspelt, or if
    the incident is of another rule or route.
    """
    # A silence with a misspelt rule would have no effect.
    known = [each.alert for each in read_rulebook(context.settings.rules_file).rules]
    if request.rule not in known:
        question = did_you_mean(likely_names(request.rule, known))
        parts = (f"there is no rule {request.rule}", question, f"rules are: {', '.join(known)}")
        raise MissingError("; ".join(filter(None, parts)))
    now = context.clock()

    def work(connection: Connection) -> None:
        if request.route is not None:
            check_route(connection, context.settings, request.route, is_new=request.new_route)
        number = request.incident_id
        if number is not None:
            _check_incident(connection, request, number)
        before = silences.active(connection, at=now)
        silences.add_silence(
            connection, rule=request.rule, scope=request.route, author=request.author, why=request.why, since=now,
            until=now + request.for_s, incident_id=number if request.ends_with_incident else None,
        )  # fmt: skip
        if number is not None:
            # Only older silences prevent this message, which is the last one before the new silence.
            incident = incidents.incident(connection, number)
            announce_change(connection, context.settings, incident, now=now, active=before)

    context.change(work)
    return context.read(lambda connection: active_silences(connection, now))


def _check_incident(connection: Connection, request: SilenceRequest, number: int) -> None:
    """Raise MissingError unless the incident is open, and PolicyError unless the silence covers it."""
    if not incidents.is_open(connection, number):
        raise MissingError(f"there is no open incident {number}")
    incident = incidents.incident(connection, number)
    if request.rule != incident["rule"] or request.route not in (None, incident["scope"]):
        raise PolicyError(
            f"incident {number} is of {incident['rule']} in {incident['scope']}: the silence is of another"
        )


@operation(
    "DELETE",
    "/api/v1/silences/{silence_id}",
    name="delete_silence",
    summary="End a silence",
    touches=_silence,
)
def unsilence(context: ActionContext, request: UnsilenceRequest, silence_id: RowId) -> list[Silence]:
    """End a silence early. Returns the silences that are still active.

    Raises MissingError if the silence is not active.
    """
    now = context.clock()

    def work(connection: Connection) -> None:
        if not silences.end_silence(connection, silence_id, author=request.author, why=request.why, at=now):
            raise MissingError(f"there is no active silence {silence_id}")

    context.change(work)
    return context.read(lambda connection: active_silences(connection, now))


@operation(
    "POST",
    "/api/v1/undelivered/{message_id}/drop",
    name="post_drop",
    summary="Give a message up",
    touches=_message,
)
def drop(context: ActionContext, request: DropRequest, message_id: RowId) -> list[UndeliveredMessage]:
    """Do not send a message any more, so that later ones of its incident are sent. Returns the undelivered messages.

    Raises MissingError if every receiver has accepted the message, or there is no such message.
    """
    now = context.clock()

    def work(connection: Connection) -> None:
        if not delivery_acts.drop(connection, message_id, author=request.author, why=request.why, at=now):
            raise MissingError(f"there is no undelivered message {message_id}")

    context.store.transact(work)
    return context.read(delivery_acts.undelivered)


@operation(
    "POST",
    "/api/v1/undelivered/{message_id}/retry",
    name="post_retry",
    summary="Send a message again",
    touches=_message,
)
def retry(context: ActionContext, request: RetryRequest, message_id: RowId) -> list[UndeliveredMessage]:
    """Send a message at once to the channel that is configured now. Returns the undelivered messages.

    It may be one that a receiver refused. A pause that a receiver asked for still holds. Raises MissingError as for a
    drop.
    """
    now = context.clock()

    def work(connection: Connection) -> None:
        names = delivery_acts.retry(connection, message_id, author=request.author, why=request.why, at=now)
        if not names:
            raise MissingError(f"there is no undelivered message {message_id}")
        receivers.mark_retried(connection, names, at=now)

    context.store.transact(work)
    return context.read(delivery_acts.undelivered)
