import json
import math
from itertools import product
from random import Random
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cheapdeep_ops.guard.statistics.sequential import Bets, Detector, Observed

steady = settings(derandomize=True, deadline=None, max_examples=200, database=None)
rates = st.floats(0.001, 0.99)


def factors(bets, hits):
    return [math.exp(each) for each in bets.growth(hits, 1)]


@steady
@given(rates, st.floats(0, 1))
def test_a_bet_wins_nothing_on_average_on_the_good_side_of_its_target(target, part):
    for bets, rate in ((Bets.on_climb(target), target * part), (Bets.on_fall(target), target + (1 - target) * part)):
        expected = [
            rate * hit + (1 - rate) * miss for hit, miss in zip(factors(bets, 1), factors(bets, 0), strict=True)
        ]
        assert max(expected) <= 1 + 1e-9


@pytest.mark.parametrize("target", [5e-324, 1e-300, 0.999, 1 - 2**-53])
def test_the_extreme_targets_of_a_rules_file_have_bets(target):
    for bets in (Bets.on_climb(target), Bets.on_fall(target)):
        assert all(0 < rate < 1 for rate in bets.rates)
        assert all(math.isfinite(growth) for hits in (0, 1) for growth in bets.growth(hits, 1))


@pytest.mark.parametrize("target", [0.03, 0.35, 0.99])
def test_a_bet_is_fair_at_its_target(target):
    for bets in (Bets.on_climb(target), Bets.on_fall(target)):
        for hit, miss in zip(factors(bets, 1), factors(bets, 0), strict=True):
            assert target * hit + (1 - target) * miss == pytest.approx(1)


@pytest.mark.parametrize("target", [0.1, 0.6])
def test_the_value_less_the_number_of_observations_has_no_drift(target):
    bets, n = Bets.on_climb(target), 8
    expected = 0.0
    for wrongs in product([0, 1], repeat=n):
        detector = Detector()
        for wrong in wrongs:
            detector = detector.after(bets, wrong, 1)
        chance = math.prod(target if wrong else 1 - target for wrong in wrongs)
        expected += chance * math.exp(detector.evidence)
    assert expected == pytest.approx(n)


@steady
@given(rates, st.integers(1, 50), st.integers(0, 49))
def test_more_hits_are_more_evidence_of_a_climb_and_less_of_a_fall(target, n, hits):
    less, more = min(hits, n - 1), min(hits, n - 1) + 1
    for bets, sign in ((Bets.on_climb(target), 1), (Bets.on_fall(target), -1)):
        found = [Detector().after(bets, each, n).evidence for each in (less, more)]
        assert sign * (found[1] - found[0]) > 0


@steady
@given(st.lists(st.booleans(), max_size=60))
def test_what_is_kept_goes_on_as_it_was(wrongs):
    bets, detector, kept = Bets.on_climb(0.1), Detector(), Detector()
    for number, wrong in enumerate(wrongs):
        detector = detector.after(bets, int(wrong), 1, at=float(number))
        kept = Detector.from_row(json.loads(json.dumps(kept.row()))).after(bets, int(wrong), 1, at=float(number))
    assert kept == detector
    assert detector.total == len(wrongs)
    assert detector.hits <= detector.n <= len(wrongs)


@steady
@given(
    st.lists(st.sampled_from([(0, 1), (1, 1), (0, 3), (2, 5)]), max_size=60),
    st.sampled_from([0.03, 0.3]),
    st.integers(0, 60),
)
def test_many_at_once_are_worth_what_the_definition_says(counts, target, cut):
    bets = Bets.on_climb(target)
    observed = [Observed(bets.growth(hits, n), hits, n, float(at)) for at, (hits, n) in enumerate(counts)]
    values, runs, since = [0.0] * len(bets.rates), [0.0] * len(bets.rates), None
    for growth, _, n, at, *_ in observed:
        values = [(each + n) * math.exp(grown) for each, grown in zip(values, growth, strict=True)]
        runs = [max(run, 0.0) + grown for run, grown in zip(runs, growth, strict=True)]
        since = None if max(runs) <= 0 else at if since is None else since
    detector = Detector().after_all(observed)
    assert detector == Detector().after_all(observed[:cut]).after_all(observed[cut:])
    assert (detector.total, detector.since) == (sum(n for _, n in counts), since)
    assert detector.run == pytest.approx(max(*runs, 0.0))
    if counts:
        assert math.exp(detector.evidence) == pytest.approx(fmean(values))


def test_a_run_begins_with_the_evidence_and_ends_with_it():
    bets, detector = Bets.on_climb(0.1), Detector()
    detector = detector.after(bets, 0, 1, at=1.0)
    assert (detector.since, detector.n) == (None, 0)
    detector = detector.after(bets, 1, 1, at=2.0).after(bets, 1, 1, at=3.0)
    assert (detector.since, detector.n, detector.hits) == (2.0, 2, 2)
    for number in range(200):
        detector = detector.after(bets, 0, 1, at=4.0 + number)
    assert (detector.since, detector.n, detector.hits) == (None, 0, 0)


def test_nothing_seen_changes_nothing():
    detector = Detector().after(Bets.on_climb(0.1), 1, 1)
    assert detector.after(Bets.on_climb(0.1), 0, 0) is detector
    assert Detector().evidence == -math.inf
    assert not Detector().alarms(0.4)


def test_false_alarms_are_as_rare_as_was_promised():
    bets, random, waits = Bets.on_climb(0.2), Random("promise"), []
    for _ in range(150):
        detector = Detector()
        while not detector.alarms(1 / 200):
            detector = detector.after(bets, int(random.random() < 0.2), 1)
        waits.append(detector.total)
    assert fmean(waits) >= 200
