"""How soon a storm is called, and how often one that is none: `python tests/bench/storm.py` prints one table.

Runs the packaged rule's own code (windows, sequential test, alert states) on seeded counts of seconds, without a
database. What is compared with: a plain five-minute average over the limit, and the number of calls that even the best
test needs on average, log(1 / alpha) / KL (Lorden 1971, Annals of Mathematical Statistics 42, 1897).
"""

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from random import Random
from statistics import fmean, quantiles
from time import perf_counter

from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.guard.rules.escalation.detection import CLIMBS, level_of
from cheapdeep_ops.guard.rules.escalation.rule import StormRule
from cheapdeep_ops.guard.rules.escalation.windows import EscalationWindows
from cheapdeep_ops.guard.rules.model import AlertState, Level, ScopedAlert, Transition, step
from cheapdeep_ops.guard.statistics.sequential import Bets
from cheapdeep_ops.store.second_counts import SecondCounts

ROUTE = "support"
LIMIT = 0.35
EVALUATE_EVERY_S = 5
CALM, STORM = 0.15, 0.60
_BLOCK_S = 900
RULE = next(rule for rule in read_rulebook().rules if isinstance(rule, StormRule))
_FAR = 0.99 * len(CLIMBS) / RULE.alpha
"""The sum of the bets at which the rule is asked; a little less than what it fires at, for rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """How long it took until a storm was called, in seconds; `plain_s` by a five-minute average."""

    rule_s: float
    plain_s: float


def information_limit() -> float:
    """Calls that the best test needs on average, at this alpha."""
    kl = STORM * math.log(STORM / LIMIT) + (1 - STORM) * math.log((1 - STORM) / (1 - LIMIT))
    return RULE.evidence_limit / kl


def delay(calls: int, seed: int) -> Delay:
    """A storm at `calls` a second that begins somewhere between two evaluations, after ten minutes of calm."""
    rng = Random(seed)
    began = 600 + rng.randrange(EVALUATE_EVERY_S)
    kept: list[SecondCounts] = []
    rule_s: float | None = None
    plain_s: float | None = None
    for at in range(began + 600):
        kept.append(_second(rng, at, calls, STORM if at >= began else CALM))
        kept, until = kept[-300:], at + 1
        if until % EVALUATE_EVERY_S or until <= began:
            continue
        rule_s = until - began if rule_s is None and _level(kept, until) is Level.ABOVE else rule_s
        average = sum(second.base_escalated for second in kept) / (calls * len(kept))
        plain_s = until - began if plain_s is None and average > LIMIT else plain_s
        if rule_s is not None and plain_s is not None:
            return Delay(rule_s=rule_s, plain_s=plain_s)
    raise AssertionError(f"no storm was called at {calls} calls/s with seed {seed}")


def false_alarms(rate: Callable[[int], float], calls: Callable[[int], int], *, days: int, seed: int) -> int:
    """How often the rule begins to fire in so many days of a rate that is never over the limit, second by second.

    Rate and traffic stand still for a quarter of an hour at a time. The rule itself is asked only where it might fire:
    where the sequential test's value over all of history, which is never below that of the window, has come so far, or
    where both windows are over the limit.
    """
    rng, watch = Random(seed), _Watch()
    for began in range(0, days * 86_400, _BLOCK_S):
        watch.live(_drawn_block(rng, rate(began), calls(began)), calls(began), began)
    return watch.started


class _Watch:
    """The rule's alert over time, on counts of seconds."""

    def __init__(self) -> None:
        self.started = 0
        self._alert = ScopedAlert(rule=RULE.alert, scope=ROUTE)
        self._over: dict[str, float] = {}
        self._values = (0.0,) * 5
        self._hits: list[int] = []
        self._calls: list[int] = []

    def live(self, drawn: list[int], calls: int, began: int) -> None:
        """The seconds of one block, with an evaluation every five of them."""
        kept = len(self._hits)
        self._hits += drawn
        self._calls += [calls] * len(drawn)
        table, fewest = _factors(calls), min(self._calls)
        first, second, third, fourth, fifth = self._values
        for done in range(EVALUATE_EVERY_S, len(drawn) + 1, EVALUATE_EVERY_S):
            for hits in drawn[done - EVALUATE_EVERY_S : done]:
                one, two, three, four, five = table[hits]
                first, second, third = (first + 1) * one, (second + 1) * two, (third + 1) * three
                fourth, fifth = (fourth + 1) * four, (fifth + 1) * five
            has_come_far = first + second + third + fourth + fifth >= _FAR
            if has_come_far or self._alert.state is not AlertState.INACTIVE or self._is_over(kept + done, fewest):
                self._look(kept + done, began + done)
        self._values = (first, second, third, fourth, fifth)
        del self._hits[:-300], self._calls[:-300]

    def _is_over(self, end: int, fewest: int) -> bool:
        """Whether both windows may be over the limit; `fewest` are a second's calls."""
        if sum(self._hits[max(end - 60, 0) : end]) <= LIMIT * 60 * fewest:
            return False
        return all(sum(self._hits[since:end]) > LIMIT * sum(self._calls[since:end]) for since in _windows_before(end))

    def _look(self, end: int, until: int) -> None:
        begin = max(end - 300, 0)
        pairs = zip(self._calls[begin:end], self._hits[begin:end], strict=True)
        kept = [SecondCounts(until - (end - begin) + at, n, hits, hits) for at, (n, hits) in enumerate(pairs)]
        self._alert, turn = step(RULE, self._alert, _level(kept, until, self._over), float(until))
        self.started += turn is Transition.STARTED
        if turn is Transition.RESOLVED:
            self._over[ROUTE] = float(until)


def _windows_before(end: int) -> tuple[int, int]:
    return max(end - 60, 0), max(end - 300, 0)


@cache
def _factors(calls: int) -> list[tuple[float, ...]]:
    """By what each number of hits in a second multiplies the bets, no more than the rule lets it."""
    most, bets = RULE.evidence_limit / RULE.min_seconds, Bets.on_climb(LIMIT, CLIMBS)
    return [tuple(math.exp(min(grown, most)) for grown in bets.growth(hits, calls)) for hits in range(calls + 1)]


def _drawn_block(rng: Random, rate: float, calls: int) -> list[int]:
    weights = [math.comb(calls, hits) * rate**hits * (1 - rate) ** (calls - hits) for hits in range(calls + 1)]
    return rng.choices(range(calls + 1), weights, k=_BLOCK_S)


def poisson_interval(count: int, exposure: float, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval of a rate of events (Garwood 1936, Biometrika 28, 437), by bisection."""
    tail = (1 - confidence) / 2
    high = _root(lambda mean: _at_most(count, mean) - tail)
    low = _root(lambda mean: tail - (1 - _at_most(count - 1, mean))) if count else 0.0
    return low / exposure, high / exposure


def steady(_at: int) -> float:
    """A quarter, always."""
    return 0.25


def rhythm(at: int) -> float:
    """Thirty percent, three points up and down over the day."""
    return 0.30 + 0.03 * math.sin(at / 86_400 * math.tau)


def traffic(at: int) -> int:
    """Ten calls a second at the height of the day and two at night."""
    return round(6 + 4 * math.sin(at / 86_400 * math.tau))


def ten(_at: int) -> int:
    """Ten calls a second, always."""
    return 10


def folding_seconds(routes: int = 200) -> float:
    """What it takes to read that many routes, five minutes of seconds each, in CPU-bound wall seconds."""
    rng = Random(0)
    found = {f"route-{number}": [_second(rng, at, 10, 0.3) for at in range(300)] for number in range(routes)}
    windows = EscalationWindows(rule=RULE, until=300.0, seconds=found, over={})
    began = perf_counter()
    for route in found:
        level_of(RULE, windows.reading({route}, limit=LIMIT, scope=route))
    windows.reading(set(found), limit=LIMIT, scope="*")
    return perf_counter() - began


def _level(kept: list[SecondCounts], until: int, over: dict[str, float] | None = None) -> Level:
    windows = EscalationWindows(rule=RULE, until=float(until), seconds={ROUTE: kept}, over=over or {})
    return level_of(RULE, windows.reading({ROUTE}, limit=LIMIT, scope=ROUTE))


def _second(rng: Random, at: int, calls: int, rate: float) -> SecondCounts:
    hits = _drawn(rng, rate, calls)
    return SecondCounts(at, calls, hits, hits)


def _drawn(rng: Random, rate: float, n: int) -> int:
    """A binomial number, from the gaps between hits (Devroye 1986, Non-Uniform Random Variate Generation, X.4)."""
    hits, place, scale = 0, 0, math.log1p(-rate)
    while True:
        place += int(math.log(1.0 - rng.random()) / scale) + 1
        if place > n:
            return hits
        hits += 1


def _at_most(count: int, mean: float) -> float:
    return sum(math.exp(-mean) * mean**k / math.factorial(k) for k in range(count + 1))


def _root(falling: Callable[[float], float]) -> float:
    low, high = 0.0, 200.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return low


def _lines(seeds: int, months: int) -> Iterator[str]:
    limit = information_limit()
    yield f"storm 15% -> 60%, {seeds} seeds; information limit {limit:.0f} calls"
    yield " calls/s   mean s    p90 s  mean calls  x limit  allowed s  plain 5m s"
    for calls in (1, 10, 100):
        delays = [delay(calls, seed) for seed in range(seeds)]
        took = [each.rule_s for each in delays]
        mean, plain = fmean(took), fmean(each.plain_s for each in delays)
        p90 = quantiles(took, n=10)[-1]
        yield (
            f"{calls:>8} {mean:>8.1f} {p90:>8.1f} {mean * calls:>11.0f} {mean * calls / limit:>8.2f} "
            f"{allowed_s(calls):>10.1f} {plain:>11.1f}"
        )
    yield f"false alarms in {months} simulated months of 30 days"
    for name, rate, calls in (("steady 25%, 10 calls/s", steady, ten), ("27..33% over the day", rhythm, traffic)):
        count = false_alarms(rate, calls, days=30 * months, seed=7)
        low, high = poisson_interval(count, months)
        yield f"  {name:<24} {count} alarms: {count / months:.3f} a month, 95% {low:.3f} to {high:.3f}"
    yield f"200 routes of 300 seconds are read in {folding_seconds():.2f} s"


def allowed_s(calls: int) -> float:
    """Seconds within which a storm has to be called on average at so many calls a second."""
    return 1.5 * information_limit() / calls + EVALUATE_EVERY_S + 3


if __name__ == "__main__":
    for line in _lines(seeds=200, months=int(sys.argv[1]) if len(sys.argv) > 1 else 30):
        print(line, flush=True)
