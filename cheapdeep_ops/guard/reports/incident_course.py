"""What the chart of an incident shows, on the console and in messages: chosen here, and drawn there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cheapdeep_ops.guard.report_types.steps import Point
from cheapdeep_ops.guard.reports.series import points_of
from cheapdeep_ops.guard.rules.kinds import text_of
from cheapdeep_ops.guard.rules.rule_text import Payload, Plot
from cheapdeep_ops.store import policies
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.records import PolicyChange
from cheapdeep_ops.units import DAY_S, HOUR_S, MINUTE_S
from cheapdeep_ops.values import ALL_ROUTES

_STEPS_S: Final = (
    MINUTE_S,
    2 * MINUTE_S,
    5 * MINUTE_S,
    10 * MINUTE_S,
    15 * MINUTE_S,
    30 * MINUTE_S,
    HOUR_S,
    3 * HOUR_S,
)
_TITLES: Final[dict[Plot, str]] = {
    "escalation": "Share of calls that escalate, at base, with 95% interval",
    "false confidence": "False-confident rate, with 95% interval",
}
_BEFORE_S: Final[dict[Plot, int]] = {"escalation": 2 * HOUR_S, "false confidence": 12 * HOUR_S}
"""How much of the time before an incident a chart shows. Grades are few, so their chart is longer."""

_MOST_STEPS: Final[dict[Plot, int]] = {"escalation": 90, "false confidence": 24}
_MOST_CHANGES: Final = 4
_AFTER_S: Final = 0.1
"""How much of the time after the end a chart shows, as a share of the time before."""

_LONGEST_S: Final = 2 * DAY_S
"""A chart of a longer incident leaves out its beginning: the fine counters of that time are gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The course of a rate around an incident, in steps of `step_s`; times are Unix seconds, rates from 0 to 1.

    `limit` is that of the rule, and `normal` the rate with which it compares, if there is one. `changes` are those of
    the threshold, oldest first.
    """

    plot: Plot
    scope: str
    since: float
    until: float
    step_s: int
    points: Sequence[Point]
    limit: float
    normal: float | None
    began: float
    ended: float | None
    changes: Sequence[PolicyChange]

    @property
    def title(self) -> str:
        """What the chart shows."""
        return _TITLES[self.plot]

    @property
    def limit_name(self) -> str:
        """The name of the limit: an alarm level follows from what is normal."""
        return "limit" if self.normal is None else "alarm level"


def is_plotted(payload: Payload) -> bool:
    """Whether there is a chart of an incident of this kind."""
    return bool(payload) and bool(text_of(payload).plot)


def course_of(
    connection: Connection, payload: Payload, *, began: float, ended: float | None, now: float
) -> Course | None:
    """The course of the incident of a message as it stands at `now`; None without data to show.

    `is_plotted` holds for the message. Raises StoreError.
    """
    plot, scope = text_of(payload).plot, payload["scope"]
    before_s = _BEFORE_S[plot]
    until = now if ended is None else min(now, ended + before_s * _AFTER_S)
    since = max(began - before_s, until - _LONGEST_S)
    step_s = next((each for each in _STEPS_S if (until - since) / each <= _MOST_STEPS[plot]), _STEPS_S[-1])
    starts = range(int(since // step_s) * step_s, int(until), step_s)
    points = points_of(connection, starts, scope=scope, since=starts.start, until=until)
    first = next((point["at"] for point in points if rate_of(plot, point) is not None), None)
    if first is None:
        return None
    # A young store has no calls of the time before.
    shown_since = max(min(first, began - before_s / 4), starts.start)
    signal = payload["signal"]
    return Course(
        plot=plot,
        scope=scope,
        since=shown_since,
        until=max(until, starts.stop),
        step_s=step_s,
        points=[point for point in points if point["at"] + step_s > shown_since],
        limit=signal["limit"],
        normal=signal.get("normal_rate"),
        began=began,
        ended=ended,
        changes=list(_changes(connection, scope, since=starts.start, until=until))[-_MOST_CHANGES:],
    )


def rate_of(plot: Plot, point: Point) -> float | None:
    """The rate of a step that such a chart shows; None if it is unknown."""
    return point["base_escalation_rate"] if plot == "escalation" else point["false_confident_rate"]


def _changes(connection: Connection, scope: str, *, since: float, until: float) -> Iterator[PolicyChange]:
    """The changes of the threshold that were of the scope or of all routes, oldest first."""
    for each in policies.applied(connection, since=since, until=until, limit=50):
        if each["scope"] in (scope, ALL_ROUTES) and each["from_threshold"] != each["to_threshold"]:
            yield each
