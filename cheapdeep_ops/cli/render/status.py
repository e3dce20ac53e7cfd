"""The state of the guard for a terminal: one screen, the most important first; or all of it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from cheapdeep_ops.budgets import BudgetName
from cheapdeep_ops.cli.output import table
from cheapdeep_ops.cli.render.terminal import in_force, show_facts, show_normal, show_policy, show_reach
from cheapdeep_ops.guard.formatting import (
    bounds,
    counts,
    duration,
    money,
    percent,
    plain,
    rate,
    scope_text,
    skew_text,
    timestamp,
    whole_dollars,
)
from cheapdeep_ops.guard.report_types.state import BudgetState, GraderState, ScopePolicy, Silence, Status, Watchers
from cheapdeep_ops.guard.state_text import outcomes_words, silence_end, threshold_cause
from cheapdeep_ops.store.records import Alert, Queue, Signal
from cheapdeep_ops.values import ALL_ROUTES

SCREEN_LINES: Final = 24
"""The lines of a small terminal, which also bound what a pipe gets."""

_FIRING: Final = "firing"
_MOST_ALERTS: Final = 4
_FEWEST_ROUTES: Final = 3
_LONGEST_WHY: Final = 200
_LONGEST_ROUTE: Final = 24


def show_status(out: Console, status: Status) -> None:
    """Print what fits one screen."""
    out.print(screen(status, lines=out.height if out.is_terminal else SCREEN_LINES))


def screen(status: Status, *, lines: int) -> RenderableType:
    """The state on so many lines: alerts, facts, then as many routes as there is room for."""
    # Printed one by one, lines that are meant to be cut would be wrapped.
    return Group(*_parts(status, lines))


def _parts(status: Status, lines: int) -> Iterator[RenderableType]:
    yield _verdict(status)
    alerts = list(_alerts(status))
    yield from alerts
    facts = _facts(status)
    yield _two_columns(facts)
    rows = _route_rows(status)
    if rows:
        # One line each for the verdict, a space, the titles, a rule, the rest of the routes and the prompt.
        room = max(lines - len(alerts) - len(facts) - 6, _FEWEST_ROUTES)
        yield ""
        yield _routes(rows[:room])
        if len(rows) > room:
            yield Text(f"and {len(rows) - room:,} more routes: cheapdeep-ops status --all", style="dim")


def show_whole_status(out: Console, status: Status) -> None:
    """Print the state with every alert, route, silence and policy."""
    out.print(_verdict(status))
    show_facts(out, _facts(status) | _other_facts(status))
    if status["alerts"]:
        out.print()
        rows = [_alert_row(alert) for alert in status["alerts"]]
        out.print(table("Alerts", ("incident", "rule", "scope", "state", "signal", "since"), rows))
    for number in _open_numbers(status):
        out.print(f"To acknowledge incident {number}: cheapdeep-ops alert ack {number} --why TEXT", markup=False)
    if status["budgets"]:
        out.print()
        rows = [_budget_row(each) for each in status["budgets"]]
        titles = ("budget", "spent", "of", "share", "held", "unknown cost", "processes", "reported")
        out.print(table("Budgets of this day (UTC)", titles, rows))
    for each in status["silences"]:
        where = "all routes" if each["route"] is None else plain(each["route"])
        out.print(f"silence {each['id']}: {each['rule']} of {where} until {silence_end(each)}", markup=False)
    if rows := _route_rows(status):
        out.print()
        out.print(_routes(rows))
    if status["normal"]:
        out.print()
        show_normal(out, status["normal"])
    show_reach(out, status["reach"])
    show_policy(out, status["policy"])


def _verdict(status: Status) -> Text:
    """The state in one line."""
    if not status["watchers"]["evaluates"]:
        return Text(_staleness(status["watchers"], status["at"]), style="bold red")
    firing = _firing(status)
    if not firing:
        pending = sum(each["state"] == "pending" for each in status["alerts"])
        return Text(f"All well: no alert fires{f', {pending} pending' if pending else ''}", style="bold green")
    return Text(f"{len(firing)} alert{'s fire' if len(firing) > 1 else ' fires'}", style="bold red")


def _staleness(watchers: Watchers, now: float) -> str:
    """That no guard evaluates, and since when."""
    last = watchers["evaluated_at"]
    if watchers["guards"]:
        old = "yet" if last is None else f"for {duration(now - last)}"
        return f"A guard runs but has not evaluated {old}: see the log of cheapdeep-ops serve"
    old = "" if last is None else f" (last evaluation {duration(now - last)} ago)"
    return f"No guard runs on this store{old}: run cheapdeep-ops serve"


def _firing(status: Status) -> list[Alert]:
    """The alerts that fire, newest first; those that raise a threshold before the others."""
    firing = [each for each in status["alerts"] if each["state"] == _FIRING]
    return sorted(firing, key=lambda each: ("rate" not in each["signal"], -each["since"]))


def _alerts(status: Status) -> Iterator[Text]:
    firing = _firing(status)
    for each in firing[:_MOST_ALERTS]:
        number = "" if each["incident_id"] is None else f"#{each['incident_id']} "
        lasts = duration(max(status["at"] - each["since"], 0))
        where = scope_text(plain(each["scope"], _LONGEST_ROUTE))
        what = f"{number}{each['rule']}, {where}, {lasts}: {_short_signal(each['signal'])}"
        yield Text(what, style="red", overflow="ellipsis", no_wrap=True)
    if len(firing) > _MOST_ALERTS:
        yield Text(f"and {len(firing) - _MOST_ALERTS} more: cheapdeep-ops incidents", style="red")
    if numbers := _open_numbers(status):
        yield Text(f"look: cheapdeep-ops incidents show {numbers[0]}", style="dim")
        yield Text(f"act:  cheapdeep-ops alert ack {numbers[0]} --why TEXT", style="dim")


def _open_numbers(status: Status) -> list[int]:
    return [each["incident_id"] for each in _firing(status) if each["incident_id"] is not None]


def _two_columns(facts: Mapping[str, str]) -> Table:
    rows = Table.grid(padding=(0, 2))
    rows.add_column(no_wrap=True, min_width=max(map(len, facts)))
    rows.add_column(no_wrap=True, overflow="ellipsis")
    for name, value in facts.items():
        rows.add_row(Text(name, style="dim"), Text(value))
    return rows


def _facts(status: Status) -> dict[str, str]:
    """What a person on call asks next; what is as it should be is left out, or short."""
    watchers, skewed = status["watchers"], status["watchers"]["skewed_hosts"]
    failed, malformed = status["triage_errors"], status["malformed_causes"]
    pins = {name: each for name, each in status["policy"]["scopes"].items() if each["pin"] is not None}
    mode = "" if status["mode"] == "enforce" else f"; {status['mode']} mode: rules change nothing"
    return {
        "threshold": f"{in_force(status['policy'])}{mode}",
        **({"pinned": _pinned(pins)} if pins else {}),
        "guard": _guard(watchers, status["at"]),
        "routers": _routers(watchers),
        "grader": _grader(status["grader"], status["at"]),
        "messages": _messages(status["queue"]),
        **({"clocks": f"{skew_text(skewed)} of the store's time"} if skewed else {}),
        **({"failed triage": f"{counts(failed)} in the last hour"} if failed else {}),
        **({"malformed": f"{counts(malformed)} in the last hour"} if malformed else {}),
        **({"users": f"{outcomes_words(status['outcomes'])}, 24 h"} if status["outcomes"]["n"] else {}),
        **({"budget": _fullest(status["budgets"])} if status["budgets"] else {}),
        **({"silenced": _silenced(status["silences"])} if status["silences"] else {}),
    }


def _fullest(budgets: Sequence[BudgetState]) -> str:
    """The budget of which the largest share is spent, and how many more there are."""
    first, *rest = sorted(budgets, key=lambda each: -each["share"])
    return budget_words(first) + (f"; {len(rest)} more: cheapdeep-ops status --all" if rest else "")


def budget_words(budget: BudgetState) -> str:
    """What is spent of a budget, and what that rests on."""
    name = plain(BudgetName.read(budget["budget"]).label, _LONGEST_ROUTE)
    unpriced = budget["unpriced_calls"]
    without = f", without {unpriced:,} call{'' if unpriced == 1 else 's'} of unknown cost" if unpriced else ""
    spent, limit = money(budget["spent_usd"]), money(budget["limit_usd"])
    return f"{name} {spent} of {limit} ({percent(budget['share'])}) since midnight UTC{without}"


def _silenced(silences: Sequence[Silence]) -> str:
    """The silence that ends first, and how many more there are."""
    first, *rest = sorted(silences, key=lambda each: each["until"])
    where = "all routes" if first["route"] is None else plain(first["route"], _LONGEST_ROUTE)
    more = f", and {len(rest)} more" if rest else ""
    return f"{first['rule']} of {where} until {silence_end(first)}{more}"


def _pinned(pins: Mapping[str, ScopePolicy]) -> str:
    """One pin, and how many more there are."""
    (name, first), *rest = pins.items()
    where = "all routes" if name == ALL_ROUTES else plain(name, _LONGEST_ROUTE)
    more = f", and {len(rest)} more" if rest else ""
    return f"{where} at {first['threshold']:g}, {threshold_cause(first)}{more}"


def _other_facts(status: Status) -> dict[str, str]:
    watchers, queue = status["watchers"], status["queue"]
    return {
        "store": status["store"],
        "mode": status["mode"],
        "dropped": f"{watchers['dropped']} decisions dropped, {watchers['late']} calls too late to count",
        "delivered": f"{queue['delivered']} messages, {queue['attempts']} attempts",
        "failed triage": f"{counts(status['triage_errors'])} in the last hour",
        "malformed": f"{counts(status['malformed_causes'])} in the last hour",
        "users": f"{outcomes_words(status['outcomes'])}, in the last 24 h",
    }


def _guard(watchers: Watchers, now: float) -> str:
    last = watchers["evaluated_at"]
    if last is None:
        return f"{watchers['guards']} running, no evaluation yet"
    return f"{watchers['guards']} running, last evaluation {duration(max(now - last, 0))} ago"


def _routers(watchers: Watchers) -> str:
    dropped = f", {watchers['dropped']:,} decisions dropped" if watchers["dropped"] else ""
    late = f", {watchers['late']:,} calls too late to count" if watchers["late"] else ""
    return f"{watchers['routers']} seen in the last minute{dropped}{late}"


def _messages(queue: Queue) -> str:
    if queue["waiting"]:
        return f"{queue['waiting']} waiting; last error: {plain(queue['last_error'] or 'none', _LONGEST_WHY)}"
    return f"all {queue['delivered']} delivered" if queue["delivered"] else "none yet"


def _grader(grader: GraderState, now: float) -> str:
    why = f": {plain(grader['why'], _LONGEST_WHY)}" if grader["why"] else ""
    at = grader["last_grade_at"]
    last = "no grade yet" if at is None else f"last grade {duration(max(round(now - at), 0))} ago"
    spent = f"{money(grader['spent_24h_usd'])} of {whole_dollars(grader['limit_24h_usd'])} in 24 h"
    return f"{grader['state']}{why}; {grader['waiting']:,} samples wait, {last}, {spent}"


_ROUTES: Final = ("route", "threshold", "escalates at base", "false-confident rate", "normal")


def _routes(rows: Sequence[Sequence[str]]) -> Table:
    made = Table(*_ROUTES, show_edge=False, pad_edge=False, box=None, header_style="dim")
    for column in made.columns[1:]:
        column.no_wrap = True
    for firing, name, *cells in rows:
        style = "red" if firing else ""
        # Where there is little room, the name is cut and the figures are not.
        cut = Text(name, style=style, no_wrap=True, overflow="ellipsis")
        made.add_row(cut, *(Text(cell, style=style) for cell in cells))
    return made


def _route_rows(status: Status) -> list[Sequence[str]]:
    """What the rules see in each route: those whose alerts fire first, then by escalation; all routes last.

    The rules count a route that fires by itself in no joint figure, so then the last row is of the other routes.
    """
    escalation = {each["scope"]: each["signal"] for each in status["alerts"] if "actual_rate" in each["signal"]}
    quality = {each["scope"]: each["signal"] for each in status["alerts"] if "shipped_rate" in each["signal"]}
    firing = {each["scope"] for each in _firing(status)}
    policy = status["policy"]
    apart = {each["scope"] for each in _firing(status) if "rate" in each["signal"]} - {ALL_ROUTES}
    together = "other routes" if apart else "all routes"

    def order(scope: str) -> tuple[bool, bool, float, str]:
        return scope == ALL_ROUTES, scope not in firing, -(escalation.get(scope, {}).get("rate") or 0.0), scope

    return [
        (
            "firing" if scope in firing else "",
            together if scope == ALL_ROUTES else plain(scope, _LONGEST_ROUTE),
            f"{policy['scopes'].get(scope, policy)['threshold']:g}",
            _short_rate(escalation.get(scope)),
            _short_rate(quality.get(scope)),
            percent(quality[scope].get("normal_rate")) if scope in quality else "",
        )
        for scope in sorted(escalation.keys() | quality.keys(), key=order)
    ]


def _short_rate(signal: Signal | None) -> str:
    if not signal or not signal.get("n") or signal.get("rate") is None:
        return "no data"
    return f"{percent(signal['rate'])} ({bounds((signal['low'], signal['high']))})"


def _budget_row(budget: BudgetState) -> Sequence[str]:
    return (
        plain(BudgetName.read(budget["budget"]).label),
        money(budget["spent_usd"]),
        money(budget["limit_usd"]),
        percent(budget["share"]),
        money(budget["held_usd"]),
        f"{budget['unpriced_calls']:,} calls",
        str(budget["processes"]),
        timestamp(budget["as_of"]),
    )


def _alert_row(alert: Alert) -> Sequence[str]:
    since = timestamp(alert["since"] or None)
    # The number that `alert ack` takes; an alert that does not fire has no incident.
    number = "" if alert["incident_id"] is None else str(alert["incident_id"])
    return (number, alert["rule"], alert["scope"], alert["state"], _signal(alert["signal"]), since)


def _short_signal(signal: Signal) -> str:
    """A signal without its interval, which the table of routes has."""
    if signal.get("why") or signal.get("limit") is None or not signal.get("n") or signal.get("rate") is None:
        return _signal(signal)
    of_what = " escalate" if "actual_rate" in signal else " false-confident" if "shipped_rate" in signal else ""
    return f"{percent(signal['rate'])}{of_what}, limit {percent(signal['limit'])}, n {signal['n']:,}"


def _signal(signal: Signal) -> str:
    # A rule that watches no rate says in `why` what is wrong.
    if signal.get("why"):
        return str(signal["why"])
    if not signal.get("n") or "rate" not in signal:
        return "no data"
    limit = f", limit {percent(signal['limit'])}" if signal.get("limit") is not None else ""
    return f"{rate(signal['rate'], (signal['low'], signal['high']), signal['n'])}{limit}"
