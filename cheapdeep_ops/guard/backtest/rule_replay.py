"""Evaluates one rule again over recorded data: when its alert would have fired and resolved. Pure."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from cheapdeep_ops.guard.rules.model import AlertState, Rule, ScopedAlert, SignalHistory, Transition, step
from cheapdeep_ops.values import ALL_ROUTES

_SHOWN_EVERY: Final = 1_000
"""How many evaluations lie between two updates of the progress."""


class RuleReplay:
    """The alerts of one rule over recorded data, and their `transitions` so far."""

    def __init__(self, rule: Rule, past: SignalHistory) -> None:
        self.transitions: list[dict[str, Any]] = []
        self._rule = rule
        self._past = past
        self._alerts: dict[str, ScopedAlert] = {}
        self._resolved_at: dict[str, float] = {}
        self._routes: set[str] = set()
        self._is_settled = False

    def run(self, moments: Iterable[float]) -> Iterator[int]:
        """Evaluate at each of `moments` (Unix time, ascending); sometimes yields how many are done."""
        done = 0
        for done, now in enumerate(moments, start=1):
            self.evaluate(now)
            if done % _SHOWN_EVERY == 0:
                yield done
        if done % _SHOWN_EVERY:
            yield done

    def evaluate(self, now: float) -> None:
        """Evaluate each route by itself, then all that do not fire by themselves together, as the guard does."""
        routes = self._past.look(now, self._resolved_at)
        # Without new data and without a running hold time, no alert changes.
        if routes is None and self._is_settled:
            return
        self._routes = self._routes if routes is None else set(routes)
        transitions = len(self.transitions)
        # Also scopes without data: their alerts may still fire, or have a hold time.
        for scope in sorted(self._routes | (set(self._alerts) - {ALL_ROUTES})):
            self._evaluate(scope, {scope}, now)
        # A single route would fire twice for its calls.
        if len(self._routes) > 1 or self._fires(ALL_ROUTES):
            self._evaluate(ALL_ROUTES, {route for route in self._routes if not self._fires(route)}, now)
        self._is_settled = len(self.transitions) == transitions and not any(map(_waits, self._alerts.values()))

    def _evaluate(self, scope: str, routes: set[str], now: float) -> None:
        before = self._alerts.get(scope) or ScopedAlert(rule=self._rule.alert, scope=scope)
        self._alerts[scope], transition = step(self._rule, before, self._past.level(before, routes), now)
        if transition is Transition.RESOLVED:
            self._resolved_at[scope] = now
        if transition is not None:
            state = "firing" if transition is Transition.STARTED else "resolved"
            self.transitions.append({"rule": self._rule.alert, "scope": scope, "state": state, "at": now})

    def _fires(self, scope: str) -> bool:
        return scope in self._alerts and self._alerts[scope].state is AlertState.FIRING


def _waits(alert: ScopedAlert) -> bool:
    """Whether a hold time runs, so that time alone may change the alert."""
    return alert.state is AlertState.PENDING or alert.below_since is not None


def moments_in(since: float, until: float, every_s: float) -> Iterator[float]:
    """The times in `(since, until]` at which a guard that began at `since` would have evaluated."""
    steps = (since + every_s * number for number in range(1, moments_count(since, until, every_s) + 1))
    return (now for now in steps if now <= until)


def moments_count(since: float, until: float, every_s: float) -> int:
    """The number of moments in `moments_in`, or one more."""
    return max(int((until - since) / every_s), 0)
