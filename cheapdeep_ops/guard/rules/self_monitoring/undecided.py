"""Reads what only a person can decide: raises with too few grades, and a grader that stays changed."""

from collections.abc import Callable, Collection, Iterable

from cheapdeep_ops.guard.formatting import duration
from cheapdeep_ops.guard.rules.alert_set import AlertSet
from cheapdeep_ops.guard.rules.interface import SignalReader
from cheapdeep_ops.guard.rules.model import Finding, Level, Rule, ScopedAlert
from cheapdeep_ops.values import ALL_ROUTES


class UndecidedReader(SignalReader):
    """Reads the raises by rules on grades. In a pinned scope a person has decided, so it is left out."""

    def __init__(self, rules: Iterable[Rule], alerts: AlertSet, is_pinned: Callable[[str], bool]) -> None:
        self._raising = [rule.alert for rule in rules if rule.rests_on_grades and rule.raises]
        self._alerts = alerts
        self._is_pinned = is_pinned

    @property
    def scopes(self) -> set[str]:
        """The scopes in which such a rule fires."""
        return {alert.scope for alert in self._alerts for rule in self._raising if self._holds(rule, alert.scope)}

    def finding(self, _routes: Collection[str], alert: ScopedAlert) -> Finding:
        """Above while grades neither confirm nor end a raise."""
        held = [rule for rule in self._raising if self._holds(rule, alert.scope)]
        # These are levels of this evaluation only if the rules file has this rule after those that raise.
        undecided = [rule for rule in held if self._alerts.level(rule, alert.scope) in {Level.NO_DATA, Level.UNCLEAR}]
        why = f"raised by {', '.join(undecided)}, and too few grades since" if undecided else "decided"
        return Finding(level=Level.ABOVE if undecided else Level.BELOW, signal={"why": why})

    def _holds(self, rule: str, scope: str) -> bool:
        return self._alerts.fires(rule, scope) and not self._is_pinned(scope)


class UndecidedDriftReader(SignalReader):
    """Reads the rules that have rules on grades keep their state, once they have fired for the longest time."""

    def __init__(self, rules: Iterable[Rule], alerts: AlertSet, now: float) -> None:
        self._holding = [rule for rule in rules if rule.holds_grades_s]
        self._alerts = alerts
        self._now = now

    @property
    def scopes(self) -> set[str]:
        """All routes together."""
        return {ALL_ROUTES}

    def finding(self, _routes: Collection[str], _alert: ScopedAlert) -> Finding:
        """Above while such a rule fires for longer than rules on grades wait for it."""
        late = [rule for rule in self._holding if self._is_over(rule)]
        why = "; ".join(f"{rule.alert} has fired for {duration(rule.holds_grades_s)}" for rule in late)
        return Finding(level=Level.ABOVE if late else Level.BELOW, signal={"kind": why, "why": why})

    def _is_over(self, rule: Rule) -> bool:
        if not self._alerts.fires(rule.alert, ALL_ROUTES):
            return False
        return self._now - self._alerts.get(rule.alert, ALL_ROUTES).since >= rule.holds_grades_s
