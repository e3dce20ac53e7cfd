"""The windows of a storm rule: what a cache spares changes nothing of what they say."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cheapdeep_ops.guard.rules.cache import GradeCache
from cheapdeep_ops.guard.rules.escalation.detection import SecondOfCalls, climb_of
from cheapdeep_ops.guard.rules.escalation.rule import StormRule
from cheapdeep_ops.guard.rules.escalation.windows import Past, windows_of
from cheapdeep_ops.store.grades import GraderVersion
from cheapdeep_ops.store.second_counts import SecondCounts
from cheapdeep_ops.values import ALL_ROUTES

steady = settings(derandomize=True, deadline=None, max_examples=60, database=None)
LIMIT = 0.35
RULE = StormRule.model_validate({
    "alert": "EscalationStorm", "signal": "base_escalation_rate", "limit": LIMIT,
    "windows": {"long": 30.0, "short": 10.0}, "min_calls": 4, "reach_calls": 12, "reach": 200.0, "alpha": 0.01,
    "keep_firing_for": 60.0, "actions": ["notify"],
})  # fmt: skip


class Cache:
    """A guard's cache of windows, which counts what it computes; `now` is the time of the evaluation."""

    def __init__(self):
        self.computed, self.now, self._cache = [], 0.0, GradeCache(GraderVersion(model="judge", prompt="p1"))

    def __call__(self, rests_on, scope, compute):
        def counted():
            self.computed.append(scope)
            return compute()

        return self._cache.cached_while(rests_on, scope, self.now, counted)


def looks(calls, moments, *, over=None, cached=None):
    """The readings of each route and of all together at each moment; `calls` are rows by route."""

    def count(since, until):
        cut = {route: [row for row in rows if since <= row.at < until] for route, rows in calls.items()}
        return {route: rows for route, rows in cut.items() if rows}

    for now in moments:
        begin = now // 60 * 60 - 60
        past = Past(until=begin, minutes=count(now - RULE.reach, begin))
        more = {}
        if cached is not None:
            cached.now, more = now, {"cached": cached}
        windows = windows_of(RULE, count, now, over=over or {}, past=past, **more)
        scopes = {route: {route} for route in sorted(windows.seconds)} | {ALL_ROUTES: set(windows.seconds)}
        for scope, routes in scopes.items():
            yield scope, windows.reading(routes, limit=LIMIT, scope=scope)


@st.composite
def rows(draw):
    """Seconds of a route within some minutes, some of them with bypassed calls alone, and some minutes."""
    starts = draw(st.lists(st.integers(0, 400), max_size=40, unique=True))
    made = {}
    for at in sorted(starts):
        n = draw(st.integers(0, 3))
        hits = draw(st.integers(0, n))
        row = SecondCounts(at, n, hits, hits)
        row = row.within(60) if draw(st.booleans()) and at < 180 else row
        made[row.at] = row if row.at not in made else made[row.at].plus(row)
    return [made[at] for at in sorted(made)]


@steady
@given(
    calls=st.fixed_dictionaries({"support": rows(), "faq": rows()}),
    steps=st.lists(st.sampled_from([0.0, 1.0, 5.0, 5.0, 61.0, -40.0]), min_size=4, max_size=12),
    over=st.dictionaries(st.sampled_from(["support", "faq", ALL_ROUTES]), st.floats(200, 420)),
)
def test_a_cached_window_says_what_one_says_that_is_computed_anew(calls, steps, over):
    moments = [300.0 + sum(steps[:number]) for number in range(len(steps) + 1)]
    anew = list(looks(calls, moments, over=over))
    assert list(looks(calls, moments, over=over, cached=Cache())) == anew


def test_a_route_is_computed_once_until_it_has_new_calls():
    quiet = [SecondCounts(at, 1, 0, 0) for at in range(200, 290, 15)]
    called = [*quiet, SecondCounts(312, 1, 1, 1)]
    cache = Cache()
    found = list(looks({"quiet": quiet, "called": called}, [300.0, 305.0, 310.0, 315.0], cached=cache))
    assert cache.computed.count("quiet") == 1
    assert cache.computed.count("called") == 2
    assert [reading.long.n for scope, reading in found if scope == "called"] == [6, 6, 6, 7]


def test_a_window_that_is_full_is_not_cached():
    busy = [SecondCounts(at, 1, 0, 0) for at in range(200, 300)]
    cache = Cache()
    list(looks({"busy": busy}, [300.0, 300.0], cached=cache))
    assert not cache.computed


def test_a_result_of_a_route_without_calls_is_forgotten_after_a_minute():
    cache = GradeCache(GraderVersion(model="judge", prompt="p1"))
    asked = []
    for at, key in ((0.0, "gone"), (30.0, "quiet"), (61.0, "called"), (62.0, "quiet"), (63.0, "gone")):
        cache.cached_while("unchanged", key, at, lambda key=key: asked.append(key))
        assert len(cache._findings) <= 3
    assert asked == ["gone", "quiet", "called", "gone"]
    cache.cached_while("unchanged", "called", 125.0, lambda: None)
    assert list(cache._findings) == ["called"]


def recursion(seconds, rate, *, most, dispersion):
    """The evidence of all bets on a rate, second by second, and when the best of them began: by Shiryaev and Page."""
    hit = math.log(rate / LIMIT) / dispersion
    miss = math.log((1 - rate) / (1 - LIMIT)) / dispersion
    log, best, since = -math.inf, 0.0, 0
    for at, hits, n, distinct in seconds:
        growth = min(hits * hit + (n - hits) * miss, most * distinct)
        best, since = (best, since) if best > 0 else (0.0, at)
        best += growth
        log = growth + (log + math.log1p(math.exp(-log)) if log > 0 else math.log1p(math.exp(log)))
    return log, since


@steady
@given(
    counts=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.sampled_from([1, 1, 1, 7])), min_size=1),
    dispersion=st.sampled_from([1.0, 2.5]),
)
def test_all_bets_together_are_worth_what_they_are_second_by_second(counts, dispersion):
    seconds = [SecondOfCalls(at, min(hits, n), n, width) for at, (hits, n, width) in enumerate(counts)]
    rates = [min(LIMIT * times, 0.95) for times in (1.2, 1.45, 1.75, 2.2, 2.6)]
    most = RULE.evidence_limit / RULE.min_seconds
    bets = [recursion(seconds, rate, most=most, dispersion=dispersion) for rate in rates]
    found = climb_of(RULE, LIMIT, seconds, until=float(len(seconds)), dispersion=dispersion)
    top = max(bets)[0]
    mean = top + math.log(sum(math.exp(log - top) for log, _ in bets) / len(bets))
    assert found.evidence == pytest.approx(mean, abs=1e-9)
    # A bet on a rate that neither gains nor loses may be dated by rounding alone.
    assert any(found.lasted == len(seconds) - since for log, since in bets if log > top - 1e-9)
