"""The figures of the first page, each with what it is compared with and its course."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cheapdeep_ops.guard.console import charts
from cheapdeep_ops.guard.console.charts import Marks
from cheapdeep_ops.guard.console.readings import marks_of
from cheapdeep_ops.guard.console.theme import GREY, ORANGE, RED
from cheapdeep_ops.guard.formatting import bounds, coverage, money, percent, plain
from cheapdeep_ops.guard.report_types.figures import Latest
from cheapdeep_ops.guard.report_types.state import Normal, Policy, Present
from cheapdeep_ops.guard.report_types.steps import Point
from cheapdeep_ops.guard.reports.series import latest, points_of
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.units import DAY_S, HOUR_S, MINUTE_S
from cheapdeep_ops.values import ALL_ROUTES

_MOST_NAMED: Final = 2
"""How many routes the note on thresholds names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One figure with what it is compared with, and its course."""

    name: str
    value: str
    note: str
    spark: charts.Options
    is_bad: bool = False


def tiles_of(connection: Connection, settings: Settings, status: Present, now: float) -> tuple[Tile, ...]:
    """The five figures of the first page."""
    hour = latest(connection, since=now - HOUR_S, until=now)
    minutes = _points(connection, now=now, last_s=HOUR_S, step_s=MINUTE_S)
    hours = _points(connection, now=now, last_s=DAY_S, step_s=HOUR_S)
    day = latest(connection, since=now - DAY_S, until=now)
    midnight = now // DAY_S * DAY_S
    today = [point for point in hours if point["at"] >= midnight]
    changes = marks_of(connection, scope=ALL_ROUTES, since=now - DAY_S, until=now)
    return (
        _calls(hour, minutes),
        _escalation(hour, minutes, settings.max_escalation_rate),
        _false_confidence(day, hours, status["normal"]),
        saving(today),
        _threshold(status["policy"], changes),
    )


def _points(connection: Connection, *, now: float, last_s: float, step_s: int) -> list[Point]:
    first = int((now - last_s) // step_s) * step_s
    return points_of(connection, range(first, int(now) + 1, step_s), since=first, until=now)


def _calls(hour: Latest, minutes: Sequence[Point]) -> Tile:
    # The last minute is not complete.
    course = [float(point["calls"]) for point in minutes[:-1]]
    failed = f", {hour['errors']:,} ended in an error" if hour["errors"] else ""
    note = f"in the last hour{failed}"
    return Tile(name="Calls", value=f"{hour['calls']:,}", note=note, spark=charts.spark(course))


def _escalation(hour: Latest, minutes: Sequence[Point], limit: float) -> Tile:
    rate, course = hour["base_escalation_rate"], [point["base_escalation_rate"] for point in minutes]
    known = _sure(hour["base_escalation_interval"], hour["triaged"])
    return Tile(
        name="Escalation at base",
        value=_or_dash(rate),
        note=f"all routes, last hour; each route's limit {percent(limit)}{known}",
        spark=charts.spark(course, color=ORANGE, limit=limit),
        # By the interval, as rules fire: a point above the limit may be chance.
        is_bad=rate is not None and hour["base_escalation_interval"][0] > limit,
    )


def _false_confidence(day: Latest, hours: Sequence[Point], normals: Mapping[str, Normal]) -> Tile:
    rates = sorted(each["rate"] for each in normals.values() if each["rate"] is not None)
    usual = "normal is being learned" if not rates else f"normal {percent(rates[0])}"
    if rates and percent(rates[0]) != percent(rates[-1]):
        usual = f"normal {percent(rates[0])} to {percent(rates[-1])} by route"
    known = _sure(day["false_confident_interval"], day["graded"])
    return Tile(
        name="False-confident rate",
        value=_or_dash(day["false_confident_rate"]),
        note=f"24 hours; {usual}{known}" if day["graded"] else "no answer was graded in 24 hours",
        spark=charts.spark([point["false_confident_rate"] for point in hours], color=RED),
    )


def saving(today: Sequence[Point]) -> Tile:
    """What routing saved in these steps, in US dollars, over the calls whose cost is known."""
    paid, deep = (sum(point[name] for point in today) for name in ("cost_usd", "baseline_cost_usd"))
    course, saved = [0.0], 0.0
    for point in today:
        saved += point["baseline_cost_usd"] - point["cost_usd"]
        course.append(saved)
    unpriced, counted = (sum(point[name] for point in today) for name in ("unpriced_calls", "calls"))
    over = coverage(unpriced, counted)
    share = f"{percent(saved / deep)} of all-deep (estimate){over}" if deep else f"no priced call{over}"
    return Tile(
        name="Saved today",
        value=money(deep - paid) if deep else "-",
        note=f"since 00:00 UTC; {share}",
        spark=charts.spark(course),
        is_bad=saved < 0,
    )


def _threshold(policy: Policy, changes: Marks) -> Tile:
    own = {name: each for name, each in policy["scopes"].items() if each["threshold"] != policy["threshold"]}
    shown = [f"{each['threshold']:g} on {plain(name)}" for name, each in sorted(own.items()) if name != ALL_ROUTES]
    more = f" and {len(shown) - _MOST_NAMED} more" if len(shown) > _MOST_NAMED else ""
    course = [policy["base"], *(each.threshold for each in changes.changes)]
    note = f"{', '.join(shown[:_MOST_NAMED])}{more}; else {policy['threshold']:g}" if shown else "on every route"
    # Each value twice, which draws steps.
    spark = charts.spark([value for value in (*course, course[-1]) for _ in (0, 1)], color=GREY)
    return Tile(name="Threshold", value=f"{policy['threshold']:g}", note=note, spark=spark)


def _sure(interval: Sequence[float], n: int) -> str:
    return f"; 95%: {bounds(interval)}, n\N{NO-BREAK SPACE}{n:,}" if n else ""


def _or_dash(share: float | None) -> str:
    return "-" if share is None else percent(share)
