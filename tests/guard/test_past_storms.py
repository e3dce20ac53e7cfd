"""Storm rules run again: what spares work changes nothing of what is found."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cheapdeep_ops.guard.backtest.rule_replay import RuleReplay, moments_count, moments_in
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.guard.rules.escalation.detection import BurstCap, SecondOfCalls, climb_of, level_of
from cheapdeep_ops.guard.rules.escalation.history import EscalationHistory, ReadAhead
from cheapdeep_ops.guard.rules.escalation.rule import StormRule
from cheapdeep_ops.guard.rules.escalation.windows import windows_of
from cheapdeep_ops.guard.rules.model import Level
from cheapdeep_ops.store.second_counts import SecondCounts
from cheapdeep_ops.values import ALL_ROUTES

LIMIT = 0.35
(RULE,) = [rule for rule in read_rulebook().rules if isinstance(rule, StormRule)]


class Plain:
    """The same windows, each weighed anew."""

    def __init__(self, count):
        self._count = count

    def look(self, now, over):
        self._windows = windows_of(RULE, self._count, now, over=dict(over))
        return self._windows.seconds.keys()

    def level(self, alert, routes):
        return level_of(RULE, self._windows.reading(routes, limit=LIMIT, scope=alert.scope))


def traffic(seed, stretches):
    """Two routes' seconds; each stretch is (seconds, calls a second, rate of either route)."""
    random, at = Random(seed), 1_000_000
    seconds: dict[str, list[SecondCounts]] = {"support": [], "faq": []}
    for lasts, calls, *rates in stretches:
        for _ in range(lasts):
            at += 1
            for route, rate in zip(seconds, rates, strict=True):
                hits = sum(random.random() < rate for _ in range(calls))
                if calls and random.random() < 0.9:
                    seconds[route].append(SecondCounts(at, calls, hits, hits))
    return seconds, at


def counting(seconds: Mapping[str, Sequence[SecondCounts]]):
    places = {route: [each.at for each in found] for route, found in seconds.items()}

    def count(since, until):
        found = {
            route: found[bisect_left(places[route], since) : bisect_left(places[route], until)]
            for route, found in seconds.items()
        }
        return {route: each for route, each in found.items() if each}

    return count


def turns(past, until, every_s=5.0):
    run = RuleReplay(RULE, past)
    for _ in run.run(moments_in(1_000_000, until, every_s)):
        pass
    return run.transitions


class Findings:
    """A history that finds a climb where it is asked about all of `together`, and nothing elsewhere."""

    grades_read, is_known = 0, True

    def __init__(self, *together: str) -> None:
        self._together = set(together)

    def look(self, now, resolved_at):
        return self._together

    def level(self, alert, routes):
        return Level.ABOVE if set(routes) == self._together else Level.BELOW


def scopes_that_fire(past):
    run = RuleReplay(RULE, past)
    list(run.run(moments_in(0, 600, 5.0)))
    return {turn["scope"] for turn in run.transitions}


def test_two_routes_that_only_climb_together_fire_for_all():
    assert scopes_that_fire(Findings("support", "faq")) == {ALL_ROUTES}


def test_a_single_route_fires_once_for_its_calls():
    assert scopes_that_fire(Findings("support")) == {"support"}


rates = st.sampled_from([0.05, 0.2, 0.34, 0.4, 0.5, 0.9])
some_stretches = st.lists(st.tuples(st.integers(20, 300), st.integers(0, 3), rates, rates), min_size=1, max_size=4)


@pytest.mark.thorough
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), stretches=some_stretches)
def test_sparing_calm_moments_and_reading_ahead_change_nothing(seed, stretches):
    seconds, until = traffic(seed, stretches)
    count = counting(seconds)
    spared = turns(EscalationHistory(RULE, ReadAhead(count, stretch_s=700), limit=LIMIT), until)
    assert spared == turns(Plain(count), until)


@pytest.mark.thorough
@pytest.mark.parametrize("rates", [(0.6, 0.1), (0.1, 0.6), (0.45, 0.45)])
def test_there_are_storms_to_find_and_they_end(rates):
    seconds, until = traffic(1, [(600, 2, 0.1, 0.1), (400, 2, *rates), (900, 2, 0.1, 0.1)])
    found = turns(EscalationHistory(RULE, ReadAhead(counting(seconds)), limit=LIMIT), until)
    assert found == turns(Plain(counting(seconds)), until)
    assert {turn["state"] for turn in found} == {"firing", "resolved"}


def test_most_calm_moments_are_spared(monkeypatch):
    weighed = []
    monkeypatch.setattr(
        "cheapdeep_ops.guard.rules.escalation.history.level_of", lambda *given: weighed.append(1) or level_of(*given)
    )
    seconds, until = traffic(3, [(1_500, 2, 0.2, 0.2)])
    assert turns(EscalationHistory(RULE, ReadAhead(counting(seconds)), limit=LIMIT), until) == []
    assert len(weighed) < 3 * 300 / 10


def test_no_more_than_a_stretch_is_held():
    seconds, until = traffic(1, [(3_000, 1, 0.1, 0.1)])
    asked = []

    def read(since, until):
        asked.append(until - since)
        return counting(seconds)(since, until)

    turns(EscalationHistory(RULE, ReadAhead(read, stretch_s=900), limit=LIMIT), until)
    assert max(asked) == 900
    assert len(asked) <= 3_000 / (900 - RULE.windows.long) + 2


@given(
    seconds=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=400),
    begin=st.integers(0, 400),
    limit=st.sampled_from([0.05, 0.35, 0.8, 1.0]),
)
def test_no_window_has_more_evidence_than_the_ceiling(seconds, begin, limit):
    calls = [SecondOfCalls(at, min(hits, n), n) for at, (hits, n) in enumerate(seconds)]
    ceiling = BurstCap(RULE, limit)
    for second in calls:
        ceiling.take_in(second)
    window = [second for second in calls[begin:] if second.n]
    found = climb_of(RULE, limit, window, until=float(len(calls))).evidence
    assert ceiling.is_reached or found is None or found < RULE.evidence_limit


@pytest.mark.parametrize(("until", "many"), [(99.0, 0), (100.0, 0), (104.9, 0), (105.0, 1), (1_100.0, 200)])
def test_a_period_has_so_many_moments(until, many):
    found = list(moments_in(100.0, until, 5.0))
    assert len(found) == many == moments_count(100.0, until, 5.0)
    assert all(100.0 < each <= until for each in found)
