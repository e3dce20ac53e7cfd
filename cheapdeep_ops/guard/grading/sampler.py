"""Steering on the store: which share of each route's answers is graded, and which of the past."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cheapdeep_ops.guard.grading.adaptive import (
    MOST_A_DAY,
    Suspicion,
    has_moved,
    is_steered,
    shares,
)
from cheapdeep_ops.guard.rules.false_confidence.baseline import alarm_of
from cheapdeep_ops.sampling import kept_share
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import candidates, detectors, grades, policies, sampling_rates
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.grades import Baseline, GraderVersion
from cheapdeep_ops.units import DAY_S
from cheapdeep_ops.values import ALL_ROUTES

_NAME: Final = "sampling"
"""Under which suspicions are kept; no rule can be called so."""

_READ_AT_ONCE: Final = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicions:
    """How suspicious each route is; `folded` is to be stored, None where no grade was new."""

    of: Mapping[str, Suspicion]
    folded: detectors.DetectorState | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingPlan:
    """What is to be graded: shares of calls to come by route, and of the past, by route, since when and how many."""

    shares: Mapping[str, float] = field(default_factory=dict)
    past: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    waiting: int = 0
    """Answers of the past that were chosen before and have no grade yet."""
    folded: detectors.DetectorState | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to store."""
        return not (self.shares or self.past or self.folded)


class Sampler:
    """Decides what one judge is given to grade: reads and decides, and stores what it decided apart from that."""

    def __init__(self, settings: Settings, judge: GraderVersion) -> None:
        self._settings = settings
        self._judge = judge
        self._budget = settings.graded_share
        self._kept = kept_share(settings.graded_share)

    @property
    def steers(self) -> bool:
        """Whether shares differ at all."""
        return self._settings.sampling == "adaptive" and is_steered(self._budget, self._kept)

    def plan(self, connection: Connection, now: float, *, judged: Collection[str]) -> SamplingPlan:
        """The share of each route for calls from now on; `judged` are the rules whose raises wait for grades."""
        before = sampling_rates.latest(connection)
        suspicions = self._suspicions(connection)
        wanted = self._shares(connection, before, suspicions.of, now, judged=judged)
        moved = {route: share for route, share in wanted.items() if has_moved(before.get(route, self._budget), share)}
        return SamplingPlan(shares=moved, folded=suspicions.folded)

    def look_back(self, connection: Connection, now: float) -> SamplingPlan:
        """Which answers of the past are to be graded now: some of each route that is suspected.

        While some wait, no more are chosen: where nobody grades, a suspicion must not pile up work. Samples of a batch
        do not count, since those of the past are graded sooner.
        """
        if not self.steers:
            return SamplingPlan()
        if waiting := candidates.steered_waiting(connection):
            return SamplingPlan(waiting=waiting)
        ungraded = candidates.ungraded(connection, otherwise=self._budget, in_batches=False)
        normals = grades.baselines(connection, self._judge)
        alarms = {route: alarm for route, normal in normals.items() if (alarm := alarm_of(normal)) is not None}
        suspicions = self._suspicions(connection)
        wanted = {
            route: suspicion.wants_past(ungraded.get(route, 0), alarms[route].target)
            for route, suspicion in suspicions.of.items()
            if route in alarms
        }
        past = {route: (_since(normals[route], now), most) for route, most in wanted.items() if most}
        return SamplingPlan(past=past, folded=suspicions.folded)

    def write(self, connection: Connection, plan: SamplingPlan, now: float) -> int:
        """Store a plan; returns how many answers of the past wait for their grade now."""
        for route, share in plan.shares.items():
            sampling_rates.begin(connection, route, share, since=now, why="adaptive" if self.steers else "uniform")
        if plan.folded is not None:
            place = detectors.StoredDetector(rule=_NAME, scope=ALL_ROUTES, kept=plan.folded)
            detectors.write(connection, self._judge, [place], now=now)
        return plan.waiting + sum(
            candidates.steer(connection, route, since=since, most=most, now=now)
            for route, (since, most) in plan.past.items()
        )

    def _shares(
        self,
        connection: Connection,
        before: Mapping[str, float],
        suspicions: Mapping[str, Suspicion],
        now: float,
        *,
        judged: Collection[str],
    ) -> dict[str, float]:
        if not self.steers:
            return dict.fromkeys(before, self._budget)
        answers = sampling_rates.answers_by_route(connection, since=now - DAY_S)
        known = {
            route for route, normal in grades.baselines(connection, self._judge).items() if normal.rate is not None
        }
        fresh = self._fresh(connection, now)
        return shares(
            answers,
            budget=self._budget,
            kept=self._kept,
            learning=frozenset(route for route in answers if route not in known or {route, ALL_ROUTES} & fresh),
            hot=self._hot(connection, answers, suspicions, now, judged=judged),
        )

    def _hot(
        self,
        connection: Connection,
        routes: Collection[str],
        suspicions: Mapping[str, Suspicion],
        now: float,
        *,
        judged: Collection[str],
    ) -> frozenset[str]:
        """The routes that are suspected or raised because of grades, and have not had too many of those today.

        A suspicion asks for more only while few samples wait: others are under way to decide it.
        """
        ungraded = candidates.ungraded(connection, otherwise=self._budget, in_batches=True)
        suspected = {route for route, each in suspicions.items() if each.wants_future(ungraded.get(route, 0))}
        settings = self._settings
        book = policies.read_book(connection, base=settings.base_threshold, raised=settings.raised_threshold)
        raised = {route for route in routes if book.for_route(route).causes & set(judged)}
        spent = grades.graded_by_route(connection, since=now - DAY_S)
        chosen = {route: spent.get(route, 0) + ungraded.get(route, 0) for route in suspected | raised}
        return frozenset(route for route, count in chosen.items() if count < MOST_A_DAY)

    def _fresh(self, connection: Connection, now: float) -> set[str]:
        """The scopes whose threshold was changed within a day."""
        return {each["scope"] for each in policies.history(connection) if each["at"] > now - DAY_S and each["applied"]}

    def _suspicions(self, connection: Connection) -> Suspicions:
        """How suspicious each route is, after all grades that have become known since they were last looked at."""
        kept = detectors.read(connection, self._judge, rule=_NAME).get(ALL_ROUTES, detectors.DetectorState())
        found = {route: Suspicion.from_row(row) for route, row in kept.state.items()}
        normals = grades.baselines(connection, self._judge)
        grade_id = kept.grade_id
        while known := grades.known_after(connection, self._judge, grade_id=grade_id, route=None, limit=_READ_AT_ONCE):
            for each in known:
                alarm = alarm_of(normals[each.route]) if each.route in normals else None
                if alarm is not None and each.called_at > (normals[each.route].until or 0.0):
                    before = found.get(each.route) or Suspicion()
                    found[each.route] = before.after(
                        incorrect=each.incorrect, target=alarm.target, steered=each.steered
                    )
            grade_id = known[-1].id
        state: dict[str, Any] = {route: each.row() for route, each in found.items()}
        return Suspicions(
            of={route: each for route, each in found.items() if route in normals},
            folded=None if grade_id == kept.grade_id else detectors.DetectorState(grade_id=grade_id, state=state),
        )


def _since(normal: Baseline, now: float) -> float:
    """From when on answers are of use in hindsight: those before are what is normal, or long past."""
    return max(normal.until or normal.since, now - DAY_S)
