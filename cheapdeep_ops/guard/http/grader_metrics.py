"""What confidence and the judge are worth, for the metrics page: found by simulation, so kept for minutes."""

from collections.abc import Callable, Iterator, Mapping
from threading import Lock
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily, Metric

from cheapdeep_ops.guard.reports.quality import confidence_in
from cheapdeep_ops.guard.reports.review import agreement_of
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import grades
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.telemetry import names
from cheapdeep_ops.units import WEEK_S
from cheapdeep_ops.values import ALL_ROUTES

KEPT_S: Final = 300.0
"""How long a figure is shown before it is worked out anew, seconds."""

PERIOD_S: Final = float(WEEK_S)
"""Grades of calls of that long ago tell what confidence is worth: of a day alone there are too few wrong ones."""

_JUDGE: Final = ""
"""The name under which the judge's figures are kept; no scope has it."""

_OF_CONFIDENCE: Final = (
    ("auroc", "AUROC of confidence among graded answers of a week, 0.5 is chance",
     (names.FLEET_AUROC, names.FLEET_AUROC_LOW, names.FLEET_AUROC_HIGH)),
    ("expected_calibration_error", "Mean distance between confidence and share of right answers, of a week",
     (names.FLEET_CALIBRATION_ERROR, names.FLEET_CALIBRATION_ERROR_LOW, names.FLEET_CALIBRATION_ERROR_HIGH)),
)  # fmt: skip
_OF_BINS: Final[tuple[tuple[str, str, Callable[[Mapping[str, Any]], float]], ...]] = (
    (names.FLEET_RELIABILITY_CLAIMED, "Mean confidence, by range of confidence", lambda found: found["claims"]),
    (names.FLEET_RELIABILITY_RIGHT, "Share of right answers, by the judge", lambda found: found["is_right"]),
    (names.FLEET_RELIABILITY_RIGHT_LOW, "Lower bound of its 95% interval", lambda found: found["is_right_interval"][0]),
    (
        names.FLEET_RELIABILITY_RIGHT_HIGH,
        "Upper bound of its 95% interval",
        lambda found: found["is_right_interval"][1],
    ),
    (names.FLEET_RELIABILITY_GRADES, "Grades that it rests on", lambda found: found["graded"]),
)
_KAPPA: Final = (names.FLEET_JUDGE_KAPPA, names.FLEET_JUDGE_KAPPA_LOW, names.FLEET_JUDGE_KAPPA_HIGH)
_BOUNDS: Final = ("", ": lower bound of its 95% interval", ": upper bound of its 95% interval")


class GraderMetrics:
    """The last figures of the judge, of all routes together and of each.

    `renew` works out at most one of them, so that a scrape stays cheap however many routes there are.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = Lock()
        self._known: dict[str, Mapping[str, Any]] = {}
        self._at: dict[str, float] = {}

    def renew(self, connection: Connection, now: float) -> None:
        """Work out what was worked out longest ago, if that is too long; what no longer is there goes.

        Raises StoreError where the store is out of reach.
        """
        subjects = (_JUDGE, ALL_ROUTES, *sorted(grades.counts(connection)))
        with self._lock:
            self._at = {each: at for each, at in self._at.items() if each in subjects}
            self._known = {each: found for each, found in self._known.items() if each in subjects}
            stalest = min(subjects, key=lambda each: self._at.get(each, float("-inf")))
            if now - self._at.get(stalest, float("-inf")) >= KEPT_S:
                self._known[stalest] = self._found(connection, stalest, now)
                self._at[stalest] = now

    def _found(self, connection: Connection, subject: str, now: float) -> Mapping[str, Any]:
        if subject == _JUDGE:
            return agreement_of(connection, self._settings)
        return confidence_in(connection, self._settings, since=now - PERIOD_S, until=now, scope=subject) or {}

    def families(self) -> Iterator[Metric]:
        """What is known, as metrics; what is not known is left out."""
        with self._lock:
            known = dict(self._known)
        judge = known.pop(_JUDGE, {})
        by_scope = {scope: found for scope, found in sorted(known.items()) if found}
        for key, text, metrics in _OF_CONFIDENCE:
            yield from _bounded(metrics, text, key, by_scope)
        yield from _bins(by_scope)
        yield from _judged(judge)


def _bounded(
    metrics: tuple[str, str, str], text: str, key: str, by_scope: Mapping[str, Mapping[str, Any]]
) -> Iterator[Metric]:
    families = [GaugeMetricFamily(name, text + of, labels=["route"]) for name, of in zip(metrics, _BOUNDS, strict=True)]
    for scope, found in by_scope.items():
        if found[key] is not None:
            for family, value in zip(families, (found[key], *found[f"{key}_interval"]), strict=True):
                family.add_metric([scope], value)
    yield from families


def _bins(by_scope: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    for name, text, value in _OF_BINS:
        family = GaugeMetricFamily(name, text, labels=["route", "confidence"])
        for scope, found in by_scope.items():
            for each in found["bins"]:
                family.add_metric([scope, f"{each['low']:.2f} to {each['high']:.2f}"], value(each))
        yield family


def _judged(judge: Mapping[str, Any]) -> Iterator[Metric]:
    text = "Cohen's kappa of the judge and people, 1 is agreement, 0 is chance"
    families = [GaugeMetricFamily(name, text + of) for name, of in zip(_KAPPA, _BOUNDS, strict=True)]
    if judge.get("kappa") is not None:
        for family, value in zip(families, (judge["kappa"], *judge["kappa_interval"]), strict=True):
            family.add_metric([], value)
    yield from families
    labelled = GaugeMetricFamily(names.FLEET_JUDGE_LABELS, "Grades that people have labelled", labels=["verdict"])
    for verdict in ("correct", "incorrect"):
        if judge:
            labelled.add_metric([verdict], judge[f"judged_{verdict}"])
    yield labelled
