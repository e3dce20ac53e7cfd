"""When rules on grades keep their state, because the grader itself has changed.

Grades that are made while such an alert fires never count, for at most the time that its rule says. After that time the
rules read new grades again, and a person is asked.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cheapdeep_ops.guard.rules.alert_set import AlertSet
from cheapdeep_ops.guard.rules.interface import ReaderContext
from cheapdeep_ops.guard.rules.model import AlertState, Rule
from cheapdeep_ops.store import incidents
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.values import ALL_ROUTES


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldTimes:
    """The times in which no grade counts."""

    spans: Sequence[tuple[float, float]] = ()
    """(start, end) of those that had begun when they were read (Unix times)."""

    def covers(self, graded_at: float) -> bool:
        """Whether a grade that was made at this Unix time does not count."""
        return any(since <= graded_at < until for since, until in self.spans)

    def begun(self, now: float) -> "HeldTimes":
        """Those that had begun at `now` (Unix time)."""
        return HeldTimes(spans=[span for span in self.spans if span[0] <= now])

    @property
    def last_end(self) -> float:
        """The end of the last of these times, which may lie ahead (Unix time); minus infinity without any."""
        return max((until for _, until in self.spans), default=float("-inf"))


@dataclass(frozen=True, slots=True, kw_only=True)
class GradeHold(HeldTimes):
    """The times in which no grade counts, for one evaluation; `rules` are those that begin such a time."""

    rules: Sequence[Rule]
    alerts: AlertSet
    now: float

    @property
    def why(self) -> str:
        """The rule because of which states are kept now; empty if they are not."""
        # From the alerts and not from the spans, so that it holds from the evaluation on in which the rule fires.
        for rule in self.rules:
            alert = self.alerts.get(rule.alert, ALL_ROUTES)
            if alert.state is AlertState.FIRING and self.now - alert.since < rule.holds_grades_s:
                return f"not read while {rule.alert} fires: the grader has changed"
        return ""


def read_hold(context: ReaderContext) -> GradeHold:
    """The times in which no grade counts, for one evaluation."""
    rules = [rule for rule in context.rules if rule.holds_grades_s]
    spans = held_times(context.connection, context.rules).spans
    return GradeHold(rules=rules, alerts=context.alerts, spans=spans, now=context.now)


def held_times(connection: Connection, rules: Collection[Rule]) -> HeldTimes:
    """The times in which no grade counts by these `rules`, from their stored incidents."""
    holding = [rule for rule in rules if rule.holds_grades_s]
    # Rules have different lengths only in files of one's own; the longest is the safe one.
    longest_s = max((rule.holds_grades_s for rule in holding), default=0.0)
    past = incidents.spans(connection, rules=[rule.alert for rule in holding]) if holding else []
    spans = [(since, since + longest_s if until is None else min(until, since + longest_s)) for since, until in past]
    return HeldTimes(spans=spans)
