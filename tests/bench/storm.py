"""How soon a storm is called, and how often one that is none: `python tests/bench/storm.py [MONTHS [SEED [RUNS]]]`.

Runs the packaged rule's own code (windows, sequential test, alert states) on seeded counts of seconds, without a
database. What is compared with: a plain five-minute average over the limit, and the number of calls that even the best
test needs on average, log(1 / alpha) / KL (Lorden 1971, Annals of Mathematical Statistics 42, 1897).
"""

import math
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from random import Random
from statistics import fmean, quantiles, stdev
from time import perf_counter
from typing import Final

from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.guard.rules.escalation.detection import CLIMBS, level_of
from cheapdeep_ops.guard.rules.escalation.rule import StormRule
from cheapdeep_ops.guard.rules.escalation.variation import (
    LEARNED_EVERY_S,
    LEARNED_FROM_S,
    Variation,
    calm,
    past_until,
)
from cheapdeep_ops.guard.rules.escalation.windows import EscalationWindows, Past, windows_of
from cheapdeep_ops.guard.rules.model import AlertState, Level, ScopedAlert, Transition, step
from cheapdeep_ops.guard.statistics.intervals import wilson
from cheapdeep_ops.guard.statistics.sequential import Bets
from cheapdeep_ops.store.second_counts import SecondCounts, by_route_of
from cheapdeep_ops.values import ALL_ROUTES

ROUTE = "support"
LIMIT = 0.35
EVALUATE_EVERY_S = 5
CALM, STORM = 0.15, 0.60
CALM_WHERE_MINUTES_VARY = 0.30
_FIRST_S = 7_200
RULE = next(rule for rule in read_rulebook().rules if isinstance(rule, StormRule))
_FAR = 0.99 * len(CLIMBS) / RULE.alpha
"""The sum of the bets at which the rule is asked; a little less than what it fires at, for rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """How long it took until a storm was called: in seconds and in calls; `plain_s` by a five-minute average."""

    rule_s: float
    rule_calls: int
    plain_s: float


def information_limit() -> float:
    """Calls that the best test needs on average, at this alpha."""
    kl = STORM * math.log(STORM / LIMIT) + (1 - STORM) * math.log((1 - STORM) / (1 - LIMIT))
    return RULE.evidence_limit / kl


def delay(calls: float, seed: int) -> Delay:
    """A storm at `calls` a second that begins somewhere between two evaluations, after a while of calm.

    Below one call a second, calls come at random. The calm lasts ten minutes, or as long as 400 calls take.
    """
    rng = Random(seed)
    began = int(max(600, 400 / calls)) + rng.randrange(60)
    route = _Route()
    stormy = 0
    rule_s: float | None = None
    plain_s: float | None = None
    for at in range(began + int(max(600, 900 / calls))):
        n = int(calls) if calls >= 1 else int(rng.random() < calls)
        stormy += n * (at >= began)
        route.add(_second(rng, at, n, STORM if at >= began else CALM))
        until = at + 1
        if until % EVALUATE_EVERY_S or until <= began:
            continue
        if rule_s is None and route.level(until) is Level.ABOVE:
            rule_s, rule_calls = until - began, stormy
        plain_s = until - began if plain_s is None and route.average(until) > LIMIT else plain_s
        if rule_s is not None and (plain_s is not None or calls < 1):
            return Delay(rule_s=rule_s, rule_calls=rule_calls, plain_s=plain_s or math.inf)
    raise AssertionError(f"no storm was called at {calls} calls/s with seed {seed}")


class _Route:
    """The counts of a route, in the seconds and the minutes that the guard reads."""

    def __init__(self) -> None:
        self._seconds: list[SecondCounts] = []

    def add(self, second: SecondCounts) -> None:
        """One more second."""
        if second.triaged:
            self._seconds.append(second)

    def average(self, until: int) -> float:
        """The plain average over five minutes."""
        recent = [each for each in self._seconds if each.at >= until - 300]
        return sum(each.base_escalated for each in recent) / max(sum(each.triaged for each in recent), 1)

    def level(self, until: int) -> Level:
        """What the rule finds, once no more than a day of minutes and some minutes of seconds are read."""
        split = int(past_until(RULE, until))
        place = next((number for number, each in enumerate(self._seconds) if each.at >= split), len(self._seconds))
        folded = by_route_of([(ROUTE, each.within(60)) for each in self._seconds[:place]])
        past = Past(until=float(split), minutes=folded)
        windows = windows_of(RULE, lambda *_: {ROUTE: self._seconds[place:]}, until, over={}, past=past)
        return level_of(RULE, windows.reading({ROUTE}, limit=LIMIT, scope=ROUTE))


def false_alarms(
    rate: Callable[[int], float], calls: Callable[[int], int], *, days: float, seed: int, sd: float = 0.0
) -> int:
    """How often the rule begins to fire in so many days of a rate whose mean is never over the limit.

    The first two hours do not count, because the dispersion of minutes is not known in the first of them. Each minute
    has a rate of its own: with `sd`, a share, it is drawn from a beta distribution around `rate`. The rule
    itself is asked only where it might fire: where the sequential test's value over all of history, which is never
    below that of the window, has come so far, or where the long window is surely over the limit.
    """
    rng, watch = Random(seed), _Watch()
    for began in range(0, int(days * 86_400), 60):
        mean = rate(began)
        # The two parameters of a beta distribution with this mean and this standard deviation.
        size = mean * (1 - mean) / sd**2 - 1 if sd else 0.0
        drawn = rng.betavariate(mean * size, (1 - mean) * size) if sd else mean
        watch.live(_drawn_minute(rng, drawn, calls(began)), calls(began), began)
        if began < _FIRST_S:
            watch.started = 0
    return watch.started


class _Watch:
    """The rule's alert over time, on counts of seconds."""

    def __init__(self) -> None:
        self.started = 0
        self.fired_at: float | None = None
        self._alert = ScopedAlert(rule=RULE.alert, scope=ROUTE)
        self._over: dict[str, float] = {}
        self._alerts: dict[str, list[tuple[float, float]]] = {ROUTE: []}
        self._values = (0.0,) * 5
        self._hits: list[int] = []
        self._calls: list[int] = []
        self._minutes: deque[SecondCounts] = deque(maxlen=int(LEARNED_FROM_S // 60))
        self._variation = Variation()
        self.dispersion = 1.0

    def live(self, drawn: list[int], calls: int, began: int) -> None:
        """The seconds of one minute, with an evaluation every five of them."""
        if began % LEARNED_EVERY_S == 0:
            self._learn()
        kept = len(self._hits)
        self._hits += drawn
        self._calls += [calls] * len(drawn)
        table = _factors(calls, self.dispersion)
        first, second, third, fourth, fifth = self._values
        for done in range(EVALUATE_EVERY_S, len(drawn) + 1, EVALUATE_EVERY_S):
            for hits in drawn[done - EVALUATE_EVERY_S : done]:
                one, two, three, four, five = table[hits]
                first, second, third = (first + 1) * one, (second + 1) * two, (third + 1) * three
                fourth, fifth = (fourth + 1) * four, (fifth + 1) * five
            has_come_far = first + second + third + fourth + fifth >= _FAR
            if has_come_far or self._alert.state is not AlertState.INACTIVE or self._is_over(kept + done):
                self._look(kept + done, began + done)
        self._values = (first, second, third, fourth, fifth)
        del self._hits[:-300], self._calls[:-300]
        # As in the guard, minutes become known when they are older than the long window.
        self._minutes.append(SecondCounts(began, 60 * calls, 0, sum(drawn), 60, 2**60 - 1))

    def _learn(self) -> None:
        minutes = calm({ROUTE: list(self._minutes)[:-5]}, self._alerts, joint=ALL_ROUTES)
        self._variation = Variation(minutes, rule=RULE, limit=LIMIT)
        before, self.dispersion = self.dispersion, self._variation.of({ROUTE})
        if before == self.dispersion:
            return
        # The guard divides its whole window anew, so the values of it are those that count.
        values = [0.0] * 5
        for hits, calls in zip(self._hits, self._calls, strict=True):
            factors = _factors(calls, self.dispersion)[hits]
            values = [(value + 1) * factor for value, factor in zip(values, factors, strict=True)]
        self._values = tuple(values)  # type: ignore[assignment]

    def _is_over(self, end: int) -> bool:
        """Whether the lower bound of the long window is above the limit."""
        begin = max(end - 300, 0)
        return sum(self._hits[begin:end]) >= _enough(sum(self._calls[begin:end]), self.dispersion)

    def _look(self, end: int, until: int) -> None:
        begin = max(end - 300, 0)
        pairs = zip(self._calls[begin:end], self._hits[begin:end], strict=True)
        kept = [SecondCounts(until - (end - begin) + at, n, hits, hits) for at, (n, hits) in enumerate(pairs)]
        windows = EscalationWindows(
            rule=RULE, until=float(until), seconds={ROUTE: kept}, over=self._over, variation=self._variation
        )
        level = level_of(RULE, windows.reading({ROUTE}, limit=LIMIT, scope=ROUTE))
        self._alert, turn = step(RULE, self._alert, level, float(until))
        if turn is Transition.STARTED:
            self.started, self.fired_at = self.started + 1, float(until)
        if self._alert.state is AlertState.FIRING:
            spans = self._alerts[ROUTE]
            if turn is None:
                spans.pop()
            spans.append((self._alert.since, float(until)))
        if turn is Transition.RESOLVED:
            self._over[ROUTE] = float(until)


def quiet_alarms(rate: float, *, calls: int, seed: int) -> int:
    """How often windows of the last 300 calls or the test may fire on a quiet route with so many calls, one a second.

    An upper bound: it takes the test's value over all of history, and every time that the windows agree.
    """
    rng, started, silent = Random(seed), 0, 0
    (miss, hit), values, last = _factors(1, 1.0), [0.0] * 5, deque([0] * 300, maxlen=300)
    enough, short = _enough(300, 1.0), next(hits for hits in range(51) if wilson(hits, 50, 0.95)[0] > LIMIT)
    for _ in range(calls):
        is_hit = rng.random() < rate
        values = [(value + 1) * factor for value, factor in zip(values, hit if is_hit else miss, strict=True)]
        last.append(is_hit)
        silent -= 1
        if silent > 0:
            continue
        if sum(values) >= _FAR or (is_hit and sum(last) >= enough and sum(list(last)[-50:]) >= short):
            # One alarm lasts for a window of calls; later ones are new.
            started, silent, values = started + 1, 300, [0.0] * 5
    return started


@cache
def _factors(calls: int, dispersion: float) -> list[tuple[float, ...]]:
    """By what each number of hits in a second multiplies the bets, no more than the rule lets it."""
    most, bets = RULE.evidence_limit / RULE.min_seconds, Bets.on_climb(LIMIT, CLIMBS)
    return [
        tuple(math.exp(min(grown / dispersion, most)) for grown in bets.growth(hits, calls))
        for hits in range(calls + 1)
    ]


@cache
def _enough(calls: int, dispersion: float) -> int:
    """The fewest hits in the long window whose lower bound is above the limit."""
    above = (
        hits
        for hits in range(int(LIMIT * calls), calls + 1)
        if wilson(hits / dispersion, calls / dispersion, RULE.confidence)[0] > LIMIT
    )
    return next(above, calls + 1)


def _drawn_minute(rng: Random, rate: float, calls: int) -> list[int]:
    weights = [math.comb(calls, hits) * rate**hits * (1 - rate) ** (calls - hits) for hits in range(calls + 1)]
    return rng.choices(range(calls + 1), weights, k=60)


def told_when_minutes_vary(sd: float, seed: int) -> tuple[float, float]:
    """The seconds until a storm at ten calls a second is called where minutes vary, and the dispersion by then."""
    rng, watch = Random(seed), _Watch()
    rates = [*[CALM_WHERE_MINUTES_VARY] * 240, *[STORM] * 60]
    for number, mean in enumerate(rates):
        size = mean * (1 - mean) / sd**2 - 1
        watch.live(_drawn_minute(rng, rng.betavariate(mean * size, (1 - mean) * size), 10), 10, number * 60)
        # In the first hour, before the dispersion is known, such minutes may well be taken for a storm.
        if watch.fired_at is not None and watch.fired_at > 240 * 60:
            return watch.fired_at - 240 * 60, watch.dispersion
    raise AssertionError(f"no storm was called with seed {seed}")


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


def thirty(_at: int) -> float:
    """Thirty percent, always."""
    return 0.30


def near(_at: int) -> float:
    """One point below the limit, always."""
    return 0.34


def two(_at: int) -> int:
    """Two calls a second, always."""
    return 2


CASES: Final[Mapping[str, tuple[Callable[[int], float], Callable[[int], int], float]]] = {
    "steady 25%, 10 calls/s": (steady, ten, 0.0),
    "27..33% over the day": (rhythm, traffic, 0.0),
    "steady 34%, 2 calls/s": (near, two, 0.0),
    "30%, minutes sd 3 points": (thirty, ten, 0.03),
    "30%, minutes sd 5 points": (thirty, ten, 0.05),
}
"""What is no storm: the rate and the calls a second by time, and the standard deviation of minutes."""


def _lines(seeds: int, months: float, first: int) -> Iterator[str]:
    limit = information_limit()
    yield f"storm 15% -> 60%, {seeds} seeds from {first} on; information limit {limit:.0f} calls"
    yield " calls/s   mean s +- error    p90 s    max s  mean calls  x limit  plain 5m s  <= 20 s  <= 180 calls"
    for calls in (0.2, 10, 1, 100):
        delays = [delay(calls, seed) for seed in range(first, first + seeds)]
        took = [each.rule_s for each in delays]
        mean, plain = fmean(took), fmean(each.plain_s for each in delays)
        calls_until = [each.rule_calls for each in delays]
        needed = fmean(calls_until)
        p90, error = quantiles(took, n=10)[-1], stdev(took) / math.sqrt(seeds)
        soon, few = (sum(each <= most for each in of) / seeds for of, most in ((took, 20), (calls_until, 180)))
        yield (
            f"{calls:>8} {mean:>8.1f} {error:>8.1f} {p90:>8.1f} {max(took):>8.0f} {needed:>11.0f} "
            f"{needed / limit:>8.2f} {plain:>11.1f} {soon:>8.1%} {few:>11.1%}"
        )
    yield "storm 30% -> 60% at 10 calls/s where minutes vary, mean s +- error; dispersion"
    for sd in (0.03, 0.05):
        told = [told_when_minutes_vary(sd, seed) for seed in range(first, first + max(seeds // 8, 2))]
        took, sizes = [each for each, _ in told], [each for _, each in told]
        yield f"  sd {sd:.0%} {fmean(took):>8.1f} {stdev(took) / math.sqrt(len(took)):>6.1f} {fmean(sizes):>8.2f}"
    yield f"false alarms in {months} simulated months of 30 days"
    for name, (rate, calls_at, sd) in CASES.items():
        count = false_alarms(rate, calls_at, days=30 * months, seed=first + 7, sd=sd)
        yield f"  {name:<26} {_a_month(count, months)}"
    for rate in (0.30, 0.34):
        count = quiet_alarms(rate, calls=int(months * 30 * 1_440 * 12), seed=first + 7)
        yield f"  {f'{rate:.0%}, 12 calls/min, at most':<26} {_a_month(count, months)}"
    yield f"200 routes of 300 seconds are read in {folding_seconds():.2f} s"


def _a_month(count: int, months: float) -> str:
    low, high = poisson_interval(count, months)
    return f"{count} alarms: {count / months:.3f} a month, 95% {low:.3f} to {high:.3f}"


def allowed_s(calls: float) -> float:
    """Seconds within which a storm has to be called on average at so many calls a second."""
    return 1.5 * information_limit() / calls + EVALUATE_EVERY_S + 3


if __name__ == "__main__":
    months, first, runs = [*sys.argv[1:], *("30", "0", "200")[len(sys.argv) - 1 :]]
    for line in _lines(seeds=int(runs), months=float(months), first=int(first)):
        print(line, flush=True)
