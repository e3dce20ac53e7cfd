"""The guard's metrics page: fleet-wide figures from the store, in Prometheus' text format."""

import operator
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from cheapdeep_ops.guard.http.grader_metrics import GraderMetrics, family_of
from cheapdeep_ops.guard.report_types.figures import FalseConfidence
from cheapdeep_ops.guard.report_types.state import BudgetState, Policy, Present
from cheapdeep_ops.guard.reports.quality import is_up, rates_by_route
from cheapdeep_ops.guard.reports.status import present
from cheapdeep_ops.guard.rules.book import Rulebook
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters, grades, processes, route_labels
from cheapdeep_ops.store.admission import Limits
from cheapdeep_ops.store.counts import Sums
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.store.records import Alert
from cheapdeep_ops.telemetry import names
from cheapdeep_ops.units import DAY_S
from cheapdeep_ops.values import ALL_ROUTES, MalformedCause, Reason

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
NO_CLASS: Final = "none"
Jobs = Mapping[tuple[str, str], int]
"""The number of runs, by job of the scheduler and outcome."""

_COUNTERS: Final[tuple[tuple[str, str, Callable[[Sums], float]], ...]] = (
    (names.FLEET_CALLS, "Calls through all routers", lambda sums: sums.calls),
    (names.FLEET_TRIAGED, "Calls that were triaged", lambda sums: sums.triaged),
    (names.FLEET_SHIPPED, "Calls that a triage tier answered", lambda sums: sums.shipped),
    (names.FLEET_COST, "Cost of all priced model calls, US dollars", lambda sums: sums.cost_usd),
    (names.FLEET_BASELINE_COST, "Estimated cost at the deep tier alone, US dollars", lambda sums: sums.baseline_usd),
    (names.FLEET_UNPRICED, "Calls whose cost is not known", lambda sums: sums.unpriced),
    (names.FLEET_ERRORS, "Calls that ended in an error", lambda sums: sums.errors),
    (names.FLEET_WITHHELD, "Calls that a raised threshold escalated", lambda sums: sums.withheld),
    (names.FLEET_FALLBACKS, "Triage answers shipped because the deep tier failed", lambda sums: sums.fallbacks),
    (names.FLEET_REPLAYS_REJECTED, "Replays that the deep tier refused", lambda sums: sums.replays_rejected),
    (names.FLEET_BUDGET_SHIPPED, "Triage answers shipped as a budget was used up", lambda sums: sums.budget_shipped),
    (names.FLEET_BUDGET_REFUSED, "Calls refused because a budget was used up", lambda sums: sums.budget_refused),
    (names.FLEET_SHADOWED, "Calls on which triage was tried in shadow mode", lambda sums: sums.shadowed),
    (names.FLEET_SHADOW_COST, "Their estimated cost if routed, US dollars", lambda sums: sums.shadow_cost_usd),
    (names.FLEET_SHADOW_BASELINE_COST, "Their cost at the deep tier, USD", lambda sums: sums.shadow_baseline_usd),
    (names.FLEET_TRIAGE_COST, "Cost of the triage calls among them, US dollars", lambda sums: sums.triage_cost_usd),
    (names.FLEET_COLD_CACHE, "Cost that warm deep caches would have saved, USD", lambda sums: sums.cold_cache_usd),
)  # fmt: skip
_BY_REASON: Final[tuple[tuple[str, str, Callable[[Sums], Mapping[str, int]]], ...]] = (
    (names.FLEET_ESCALATIONS, "Calls that left the first tier, by reason", lambda sums: sums.reasons),
    (names.FLEET_BASE_ESCALATIONS, "Calls that escalate at base, by reason", lambda sums: sums.base_reasons),
)  # fmt: skip
_MAPPINGS: Final = ("reasons", "base_reasons", "confidence", "malformed_causes")
"""The mappings that the page shows."""

_SIGNALS: Final = (
    (names.FLEET_SIGNAL, "Rate that a rule watches", "rate"),
    (names.FLEET_SIGNAL_LOW, "Lower bound of its 95% interval", "low"),
    (names.FLEET_SIGNAL_HIGH, "Upper bound of its 95% interval", "high"),
    (names.FLEET_SIGNAL_CALLS, "Calls or grades behind that rate", "n"),
)
_EVIDENCE: Final = (
    (names.FLEET_EVIDENCE, "Evidence of a rule's sequential test, natural logarithm", "evidence"),
    (names.FLEET_EVIDENCE_LIMIT, "Evidence at which it fires, natural logarithm", "evidence_limit"),
)

_CONFIDENCE_EDGES: Final = (49, 59, 69, 79, 84, 89, 94, 98, 100)
"""Upper edges in hundredths. Models state hundredths, so 0.79 is the largest value below 0.8."""

_FALSE_CONFIDENCE: Final = (
    (names.FLEET_FALSE_CONFIDENT, "False-confident rate of the calls of 24 hours, by the grader"),
    (names.FLEET_FALSE_CONFIDENT_LOW, "Lower bound of its 95% interval"),
    (names.FLEET_FALSE_CONFIDENT_HIGH, "Upper bound of its 95% interval"),
    (names.FLEET_FALSE_CONFIDENT_GRADES, "Grades behind that share"),
)


class FleetCollector(Collector):
    """Reads the store at every scrape; its cost does not grow with the length of the history."""

    def __init__(
        self,
        store: Store,
        *,
        settings: Settings,
        rulebook: Rulebook,
        jobs: Callable[[], Jobs],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._settings = settings
        self._rulebook = rulebook
        self._jobs = jobs
        self._clock = clock
        self._insight = GraderMetrics(settings)
        self._sums: Mapping[tuple[str, str], Sums] = {}
        """The sums of the last scrape."""

    def collect(self) -> Iterable[Metric]:
        """All metric families. Raises StoreError if the store is unreachable."""
        # A failed scrape is visible in Prometheus; zeros would look like real figures.
        with self._store.reading() as connection:
            dropped, now, most = processes.dropped(connection), self._clock(), self._settings.max_routes
            self._sums = counters.totals(connection, mappings=_MAPPINGS, known=self._sums)
            sums = route_labels.by_shown_name(
                connection, self._sums, most=Limits(most, self._settings.max_input_classes), add=operator.add
            )
            graded = _by_shown_route(connection, grades.totals(connection), most)
            rates = rates_by_route(connection, self._settings, since=now - DAY_S, until=now)
            self._insight.renew(connection, now)
        state = present(self._store, self._settings, now)
        yield from _counted(sums)
        yield _malformed(sums)
        yield _confidences(sums)
        yield from _alerts(state["alerts"], self._rulebook, self._settings)
        yield from _policies(state["policy"], {route for route, _ in sums})
        yield from _graded(graded)
        yield from _quality(state)
        yield from _false_confidence(rates if is_up(state["grader"]) else {})
        yield from _budgets(state["budgets"])
        yield from self._insight.families()
        yield CounterMetricFamily(names.FLEET_DROPPED, "Decisions that were dropped and not counted", value=dropped)
        late, text = state["watchers"]["late"], "Calls refused because their second was sealed"
        yield CounterMetricFamily(names.FLEET_LATE, text, value=late)
        yield from self._health(state)

    def describe(self) -> Iterable[Metric]:
        """Return no families, because registration must not need a store."""
        return ()

    def _health(self, state: Present) -> Iterator[Metric]:
        queue, watchers = state["queue"], state["watchers"]
        yield _gauge(names.FLEET_GUARDS, "Guards seen in the last minute", watchers["guards"])
        yield _gauge(names.FLEET_ROUTERS, "Routers seen in the last minute", watchers["routers"])
        yield _gauge(names.FLEET_PENDING_NOTIFICATIONS, "Messages that wait for delivery", queue["waiting"])
        sent = [(["delivered"], queue["delivered"]), (["failed"], queue["attempts"] - queue["delivered"])]
        attempts = "Attempts to deliver a message"
        yield family_of(names.FLEET_NOTIFICATIONS, attempts, ["outcome"], sent, kind=CounterMetricFamily)
        jobs, runs = sorted(self._jobs().items()), "Runs of the guard's jobs"
        yield family_of(names.FLEET_JOBS, runs, ["task", "outcome"], jobs, kind=CounterMetricFamily)
        # From the store, so that a guard that has just started is not taken for one that evaluates nothing.
        if (evaluated_at := watchers["evaluated_at"]) is not None:
            text = "Time of the last evaluation of the rules by any guard, Unix seconds"
            yield _gauge(names.FLEET_LAST_EVALUATION, text, evaluated_at)


def _by_shown_route(
    connection: Connection, totals: Mapping[tuple[str, str], tuple[int, float]], most: int
) -> dict[tuple[str, str], tuple[int, float]]:
    """The gradings and their cost by the label of each route, and verdict."""
    labels = route_labels.shown(connection, {route for route, _ in totals}, most=most)
    counted: dict[tuple[str, str], tuple[int, float]] = {}
    for (route, verdict), (count, usd) in totals.items():
        before = counted.get((labels[route], verdict), (0, 0.0))
        counted[labels[route], verdict] = (before[0] + count, before[1] + usd)
    return counted


def page(collector: FleetCollector) -> bytes:
    """The metrics page. Raises StoreError if the store is unreachable."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return generate_latest(registry)


def _counted(sums: Mapping[tuple[str, str], Sums]) -> Iterator[Metric]:
    for name, text, value in _COUNTERS:
        values = ((_labels(key), value(counted)) for key, counted in sorted(sums.items()))
        yield family_of(name, text, ["route", "input_class"], values, kind=CounterMetricFamily)
    for name, text, counts in _BY_REASON:
        values = (
            ([*_labels(key), reason.value], counts(counted).get(reason.value, 0))
            for key, counted in sorted(sums.items())
            for reason in Reason  # zeros too, because a rate ignores the first sample of a series
        )
        yield family_of(name, text, ["route", "input_class", "reason"], values, kind=CounterMetricFamily)


def _malformed(sums: Mapping[tuple[str, str], Sums]) -> Metric:
    """The malformed replies by route and cause; zeros too, because a rate ignores the first sample of a series."""
    by_route: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for (route, _), counted in sums.items():
        by_route[route].update(counted.malformed_causes)
    values = (
        ([route, cause.value], causes[cause]) for route, causes in sorted(by_route.items()) for cause in MalformedCause
    )
    text = "Triage replies that were refused as malformed, by cause"
    return family_of(names.FLEET_MALFORMED, text, ["route", "cause"], values, kind=CounterMetricFamily)


def _confidences(sums: Mapping[tuple[str, str], Sums]) -> Metric:
    """The confidence of first answers, by route, as a histogram without a sum, which is not stored."""
    by_route: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for (route, _), counted in sums.items():
        by_route[route].update({int(bin_): count for bin_, count in counted.confidence.items()})
    family = HistogramMetricFamily(names.FLEET_CONFIDENCE, "Confidence of readable first answers", labels=["route"])
    for route, bins in sorted(by_route.items()):
        up_to = [(edge, sum(count for bin_, count in bins.items() if bin_ <= edge)) for edge in _CONFIDENCE_EDGES]
        buckets = [(str(edge / 100), float(count)) for edge, count in up_to]
        family.add_metric([route], [*buckets, ("+Inf", float(bins.total()))], sum_value=None)
    return family


def _labels(key: tuple[str, str]) -> list[str]:
    """Route and input class; calls without a class get a name that a dashboard can select."""
    return [key[0], key[1] or NO_CLASS]


def _alerts(rows: Sequence[Alert], rulebook: Rulebook, settings: Settings) -> Iterator[Metric]:
    signals = [([row["rule"], row["scope"]], row["signal"]) for row in rows]
    firing = (([row["rule"], row["scope"]], float(row["state"] == "firing")) for row in rows)
    yield family_of(names.FLEET_ALERT, "Whether an alert fires (1) or not (0)", ["rule", "scope"], firing)
    for name, text, key in _SIGNALS:
        # Some kinds of rules watch no rate, and their signals lack these keys.
        yield family_of(name, text, ["rule", "scope"], ((at, each.get(key)) for at, each in signals if each.get("n")))
    for name, text, key in _EVIDENCE:
        yield family_of(name, text, ["rule", "scope"], ((at, each.get(key)) for at, each in signals))
    limits = (([rule.alert], rule.limit_in(settings)) for rule in rulebook.rules)
    yield family_of(names.FLEET_LIMIT, "Limit of a rule", ["rule"], limits)


def _graded(totals: Mapping[tuple[str, str], tuple[int, float]]) -> Iterator[Metric]:
    counted = ((key, count) for key, (count, _) in sorted(totals.items()))
    yield family_of(names.FLEET_GRADES, "Gradings by outcome", ["route", "verdict"], counted, kind=CounterMetricFamily)
    spent: defaultdict[str, float] = defaultdict(float)
    for (route, _), (_, usd) in sorted(totals.items()):
        spent[route] += usd
    costs = (([route], usd) for route, usd in spent.items())
    yield family_of(names.FLEET_GRADER_COST, "Cost of gradings, US dollars", ["route"], costs, kind=CounterMetricFamily)


def _quality(state: Present) -> Iterator[Metric]:
    """The normal rate of each route and the state of the grader; an unknown rate is left out."""
    # A zero would be read as a measured rate.
    normals = (([route], learned["rate"]) for route, learned in state["normal"].items())
    yield family_of(names.FLEET_NORMAL, "False-confident rate that is normal", ["route"], normals)
    grader = state["grader"]
    yield _gauge(names.FLEET_GRADER_UP, "Whether the grader works (1), or fails or is off (0)", float(is_up(grader)))
    yield _gauge(names.FLEET_SAMPLES_WAITING, "Samples that wait for a grade", grader["waiting"])
    yield _gauge(names.FLEET_OLDEST_WAIT, "Age of the oldest waiting sample, seconds", grader["oldest_wait_s"] or 0.0)


def _budgets(budgets: Sequence[BudgetState]) -> Iterator[Metric]:
    """What is spent of each budget since midnight of UTC, when it is zero again."""
    figures: tuple[tuple[str, str, Callable[[BudgetState], float]], ...] = (
        (names.FLEET_BUDGET_SPENT, "Spent of a budget on this day of UTC, US dollars", lambda each: each["spent_usd"]),
        (names.FLEET_BUDGET_LIMIT, "Limit of a budget for a day of UTC, US dollars", lambda each: each["limit_usd"]),
        (names.FLEET_BUDGET_UNPRICED, "Calls of unknown cost on this day", lambda each: each["unpriced_calls"]),
    )
    for name, text, figure in figures:
        yield family_of(name, text, ["budget"], [([each["budget"]], figure(each)) for each in budgets])


def _false_confidence(rates: Mapping[str, FalseConfidence]) -> Iterator[Metric]:
    """The false-confident rates of the last 24 hours."""
    families = [GaugeMetricFamily(name, text, labels=["route"]) for name, text in _FALSE_CONFIDENCE]
    for route, wrong in rates.items():
        values = (wrong["false_confident_rate"], *wrong["false_confident_interval"], wrong["graded"])
        for family, value in zip(families, values, strict=True):
            if value is not None:
                family.add_metric([route], value)
    yield from families


def _policies(policy: Policy, routes: Iterable[str]) -> Iterator[Metric]:
    scopes = policy["scopes"]
    # Scopes without a change have a series too, so that a board can show every route.
    shown = [(name, scopes.get(name)) for name in sorted({ALL_ROUTES, *routes, *scopes})]
    thresholds = (([name], (scope or policy)["threshold"]) for name, scope in shown)
    yield family_of(names.FLEET_THRESHOLD, "Threshold in force", ["route"], thresholds)
    versions = (([name], scope["version"] if scope else 0) for name, scope in shown)
    yield family_of(names.FLEET_POLICY_VERSION, "Number of the last change of policy", ["scope"], versions)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
