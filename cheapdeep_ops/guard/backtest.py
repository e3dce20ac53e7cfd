"""What other thresholds and rules would have done, from what is recorded: pure, time is an argument."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final, Protocol

from cheapdeep_ops.guard.rules import Alert, AlertState, StormRule, Turn, step
from cheapdeep_ops.guard.signals import RouteWindows, windows_of
from cheapdeep_ops.guard.stats import Proportion, weighted
from cheapdeep_ops.guard.storms import level_of
from cheapdeep_ops.store.counters import SecondCounts
from cheapdeep_ops.values import ALL_ROUTES, Reason

_ROUNDING: Final = 1e-7
"""Of a hundredth: 0.29 * 100 is a hair less than 29 in binary."""


class Known(Protocol):
    """A recorded call, as far as it is known: a confidence that is None stands for a reply that cannot ship."""

    @property
    def confidence(self) -> float | None:
        """What the cheap model said of its answer."""

    @property
    def cheap_correct(self) -> bool | None:
        """Whether its answer was right."""

    @property
    def deep_correct(self) -> bool | None:
        """Whether the deep model's was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The triaged calls of a period: by confidence in hundredths, rounded down, and base escalations by reason."""

    triaged: int
    confidence: Mapping[str, int]
    base_reasons: Mapping[str, int]


def of_recorded(rows: Sequence[Known], threshold: float) -> dict[str, Any]:
    """What `threshold` would have done to recorded calls; every call at or above it ships."""
    ships = [row for row in rows if _ships(row, threshold)]
    judged = [row.cheap_correct for row in ships if row.cheap_correct is not None]
    escalated = Proportion(hits=len(rows) - len(ships), n=len(rows))
    wrong = Proportion(hits=sum(not correct for correct in judged), n=len(judged))
    right = _cascade(rows, threshold)
    return {
        **_escalation(threshold, escalated),
        "false_confident_rate": wrong.rate,
        "false_confident_interval": wrong.interval() if judged else None,
        "graded": wrong.n,
        "cascade_accuracy": right.rate,
        "cascade_interval": right.interval() if right.n else None,
        "compared": right.n,
        "data": True,
        "why": "" if judged else "nothing that would ship is known to be right or wrong",
    }


def of_stored(
    counted: Counted, grades: Sequence[tuple[float, bool, float]], threshold: float, *, base: float
) -> dict[str, Any]:
    """What `threshold` would have done to stored calls.

    A grade is (confidence, whether it is wrong, inclusion probability); none is below `base`, so nothing can be said
    of a threshold there.
    """
    if threshold < base or not counted.triaged:
        why = "no call was triaged" if threshold >= base else f"below the base threshold {base:g} nothing is graded"
        return _without_data(counted.triaged, threshold, why)
    found = weighted((wrong, inclusion, 1) for confidence, wrong, inclusion in grades if confidence >= threshold)
    return {
        **_escalation(threshold, Proportion(hits=_escalated(counted, threshold), n=counted.triaged)),
        "false_confident_rate": found.rate if found else None,
        "false_confident_interval": found.interval() if found else None,
        "graded": found.count if found else 0,
        "data": True,
        "why": "; ".join(_reservations(counted, threshold, base, is_graded=found is not None)),
    }


def storm_alerts(
    rule: StormRule,
    seconds: Mapping[str, Sequence[SecondCounts]],
    *,
    limit: float | None,
    every_s: float,
    since: float,
    until: float,
) -> list[dict[str, Any]]:
    """When `rule` would have fired and resolved, evaluated every `every_s` seconds in `(since, until]` (Unix time).

    Each route is judged by itself, and those that do not fire together, as the guard does.
    """
    rerun = _Rerun(rule, limit)
    count = _window_in(seconds)
    return [turn for now in _moments(since, until, every_s) for turn in rerun.at(now, count)]


class _Rerun:
    """Where the alerts of one rule stand while its past goes by."""

    def __init__(self, rule: StormRule, limit: float | None) -> None:
        self._rule = rule
        self._limit = limit
        self._alerts: dict[str, Alert] = {}
        self._over: dict[str, float] = {}

    def at(self, now: float, count: Callable[[float, float], Mapping[str, Sequence[SecondCounts]]]) -> Iterator[Any]:
        windows = windows_of(self._rule, count, now, over=dict(self._over))
        routes = set(windows.seconds)
        for scope in sorted(routes | (set(self._alerts) - {ALL_ROUTES})):
            yield from self._judge(windows, scope, {scope}, now)
        if len(routes) > 1 or self._fires(ALL_ROUTES):
            yield from self._judge(windows, ALL_ROUTES, {route for route in routes if not self._fires(route)}, now)

    def _judge(self, windows: RouteWindows, scope: str, routes: set[str], now: float) -> Iterator[dict[str, Any]]:
        before = self._alerts.get(scope) or Alert(rule=self._rule.alert, scope=scope)
        level = level_of(self._rule, windows.reading(routes, limit=self._limit, scope=scope))
        self._alerts[scope], turn = step(self._rule, before, level, now)
        if turn is Turn.RESOLVED:
            self._over[scope] = now
        if turn is not None:
            state = "firing" if turn is Turn.STARTED else "resolved"
            yield {"rule": self._rule.alert, "scope": scope, "state": state, "at": now}

    def _fires(self, scope: str) -> bool:
        return scope in self._alerts and self._alerts[scope].state is AlertState.FIRING


def _moments(since: float, until: float, every_s: float) -> Iterator[float]:
    steps = int((until - since) / every_s)
    return takewhile(lambda now: now <= until, (since + every_s * number for number in range(1, steps + 1)))


def _window_in(
    seconds: Mapping[str, Sequence[SecondCounts]],
) -> Callable[[float, float], Mapping[str, Sequence[SecondCounts]]]:
    """Counts of the seconds in `[since, until)`; routes without any are left out, as the store does."""
    places = {route: [second.at for second in found] for route, found in seconds.items()}

    def count(since: float, until: float) -> dict[str, Sequence[SecondCounts]]:
        cut = {
            route: found[bisect_left(places[route], since) : bisect_left(places[route], until)]
            for route, found in seconds.items()
        }
        return {route: found for route, found in cut.items() if found}

    return count


def _ships(row: Known, threshold: float) -> bool:
    return row.confidence is not None and row.confidence >= threshold


def _cascade(rows: Sequence[Known], threshold: float) -> Proportion:
    compared = [row for row in rows if row.deep_correct is not None]
    answers = [row.cheap_correct if _ships(row, threshold) else row.deep_correct for row in compared]
    known = [correct for correct in answers if correct is not None]
    return Proportion(hits=sum(known), n=len(known))


def _escalation(threshold: float, escalated: Proportion) -> dict[str, Any]:
    return {
        "threshold": threshold,
        "calls": escalated.n,
        "escalation_rate": escalated.rate,
        "escalation_interval": escalated.interval(),
    }


def _without_data(calls: int, threshold: float, why: str) -> dict[str, Any]:
    rates = ("escalation_rate", "escalation_interval", "false_confident_rate", "false_confident_interval")
    return {
        "threshold": threshold,
        "calls": calls,
        **dict.fromkeys(rates),
        "graded": 0,
        "data": False,
        "why": why,
    }


def _escalated(counted: Counted, threshold: float) -> int:
    """Calls below the threshold, and those whose answer could never ship."""
    below = sum(count for name, count in counted.confidence.items() if int(name) < threshold * 100 - _ROUNDING)
    return min(below + _unusable(counted), counted.triaged)


def _unusable(counted: Counted) -> int:
    return sum(count for name, count in counted.base_reasons.items() if name != Reason.LOW_CONFIDENCE)


def _reservations(counted: Counted, threshold: float, base: float, *, is_graded: bool) -> Iterator[str]:
    if not is_graded:
        yield "no grade at or above it"
    if abs(threshold * 100 - round(threshold * 100)) > _ROUNDING:
        yield "confidence is counted in hundredths: the one it lies in counts as escalated"
    confident = _unusable(counted) - (counted.triaged - sum(counted.confidence.values()))
    if threshold > base and confident > 0:
        yield f"{confident:,} unusable replies stated a confidence and may count twice"
