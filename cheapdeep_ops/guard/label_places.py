"""Keeps places for names that are called: idle names lose theirs, and busy routes get those of rare ones."""

import logging
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from cheapdeep_ops.admission import TOLD_NAMES
from cheapdeep_ops.store import counters, route_labels
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.units import DAY_S, HOUR_S

_log: Final = logging.getLogger(__name__)
IDLE_S: Final = 30.0 * DAY_S
"""A name without calls for so long loses its place."""

_IDLE_EVERY_S: Final = 3_600.0
EXCHANGE_EVERY_S: Final = 60.0
PERIOD_S: Final = 6.0 * HOUR_S
"""The longest period whose calls are compared; then a new one begins."""

SETTLED_S: Final = 600.0
"""A route may lose its place if it was admitted so long before the period: every process then counts it by name."""

_TIMES: Final = 3
_FEWEST: Final = 100
"""At fewer calls, chance alone makes one of 200 equal routes three times as busy as another."""

_SEEN_S: Final = 1.0 * DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """What was counted up to a moment: calls by route, and by process and name those that had no place."""

    by_route: Mapping[str, int]
    folded: Mapping[str, Mapping[str, int]]

    def by_route_since(self, before: "Calls") -> dict[str, int]:
        """The calls that were counted by name since `before`."""
        return {route: _grown(calls, before.by_route.get(route, 0)) for route, calls in self.by_route.items()}

    def folded_since(self, before: "Calls") -> Counter[str]:
        """The calls that had no place since `before`, by name."""
        calls: Counter[str] = Counter()
        for process, names in self.folded.items():
            known = before.folded.get(process, {})
            # A process reports its busiest names only. The others had at most as many calls as the last of these.
            untold = min(known.values()) if len(known) >= TOLD_NAMES else 0
            for name, count in names.items():
                calls[name] += _grown(count, known[name]) if name in known else max(count - untold, 0)
        return calls


def _grown(calls: int, before: int) -> int:
    """The calls since `before`; all of them if they were counted from zero again."""
    return calls - before if calls >= before else calls


def exchanges(rare: Mapping[str, int], folded: Mapping[str, int]) -> dict[str, str]:
    """The admitted routes that give up their place, with the folded route that gets it; pure.

    Both arguments have calls by route in one period. A folded route needs 100 calls, and three times those of the
    other. So places do not change to and fro.
    """
    busiest = sorted((name for name, calls in folded.items() if calls >= _FEWEST), key=lambda name: -folded[name])
    rarest = sorted(rare, key=lambda name: (rare[name], name))
    pairs = zip(rarest, busiest, strict=False)
    return {leaves: comes for leaves, comes in pairs if folded[comes] >= _TIMES * max(rare[leaves], 1)}


def lacks_class(name: str, routes: Collection[str]) -> bool:
    """Whether a folded name is one of `routes` with an input class: then only the class has no place; pure."""
    return any(name.startswith(f"{route} / ") for route in routes)


class LabelPlaces:
    """Looks for idle names once an hour, and for busy routes without a place once a minute. The acting guard steps.

    Calls are compared since the beginning of a period, which is the first look, and then every six hours.
    """

    def __init__(self, store: Store, *, max_routes: int, started_at: float) -> None:
        self._store = store
        self._max_routes = max_routes
        self._idle_at = started_at + _IDLE_EVERY_S
        self._exchange_at = started_at
        self._began_at = float("-inf")
        self._before = Calls(by_route={}, folded={})
        self._folded = 0

    def step(self, now: float) -> None:
        """Do what is due. Raises StoreError."""
        if now >= self._idle_at:
            self._idle_at = now + _IDLE_EVERY_S
            self._forget_idle(now)
        if now >= self._exchange_at:
            self._exchange_at = now + EXCHANGE_EVERY_S
            self._exchange(now)

    def _forget_idle(self, now: float) -> None:
        freed = self._store.transact(lambda connection: route_labels.forget_idle(connection, before=now - IDLE_S))
        if freed:
            _log.info("%s routes or input classes had no calls for 30 days: others may count by name now", freed)

    def _exchange(self, now: float) -> None:
        with self._store.reading() as connection:
            if not self._began_at <= now < self._began_at + PERIOD_S:
                self._before, self._began_at = _read(connection, now), now
                return
            folded = route_labels.folded(connection)
            # Mostly every name has its place, and then this is all.
            if folded <= self._folded:
                return
            self._folded = folded
            found = _read(connection, now)
            admitted = {each["route"] for each in route_labels.routes(connection)}
            replaceable = route_labels.replaceable(connection, admitted_before=self._began_at - SETTLED_S)
        names = {
            name: calls
            for name, calls in found.folded_since(self._before).items()
            # Processes that have ended still report names that have their place by now.
            if name not in admitted and not lacks_class(name, found.by_route)
        }
        calls = found.by_route_since(self._before)
        for leaves, comes in exchanges({route: calls.get(route, 0) for route in replaceable}, names).items():
            self._store.transact(
                lambda connection, pair=(leaves, comes): route_labels.exchange(  # type: ignore[misc]
                    connection, *pair, now=now, max_routes=self._max_routes
                )
            )
            _log.info("the route %s is called far more than %s, and now counts by name in its place", comes, leaves)


def _read(connection: Connection, now: float) -> Calls:
    return Calls(
        by_route=counters.calls_by_route(connection),
        folded=route_labels.folded_by_process(connection, since=now - _SEEN_S),
    )
