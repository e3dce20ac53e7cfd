"""What the charts show: a series in, options of ECharts out; no option holds text that a user wrote."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

Options = dict[str, Any]
Point = Mapping[str, Any]

_BLUE: Final = "#3b82c4"
_GREY: Final = "#808a94"
_ORANGE: Final = "#d97706"
_RED: Final = "#dc4c4c"
_BROAD: Final = 5
"""Pixels: another line may cover this one, so it is wide enough to be seen beside it."""

_LINES: Final = "rgba(128, 138, 148, 0.25)"


def escalation(found: Mapping[str, Any]) -> Options:
    """The base and the actual escalation rate, with the limit; in percent."""
    points = found["points"]
    base = _line("at base", _ORANGE, points, lambda point: point["base_escalation_rate"])
    base["lineStyle"] = {**base["lineStyle"], "width": _BROAD}
    limit = {"silent": True, "symbol": "none", "data": [{"yAxis": found["limit"] * 100}]}
    base["markLine"] = {**limit, "lineStyle": {"color": _RED}, "label": {"formatter": "limit", "color": _RED}}
    actual = _line("actual", _BLUE, points, lambda point: point["escalation_rate"])
    return _chart(found, [_as_percent(base), _as_percent(actual)], most=100)


def calls(found: Mapping[str, Any]) -> Options:
    """The numbers of shipped and of escalated calls in each step."""
    shipped = _line("shipped", _BLUE, found["points"], lambda point: point["shipped"])
    escalated = _line("escalated", _ORANGE, found["points"], lambda point: point["escalated"])
    return _chart(found, [{**each, "stack": "calls", "areaStyle": {"opacity": 0.3}} for each in (shipped, escalated)])


def false_confidence(found: Mapping[str, Any]) -> Options:
    """The share of wrong answers among shipped ones, with its 95% interval, in percent; only steps with grades."""
    points = [point for point in found["points"] if point["graded"]]
    rate = _as_percent(_line("wrong", _RED, points, lambda point: point["false_confident_rate"]))
    low, high = (_as_percent(_bound(name, points, side)) for name, side in (("95% from", 0), ("95% to", 1)))
    return _chart(found, [rate, low, high])


def cost(found: Mapping[str, Any]) -> Options:
    """The cost of a call, and its cost at the deep tier alone, in US dollars."""
    paid = _line("paid", _BLUE, found["points"], lambda point: point["cost_per_call_usd"])
    deep = _line("all-deep, estimated", _GREY, found["points"], lambda point: point["baseline_per_call_usd"])
    return _chart(found, [paid, deep])


def _bound(name: str, points: Sequence[Point], side: int) -> dict[str, Any]:
    bound = _line(name, _GREY, points, lambda point: point["false_confident_interval"][side])
    return {**bound, "lineStyle": {"type": "dashed", "color": _GREY}}


def _line(name: str, color: str, points: Sequence[Point], value: Callable[[Point], float | None]) -> dict[str, Any]:
    """A line with gaps for unknown values."""
    # ECharts takes times in milliseconds.
    data = [[point["at"] * 1000, value(point)] for point in points]
    style = {"itemStyle": {"color": color}, "lineStyle": {"color": color}}
    # A point between two gaps has no line, so only a symbol shows it.
    symbol = {"symbol": "circle", "symbolSize": 4}
    return {"name": name, "type": "line", "data": data, "connectNulls": False, **symbol, **style}


def _as_percent(line: dict[str, Any]) -> dict[str, Any]:
    data = [[at, None if share is None else round(share * 100, 2)] for at, share in line["data"]]
    return {**line, "data": data}


def _chart(found: Mapping[str, Any], lines: list[dict[str, Any]], *, most: float | None = None) -> Options:
    first, last = (found["points"][index]["at"] * 1000 for index in (0, -1))
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
