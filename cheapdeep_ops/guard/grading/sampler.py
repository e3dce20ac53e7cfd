"""Plan sampling from the store: the share of each route's answers to grade, and the past answers to grade."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cheapdeep_ops.guard.grading.adaptive import (
    LEARNED,
    Suspicion,
    has_moved,
    is_adaptive,
    most_per_day,
    shares,
)
from cheapdeep_ops.guard.grading.traffic_watch import WatchedTraffic, watch
from cheapdeep_ops.guard.rules.false_confidence.baseline import alarm_level_of
from cheapdeep_ops.guard.rules.hold import HeldTimes, held_times
from cheapdeep_ops.guard.rules.model import Rule
from cheapdeep_ops.sampling import kept_share
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import candidates, detectors, grades, policies, sampling_rates
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.grades import Baseline, GraderVersion
from cheapdeep_ops.units import DAY_S
from cheapdeep_ops.values import ALL_ROUTES

_NAME: Final = "sampling"
"""The name in the store for suspicions; no rule can have this name."""

_PAGE: Final = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSuspicions:
    """The suspicion of each route, and the state to store; None if no grade was new."""

    by_route: Mapping[str, Suspicion]
    new_state: detectors.DetectorState | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingPlan:
    """Which answers to grade."""

    shares: Mapping[str, float] = field(default_factory=dict)
    """The new share by route, for calls to come."""
    retrospective: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    """Past answers by route: the time of the oldest one, and their largest number."""
    waiting: int = 0
    """Past answers that were chosen before and have no grade yet."""
    new_state: detectors.DetectorState | None = None
    traffic: Sequence[detectors.StoredDetector] = ()
    """The states of the tests for a change of traffic."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to store."""
        return not (self.shares or self.retrospective or self.new_state or self.traffic)


class Sampler:
    """Plans the samples of one grader; a plan is stored by a separate call, in a transaction of the caller."""

    def __init__(self, settings: Settings, grader: GraderVersion) -> None:
        self._settings = settings
        self._grader = grader
        self._budget = settings.graded_share
        self._kept = kept_share(settings.graded_share)

    @property
    def is_adaptive(self) -> bool:
        """Whether shares can differ."""
        return self._settings.sampling == "adaptive" and is_adaptive(self._budget, self._kept)

    def plan(self, connection: Connection, now: float, *, rules: Collection[Rule]) -> SamplingPlan:
        """The share of each route for calls from now on; `rules` say which raises wait, and when no grade counts."""
        held = held_times(connection, rules)
        before = sampling_rates.latest(connection)
        traffic = watch(connection, self._grader, now) if self.is_adaptive else WatchedTraffic()
        suspicions = self._suspicions(connection, held, changed=traffic.changed)
        wanted = self._shares(
            connection, before, suspicions.by_route, now,
            raising_rules={rule.alert for rule in rules if rule.rests_on_grades and rule.raises}, held=held,
        )  # fmt: skip
        moved = {route: share for route, share in wanted.items() if has_moved(before.get(route, self._budget), share)}
        return SamplingPlan(shares=moved, new_state=suspicions.new_state, traffic=traffic.states)

    def plan_retrospective(self, connection: Connection, now: float, *, rules: Collection[Rule]) -> SamplingPlan:
        """The past answers of suspected routes to grade now; none while earlier ones wait, or while no grade counts."""
        held = held_times(connection, rules)
        if not self.is_adaptive or held.covers(now):
            return SamplingPlan()
        # Without this limit, suspicions would pile up samples while the grader is down.
        if waiting := candidates.steered_waiting(connection):
            return SamplingPlan(waiting=waiting)
        # Samples in batches do not count: retrospective ones are graded directly, and sooner.
        ungraded = candidates.ungraded(connection, otherwise=self._budget, in_batches=False)
        baselines = grades.baselines(connection, self._grader)
        alarms = {
            route: alarm for route, baseline in baselines.items() if (alarm := alarm_level_of(baseline)) is not None
        }
        suspicions = self._suspicions(connection, held)
        quotas = {
            route: suspicion.retrospective_quota(ungraded.get(route, 0), alarms[route].target)
            for route, suspicion in suspicions.by_route.items()
            if route in alarms
        }
        retrospective = {route: (_since(baselines[route], now), quota) for route, quota in quotas.items() if quota}
        return SamplingPlan(retrospective=retrospective, new_state=suspicions.new_state)

    def write(self, connection: Connection, plan: SamplingPlan, now: float) -> int:
        """Store a plan; returns how many past answers now wait for their grade."""
        why = "adaptive" if self.is_adaptive else "uniform"
        for route, share in plan.shares.items():
            sampling_rates.begin(connection, route, share, since=now, why=why)
        changed = list(plan.traffic)
        if plan.new_state is not None:
            changed.append(detectors.StoredDetector(rule=_NAME, scope=ALL_ROUTES, kept=plan.new_state))
        if changed:
            detectors.write(connection, self._grader, changed, now=now)
        return plan.waiting + sum(
            candidates.steer(connection, route, since=since, most=quota, now=now)
            for route, (since, quota) in plan.retrospective.items()
        )

    def _shares(
        self,
        connection: Connection,
        before: Mapping[str, float],
        suspicions: Mapping[str, Suspicion],
        now: float,
        *,
        raising_rules: Collection[str],
        held: HeldTimes,
    ) -> dict[str, float]:
        if not self.is_adaptive:
            return dict.fromkeys(before, self._budget)
        answers = sampling_rates.answers_by_route(connection, since=now - DAY_S)
        if held.covers(now):
            # Grades that do not count decide nothing, so no route needs more of them than in calm.
            return shares(answers, budget=self._budget, kept=self._kept)
        baselines = grades.baselines(connection, self._grader)
        complete = {route for route, baseline in baselines.items() if baseline.ceiling is not None}
        learned = {route for route, baseline in baselines.items() if (baseline.n or 0.0) >= LEARNED}
        changed = self._changed_scopes(connection, now)
        hot, paced = self._hot(connection, answers, suspicions, now, raising_rules=raising_rules)
        return shares(
            answers,
            budget=self._budget,
            kept=self._kept,
            learning=frozenset(answers.keys() - complete),
            whole=frozenset(route for route in answers if {route, ALL_ROUTES} & changed or route not in learned),
            hot=hot,
            paced=paced,
        )

    def _hot(
        self,
        connection: Connection,
        answers: Mapping[str, int],
        suspicions: Mapping[str, Suspicion],
        now: float,
        *,
        raising_rules: Collection[str],
    ) -> tuple[frozenset[str], frozenset[str]]:
        """The routes under suspicion or raised by `raising_rules`, without those that have reached the daily limit.

        The second set are the raised ones that have reached it.
        """
        ungraded = candidates.ungraded(connection, otherwise=self._budget, in_batches=True)
        suspected = {route for route, each in suspicions.items() if each.raises_sampling_rate(ungraded.get(route, 0))}
        settings = self._settings
        book = policies.read_book(connection, base=settings.base_threshold, raised=settings.raised_threshold)
        raised = {route for route in answers if book.for_route(route).causes & set(raising_rules)}
        graded = grades.graded_by_route(connection, since=now - DAY_S)
        # Samples that wait for their grade count too, because they soon are grades.
        chosen = {route: graded.get(route, 0) + ungraded.get(route, 0) for route in suspected | raised}
        over = {each for each, count in chosen.items() if count >= most_per_day(self._budget, answers.get(each, 0))}
        return frozenset(chosen.keys() - over), frozenset(raised & over)

    def _changed_scopes(self, connection: Connection, now: float) -> set[str]:
        """The scopes whose threshold has changed within a day."""
        return {each["scope"] for each in policies.history(connection) if each["at"] > now - DAY_S and each["applied"]}

    def _suspicions(
        self, connection: Connection, held: HeldTimes, *, changed: frozenset[str] = frozenset()
    ) -> RouteSuspicions:
        """The suspicion of each route, updated by all grades since the stored state that count.

        A route in `changed`, whose traffic has changed, is suspected at least until some of its answers are graded.
        """
        stored = detectors.read(connection, self._grader, rule=_NAME).get(ALL_ROUTES, detectors.DetectorState())
        suspicions = {route: Suspicion.from_row(row) for route, row in stored.state.items()}
        baselines = grades.baselines(connection, self._grader)
        grade_id = stored.grade_id
        while page := grades.known_after(connection, self._grader, grade_id=grade_id, route=None, limit=_PAGE):
            for grade in page:
                counts = grade.route in baselines and not held.covers(grade.at)
                alarm = alarm_level_of(baselines[grade.route]) if counts else None
                # Grades from which the baseline was learned are normal, and not evidence of a climb.
                if alarm is not None and grade.called_at > (baselines[grade.route].until or 0.0):
                    before = suspicions.get(grade.route) or Suspicion()
                    suspicions[grade.route] = before.after(
                        incorrect=grade.incorrect, target=alarm.target, steered=grade.steered
                    )
            grade_id = page[-1].id
        alerted = changed & baselines.keys()
        suspicions |= {route: (suspicions.get(route) or Suspicion()).alerted() for route in alerted}
        is_unchanged = grade_id == stored.grade_id and not alerted
        state: dict[str, Any] = {route: each.row() for route, each in suspicions.items()}
        return RouteSuspicions(
            by_route={route: each for route, each in suspicions.items() if route in baselines},
            new_state=None if is_unchanged else detectors.DetectorState(grade_id=grade_id, state=state),
        )


def _since(baseline: Baseline, now: float) -> float:
    """The earliest call for retrospective grades: after those of the baseline, and within a day."""
    return max(baseline.until or baseline.since, now - DAY_S)
