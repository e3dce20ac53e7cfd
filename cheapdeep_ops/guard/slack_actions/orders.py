"""Carries out what a person has ordered on Slack: once, and only if what the form was about has not changed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cheapdeep_ops.errors import MissingError, PolicyError
from cheapdeep_ops.guard.actions.alerts import LONGEST_SILENCE_S, acknowledge, silence
from cheapdeep_ops.guard.actions.baselines import relearn
from cheapdeep_ops.guard.actions.operation import ActionContext
from cheapdeep_ops.guard.actions.thresholds import pin, release
from cheapdeep_ops.guard.formatting import moment, scope_text
from cheapdeep_ops.guard.grading.grader import grader_version
from cheapdeep_ops.guard.notify.buttons import ACKNOWLEDGE, RELEARN, SILENCE
from cheapdeep_ops.guard.slack_actions.forms import BASE, PIN_FOR, RAISED, SILENCE_FOR, UNTIL_OVER, UNTIL_RELEASED
from cheapdeep_ops.guard.slack_actions.people import NotAllowedError, Person
from cheapdeep_ops.guard.slack_actions.requests import WHY, FormFacts, Submission
from cheapdeep_ops.policy import PolicyAct, PolicyBook
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import grades, incidents, orders, policies, silences
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.policies import PolicyEdit, step_of
from cheapdeep_ops.values import ALL_ROUTES


class AlreadyDoneError(Exception):
    """The order was carried out before; it is done once, however often it arrives."""


class ChangedError(PolicyError):
    """What the form was about has changed since it was opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An open incident, what is in force for it, and how that would be said."""

    incident: Mapping[str, Any]
    book: PolicyBook
    pin_scope: str
    """The scope of the pin in force; the incident's own if there is none."""
    seen: str
    changed_by: str
    """Who has last changed it, in words; empty if that is not known."""

    @property
    def scope(self) -> str:
        """The incident's scope."""
        return str(self.incident["scope"])

    @property
    def threshold(self) -> float:
        """The threshold in force."""
        return self.book.for_route(self.scope).threshold


def subject(connection: Connection, settings: Settings, facts: FormFacts, *, now: float) -> Subject:
    """What an act is about. Raises MissingError if the incident is over, or the message is not its present one."""
    number = facts.incident_id
    if not incidents.is_message_of(connection, number, channel=facts.channel, ts=facts.ts):
        raise MissingError(f"this is not the present message of an incident {number} that this guard knows")
    if not incidents.is_open(connection, number):
        raise MissingError(f"incident {number} is over")
    incident = incidents.incident(connection, number)
    scope = incident["scope"]
    book = policies.read_book(connection, base=settings.base_threshold, raised=settings.raised_threshold)
    pin_scope = book.pin_scope(scope) or scope
    seen, by = _seen(connection, settings, facts.act, incident, now=now, book=book)
    return Subject(incident=incident, book=book, pin_scope=pin_scope, seen=seen, changed_by=by)


def _seen(
    connection: Connection,
    settings: Settings,
    act: str,
    incident: Mapping[str, Any],
    *,
    now: float,
    book: PolicyBook,
) -> tuple[str, str]:
    """A text that changes with what `act` is about, and who has changed it last."""
    scope = incident["scope"]
    if act == ACKNOWLEDGE:
        known = silences.acknowledgements(connection, [incident["id"]]).get(incident["id"])
        return (str(known["at"]), _by("acknowledged", known)) if known else ("", "")
    if act == SILENCE:
        active = silences.active(connection, at=now)
        covering = [each for each in active if silences.is_silenced([each], incident["rule"], scope)]
        last = covering[-1] if covering else None
        return str([each["id"] for each in covering]), _by("silenced", {**last, "at": last["since"]}) if last else ""
    if act == RELEARN:
        baseline = grades.baselines(connection, grader_version(settings)).get(scope)
        since = baseline.since if baseline else 0.0
        if baseline is None or not baseline.author:
            return str(since), ""
        return str(since), _by("learned again", {"author": baseline.author, "at": since})
    change = policies.last_change(connection, scopes=(scope, ALL_ROUTES))
    by = "" if change is None else _by(f"threshold {change['to_threshold']:g}", change, rule=change["cause"])
    return str(book.for_route(scope).version), by


def _by(what: str, done: Mapping[str, Any], *, rule: str = "") -> str:
    return f"{what} by {done['author'] or rule}, {moment(done['at'])}"


def carry_out(context: ActionContext, submission: Submission, person: Person) -> str:
    """Carry the order out, in one transaction with the check that it is new; returns what was done, in words.

    Raises AlreadyDoneError, ChangedError, NotAllowedError, MissingError, PolicyError or StoreError; then it has changed
    nothing, except after a StoreError, which may hide a success.
    """
    facts, settings, now = submission.facts, context.settings, context.clock()
    about = context.read(lambda connection: subject(connection, settings, facts, now=now))
    number, author, why = facts.incident_id, person.author, submission.values.get(WHY, "")
    perform, done, edit = _plan(submission, about, author, why)

    def before(connection: Connection) -> None:
        if not orders.claim(connection, submission.key, author=author, at=now):
            raise AlreadyDoneError
        present = subject(connection, settings, facts, now=now)
        if present.seen != facts.seen:
            meanwhile = f" ({present.changed_by})" if present.changed_by else ""
            raise ChangedError(f"this has changed since the form was opened{meanwhile}: nothing was done; click again")
        is_lowering = facts.act == RELEARN or (edit is not None and _lowers(present.book, edit))
        if is_lowering and not person.may_lower:
            raise NotAllowedError("you may not lower a threshold (CHEAPDEEP_SLACK_MAY_LOWER): nothing was done")

    perform(replace(context, before=before))
    return f"incident {number}: {done}"


def _lowers(book: PolicyBook, edit: PolicyEdit) -> bool:
    step = step_of(book, edit)
    return step.to_threshold < step.from_threshold


Perform = Callable[[ActionContext], object]


def _plan(submission: Submission, about: Subject, author: str, why: str) -> tuple[Perform, str, PolicyEdit | None]:
    """The operation, what it does in words, and the change of policy that it makes, if any."""
    values, rule, scope = submission.values, about.incident["rule"], about.scope
    said: dict[str, object] = {"author": author, "why": why}
    match submission.facts.act:
        case "acknowledge":
            number = about.incident["id"]
            return lambda context: acknowledge.perform(context, incident_id=number, **said), "acknowledged", None
        case "silence":
            lasts = _chosen(values, "for", (*SILENCE_FOR, UNTIL_OVER))
            fields = {
                "rule": rule, "route": scope, "for_s": SILENCE_FOR.get(lasts, LONGEST_SILENCE_S), **said,
                "incident_id": about.incident["id"], "ends_with_incident": lasts == UNTIL_OVER,
            }  # fmt: skip
            return lambda context: silence.perform(context, **fields), f"{rule} silenced", None
        case "pin":
            lasts = _chosen(values, "for", (*PIN_FOR, UNTIL_RELEASED))
            at = about.book.base if _chosen(values, "at", (BASE, RAISED)) == BASE else about.book.raised
            fields = {"route": scope, "threshold": at, "for_s": PIN_FOR.get(lasts), **said}
            edit = PolicyEdit(scope=scope, act=PolicyAct.PIN, threshold=at)
            return lambda context: pin.perform(context, **fields), f"{scope_text(scope)} pinned at {at:g}", edit
        case "release":
            where = about.pin_scope
            edit = PolicyEdit(scope=where, act=PolicyAct.UNPIN)
            done = f"the pin of {scope_text(where)} released"
            return lambda context: release.perform(context, route=where, **said), done, edit
        case _:
            return (
                lambda context: relearn.perform(context, route=scope, **said),
                f"{scope_text(scope)} is learned again",
                None,
            )


def _chosen(values: Mapping[str, str], name: str, options: tuple[str, ...]) -> str:
    value = values.get(name, "")
    if value not in options:
        raise PolicyError(f"{name} must be one of {', '.join(options)}, not {value!r}")
    return value
