"""The charts: a series in, options of ECharts out. No option has text from a user."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from cheapdeep_ops.guard.report_types.steps import Point, Series

Options = dict[str, Any]
"""Options of ECharts; not typed, because ECharts has thousands of them."""

_BLUE: Final = "#3b82c4"
_GREY: Final = "#808a94"
_ORANGE: Final = "#d97706"
_RED: Final = "#dc4c4c"
_BROAD: Final = 5
"""Pixels: wide enough to be visible when another line covers this one."""

_LINES: Final = "rgba(128, 138, 148, 0.25)"


def escalation(series: Series) -> Options:
    """The escalation rate at base, the actual rate, and the limit, in percent."""
    points = series["points"]
    base = _line("at base", _ORANGE, points, lambda point: point["base_escalation_rate"])
    base["lineStyle"] = {**base["lineStyle"], "width": _BROAD}
    limit = {"silent": True, "symbol": "none", "data": [{"yAxis": series["limit"] * 100}]}
    base["markLine"] = {**limit, "lineStyle": {"color": _RED}, "label": {"formatter": "limit", "color": _RED}}
    actual = _line("actual", _BLUE, points, lambda point: point["escalation_rate"])
    return _chart(series, [_as_percent(base), _as_percent(actual)], most=100)


def calls(series: Series) -> Options:
    """The shipped and the escalated calls of each step."""
    shipped = _line("shipped", _BLUE, series["points"], lambda point: point["shipped"])
    escalated = _line("escalated", _ORANGE, series["points"], lambda point: point["escalated"])
    return _chart(series, [{**each, "stack": "calls", "areaStyle": {"opacity": 0.3}} for each in (shipped, escalated)])


def false_confidence(series: Series) -> Options:
    """The share of wrong answers among shipped ones, with its 95% interval, in percent; only steps with grades."""
    points = [point for point in series["points"] if point["graded"]]
    rate = _as_percent(_line("wrong", _RED, points, lambda point: point["false_confident_rate"]))
    low, high = (_as_percent(_bound(name, points, side)) for name, side in (("95% from", 0), ("95% to", 1)))
    return _chart(series, [rate, low, high])


def cost(series: Series) -> Options:
    """The cost of a call, and the estimate for the deep tier alone, in US dollars."""
    paid = _line("paid", _BLUE, series["points"], lambda point: point["cost_per_call_usd"])
    deep = _line("all-deep, estimated", _GREY, series["points"], lambda point: point["baseline_per_call_usd"])
    return _chart(series, [paid, deep])


def _bound(name: str, points: Sequence[Point], side: int) -> Options:
    bound = _line(name, _GREY, points, lambda point: point["false_confident_interval"][side])
    return {**bound, "lineStyle": {"type": "dashed", "color": _GREY}}


def _line(name: str, color: str, points: Sequence[Point], value: Callable[[Point], float | None]) -> Options:
    """A line with a gap at each unknown value."""
    # ECharts counts time in milliseconds.
    data = [[point["at"] * 1000, value(point)] for point in points]
    style = {"itemStyle": {"color": color}, "lineStyle": {"color": color}}
    # A point between two gaps has no line, so it needs a symbol.
    symbol = {"symbol": "circle", "symbolSize": 4}
    return {"name": name, "type": "line", "data": data, "connectNulls": False, **symbol, **style}


def _as_percent(line: Options) -> Options:
    data = [[at, None if share is None else round(share * 100, 2)] for at, share in line["data"]]
    return {**line, "data": data}


def _chart(series: Series, lines: list[Options], *, most: float | None = None) -> Options:
    first, last = (series["points"][index]["at"] * 1000 for index in (0, -1))
    label = {"color": _GREY}
    grid = {"splitLine": {"lineStyle": {"color": _LINES}}}
    return {
        "animation": False,
        "useUTC": True,
        "aria": {"enabled": True},
        "grid": {"left": 60, "right": 50, "top": 40, "bottom": 30},
        "legend": {"textStyle": label, "top": 0},
        # Rich text, because ECharts' default would interpret labels as HTML.
        "tooltip": {"trigger": "axis", "renderMode": "richText"},
        "xAxis": {"type": "time", "min": first, "max": last, "axisLabel": {**label, "hideOverlap": True}},
        "yAxis": {"type": "value", "min": 0, "max": most, "axisLabel": label, **grid},
        "series": lines,
    }
