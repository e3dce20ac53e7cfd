"""The chart of an incident, from its course: what a message's picture draws."""

from collections.abc import Iterator
from typing import Final

from cheapdeep_ops.guard.formatting import percent
from cheapdeep_ops.guard.notify.messages import ended_at
from cheapdeep_ops.guard.pictures.colours import BASE, WRONG
from cheapdeep_ops.guard.pictures.drawing import Chart, Dot, Mark
from cheapdeep_ops.guard.reports import incident_course
from cheapdeep_ops.guard.reports.incident_course import Course, course_of, rate_of
from cheapdeep_ops.guard.rules.rule_text import Payload
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.values import ALL_ROUTES

_MIDDLE: Final = 0.5


def is_plotted(payload: Payload) -> bool:
    """Whether there is a chart of an incident of this kind, and the message says when it began."""
    return payload.get("started_at") is not None and incident_course.is_plotted(payload)


def chart_of(connection: Connection, payload: Payload, *, now: float) -> Chart | None:
    """The chart of the incident of a message as it stands at `now` (Unix time); None without data to show.

    `is_plotted` holds for the message. Raises StoreError.
    """
    course = course_of(connection, payload, began=payload["started_at"], ended=ended_at(payload), now=now)
    if course is None:
        return None
    return Chart(
        title=course.title,
        colour=BASE if course.plot == "escalation" else WRONG,
        since=course.since,
        until=course.until,
        runs=list(_runs(course)),
        limit=course.limit,
        limit_name=course.limit_name,
        normal=course.normal,
        began=course.began,
        ended=course.ended,
        marks=[
            Mark(at=each["at"], text=f"threshold {each['from_threshold']:g} -> {each['to_threshold']:g}")
            for each in course.changes
        ],
    )


def description(payload: Payload, chart: Chart) -> str:
    """The chart in words, for those who do not see it."""
    last = chart.runs[-1][-1]
    shown = f"{chart.title}: {percent(last.rate)} now, {chart.limit_name} {percent(chart.limit)}"
    return shown if payload["scope"] == ALL_ROUTES else f"{shown}; route {payload['scope']}"


def _runs(course: Course) -> Iterator[list[Dot]]:
    """The known points as dots, in runs without a gap."""
    run: list[Dot] = []
    for point in course.points:
        rate = rate_of(course.plot, point)
        if rate is not None:
            is_escalation = course.plot == "escalation"
            low, high = point["base_escalation_interval"] if is_escalation else point["false_confident_interval"]
            run.append(Dot(at=point["at"] + course.step_s * _MIDDLE, rate=rate, low=low, high=high))
        elif run:
            yield run
            run = []
    if run:
        yield run
