"""The charts: figures in steps in, options of ECharts out. No option has text from a user."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cheapdeep_ops.guard.console.theme import BAND_OPACITY, BLUE, FAINT_LINES, GREY, INCIDENT_OPACITY, ORANGE, RED
from cheapdeep_ops.guard.formatting import percent
from cheapdeep_ops.guard.pictures.colours import INCIDENT
from cheapdeep_ops.guard.report_types.steps import Point, Series

Options = dict[str, Any]
"""Options of ECharts; not typed, because ECharts has thousands of them."""

Value = Callable[[Point], float | None]
_LETTER, _SPACE, _LANE = 8, 6, 14
"""Pixels: the widest letter of a label, the space after a label, and the height of a line of labels."""

_NARROWEST: Final = 250
"""Pixels between the ends of the axis of time, on a phone."""

_NEAR_THE_END: Final = 0.85
"""The share of the axis from where on the label of a change would not find place to the right of its line."""

_AREA_LANES, _LINE_LANES = 6, 2
"""How many labels of incidents, and of changes, find place one above another; the list below a chart has all."""

_BROAD: Final = 4
"""Pixels: wide enough to be visible when another line covers this one."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A change of a threshold: its time (Unix seconds) and the threshold since then; `is_human` for a person's."""

    at: float
    threshold: float
    is_human: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """An incident: its number, its start and its end (Unix seconds), None while it is open.

    `about` is the signal of its rule.
    """

    incident: int
    since: float
    until: float | None
    about: str = ""


@dataclass(frozen=True, slots=True)
class Marks:
    """What happened while the figures of a chart were counted."""

    changes: tuple[Mark, ...] = ()
    incidents: tuple[Span, ...] = ()


NO_MARKS: Final = Marks()


def escalation(series: Series, marks: Marks = NO_MARKS) -> Options:
    """The escalation rate at base with its 95% interval, the actual rate, and the limit, in percent."""
    points = [point for point in series["points"] if point["triaged"]]
    base = _line("at base", ORANGE, series["points"], _base, is_share=True)
    base["lineStyle"] = {**base["lineStyle"], "width": _BROAD}
    base["markLine"] = _limit(series["limit"], "limit")
    actual = _line("actual", BLUE, series["points"], _actual, is_share=True)
    band = _band(points, lambda point: point["base_escalation_interval"], ORANGE)
    return _chart(series, [base, actual, *band], marks, most=100, unit="%")


def calls(series: Series, marks: Marks = NO_MARKS) -> Options:
    """The shipped and the escalated calls of each step."""
    # Without the last step, which is not complete and would look like an outage.
    points = series["points"][:-1]
    shipped = _line("shipped", BLUE, points, lambda point: point["shipped"])
    escalated = _line("escalated", ORANGE, points, lambda point: point["escalated"])
    lines = [{**each, "stack": "calls", "areaStyle": {"opacity": 0.3}} for each in (shipped, escalated)]
    return _chart(series, lines, marks)


def false_confidence(
    series: Series, marks: Marks = NO_MARKS, *, normal: float | None = None, limit_name: str = ""
) -> Options:
    """The false-confident rate with its 95% interval, in percent; only steps with grades.

    With `limit_name`, the limit of the series is drawn too: that of the escalation rate has no place here.
    """
    points = [point for point in series["points"] if point["graded"]]
    rate = _line("false-confident rate", RED, points, _wrong, is_share=True)
    drawn = [_limit(normal, "normal", color=GREY)] if normal is not None else []
    drawn += [_limit(series["limit"], limit_name)] if limit_name else []
    if drawn:
        rate["markLine"] = {**drawn[0], "data": [line for each in drawn for line in each["data"]]}
    return _chart(series, [rate, *_band(points, lambda point: point["false_confident_interval"], RED)], marks, unit="%")


def cost(series: Series, marks: Marks = NO_MARKS) -> Options:
    """The cost of a call, and the estimate for the deep tier alone, in US dollars."""
    paid = _line("paid", BLUE, series["points"], lambda point: point["cost_per_call_usd"])
    deep = _line("all-deep, estimated", GREY, series["points"], lambda point: point["baseline_per_call_usd"])
    return _chart(series, [paid, deep], marks)


def spark(values: Sequence[float | None], *, color: str = BLUE, limit: float | None = None) -> Options:
    """A line without axes, with a dashed line at a limit."""
    known = [value for value in (*values, limit) if value is not None]
    line: Options = {"type": "line", "data": list(values), "symbol": "none", "lineStyle": {"color": color, "width": 2}}
    line["areaStyle"] = {"color": color, "opacity": 0.12}
    if limit is not None:
        style = {"color": RED, "type": "dashed", "width": 1}
        data = [{"yAxis": limit}]
        line["markLine"] = {
            "silent": True,
            "symbol": "none",
            "label": {"show": False},
            "lineStyle": style,
            "data": data,
        }
    return {
        "animation": False,
        "grid": {"left": 1, "right": 1, "top": 4, "bottom": 2},
        "xAxis": {"type": "category", "show": False, "boundaryGap": False, "data": list(range(len(values)))},
        "yAxis": {"type": "value", "show": False, "min": min([0.0, *known]), "max": max([*known, 1e-9]) * 1.05},
        "series": [line],
    }


def _base(point: Point) -> float | None:
    return point["base_escalation_rate"]


def _actual(point: Point) -> float | None:
    return point["escalation_rate"]


def _wrong(point: Point) -> float | None:
    return point["false_confident_rate"]


def _line(name: str, color: str, points: Sequence[Point], value: Value, *, is_share: bool = False) -> Options:
    """A line with a gap at each unknown value; a share is shown in percent."""
    values = ((point["at"], value(point)) for point in points)
    # ECharts counts time in milliseconds.
    return _plain_line(name, color, [[at * 1000, _percent(each) if is_share else each] for at, each in values])


def _plain_line(name: str, color: str, data: list[list[float | None]]) -> Options:
    style = {"itemStyle": {"color": color}, "lineStyle": {"color": color}}
    # A point between two gaps has no line, so it needs a symbol.
    return {
        "name": name,
        "type": "line",
        "data": data,
        "connectNulls": False,
        "symbol": "circle",
        "symbolSize": 4,
        **style,
    }


def _percent(share: float | None) -> float | None:
    return None if share is None else round(share * 100, 2)


def _band(points: Sequence[Point], interval: Callable[[Point], Sequence[float]], color: str) -> list[Options]:
    """An area between the bounds of an interval, in percent: the lower bound, and the width stacked upon it."""
    low = [[point["at"] * 1000, _percent(interval(point)[0])] for point in points]
    width = [[point["at"] * 1000, _percent(interval(point)[1] - interval(point)[0])] for point in points]
    bare = {"type": "line", "stack": "interval", "symbol": "none", "lineStyle": {"opacity": 0}, "silent": True, "z": 1}
    # Without a tooltip of their own: a width is no figure for people.
    hidden = {"tooltip": {"show": False}, "itemStyle": {"color": color, "opacity": BAND_OPACITY}}
    filled = {"color": color, "opacity": BAND_OPACITY}
    area = {**bare, **hidden, "name": "95% interval", "data": width, "areaStyle": filled}
    return [{**bare, **hidden, "name": "", "data": low}, area]


def _limit(share: float, name: str, *, color: str = RED) -> Options:
    label = {"formatter": f"{name} {percent(share)}", "color": color, "position": "insideStartTop"}
    line = {"yAxis": share * 100, "label": label, "lineStyle": {"color": color}}
    return {"silent": True, "symbol": "none", "data": [line]}


def lanes(
    labels: Sequence[tuple[float, str]], span: tuple[float, float], *, most: int, is_centred: bool = False
) -> list[int | None]:
    """For each label at a time, oldest first, the lane in which it covers no other; None if all lanes are taken.

    `span` is the time from the left to the right end of the chart. Labels begin at their time, or lie around it; near
    the right end these end there.
    """
    length = max(span[1] - span[0], 1e-9)
    ends, found = [-1.0] * most, list[int | None]()
    for at, text in labels:
        width = (len(text) * _LETTER + _SPACE) / _NARROWEST
        share = (at - span[0]) / length
        left = share - (width * (1.0 if share > _NEAR_THE_END else 0.5) if is_centred else 0.0)
        lane = next((number for number, end in enumerate(ends) if end <= left), None)
        if lane is not None:
            ends[lane] = left + width
        found.append(lane)
    return found


def _marked(line: Options, marks: Marks, since: float, until: float) -> Options:
    """The line with a mark for each change, and an area for each incident."""
    span = (since, until)
    lines = [(each.at, _label_of(each)) for each in marks.changes]
    changes = [
        _change(each, lane, is_near_end=each.at - since > _NEAR_THE_END * (until - since))
        for each, lane in zip(marks.changes, lanes(lines, span, most=_LINE_LANES, is_centred=True), strict=True)
    ]
    starts = [(each.since, f"#{each.incident}") for each in marks.incidents]
    areas = [
        _area(each, until, lane)
        for each, lane in zip(marks.incidents, lanes(starts, span, most=_AREA_LANES), strict=True)
    ]
    known: Options = line.get("markLine", {"silent": True, "symbol": "none", "data": []})
    marked = {**line, "markLine": {**known, "data": [*known["data"], *changes]}}
    return {**marked, "markArea": {"silent": True, "data": areas}} if areas else marked


def _label_of(mark: Mark) -> str:
    return f"{'pinned' if mark.is_human else 'threshold'} {mark.threshold:g}"


def _change(mark: Mark, lane: int | None, *, is_near_end: bool) -> Options:
    label = {"formatter": _label_of(mark), "color": GREY, "position": "end", "distance": 2 + _LANE * (lane or 0)}
    label |= {"show": lane is not None, "align": "right" if is_near_end else "center"}
    return {"xAxis": mark.at * 1000, "label": label, "lineStyle": {"color": GREY, "type": "solid", "width": 1}}


def _area(span: Span, until: float, lane: int | None) -> list[Options]:
    label = {"formatter": f"#{span.incident}", "color": RED, "position": "insideTopLeft", "show": lane is not None}
    label["offset"] = [0, _LANE * (lane or 0)]
    begin = {"xAxis": span.since * 1000, "itemStyle": {"color": INCIDENT, "opacity": INCIDENT_OPACITY}, "label": label}
    return [begin, {"xAxis": (until if span.until is None else span.until) * 1000}]


def _chart(series: Series, lines: list[Options], marks: Marks, *, most: float | None = None, unit: str = "") -> Options:
    # To the end of the period: the last step begins before what may be marked in it.
    first, last = series["points"][0]["at"] * 1000, series["until"] * 1000
    label, grid = {"color": GREY}, {"splitLine": {"lineStyle": {"color": FAINT_LINES}}}
    height = {"axisLabel": {**label, "formatter": f"{{value}}{unit}"}, **grid}
    names = [line["name"] for line in lines if line["name"]]
    return {
        "animation": False,
        "aria": {"enabled": True},
        "grid": {"left": 8, "right": 28, "top": 52, "bottom": 8, "containLabel": True},
        "legend": {"textStyle": label, "top": 0, "data": names},
        # Rich text, because ECharts' default would interpret labels as HTML.
        "tooltip": {"trigger": "axis", "renderMode": "richText"},
        "xAxis": {"type": "time", "min": first, "max": last, "axisLabel": {**label, "hideOverlap": True}},
        "yAxis": {"type": "value", "min": 0, "max": most, **height},
        "series": [_marked(lines[0], marks, series["since"], series["until"]), *lines[1:]],
    }
