"""Watches all calls of a route for a change: of stated confidence, and of the base escalation rate.

It costs no grade. A change raises the suspicion of the route, so that more of its answers are graded. It never changes
a threshold by itself.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cheapdeep_ops.guard.statistics.change import ChangeDetector
from cheapdeep_ops.store import counters, detectors
from cheapdeep_ops.store.detectors import DetectorState, StoredDetector
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.grades import GraderVersion
from cheapdeep_ops.values import ALL_ROUTES

_NAME: Final = "traffic"
"""The name in the store for its states; no rule can have this name."""

BLOCK_S: Final = 300
"""The length of a block in seconds; one with too few calls goes on."""

MIN_CALLS: Final = 150
"""The fewest calls in a block, so that chance moves its histogram less than a change that matters.

In a simulation the confidence of a tenth of all calls moved. Blocks of 50, 100, 150 and 300 calls showed it in 10, 86,
99 and 100 of 100 runs, because the histogram follows a change that is not noticed soon. Blocks of 150 took 900 calls,
and those of 300 took 1,200. Twice as many base escalations took 300 calls with blocks of 50, and 450 with those of 150.
"""

_SETTLED_S: Final = 60
"""A block is read so many seconds after its end, when routers have flushed it."""

_MOST_BLOCKS: Final = 12
"""After a longer pause of the guard, only so many blocks are read."""

_HALF, _FINE, _ALL = 50, 80, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedTraffic:
    """The routes whose traffic has changed, and the states to store."""

    changed: frozenset[str] = frozenset()
    states: tuple[StoredDetector, ...] = ()


def watch(connection: Connection, grader: GraderVersion, now: float) -> WatchedTraffic:
    """Read the blocks that have ended since the last call; `now` is a Unix time."""
    stored = detectors.read(connection, grader, rule=_NAME)
    until = int(now - _SETTLED_S) // BLOCK_S * BLOCK_S
    since = _since(stored.get(ALL_ROUTES), until)
    if since >= until:
        return WatchedTraffic()
    routes = {route: state.state for route, state in stored.items() if route != ALL_ROUTES}
    fresh: dict[str, Mapping[str, Any]] = {}
    changed: set[str] = set()
    for begin in range(since, until, BLOCK_S):
        for route, counted in counters.histograms(connection, since=begin, until=begin + BLOCK_S).items():
            state = fresh.get(route) or routes.get(route) or {}
            fresh[route], has_changed = _after(state, _coarse(counted))
            changed |= {route} if has_changed else set()
    states = {**fresh, ALL_ROUTES: {"until": until}}
    return WatchedTraffic(changed=frozenset(changed), states=tuple(_stored(states)))


def _since(state: DetectorState | None, until: int) -> int:
    """The end of the last block that was read; a new watch begins with the block before `until`."""
    read_until = int(state.state["until"]) if state else until - BLOCK_S
    return max(read_until, until - _MOST_BLOCKS * BLOCK_S)


def _stored(states: Mapping[str, Mapping[str, Any]]) -> Iterator[StoredDetector]:
    for scope, state in states.items():
        yield StoredDetector(rule=_NAME, scope=scope, kept=DetectorState(state=state))


def _after(state: Mapping[str, Any], counted: Mapping[str, int]) -> tuple[dict[str, object], bool]:
    """The state of a route after more calls, and whether its traffic has changed."""
    detector = ChangeDetector.from_row(state["detector"]) if state else ChangeDetector()
    block = Counter(state["block"] if state else {}) + Counter(counted)
    # Each call is in two bins.
    if block.total() < 2 * MIN_CALLS:
        return {"detector": detector.row(), "block": dict(block)}, False
    detector = detector.after(block)
    return {"detector": detector.row(), "block": {}}, detector.has_changed


def _coarse(counted: Mapping[str, int]) -> Counter[str]:
    """The calls by confidence, in bins that are finer above 80, and by base outcome: each call counts twice."""
    bins: Counter[str] = Counter()
    escalated = counted.get(counters.BASE_ESCALATED, 0)
    stated = {name: count for name, count in counted.items() if name != counters.BASE_ESCALATED}
    for name, count in stated.items():
        bins[name if name == counters.NO_CONFIDENCE else str(_bin(int(name)))] += count
    bins["escalated"] += escalated
    bins["kept"] += max(sum(stated.values()) - escalated, 0)
    return +bins


def _bin(hundredths: int) -> int:
    if hundredths < _HALF:
        return 0
    step = 10 if hundredths < _FINE else 5
    return min(hundredths, _ALL) // step * step
