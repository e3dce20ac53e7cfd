"""Metrics of the grader and of confidence. Their intervals come from simulation, so they are cached for minutes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from threading import Lock
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from cheapdeep_ops.guard.report_types.figures import Bin, Confidence
from cheapdeep_ops.guard.report_types.labels import Agreement
from cheapdeep_ops.guard.reports.quality import confidence_in
from cheapdeep_ops.guard.reports.review import agreement_of
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import grades, route_labels
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.telemetry import names
from cheapdeep_ops.units import WEEK_S
from cheapdeep_ops.values import ALL_ROUTES

KEPT_S: Final = 300.0
"""How long a figure is cached, in seconds."""

PERIOD_S: Final = float(WEEK_S)
"""The period of the grades, in seconds; a single day has too few wrong answers."""

_GRADER: Final = ""
"""The cache key of the grader's agreement; no scope has this name."""

Bounded = tuple[float | None, tuple[float, float] | None]
"""A figure with its 95% interval; None if unknown."""

Values = dict[tuple[str, ...], Bounded]
"""Figures by label values."""

_OF_CONFIDENCE: Final[tuple[tuple[Callable[[Confidence], Bounded], str, tuple[str, str, str]], ...]] = (
    (lambda worth: (worth["auroc"], worth["auroc_interval"]),
     "AUROC of confidence among graded answers of a week, 0.5 is chance",
     (names.FLEET_AUROC, names.FLEET_AUROC_LOW, names.FLEET_AUROC_HIGH)),
    (lambda worth: (worth["expected_calibration_error"], worth["expected_calibration_error_interval"]),
     "Mean distance between confidence and share of right answers of a week",
     (names.FLEET_CALIBRATION_ERROR, names.FLEET_CALIBRATION_ERROR_LOW, names.FLEET_CALIBRATION_ERROR_HIGH)),
)  # fmt: skip
_OF_BINS: Final[tuple[tuple[str, str, Callable[[Bin], float]], ...]] = (
    (names.FLEET_RELIABILITY_CLAIMED, "Mean confidence, by range of confidence", lambda each: each["claims"]),
    (names.FLEET_RELIABILITY_RIGHT, "Share of right answers, by the grader", lambda each: each["is_right"]),
    (names.FLEET_RELIABILITY_RIGHT_LOW, "Lower bound of its 95% interval", lambda each: each["is_right_interval"][0]),
    (names.FLEET_RELIABILITY_RIGHT_HIGH, "Upper bound of its 95% interval", lambda each: each["is_right_interval"][1]),
    (names.FLEET_RELIABILITY_GRADES, "Grades behind that share", lambda each: each["graded"]),
)
_KAPPA: Final = (names.FLEET_JUDGE_KAPPA, names.FLEET_JUDGE_KAPPA_LOW, names.FLEET_JUDGE_KAPPA_HIGH)
_BOUNDS: Final = ("", ": lower bound of its 95% interval", ": upper bound of its 95% interval")


class GraderMetrics:
    """The latest figures of the grader and of confidence, of all routes together and of each route.

    `renew` computes at most one figure, so the cost of a scrape does not grow with the number of routes.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = Lock()
        self._worth: dict[str, Confidence | None] = {}
        self._agreement: Agreement | None = None
        self._at: dict[str, float] = {}

    def renew(self, connection: Connection, now: float) -> None:
        """Compute the oldest figure again if it is older than KEPT_S; drop figures of routes without grades.

        Raises StoreError if the store is unreachable.
        """
        routes = route_labels.shown_routes(connection, grades.counts(connection), most=self._settings.max_routes)
        subjects = (_GRADER, ALL_ROUTES, *routes)
        # Two scrapes at once must not compute one figure twice.
        with self._lock:
            self._at = {each: at for each, at in self._at.items() if each in subjects}
            self._worth = {each: worth for each, worth in self._worth.items() if each in subjects}
            stalest = min(subjects, key=lambda each: self._at.get(each, float("-inf")))
            if now - self._at.get(stalest, float("-inf")) >= KEPT_S:
                self._compute(connection, stalest, now)
                self._at[stalest] = now

    def _compute(self, connection: Connection, subject: str, now: float) -> None:
        if subject == _GRADER:
            self._agreement = agreement_of(connection, self._settings)
        else:
            since = now - PERIOD_S
            self._worth[subject] = confidence_in(connection, self._settings, since=since, until=now, scope=subject)

    def families(self) -> Iterator[Metric]:
        """The figures as metrics; unknown figures are left out."""
        with self._lock:
            worth, agreement = dict(self._worth), self._agreement
        by_scope = {scope: confidence for scope, confidence in sorted(worth.items()) if confidence is not None}
        for value, text, metrics in _OF_CONFIDENCE:
            bounded: Values = {(scope,): value(confidence) for scope, confidence in by_scope.items()}
            yield from _bounded(metrics, text, ["route"], bounded)
        yield from _bins(by_scope)
        yield from _agreed(agreement)


def family_of(
    name: str,
    text: str,
    labels: Sequence[str],
    values: Iterable[tuple[Sequence[str], float | None]],
    *,
    kind: type[CounterMetricFamily | GaugeMetricFamily] = GaugeMetricFamily,
) -> Metric:
    """A metric with a series for each of `values`, by the values of its labels; None is left out."""
    family = kind(name, text, labels=labels)
    for key, value in values:
        if value is not None:
            family.add_metric(key, value)
    return family


def _bounded(metrics: tuple[str, str, str], text: str, labels: list[str], values: Values) -> Iterator[Metric]:
    families = [GaugeMetricFamily(name, text + of, labels=labels) for name, of in zip(metrics, _BOUNDS, strict=True)]
    for key, (value, interval) in values.items():
        if value is not None and interval is not None:
            for family, each in zip(families, (value, *interval), strict=True):
                family.add_metric(key, each)
    yield from families


def _bins(by_scope: Mapping[str, Confidence]) -> Iterator[Metric]:
    for name, text, value in _OF_BINS:
        values = (
            ([scope, f"{each['low']:.2f} to {each['high']:.2f}"], value(each))
            for scope, confidence in by_scope.items()
            for each in confidence["bins"]
        )
        yield family_of(name, text, ["route", "confidence"], values)


def _agreed(agreement: Agreement | None) -> Iterator[Metric]:
    text = "Cohen's kappa of the grader and people, 1 is agreement, 0 is chance"
    values: Values = {}
    labelled = GaugeMetricFamily(names.FLEET_JUDGE_LABELS, "Grades that people have labelled", labels=["verdict"])
    if agreement is not None:
        values[()] = (agreement["kappa"], agreement["kappa_interval"])
        labelled.add_metric(["correct"], agreement["judged_correct"])
        labelled.add_metric(["incorrect"], agreement["judged_incorrect"])
    yield from _bounded(_KAPPA, text, [], values)
    yield labelled
