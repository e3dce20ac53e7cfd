"""The receipt's plots: trends in, HTML figures out.

This code draws them without a library, so every installation can write the page. A style sheet adapts it to light, dark
and paper. A library for bands, levels and gaps takes 84 MB (vl-convert) to 174 MB (matplotlib).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Final

from cheapdeep_ops.cli.render.reliability import bins_of
from cheapdeep_ops.cli.render.svg import TALL, Pair, SvgPlot, nice_top, time_ticks
from cheapdeep_ops.guard.formatting import (
    bounded,
    duration,
    exact_money,
    percent,
    plain,
    scope_text,
    short_percent,
    timestamp,
)
from cheapdeep_ops.guard.notify.receipt_figures import KeyFigure
from cheapdeep_ops.guard.report_types.figures import Bin, Receipt
from cheapdeep_ops.guard.report_types.state import Normal
from cheapdeep_ops.guard.report_types.steps import Point, RouteQuality, TrendPoint, Trends
from cheapdeep_ops.guard.statistics.intervals import Proportion
from cheapdeep_ops.store.records import TrendChange
from cheapdeep_ops.values import ALL_ROUTES

_SMALLEST_TOP: Final = 0.01
"""The smallest top of an axis of shares, because a rate of 0 needs an axis too."""


def figures(receipt: Receipt, trends: Trends) -> str:
    """All figures of a receipt and its trends; empty if no call was counted."""
    if not trends["points"]:
        return ""
    drawn = [_escalation(trends), _cost(trends), _calls(trends), reasons(receipt["reasons"])]
    drawn += [_quality(scope, facts, trends) for scope, facts in trends["quality"].items()]
    drawn.append(reliability(bins_of(receipt["confidence"])))
    return f'<div class="plots">{"".join(drawn)}</div>'


def key_cards(figures: Sequence[KeyFigure]) -> str:
    """The figures as cards, each with its change; empty without figures."""
    return f'<dl class="keys">{"".join(map(_key_card, figures))}</dl>' if figures else ""


def _key_card(figure: KeyFigure) -> str:
    change = f'<span class="change {figure.tone}">{escape(figure.change)}</span>' if figure.change else ""
    before = f"<span>before: {escape(figure.before)}</span>" if figure.before else ""
    parts = f'<b>{escape(figure.value)}</b> <span class="moved">{change} {before}</span>'
    return f"<div><dt>{escape(figure.name)}</dt><dd>{parts}<small>{escape(figure.beside)}</small></dd></div>"


def _escalation(trends: Trends) -> str:
    points, limit = trends["points"], trends["limit"]
    if not any(each["triaged"] for each in points):
        return ""
    actual = [each["escalation_rate"] for each in points]
    base = [each["base_escalation_rate"] for each in points]
    top = _top([limit, *_known(actual), *_known(base)])
    title = "Escalation rate"
    # A description for people who cannot see the plot.
    course = f"{_course(base, 'At base')} {_course(actual, 'Actual')} Limit {percent(limit)}."
    plot = _over_time(title, course, trends, top, _ticks(top, short_percent))
    plot.band("base", [(each["middle"], _base_interval(each)) for each in points])
    plot.across("limit", limit)
    plot.line("actual", _at_middles(points, actual))
    plot.line("base", _at_middles(points, base))
    keys = {"base": "at base, with its 95% interval", "actual": "actual", "limit": f"limit {percent(limit)}"}
    return _figure(title, plot, keys, trends)


def _calls(trends: Trends) -> str:
    points = trends["points"]
    title = f"Calls in steps of {duration(trends['step_s'] or 0)}"
    counted = [each["calls"] for each in points]
    course = f"{sum(counted):,} calls; at most {max(counted):,} in one."
    top = nice_top(max(counted))
    plot = _over_time(title, course, trends, top, _ticks(top, "{:,.5g}".format))
    for each in points:
        sides, shipped = _sides(each["at"], trends), each["triaged"] - each["escalated"]
        plot.bar("actual", sides, (0, shipped))
        plot.bar("base", sides, (shipped, each["triaged"]))
        plot.bar("other", sides, (each["triaged"], each["calls"]))
    keys = {"actual": "stayed with the first tier", "base": "escalated"}
    if any(each["calls"] > each["triaged"] for each in points):
        keys["other"] = "not triaged"
    return _figure(title, plot, keys, trends)


def _cost(trends: Trends) -> str:
    points = trends["points"]
    title = "Cost of a call"
    paid = [each["cost_per_call_usd"] for each in points]
    deep = [each["baseline_per_call_usd"] for each in points]
    if not _known(paid):
        return ""
    top = nice_top(max([*_known(paid), *_known(deep)], default=0.0) or _SMALLEST_TOP)
    course = f"{_course(paid, 'Paid', exact_money)} {_course([each['saving'] for each in points], 'Saving')}"
    plot = _over_time(title, course, trends, top, _ticks(top, "${:.3g}".format))
    plot.band("saved", [(each["middle"], _paid_and_deep(each)) for each in points])
    plot.line("deep", _at_middles(points, deep))
    plot.line("actual", _at_middles(points, paid))
    keys = {"actual": "paid", "deep": "all-deep, estimated", "saved": "saving, the area between them"}
    return _figure(title, plot, keys, trends)


def _paid_and_deep(point: Point) -> Pair | None:
    """The cost paid and the all-deep cost; None if nothing was saved."""
    paid, deep = point["cost_per_call_usd"], point["baseline_per_call_usd"]
    return None if paid is None or deep is None or paid > deep else (paid, deep)


def _quality(scope: str, quality: RouteQuality, trends: Trends) -> str:
    points = [each for each in quality["points"] if each["graded"]]
    if not points:
        return ""
    levels = _levels(quality["normal"], trends["objective"])
    title = f"False-confident rate, {scope_text(scope)}"
    top = _top([*levels.values(), *(each["false_confident_interval"][1] for each in points)])
    grades = f"{sum(each['graded'] for each in points):,} grades"
    beside = "; ".join(_level_words(kind, levels) for kind in levels) or "What is normal is unknown"
    course = f"{grades}. {_course([each['false_confident_rate'] for each in points], 'Rate')} {beside}."
    # Changes of other routes would not explain this plot.
    trends = {**trends, "changes": [each for each in trends["changes"] if _concerns(each, scope)]}
    plot = _over_time(title, course, trends, top, _ticks(top, short_percent))
    for kind, level in levels.items():
        plot.across(kind, level)
    for each in points:
        if each["false_confident_rate"] is not None:
            plot.whisker("wrong", each["middle"], _pair(each["false_confident_interval"]))
            plot.dot("wrong", each["middle"], each["false_confident_rate"])
    keys = {"wrong": f"rate with its 95% interval, {grades}"} | {kind: _level_words(kind, levels) for kind in levels}
    return _figure(title, plot, keys, trends)


def _levels(normal: Normal | None, objective: float | None) -> dict[str, float]:
    rate, alarm = (normal["rate"], normal["alarm_level"]) if normal else (None, None)
    levels = {"normal": rate, "alarm": alarm, "limit": objective}
    return {kind: level for kind, level in levels.items() if level is not None}


def _level_words(kind: str, levels: Mapping[str, float]) -> str:
    words = {"normal": "normal", "alarm": "alarm level", "limit": "limit"}
    return f"{words[kind]} {percent(levels[kind])}"


def reasons(counted: Mapping[str, int]) -> str:
    """Why calls escalated: the share of each reason, its 95% interval and its calls; empty if none escalated."""
    total = sum(counted.values())
    if not total:
        return ""
    rows = "".join(_reason(name, Proportion(hits=count, n=total)) for name, count in _largest(counted))
    head = '<thead><tr><th scope="col">reason</th><th scope="col">share</th><th scope="col">calls</th></tr></thead>'
    title = f"Why calls escalated (n {total:,})"
    return f'<figure><h3>{title}</h3><table class="bars">{head}<tbody>{rows}</tbody></table></figure>'


def _reason(name: str, share: Proportion) -> str:
    width = f"{(share.rate or 0) * 100:.1f}"
    bar = f'<meter aria-hidden="true" max="100" value="{width}"></meter>'
    text = bounded(share.rate, share.interval())
    return f'<tr><th scope="row">{escape(name)}</th><td>{text}{bar}</td><td>{share.hits:,}</td></tr>'


def _largest(counted: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(((name, count) for name, count in counted.items() if count), key=lambda item: (-item[1], item[0]))


def reliability(bins: Sequence[Bin]) -> str:
    """A reliability diagram: stated confidence on the x axis, share of right answers with 95% interval on the y axis.

    A larger dot stands for more answers. Empty without bins.
    """
    if not bins:
        return ""
    graded = sum(each["graded"] for each in bins)
    course = "; ".join(f"claims {percent(each['claims'])}, {percent(each['is_right'])} are right" for each in bins)
    # Both axes have one range, so that the diagonal shows where claims hold.
    low = min(0.5, *(each["claims"] for each in bins), *(each["is_right_interval"][0] for each in bins))
    low = int(low * 10) / 10
    title = "Is confidence worth anything?"
    plot = SvgPlot(title, f"{course}.", x=(low, 1), y=(low, 1), height=TALL)
    ticks = [(low + part, short_percent(low + part)) for part, _ in _ticks(1 - low, str)]
    plot.y_axis(ticks)
    plot.x_axis(ticks)
    plot.diagonal("deep")
    for each in bins:
        plot.whisker("actual", each["claims"], _pair(each["is_right_interval"]))
        plot.dot("actual", each["claims"], each["is_right"], 3 + 6 * each["share"] ** 0.5)
    right = f"share that is right, upwards, by what is claimed, to the right; with 95% intervals, {graded:,} grades"
    return _figure(title, plot, {"actual": right, "deep": "where claims hold"})


def _over_time(title: str, course: str, trends: Trends, top: float, ticks: Iterable[tuple[float, str]]) -> SvgPlot:
    """An empty plot of the period, with its axes and policy changes."""
    plot = SvgPlot(title, course, x=(trends["since"], trends["until"]), y=(0, top))
    plot.y_axis(ticks)
    plot.x_axis(time_ticks(trends["since"], trends["until"]))
    for each in _marked(trends):
        plot.upright(_direction(each), each["at"], change_words(each))
    return plot


def _marked(trends: Trends) -> list[TrendChange]:
    """The policy changes that moved a threshold, from the first call on."""
    return [each for each in trends["changes"] if each["at"] >= trends["since"] and _direction(each)]


def _concerns(change: TrendChange, scope: str) -> bool:
    return scope == ALL_ROUTES or change["scope"] in (scope, ALL_ROUTES)


def _direction(change: TrendChange) -> str:
    moved = change["to_threshold"] - change["from_threshold"]
    return "up" if moved > 0 else "down" if moved < 0 else ""


def change_words(change: TrendChange) -> str:
    """One policy change on one line; names that people and callers chose are shortened."""
    by = f"by {change['cause']}" if change["cause"] else f"by {plain(change['author'])}: {plain(change['why'])}"
    moved = f"{change['from_threshold']:g} to {change['to_threshold']:g}"
    return f"{timestamp(change['at'])}: {change['act']}, {scope_text(change['scope'])}, {moved}, {by}"


def _figure(title: str, plot: SvgPlot, keys: Mapping[str, str], trends: Trends | None = None) -> str:
    """A plot with its title above it and a legend below it."""
    # The legend names a direction only if the plot has a line for it.
    directions = {_direction(each) for each in _marked(trends)} if trends else set()
    moved = {"up": "threshold raised", "down": "threshold lowered"}
    named = {**keys, **{direction: text for direction, text in moved.items() if direction in directions}}
    legend = "".join(f'<span class="key"><i class="{kind}"></i>{escape(text)}</span>' for kind, text in named.items())
    return f"<figure><h3>{escape(title)}</h3>{plot}<figcaption>{legend}</figcaption></figure>"


def _sides(at: int, trends: Trends) -> Pair:
    """Start and end of a step, limited to the period."""
    return max(at, trends["since"]), min(at + (trends["step_s"] or 0), trends["until"])


def _base_interval(point: Point) -> Pair | None:
    return _pair(point["base_escalation_interval"]) if point["triaged"] else None


def _pair(interval: Sequence[float]) -> Pair:
    # JSON has no tuples, so an interval from the API is a list.
    return interval[0], interval[1]


def _at_middles(points: Sequence[TrendPoint], values: Sequence[float | None]) -> list[tuple[float, float | None]]:
    return [(point["middle"], value) for point, value in zip(points, values, strict=True)]


def _known(values: Iterable[float | None]) -> list[float]:
    return [each for each in values if each is not None]


def _course(values: Sequence[float | None], title: str, say: Callable[[float | None], str] = percent) -> str:
    """The course of a figure in words: first, last, smallest and largest value."""
    known = _known(values)
    if not known:
        return f"{title}: unknown."
    least, most = say(min(known)), say(max(known))
    return f"{title}: {say(known[0])} at first, {say(known[-1])} at last, between {least} and {most}."


def _top(shares: Iterable[float]) -> float:
    return min(nice_top(max([*shares, _SMALLEST_TOP])), 1.0)


def _ticks(top: float, say: Callable[[float], str]) -> list[tuple[float, str]]:
    return [(top * part, say(top * part)) for part in (0.0, 0.5, 1.0)]
