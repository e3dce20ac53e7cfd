"""Reads what charts show: figures in steps, and the changes and incidents that they mark."""

from typing import Final

from cheapdeep_ops.guard.console import charts
from cheapdeep_ops.guard.console.charts import Mark, Marks, Span
from cheapdeep_ops.guard.report_types.steps import Series
from cheapdeep_ops.guard.reports.series import points_of
from cheapdeep_ops.guard.reports.trends import MOST_CHANGES, step_of
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import incidents, policies
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.records import Incident
from cheapdeep_ops.units import DAY_S, HOUR_S, MINUTE_S
from cheapdeep_ops.values import ALL_ROUTES

ESCALATION: Final = "base_escalation_rate"
FALSE_CONFIDENCE: Final = "false_confident_rate"
"""The signals of rules whose incidents have a chart."""

_MOST_INCIDENTS: Final = 100
_STEPS: Final = 60
_GRADED_STEPS: Final = 16
"""Steps of false confidence are longer, because grades are few."""

_BEFORE_S: Final = {ESCALATION: HOUR_S // 2, FALSE_CONFIDENCE: 6 * HOUR_S}
"""How long before the start of an incident its chart begins, in seconds."""

_AFTER_S: Final = 10 * MINUTE_S
_LONGEST_S: Final = 7 * DAY_S


def marks_of(connection: Connection, *, scope: str, since: float, until: float) -> Marks:
    """The changes of policy and the incidents of `[since, until)` that concern a scope; `*`: all of them."""
    changes = policies.applied(connection, since=since, until=until, limit=MOST_CHANGES)
    newest = incidents.incidents(connection, limit=_MOST_INCIDENTS)
    return Marks(
        changes=tuple(
            Mark(at=each["at"], threshold=each["to_threshold"], is_human=bool(each["author"]))
            for each in changes
            if _concerns(each["scope"], scope)
        ),
        incidents=tuple(
            _span(each, since)
            for each in newest[::-1]
            if _concerns(each["scope"], scope) and each["started_at"] < until and (each["resolved_at"] or until) > since
        ),
    )


def _span(incident: Incident, since: float) -> Span:
    begin, end = max(incident["started_at"], since), incident["resolved_at"]
    return Span(incident=incident["id"], since=begin, until=end, about=about_of(incident))


def about_of(incident: Incident) -> str:
    """The signal of the incident's rule; empty if nothing was announced."""
    return str(incident["announced"].get("about", ""))


def _concerns(scope: str, shown: str) -> bool:
    return shown in (ALL_ROUTES, scope) or scope == ALL_ROUTES


def chart_of(connection: Connection, settings: Settings, incident: Incident, *, now: float) -> charts.Options | None:
    """The chart of an incident from some time before its start to its end; None for a rule without one."""
    about = about_of(incident)
    if about not in _BEFORE_S:
        return None
    until = now if incident["resolved_at"] is None else min(incident["resolved_at"] + _AFTER_S, now)
    since = max(incident["started_at"] - _BEFORE_S[about], until - _LONGEST_S)
    steps = _STEPS if about == ESCALATION else _GRADED_STEPS
    step_s = max(step_of(until - since, steps), MINUTE_S)
    starts = range(int(since // step_s) * step_s, int(until) + 1, step_s)
    figures: Series = {
        "route": incident["scope"],
        "since": starts[0],
        "until": until,
        "step_s": step_s,
        "limit": settings.max_escalation_rate,
        "points": points_of(connection, starts, scope=incident["scope"], since=starts[0], until=until),
    }
    marks = marks_of(connection, scope=incident["scope"], since=starts[0], until=until)
    own = tuple(each for each in marks.incidents if each.incident == incident["id"])
    shown = Marks(changes=marks.changes, incidents=own)
    if about == ESCALATION:
        return charts.escalation(figures, shown)
    return charts.false_confidence(figures, shown, normal=incident["announced"]["signal"].get("normal_rate"))
