import math
from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cheapdeep_ops.guard.stats import Proportion, wilson

steady = settings(derandomize=True, deadline=None, max_examples=300, database=None)

counts = st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
confidences = st.floats(0.5, 0.9999)


@pytest.mark.parametrize(
    ("hits", "n", "confidence", "low", "high"),
    [
        (7, 20, 0.95, 0.1812, 0.5671),  # the design's example
        (0, 10, 0.95, 0.0, 0.2775),  # Brown, Cai, DasGupta (2001)
        (10, 10, 0.95, 0.7225, 1.0),
        (1, 10, 0.95, 0.0179, 0.4042),
        (81, 263, 0.95, 0.2553, 0.3662),  # Newcombe (1998), Stat. Med. 17, 857, table I, method 3
        (15, 148, 0.95, 0.0624, 0.1605),
        (0, 20, 0.95, 0.0, 0.1611),
        (1, 29, 0.95, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(hits, n, confidence, low, high):
    assert wilson(hits, n, confidence) == pytest.approx((low, high), abs=0.00006)


def test_a_proportion_of_nothing_has_no_rate_and_could_be_anything():
    nothing = Proportion(hits=0, n=0)
    assert nothing.rate is None
    assert nothing.interval() == (0.0, 1.0)


def test_a_proportion_gives_the_95_percent_interval_unless_told():
    seven = Proportion(hits=7, n=20)
    assert seven.rate == 0.35
    assert seven.interval() == wilson(7, 20, 0.95)
    assert seven.interval(0.999) == wilson(7, 20, 0.999)


def test_nothing_but_hits_reaches_1_and_no_hits_reach_0_exactly():
    assert wilson(3, 3, 0.95)[1] == 1.0
    assert wilson(0, 3, 0.95)[0] == 0.0


@pytest.mark.parametrize("confidence", [0.999999, 1 - 1e-12, math.nextafter(1, 0)])
def test_a_confidence_close_to_1_still_has_an_interval(confidence):
    low, high = wilson(7, 20, confidence)
    assert 0 < low < wilson(7, 20, 0.99)[0] < wilson(7, 20, 0.99)[1] < high < 1


@steady
@given(counts, confidences)
def test_the_interval_holds_the_rate_and_lies_within_0_and_1(count, confidence):
    hits, n = count
    low, high = wilson(hits, n, confidence)
    assert 0 <= low <= hits / n <= high <= 1
    assert low < high


@steady
@given(counts, confidences, st.integers(2, 50))
def test_the_interval_narrows_with_more_of_the_same(count, confidence, factor):
    hits, n = count
    low, high = wilson(hits, n, confidence)
    low_more, high_more = wilson(hits * factor, n * factor, confidence)
    assert high_more - low_more < high - low


@steady
@given(counts, confidences, confidences)
def test_the_interval_widens_with_confidence(count, one, other):
    assume(one < other)
    inner, outer = wilson(*count, one), wilson(*count, other)
    assert outer[0] <= inner[0] <= inner[1] <= outer[1]


@steady
@given(counts, confidences)
def test_hits_and_misses_mirror_each_other(count, confidence):
    hits, n = count
    low, high = wilson(hits, n, confidence)
    mirrored = wilson(n - hits, n, confidence)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize(("rate", "n"), [(0.05, 100), (0.3, 20), (0.35, 100), (0.5, 50), (0.9, 200)])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(rate, n):
    rng, rounds = Random(f"{rate} {n}"), 2_000
    covered = 0
    for _ in range(rounds):
        low, high = wilson(sum(rng.random() < rate for _ in range(n)), n, 0.95)
        covered += low <= rate <= high
    assert 0.92 < covered / rounds < 0.985
