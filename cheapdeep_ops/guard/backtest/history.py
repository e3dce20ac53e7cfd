"""Evaluates rules again over the counters and grades in the store."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cheapdeep_ops.guard.backtest.rule_replay import RuleReplay, moments_count, moments_in
from cheapdeep_ops.guard.grading.version import grader_version
from cheapdeep_ops.guard.rules.interface import RecordedPast, RuleBacktest
from cheapdeep_ops.guard.rules.kinds import kind_of
from cheapdeep_ops.guard.rules.model import Rule
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store.engine import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPeriod:
    """The period to evaluate, `(since, until]` in Unix time, and its route.

    Counters begin at `counted`, and have an entry for each `resolution_s` seconds.
    """

    since: float
    counted: float
    until: float
    route: str
    resolution_s: int = 1


class Follow(Protocol):
    """Runs work to its end and shows its progress; `done` yields counts that rise to `total`."""

    def __call__(self, done: Iterable[int], *, total: int, what: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The recorded data of one period, over which rules can be evaluated again."""

    store: Store
    settings: Settings
    period: ReplayPeriod
    follow: Follow

    def rerun(self, rules: Iterable[Rule]) -> dict[str, Any]:
        """The transitions that the alerts of `rules` would have made, oldest first.

        `rules_not_run` are those of kinds without a history, and those whose limit is not set. `grades_read` counts the
        grades that a rule read, including those from before the period.
        """
        rules = list(rules)
        past = self._past(rules)
        replays = [(rule, kind_of(rule).replay(rule, past)) for rule in rules]
        run = [(rule, replay) for rule, replay in replays if replay is not None]
        transitions = [each for rule, replay in run for each in self._transitions(rule, replay)]
        return {
            "alerts": sorted(transitions, key=lambda each: float(each["at"])),
            "rules_not_run": [rule.alert for rule, replay in replays if replay is None],
            "rules_without_data": [rule.alert for rule, replay in run if not replay.history.is_known],
            "grades_read": max((replay.history.grades_read for _, replay in run), default=0),
        }

    def _past(self, rules: Sequence[Rule]) -> RecordedPast:
        period, grader = self.period, grader_version(self.settings)
        return RecordedPast(
            store=self.store, settings=self.settings, rules=rules, grader=grader, since=period.since,
            counted=period.counted, until=period.until, route=period.route, resolution_s=period.resolution_s,
        )  # fmt: skip

    def _transitions(self, rule: Rule, replay: RuleBacktest) -> list[dict[str, Any]]:
        times = (replay.begin, self.period.until, max(self.settings.evaluate_every_s, replay.every_s))
        run = RuleReplay(rule, replay.history)
        self.follow(run.run(moments_in(*times)), total=moments_count(*times), what=f"evaluations of {rule.alert}")
        # A rule on grades begins before the period, because it needs older grades.
        return [each for each in run.transitions if each["at"] > self.period.since]
