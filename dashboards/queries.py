"""PromQL of the boards, from the names that the guard exports.

Two guards on one store tell the same, so every series is taken once (`max by` its own labels) before it is added up.
Only labels of ours are used: `job` and `instance` depend on how the figures come into Prometheus.
"""

from typing import Final

from cheapdeep_ops.telemetry import names

WINDOW: Final = "$__rate_interval"
PERIOD: Final = "$__range"
TRAFFIC: Final = 'route=~"$route",input_class=~"$input_class"'
ROUTE: Final = 'route=~"$route"'
SCOPE: Final = 'scope=~"$route|[*]"'
ROUTE_OR_ALL: Final = 'route=~"$route|[*]"'
ONLY_ROUTES: Final = f'{ROUTE},route!="*"'
ALL: Final = 'route="*"'
CLASS_LABELS: Final = "route, input_class"


def gauge(name: str, labels: str, *, where: str = "") -> str:
    """The gauge, once for each combination of `labels`."""
    by = f" by ({labels})" if labels else ""
    return f"max{by} ({name}{{{where}}})" if where else f"max{by} ({name})"


def fired(labels: str, *, where: str = "") -> str:
    """Alerts by `labels`, 1 while they fire: those that did so in the shown period."""
    name = f"{names.FLEET_ALERT}{{{where}}}" if where else names.FLEET_ALERT
    ever = f"max by ({labels}) (max_over_time({name}[{PERIOD}] @ end())) == 1"
    return f"max by ({labels}) ({name}) and on ({labels}) ({ever})"


def any_alert(*, where: str = "") -> str:
    """1 while any alert fires, 0 while none does; no value where no guard is there to say."""
    return gauge(names.FLEET_ALERT, "", where=where)


def counted(
    name: str,
    *,
    by: str = "",
    labels: str = CLASS_LABELS,
    where: str = TRAFFIC,
    function: str = "rate",
    over: str = WINDOW,
) -> str:
    """What a counter grew by, per second (`rate`) or in all (`increase`), added up by `by`."""
    grouped = f"sum by ({by})" if by else "sum"
    chosen = f"{{{where}}}" if where else ""
    once = f"max by ({labels})" if labels else "max"
    return f"{grouped} ({once} ({function}({name}_total{chosen}[{over}])))"


def escalated(*, base: bool, by: str = "", over: str = WINDOW) -> str:
    """Triaged calls that escalated, per second; 0 where calls were triaged and no such series is there yet."""
    name, where = (names.FLEET_BASE_ESCALATIONS, TRAFFIC) if base else (names.FLEET_ESCALATIONS, _NO_BYPASS)
    found = counted(name, by=by, labels=f"{CLASS_LABELS}, reason", where=where, over=over)
    return f"({found} or 0 * {triaged(by=by, over=over)})"


_NO_BYPASS: Final = f'{TRAFFIC},reason!="bypass"'


def triaged(*, by: str = "", over: str = WINDOW) -> str:
    """Triaged calls per second."""
    return counted(names.FLEET_TRIAGED, by=by, over=over)


def escalation_rate(*, base: bool, by: str = "", over: str = WINDOW) -> str:
    """Share of triaged calls that escalate; no value where none was triaged."""
    return f"{escalated(base=base, by=by, over=over)} / ({triaged(by=by, over=over)} > 0)"


def cost(*, by: str = "", over: str = WINDOW, function: str = "rate") -> str:
    """Cost of routing, US dollars: per second, or in all with `increase`."""
    return counted(names.FLEET_COST, by=by, over=over, function=function)


def all_deep(*, by: str = "", over: str = WINDOW, function: str = "rate") -> str:
    """Estimated cost at the deep tier alone, US dollars."""
    return counted(names.FLEET_BASELINE_COST, by=by, over=over, function=function)


def priced(*, by: str = "") -> str:
    """Calls per second whose cost is known; no value where there are none."""
    unpriced = counted(names.FLEET_UNPRICED, by=by)
    return f"({counted(names.FLEET_CALLS, by=by)} - {unpriced} > 0)"


def saving(*, by: str = "", over: str = WINDOW, and_grading: bool = False) -> str:
    """Share of the all-deep estimate that was saved; no value where there is no estimate."""
    spent = cost(by=by, over=over)
    if and_grading:
        spent = f"({spent} + ({grading(by=by, over=over)} or 0 * {spent}))"
    return f"1 - {spent} / ({all_deep(by=by, over=over)} > 0)"


def grading(*, by: str = "", over: str = WINDOW, function: str = "rate") -> str:
    """Cost of gradings, US dollars."""
    return counted(names.FLEET_GRADER_COST, by=by, labels="route", where=ROUTE, over=over, function=function)


def triage(*, by: str = "", over: str = WINDOW, function: str = "rate") -> str:
    """Cost of triage, US dollars."""
    return counted(names.FLEET_TRIAGE_COST, by=by, over=over, function=function)


def triage_waste(*, by: str = "", over: str = WINDOW, function: str = "rate") -> str:
    """Cost of triage of calls that escalated, US dollars: as if every triage cost the same."""
    on = f"on ({by})" if by else "on ()"
    return f"{triage(by=by, over=over, function=function)} * {on} ({escalation_rate(base=False, by=by, over=over)})"


def claimed_at_least(below: str) -> str:
    """Share of readable first answers whose confidence is above the bucket `below`, the highest hundredth under it."""
    bucket = f"{names.FLEET_CONFIDENCE}_bucket"
    chosen = f'sum (max by (route) (rate({bucket}{{{ROUTE},le="{below}"}}[{WINDOW}])))'
    everything = f'sum (max by (route) (rate({bucket}{{{ROUTE},le="+Inf"}}[{WINDOW}])))'
    return f"1 - {chosen} / ({everything} > 0)"


def quantile(share: float, name: str, *, by: str = "", where: str = "") -> str:
    """Seconds within which so large a share of a router's durations lay; no value where there was none.

    Every router tells its own calls, so what they tell is added up. By OTLP and by scrape the names are the same.
    """
    bucket = f"{name.replace('.', '_')}_seconds_bucket"
    chosen = f"{{{where}}}" if where else ""
    grouped = f"sum by (le, {by})" if by else "sum by (le)"
    return f"histogram_quantile({share}, {grouped} (rate({bucket}{chosen}[{WINDOW}]))) >= 0"
