"""Figures in steps, for charts and plots."""

from typing import Annotated

from pydantic import Field

from cheapdeep_ops.guard.report_types.figures import Counted, FalseConfidence
from cheapdeep_ops.guard.report_types.state import Normal
from cheapdeep_ops.store.records import Moment, Record, TrendChange


class Point(Counted):
    """One step of a series."""

    at: Annotated[int, Field(description="when it begins: Unix time, in seconds")]


class Series(Record):
    """Figures in steps, oldest first; the last one is not complete."""

    route: str
    since: Moment
    until: Moment
    step_s: int
    limit: Annotated[float, Field(description="the storm rule's limit of the base escalation rate")]
    points: list[Point]


class TrendPoint(Point):
    """One step of the receipt's plots."""

    middle: Annotated[float, Field(description="of the part of the step that lies in the period: Unix time")]


class QualityPoint(FalseConfidence):
    """The false confidence of one step."""

    at: int
    middle: float


class RouteQuality(Record):
    """False confidence in one route, or in all of them, in steps."""

    points: list[QualityPoint]
    normal: Annotated[Normal | None, Field(description="null if no answer of the route was graded yet")]


class TrendSteps(Record):
    """The figures of the plots; `step_s` is null if there was no call."""

    step_s: int | None
    points: list[TrendPoint]
    quality: Annotated[dict[str, RouteQuality], Field(description="by route, busiest first; all of them under `*`")]


class Trends(TrendSteps):
    """The data of the receipt's plots."""

    since: Moment
    until: Moment
    limit: Annotated[float, Field(description="the storm rule's limit of the base escalation rate")]
    objective: Annotated[float | None, Field(description="the limit of false confidence, where one is set")]
    changes: list[TrendChange]
