"""The chart of an incident, from the store: the course of its rate, and the changes of the threshold."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from cheapdeep_ops.guard.formatting import percent
from cheapdeep_ops.guard.notify.messages import ended_at
from cheapdeep_ops.guard.pictures.drawing import Chart, Dot, Mark
from cheapdeep_ops.guard.report_types.steps import Point
from cheapdeep_ops.guard.reports.series import points_of
from cheapdeep_ops.guard.rules.kinds import text_of
from cheapdeep_ops.guard.rules.rule_text import Payload, Plot
from cheapdeep_ops.store import policies
from cheapdeep_ops.store.engine import Connection
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
_MOST_MARKS: Final = 4
_TITLES: Final[dict[Plot, str]] = {
    "escalation": "Share of calls that escalate, at base, with 95% interval",
    "false confidence": "Share of shipped answers that are wrong, with 95% interval",
}
_BEFORE_S: Final[dict[Plot, int]] = {"escalation": 2 * HOUR_S, "false confidence": 12 * HOUR_S}
"""How much of the time before an incident a chart shows. Grades are few, so their chart is longer."""

_MOST_STEPS: Final[dict[Plot, int]] = {"escalation": 90, "false confidence": 24}
_AFTER_S: Final = 0.1
"""How much of the time after the end a chart shows, as a share of the time before."""

_LONGEST_S: Final = 2 * DAY_S
"""A chart of a longer incident leaves out its beginning: the fine counters of that time are gone."""


def is_plotted(payload: Payload) -> bool:
    """Whether there is a chart of an incident of this kind."""
    return bool(text_of(payload).plot) and payload.get("started_at") is not None


def chart_of(connection: Connection, payload: Payload, *, now: float) -> Chart | None:
    """The chart of the incident of a message as it stands at `now` (Unix time); None without data to show.

    `is_plotted` holds for the message. Raises StoreError.
    """
    plot, scope, began = text_of(payload).plot, payload["scope"], payload["started_at"]
    ended = ended_at(payload)
    before_s = _BEFORE_S[plot]
    until = now if ended is None else min(now, ended + before_s * _AFTER_S)
    since = max(began - before_s, until - _LONGEST_S)
    step_s = next((each for each in _STEPS_S if (until - since) / each <= _MOST_STEPS[plot]), _STEPS_S[-1])
    starts = range(int(since // step_s) * step_s, int(until), step_s)
    points = points_of(connection, starts, scope=scope, since=starts.start, until=until)
    runs = list(_runs(plot, points, step_s))
    if not runs:
        return None
    signal = payload["signal"]
    # A young store has no calls of the time before.
    first = min(runs[0][0].at - step_s / 2, began - before_s / 4)
    return Chart(
        title=_TITLES[plot],
        since=max(first, starts.start),
        until=max(until, starts.stop),
        runs=runs,
        limit=signal["limit"],
        limit_name="limit" if signal.get("normal_rate") is None else "alarm level",
        normal=signal.get("normal_rate"),
        began=began,
        ended=ended,
        marks=list(_marks(connection, scope, since=starts.start, until=until)),
    )


def description(payload: Payload, chart: Chart) -> str:
    """The chart in words, for those who do not see it."""
    last = chart.runs[-1][-1]
    shown = f"{chart.title}: {percent(last.rate)} now, {chart.limit_name} {percent(chart.limit)}"
    return shown if payload["scope"] == ALL_ROUTES else f"{shown}; route {payload['scope']}"


def _runs(plot: Plot, points: Sequence[Point], step_s: int) -> Iterator[list[Dot]]:
    """The known points as dots, in runs without a gap."""
    run: list[Dot] = []
    for point in points:
        rate, (low, high) = (
            (point["base_escalation_rate"], point["base_escalation_interval"])
            if plot == "escalation"
            else (point["false_confident_rate"], point["false_confident_interval"])
        )
        if rate is not None:
            run.append(Dot(at=point["at"] + step_s / 2, rate=rate, low=low, high=high))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _marks(connection: Connection, scope: str, *, since: float, until: float) -> Iterable[Mark]:
    """The changes of the threshold of the scope, oldest first."""
    changes = policies.applied(connection, since=since, until=until, limit=50)
    of_scope = [each for each in changes if each["scope"] == scope and each["from_threshold"] != each["to_threshold"]]
    return [
        Mark(at=each["at"], text=f"threshold {each['from_threshold']:g} -> {each['to_threshold']:g}")
        for each in of_scope[-_MOST_MARKS:]
    ]
