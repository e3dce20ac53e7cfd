"""Keeps places for names that are called: idle names lose theirs, and busy routes get those of rare ones."""

import logging
from collections.abc import Collection, Mapping
from typing import Final

from cheapdeep_ops.store import counters, route_labels
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.units import DAY_S

_log: Final = logging.getLogger(__name__)
IDLE_S: Final = 30.0 * DAY_S
"""A name without calls for so long loses its place."""

_IDLE_EVERY_S: Final = 3_600.0
EXCHANGE_EVERY_S: Final = 60.0
SETTLED_S: Final = 600.0
"""A route keeps its place for so long after its admission, so that a new one is not judged by its first seconds."""

_TIMES: Final = 3
_FEWEST: Final = 50
_OF_S: Final = 1.0 * DAY_S


def exchanges(rare: Mapping[str, int], folded: Mapping[str, int]) -> dict[str, str]:
    """The admitted routes that give their place to a folded one, and that one; by the calls of each; pure.

    A folded route needs fifty calls, and three times those of the other, so that places do not change to and fro.
    """
    busiest = sorted((name for name, calls in folded.items() if calls >= _FEWEST), key=lambda name: -folded[name])
    rarest = sorted(rare, key=lambda name: (rare[name], name))
    pairs = zip(rarest, busiest, strict=False)
    return {leaves: comes for leaves, comes in pairs if folded[comes] >= _TIMES * max(rare[leaves], 1)}


def lacks_class(name: str, routes: Collection[str]) -> bool:
    """Whether a folded name is one of `routes` with an input class: then only the class has no place; pure."""
    return any(name.startswith(f"{route} / ") for route in routes)


class LabelPlaces:
    """Looks for idle names once an hour, and for busy routes without a place once a minute. The acting guard steps."""

    def __init__(self, store: Store, *, max_routes: int, started_at: float) -> None:
        self._store = store
        self._max_routes = max_routes
        self._idle_at = started_at + _IDLE_EVERY_S
        self._exchange_at = started_at + EXCHANGE_EVERY_S
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
            folded = route_labels.folded(connection)
            # Mostly every name has its place, and then this is all.
            if folded <= self._folded:
                return
            self._folded = folded
            # All of them, because processes that have ended still report names that have their place by now.
            reported = route_labels.all_folded_names(connection, since=now - _OF_S)
            routes = counters.routes(connection)
            admitted = {each["route"] for each in route_labels.routes(connection)}
            names = {
                name: calls
                for name, calls in reported.items()
                if name not in admitted and not lacks_class(name, routes)
            }
            rare = route_labels.calls_of_replaceable(
                connection, admitted_before=now - SETTLED_S, seen_since=now - _OF_S
            )
        for leaves, comes in exchanges(rare, names).items():
            self._store.transact(
                lambda connection, pair=(leaves, comes): route_labels.exchange(  # type: ignore[misc]
                    connection, *pair, now=now, max_routes=self._max_routes
                )
            )
            _log.info("the route %s is called far more than %s, and now counts by name in its place", comes, leaves)
