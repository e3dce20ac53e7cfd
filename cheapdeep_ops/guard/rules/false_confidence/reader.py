"""Reads the false-confident rate from grades."""

from collections.abc import Collection
from collections.abc import Set as AbstractSet

from cheapdeep_ops.guard.rules.breakdown import breakdown_of
from cheapdeep_ops.guard.rules.cause_text import cause_text
from cheapdeep_ops.guard.rules.false_confidence.effect import Effect
from cheapdeep_ops.guard.rules.false_confidence.evidence import GradeEvidence
from cheapdeep_ops.guard.rules.false_confidence.explanation import climb_cause, climb_facts, examples_of, names_of
from cheapdeep_ops.guard.rules.false_confidence.rule import QualityRule
from cheapdeep_ops.guard.rules.hold import read_hold
from cheapdeep_ops.guard.rules.interface import ReaderContext, SignalReader, has_left_interval
from cheapdeep_ops.guard.rules.model import Finding, Level, ScopedAlert
from cheapdeep_ops.guard.rules.rule_text import Payload
from cheapdeep_ops.guard.rules.self_monitoring.grader_facts import grader_facts
from cheapdeep_ops.guard.rules.self_monitoring.grader_health import trouble_of
from cheapdeep_ops.store import policies
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.values import ALL_ROUTES


class FalseConfidenceReader(SignalReader):
    """Reads grades. While the grader has a problem, every finding is `no_data`."""

    is_joint = True

    def __init__(self, rule: QualityRule, context: ReaderContext) -> None:
        self._rule = rule
        self._evidence = context.shared(_evidence)
        self._settings = context.settings
        self._limit = rule.limit_in(context.settings)
        self._trouble = trouble_of(context.shared(grader_facts), context.now)
        self._hold = context.shared(read_hold)
        self._now = context.now
        self._shown: dict[str, tuple[Collection[str], int]] = {}
        """The routes of the last finding, and how many of their grades it shows, by scope."""

    @property
    def scopes(self) -> AbstractSet[str]:
        """The routes with grades."""
        return self._evidence.routes

    def finding(self, routes: Collection[str], alert: ScopedAlert) -> Finding:
        """The false-confident rate of these routes together; `no_data` while it has no good grader."""
        finding = self._evidence.finding(self._rule, alert, routes, self._limit)
        self._shown[alert.scope] = (routes, finding.signal["n"])
        why = self._trouble.why if self._trouble else self._hold.why
        if not why:
            return finding
        # A failed grader must not look like a low rate, so old figures are not shown either.
        unknown = {"rate": None, "low": 0.0, "high": 1.0, "n": 0, "why": why}
        return Finding(level=Level.NO_DATA, signal={**finding.signal, **unknown})

    def facts(self, connection: Connection, scope: str, started_at: float) -> dict[str, object]:
        """The wrong answers by input class, the cause of the climb, and whether the raise has helped."""
        effect = self._effect(connection, scope, started_at)
        by_class = self._evidence.wrong_by_class(self._rule, self._routes(scope), self._shown[scope][1])
        return {
            "effect": effect.why if effect else "",
            "effect_kind": effect.kind.value if effect else "",
            "release_confidence": self._rule.release_confidence,
            "release_alpha": self._rule.release_alpha,
            **breakdown_of(reasons={}, by_class=by_class),
            **self._cause(connection, scope, started_at),
        }

    def _cause(self, connection: Connection, scope: str, started_at: float) -> dict[str, object]:
        """The cause of the climb and, if the settings ask for them, examples."""
        climb = self._evidence.climb(connection, self._rule, scope, self._shown[scope][0], started_at=started_at)
        base, raised = self._settings.base_threshold, self._settings.raised_threshold
        names = names_of(base=base, raised=raised, with_policy=self._now <= started_at)
        cause = climb_cause(climb.before, climb.now, names, is_of_one_time=climb.is_of_one_time)
        facts = climb_facts(climb, cause)
        explained: dict[str, object] = {"cause": {**facts, "text": cause_text(facts)}}
        if not self._settings.shows_examples:
            return explained
        return {**explained, "examples": examples_of(connection, climb, cause, names)}

    def has_moved(
        self, connection: Connection, announced: Payload, finding: Finding, scope: str, started_at: float
    ) -> bool:
        """Whether the rate has left the interval in the last message, or the effect of the raise has changed.

        Without a learned baseline the last message stays.
        """
        if finding.signal["limit"] is None:
            return False
        if announced.get("signal", {}).get("raises_in_day") != finding.signal.get("raises_in_day"):
            return True
        effect = self._effect(connection, scope, started_at)
        effect_kind = effect.kind.value if effect else ""
        return has_left_interval(announced, finding) or announced.get("effect_kind") != effect_kind

    def _effect(self, connection: Connection, scope: str, started_at: float) -> Effect | None:
        """The effect of this incident's raise; None if a pin or the mode prevented it."""
        raised_at = policies.raised_at(connection, scope=scope, cause=self._rule.alert, since=started_at)
        if raised_at is None:
            return None
        return self._evidence.effect(connection, self._rule, scope, self._routes(scope), raised_at=raised_at)

    def _routes(self, scope: str) -> AbstractSet[str]:
        return self.scopes if scope == ALL_ROUTES else {scope}


def _evidence(context: ReaderContext) -> GradeEvidence:
    """The grades for all rules of this kind, which are read together."""
    return GradeEvidence(context, [rule for rule in context.rules if isinstance(rule, QualityRule)])
