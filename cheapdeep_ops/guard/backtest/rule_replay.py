"""One rule's past run again: when its alert would have fired and been let go. Pure, time is an argument."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

from cheapdeep_ops.guard.rules.model import AlertState, AnyRule, Level, ScopedAlert, Transition, step
from cheapdeep_ops.values import ALL_ROUTES

_TOLD_EVERY: Final = 1_000


class SignalHistory(Protocol):
    """What a rule would have seen, moment by moment."""

    def look(self, now: float, over: Mapping[str, float]) -> Collection[str] | None:
        """Go on to `now` (Unix time, never back); returns the routes there are, None where nothing is new.

        `over` says when each scope's last alert was over, and is kept up to date by its owner.
        """

    def level(self, alert: ScopedAlert, routes: Collection[str]) -> Level:
        """What these routes together say, for an alert that stands so."""


class RuleReplay:
    """Where the alerts of one rule stand while its past goes by; `turns` is what has become of them."""

    def __init__(self, rule: AnyRule, past: SignalHistory) -> None:
        self.turns: list[dict[str, Any]] = []
        self._rule = rule
        self._past = past
        self._alerts: dict[str, ScopedAlert] = {}
        self._over: dict[str, float] = {}
        self._routes: set[str] = set()
        self._is_settled = False

    def run(self, moments: Iterable[float]) -> Iterator[int]:
        """Evaluate at each of `moments` (Unix time, ascending); yields how many are done, now and then."""
        done = 0
        for done, now in enumerate(moments, start=1):
            self.evaluate(now)
            if done % _TOLD_EVERY == 0:
                yield done
        if done % _TOLD_EVERY:
            yield done

    def evaluate(self, now: float) -> None:
        """Each route by itself; then, together, those that do not fire by themselves: as the guard does."""
        seen = self._past.look(now, self._over)
        if seen is None and self._is_settled:
            return
        self._routes = self._routes if seen is None else set(seen)
        turns = len(self.turns)
        for scope in sorted(self._routes | (set(self._alerts) - {ALL_ROUTES})):
            self._judge(scope, {scope}, now)
        if len(self._routes) > 1 or self._fires(ALL_ROUTES):
            self._judge(ALL_ROUTES, {route for route in self._routes if not self._fires(route)}, now)
        self._is_settled = len(self.turns) == turns and not any(map(_waits, self._alerts.values()))

    def _judge(self, scope: str, routes: set[str], now: float) -> None:
        before = self._alerts.get(scope) or ScopedAlert(rule=self._rule.alert, scope=scope)
        self._alerts[scope], turn = step(self._rule, before, self._past.level(before, routes), now)
        if turn is Transition.RESOLVED:
            self._over[scope] = now
        if turn is not None:
            state = "firing" if turn is Transition.STARTED else "resolved"
            self.turns.append({"rule": self._rule.alert, "scope": scope, "state": state, "at": now})

    def _fires(self, scope: str) -> bool:
        return scope in self._alerts and self._alerts[scope].state is AlertState.FIRING


def _waits(alert: ScopedAlert) -> bool:
    """Whether a hold time runs, so that time alone may turn the alert."""
    return alert.state is AlertState.PENDING or alert.below_since is not None


def moments_in(since: float, until: float, every_s: float) -> Iterator[float]:
    """When a guard that began at `since` would have looked, in `(since, until]`."""
    steps = (since + every_s * number for number in range(1, moments_count(since, until, every_s) + 1))
    return (now for now in steps if now <= until)


def moments_count(since: float, until: float, every_s: float) -> int:
    """How many these are, give or take the last."""
    return max(int((until - since) / every_s), 0)
