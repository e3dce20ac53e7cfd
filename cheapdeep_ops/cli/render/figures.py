"""The receipt's plots: trends in, figures of HTML out.

Drawn by hand: the page has to be there in every installation, load nothing, and follow the reader's light, dark and
paper by its style sheet alone. What draws bands, levels and gaps takes 84 MB (vl-convert) to 174 MB (matplotlib).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from cheapdeep_ops.cli.output import moment, usd
from cheapdeep_ops.cli.render.svg import TALL, Pair, SvgPlot, nice_top, time_ticks
from cheapdeep_ops.guard.formatting import duration, percent, plain
from cheapdeep_ops.guard.statistics.intervals import Proportion
from cheapdeep_ops.values import ALL_ROUTES

Trends = Mapping[str, Any]
Point = Mapping[str, Any]

_SMALLEST_TOP: Final = 0.01
"""Of an axis of shares: a rate of nothing needs an axis too."""


def figures(found: Mapping[str, Any], trends: Trends) -> str:
    """All figures of a receipt `found` whose `trends` these are; nothing where no call was counted."""
    if not trends["points"]:
        return ""
    drawn = [_escalation(trends), _calls(trends), _cost(trends), reasons(found["reasons"])]
    drawn += [_quality(scope, facts, trends) for scope, facts in trends["quality"].items()]
    drawn.append(reliability(found["confidence"].get(ALL_ROUTES, {}).get("bins", ())))
    return f'<div class="plots">{"".join(drawn)}</div>'


def _escalation(trends: Trends) -> str:
    points, limit = trends["points"], trends["limit"]
    top = _top([limit, *_known(points, "escalation_rate"), *_known(points, "base_escalation_rate")])
    title = "Escalation rate"
    told = f"{_course(points, 'base_escalation_rate', 'At base')} {_course(points, 'escalation_rate', 'Actual')}"
    plot = _over_time(title, f"{told} Limit {percent(limit)}.", trends, top, _ticks(top, _short))
    plot.band("base", [(each["middle"], _bounds(each, "base_escalation", "triaged")) for each in points])
    plot.across("limit", limit)
    plot.line("actual", [(each["middle"], each["escalation_rate"]) for each in points])
    plot.line("base", [(each["middle"], each["base_escalation_rate"]) for each in points])
    keys = {"base": "at base, with its 95% interval", "actual": "actual", "limit": f"limit {percent(limit)}"}
    return _figure(title, plot, keys, trends)


def _calls(trends: Trends) -> str:
    points = trends["points"]
    title = f"Calls in steps of {duration(trends['step_s'])}"
    counted = [each["calls"] for each in points]
    told = f"{sum(counted):,} calls; at most {max(counted):,} in one."
    top = nice_top(max(counted))
    plot = _over_time(title, told, trends, top, _ticks(top, "{:,.5g}".format))
    for each in points:
        sides, stayed = _sides(each["at"], trends), each["triaged"] - each["escalated"]
        plot.bar("actual", sides, (0, stayed))
        plot.bar("base", sides, (stayed, each["triaged"]))
        plot.bar("other", sides, (each["triaged"], each["calls"]))
    keys = {"actual": "stayed with the first tier", "base": "escalated"}
    if any(each["calls"] > each["triaged"] for each in points):
        keys["other"] = "not triaged"
    return _figure(title, plot, keys, trends)


def _cost(trends: Trends) -> str:
    points = trends["points"]
    title = "Cost of a call"
    known = [*_known(points, "cost_per_call_usd"), *_known(points, "baseline_per_call_usd")]
    top = nice_top(max(known, default=0.0) or _SMALLEST_TOP)
    told = f"{_course(points, 'cost_per_call_usd', 'Paid', usd)} {_course(points, 'saving', 'Saving')}"
    plot = _over_time(title, told, trends, top, _ticks(top, "${:.3g}".format))
    plot.band("saved", [(each["middle"], _paid_and_deep(each)) for each in points])
    plot.line("deep", [(each["middle"], each["baseline_per_call_usd"]) for each in points])
    plot.line("actual", [(each["middle"], each["cost_per_call_usd"]) for each in points])
    keys = {"actual": "paid", "deep": "all-deep, estimated", "saved": "between them: saved"}
    return _figure(title, plot, keys, trends)


def _paid_and_deep(point: Point) -> Pair | None:
    """What lies between the lines where something was saved."""
    paid, deep = point["cost_per_call_usd"], point["baseline_per_call_usd"]
    return None if paid is None or deep is None or paid > deep else (paid, deep)


def _quality(scope: str, facts: Mapping[str, Any], trends: Trends) -> str:
    points = [each for each in facts["points"] if each["graded"]]
    levels = _levels(facts["normal"], trends["objective"])
    where = "all routes" if scope == ALL_ROUTES else f"route {plain(scope)}"
    title = f"Wrong among shipped, {where}"
    top = _top([*levels.values(), *(each["false_confident_interval"][1] for each in points)])
    grades = f"{sum(each['graded'] for each in points):,} grades"
    beside = "; ".join(_level_words(kind, levels) for kind in levels) or "What is normal is not known"
    told = f"{grades}. {_course(points, 'false_confident_rate', 'Rate')} {beside}."
    trends = {**trends, "changes": [each for each in trends["changes"] if _concerns(each, scope)]}
    plot = _over_time(title, told, trends, top, _ticks(top, _short))
    for kind, level in levels.items():
        plot.across(kind, level)
    for each in points:
        plot.whisker("wrong", each["middle"], tuple(each["false_confident_interval"]))
        plot.dot("wrong", each["middle"], each["false_confident_rate"])
    keys = {"wrong": f"rate with its 95% interval, {grades}"} | {kind: _level_words(kind, levels) for kind in levels}
    return _figure(title, plot, keys, trends)


def _levels(normal: Mapping[str, Any] | None, objective: float | None) -> dict[str, float]:
    known = normal or {"rate": None, "alarm_level": None}
    found = {"normal": known["rate"], "alarm": known["alarm_level"], "limit": objective}
    return {kind: level for kind, level in found.items() if level is not None}


def _level_words(kind: str, levels: Mapping[str, float]) -> str:
    words = {"normal": "normal", "alarm": "alarm level", "limit": "limit"}
    return f"{words[kind]} {percent(levels[kind])}"


def reasons(counted: Mapping[str, int]) -> str:
    """Why calls escalated, by share, with its 95% interval and how many; nothing where none did."""
    total = sum(counted.values())
    if not total:
        return ""
    rows = "".join(_reason(name, Proportion(hits=count, n=total)) for name, count in _largest(counted))
    head = '<thead><tr><th scope="col">reason</th><th scope="col">share</th><th scope="col">calls</th></tr></thead>'
    title = f"Why calls escalated (n {total:,})"
    return f'<figure><h3>{title}</h3><table class="bars">{head}<tbody>{rows}</tbody></table></figure>'


def _reason(name: str, share: Proportion) -> str:
    low, high = share.interval()
    width = f"{(share.rate or 0) * 100:.1f}"
    bar = f'<meter aria-hidden="true" max="100" value="{width}"></meter>'
    said = f"{percent(share.rate)} ({percent(low)} to {percent(high)})"
    return f'<tr><th scope="row">{escape(name)}</th><td>{said}{bar}</td><td>{share.hits:,}</td></tr>'


def _largest(counted: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(((name, count) for name, count in counted.items() if count), key=lambda item: (-item[1], item[0]))


def reliability(bins: Sequence[Mapping[str, Any]]) -> str:
    """A reliability diagram: what is claimed to the right, what is right upwards, with 95% intervals.

    Nothing without bins. The larger a dot, the more answers it is of.
    """
    if not bins:
        return ""
    graded = sum(each["graded"] for each in bins)
    told = "; ".join(f"claims {percent(each['claims'])}, {percent(each['is_right'])} are right" for each in bins)
    low = min(0.5, *(each["claims"] for each in bins), *(each["is_right_interval"][0] for each in bins))
    low = int(low * 10) / 10
    title = "Is confidence worth anything?"
    plot = SvgPlot(title, f"{told}.", x=(low, 1), y=(low, 1), height=TALL)
    ticks = [(low + part, _short(low + part)) for part, _ in _ticks(1 - low, str)]
    plot.y_axis(ticks)
    plot.x_axis(ticks)
    plot.diagonal("deep")
    for each in bins:
        plot.whisker("actual", each["claims"], tuple(each["is_right_interval"]))
        plot.dot("actual", each["claims"], each["is_right"], 3 + 6 * each["share"] ** 0.5)
    right = f"share that is right, upwards, by what is claimed, to the right; with 95% intervals, {graded:,} grades"
    return _figure(title, plot, {"actual": right, "deep": "where claims hold"})


def _over_time(title: str, told: str, trends: Trends, top: float, ticks: Iterable[tuple[float, str]]) -> SvgPlot:
    """An empty plot of the period, with its axes and the changes of policy."""
    plot = SvgPlot(title, told, x=(trends["since"], trends["until"]), y=(0, top))
    plot.y_axis(ticks)
    plot.x_axis(time_ticks(trends["since"], trends["until"]))
    for each in _marked(trends):
        plot.upright(_turn(each), each["at"], change_words(each))
    return plot


def _marked(trends: Trends) -> list[Mapping[str, Any]]:
    """The changes of policy since the first call that moved a threshold."""
    return [each for each in trends["changes"] if each["at"] >= trends["since"] and _turn(each)]


def _concerns(change: Mapping[str, Any], scope: str) -> bool:
    return scope == ALL_ROUTES or change["scope"] in (scope, ALL_ROUTES)


def _turn(change: Mapping[str, Any]) -> str:
    moved = change["to_threshold"] - change["from_threshold"]
    return "up" if moved > 0 else "down" if moved < 0 else ""


def change_words(change: Mapping[str, Any]) -> str:
    """One change of policy in a line; what people and callers chose stays text."""
    where = "all routes" if change["scope"] == ALL_ROUTES else f"route {plain(change['scope'])}"
    by = f"by {change['cause']}" if change["cause"] else f"by {plain(change['author'])}: {plain(change['why'])}"
    moved = f"{change['from_threshold']:g} to {change['to_threshold']:g}"
    return f"{moment(change['at'])}: {change['act']}, {where}, {moved}, {by}"


def _figure(title: str, plot: SvgPlot, keys: Mapping[str, str], trends: Trends | None = None) -> str:
    """A plot under its title, with what its colours mean below."""
    turns = {_turn(each) for each in _marked(trends)} if trends else set()
    moved = {"up": "threshold raised", "down": "threshold lowered"}
    named = {**keys, **{turn: said for turn, said in moved.items() if turn in turns}}
    legend = "".join(f'<span class="key"><i class="{kind}"></i>{escape(text)}</span>' for kind, text in named.items())
    return f"<figure><h3>{escape(title)}</h3>{plot}<figcaption>{legend}</figcaption></figure>"


def _sides(at: int, trends: Trends) -> Pair:
    """Of the part of a step that lies in the period."""
    return max(at, trends["since"]), min(at + trends["step_s"], trends["until"])


def _bounds(point: Point, name: str, n: str) -> Pair | None:
    low, high = point[f"{name}_interval"]
    return (low, high) if point[n] else None


def _known(points: Iterable[Point], name: str) -> list[float]:
    return [each[name] for each in points if each[name] is not None]


def _course(points: Sequence[Point], name: str, title: str, said: Callable[[float | None], str] = percent) -> str:
    """How something went, for those who cannot see it."""
    known = _known(points, name)
    if not known:
        return f"{title}: unknown."
    least, most = said(min(known)), said(max(known))
    return f"{title}: {said(known[0])} at first, {said(known[-1])} at last, between {least} and {most}."


def _top(shares: Iterable[float]) -> float:
    return min(nice_top(max([*shares, _SMALLEST_TOP])), 1.0)


def _ticks(top: float, said: Callable[[float], str]) -> list[tuple[float, str]]:
    return [(top * part, said(top * part)) for part in (0.0, 0.5, 1.0)]


def _short(share: float) -> str:
    return f"{share * 100:.3g}%"
