"""Reads what charts show: figures in steps, and the changes and incidents that they mark."""

from typing import Final

from cheapdeep_ops.guard.console import charts
from cheapdeep_ops.guard.console.charts import Mark, Marks, Span
from cheapdeep_ops.guard.report_types.steps import Series
from cheapdeep_ops.guard.reports.incident_course import course_of, is_plotted
from cheapdeep_ops.guard.reports.trends import MOST_CHANGES
from cheapdeep_ops.store import incidents, policies
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.records import Incident, PolicyChange
from cheapdeep_ops.values import ALL_ROUTES

_MOST_INCIDENTS: Final = 100


def marks_of(connection: Connection, *, scope: str, since: float, until: float) -> Marks:
    """The changes of policy and the incidents of `[since, until)` that concern a scope; `*`: all of them."""
    changes = policies.applied(connection, since=since, until=until, limit=MOST_CHANGES)
    newest = incidents.incidents(connection, limit=_MOST_INCIDENTS)
    return Marks(
        changes=tuple(_mark(each) for each in changes if _concerns(each["scope"], scope)),
        incidents=tuple(
            _span(each, since)
            for each in newest[::-1]
            if _concerns(each["scope"], scope) and each["started_at"] < until and (each["resolved_at"] or until) > since
        ),
    )


def _mark(change: PolicyChange) -> Mark:
    return Mark(at=change["at"], threshold=change["to_threshold"], is_human=bool(change["author"]))


def _span(incident: Incident, since: float) -> Span:
    begin, end = max(incident["started_at"], since), incident["resolved_at"]
    return Span(incident=incident["id"], since=begin, until=end, about=about_of(incident))


def about_of(incident: Incident) -> str:
    """The signal of the incident's rule; empty if nothing was announced."""
    return str(incident["announced"].get("about", ""))


def _concerns(scope: str, shown: str) -> bool:
    return shown in (ALL_ROUTES, scope) or scope == ALL_ROUTES


def chart_of(connection: Connection, incident: Incident, *, now: float) -> charts.Options | None:
    """The chart of an incident; None for a rule without one, and without data to show."""
    payload = incident["announced"]
    if not is_plotted(payload):
        return None
    course = course_of(connection, payload, began=incident["started_at"], ended=incident["resolved_at"], now=now)
    if course is None:
        return None
    figures: Series = {
        "route": course.scope,
        "since": course.since,
        "until": course.until,
        "step_s": course.step_s,
        "limit": course.limit,
        "points": list(course.points),
    }
    marks = Marks(changes=tuple(map(_mark, course.changes)), incidents=(_span(incident, course.since),))
    if course.plot == "escalation":
        return charts.escalation(figures, marks)
    return charts.false_confidence(figures, marks, normal=course.normal, limit_name=course.limit_name)
