import math
from random import Random
from statistics import fmean, variance

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cheapdeep_ops.guard.statistics.intervals import Estimate, Proportion, difference, pooled, weighted, wilson

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


def of(hits, n):
    """An estimate from equal probabilities."""
    return Estimate(rate=hits / n, n=n, count=n)


def drawn(rng, rate, n):
    return of(sum(rng.random() < rate for _ in range(n)), n)


inclusions = st.sampled_from([0.01, 0.05, 0.2, 0.5, 1.0])
groups = st.lists(st.tuples(st.booleans(), inclusions, st.integers(1, 500)), min_size=1, max_size=12)
few = st.lists(st.tuples(st.booleans(), inclusions, st.integers(1, 5)), min_size=1, max_size=6)
estimates = counts.map(lambda count: of(*count))
shares = st.floats(0.01, 1)


class TestAWeightedShare:
    def test_of_nothing_is_unknown(self):
        assert weighted([]) is None
        assert weighted([(True, 0.5, 0)]) is None

    @steady
    @given(st.integers(0, 500), st.integers(0, 500), st.sampled_from([0.01, 0.3, 1.0]))
    def test_at_equal_inclusion_is_the_plain_proportion(self, hits, misses, inclusion):
        assume(hits + misses)
        found = weighted([(True, inclusion, hits), (False, inclusion, misses)])
        assert found.count == hits + misses
        assert found.rate == pytest.approx(hits / found.count)
        assert found.n == pytest.approx(found.count)
        assert found.interval(0.99) == pytest.approx(wilson(hits, found.count, 0.99))

    def test_weighs_each_member_with_what_it_stands_for(self):
        found = weighted([(True, 1.0, 5), (False, 1.0, 5), (True, 0.1, 1), (False, 0.1, 9)])
        assert found.rate == pytest.approx((5 * 1 + 1 * 10) / (10 * 1 + 10 * 10))
        assert found.count == 20

    def test_counts_as_much_as_the_heavy_members_say(self):
        # Of 10,000 answers, 9,000 are known by 30 grades: those decide how sure the whole is.
        heavy = weighted([(True, 30 / 9_000, 3), (False, 30 / 9_000, 27)])
        found = weighted([(True, 30 / 9_000, 3), (False, 30 / 9_000, 27), (True, 0.5, 10), (False, 0.5, 490)])
        assert 30 < found.n < 40
        low, high = found.interval()
        assert high - low == pytest.approx(0.9 * (heavy.interval()[1] - heavy.interval()[0]), rel=0.1)

    def test_heavy_members_without_a_hit_may_still_hide_some(self):
        found = weighted([(False, 0.005, 40), (True, 0.5, 50), (False, 0.5, 450)])
        assert found.interval()[1] > 0.05  # 40 right answers leave room for 9% of wrong ones

    @steady
    @given(groups)
    def test_counts_for_no_more_than_its_members_and_lies_within_its_interval(self, sample):
        found = weighted(sample)
        low, high = found.interval()
        assert 1 - 1e-9 <= found.n <= found.count * (1 + 1e-9)
        assert 0 <= low <= found.rate + 1e-12
        assert found.rate - 1e-12 <= high <= 1

    @steady
    @given(few, st.integers(0, 9))
    def test_does_not_depend_on_how_its_members_are_grouped_or_ordered(self, sample, seed):
        singly = [(is_hit, inclusion, 1) for is_hit, inclusion, members in sample for _ in range(members)]
        Random(seed).shuffle(singly)
        one, other = weighted(sample), weighted(singly)
        assert (one.rate, one.n, one.count) == pytest.approx((other.rate, other.n, other.count))

    @steady
    @given(groups, st.sampled_from([0.01, 0.5]))
    def test_depends_on_relative_inclusion_alone(self, sample, factor):
        one, other = weighted(sample), weighted([(is_hit, each * factor, n) for is_hit, each, n in sample])
        assert (one.rate, one.n) == pytest.approx((other.rate, other.n))

    @pytest.mark.parametrize("is_hit", [True, False])
    def test_of_one_kind_alone_is_certain_in_its_point_and_not_in_its_interval(self, is_hit):
        found = weighted([(is_hit, 0.3, 7), (is_hit, 0.7, 11)])
        assert found.rate == is_hit
        low, high = found.interval()
        assert (high == 1.0, low == 0.0) == (is_hit, not is_hit)
        assert high - low > 0.1

    def test_is_true_of_a_population_that_was_sampled_unevenly_where_the_plain_share_is_not(self):
        rng, rounds = Random("uneven"), 1_000
        population = [(number % 10 < 4, 0.8) for number in range(200)] + [(number == 0, 0.1) for number in range(800)]
        truth = sum(is_hit for is_hit, _ in population) / len(population)
        rates, plain = [], []
        for _ in range(rounds):
            sample = [(is_hit, share, 1) for is_hit, share in population if rng.random() < share]
            rates.append(weighted(sample).rate)
            plain.append(sum(is_hit for is_hit, _, _ in sample) / len(sample))
        assert sum(rates) / rounds == pytest.approx(truth, abs=0.001)
        assert sum(plain) / rounds > 3 * truth

    @pytest.mark.parametrize("rate", [0.1, 0.3])
    def test_covers_the_truth_about_as_often_as_it_says(self, rate):
        rng, rounds = Random(f"weighted {rate}"), 2_000
        unequal, covered = [1.0] * 40 + [0.25] * 80, 0
        for _ in range(rounds):
            low, high = weighted((rng.random() < rate, each, 1) for each in unequal).interval()
            covered += low <= rate <= high
        assert 0.92 < covered / rounds < 0.985


class TestAPool:
    def test_of_nothing_is_unknown(self):
        assert pooled([]) is None
        assert pooled([(of(3, 10), 0.0)]) is None

    @steady
    @given(estimates, shares)
    def test_of_one_part_is_that_part(self, part, share):
        found = pooled([(part, share)])
        assert (found.rate, found.n, found.count) == pytest.approx((part.rate, part.n, part.count))

    @pytest.mark.thorough
    @steady
    @given(st.lists(st.tuples(estimates, shares), min_size=2, max_size=6), st.sampled_from([0.1, 3, 1_000]))
    def test_depends_on_relative_shares_alone_and_on_no_order(self, parts, factor):
        one = pooled(parts)
        other = pooled([(part, share * factor) for part, share in [*reversed(parts), (of(1, 2), 0.0)]])
        assert (one.rate, one.n, one.count) == pytest.approx((other.rate, other.n, other.count))

    @steady
    @given(st.lists(st.tuples(estimates, shares), min_size=1, max_size=6))
    def test_lies_between_its_parts_and_within_its_interval(self, parts):
        found = pooled(parts)
        rates = [part.rate for part, _ in parts]
        assert min(rates) - 1e-12 <= found.rate <= max(rates) + 1e-12
        low, high = found.interval()
        assert 0 <= low <= high <= 1
        assert low - 1e-9 <= found.rate <= high + 1e-9

    def test_of_equal_rates_is_known_best_where_each_part_has_the_share_of_its_n(self):
        fitting = pooled([(of(10, 200), 2), (of(5, 100), 1)])
        skewed = pooled([(of(10, 200), 1), (of(5, 100), 9)])
        assert fitting.rate == pytest.approx(skewed.rate) == pytest.approx(0.05)
        assert fitting.n == pytest.approx(300, rel=0.01)
        assert skewed.n == pytest.approx(1 / (0.1**2 / 200 + 0.9**2 / 100), rel=0.05)

    def test_of_parts_without_a_hit_stays_uncertain(self):
        clean = pooled([(of(0, 200), 9), (of(0, 200), 1)])
        assert clean.rate == 0
        assert clean.n == pytest.approx(200 / (0.9**2 + 0.1**2))
        assert 0.01 < clean.interval(0.99)[1] < 0.04

    def test_of_one_part_without_a_hit_is_no_surer_than_a_part_with_one_would_make_it(self):
        without, with_one = (pooled([(of(hits, 100), 1), (of(20, 100), 1)]) for hits in (0, 1))
        assert without.n == pytest.approx(with_one.n, rel=0.05)
        assert without.n < 2 * 200

    @pytest.mark.parametrize(
        "parts",
        [
            [(0.05, 200, 0.7), (0.20, 100, 0.3)],
            [(0.05, 200, 0.2), (0.30, 100, 0.8)],
            [(0.10, 200, 0.5), (0.10, 200, 0.3), (0.40, 300, 0.2)],
        ],
    )
    def test_has_the_effective_n_of_its_variance(self, parts):
        rng, rounds = Random(f"pool {parts}"), 3_000
        drawn_rates = [pooled([(drawn(rng, p, n), share) for p, n, share in parts]).rate for _ in range(rounds)]
        truth = sum(p * share for p, _, share in parts)
        assert fmean(drawn_rates) == pytest.approx(truth, abs=0.002)
        expected = pooled([(of(p * n, n), share) for p, n, share in parts])
        assert expected.rate * (1 - expected.rate) / expected.n == pytest.approx(variance(drawn_rates), rel=0.12)


class TestADifference:
    @pytest.mark.parametrize(
        ("later", "earlier", "low", "high"),
        [
            ((56, 70), (48, 80), 0.0524, 0.3339),  # Newcombe (1998), Stat. Med. 17, 873, table II, method 10
            ((9, 10), (3, 10), 0.1705, 0.8090),
            ((6, 7), (2, 7), 0.0582, 0.8062),
            ((5, 56), (0, 29), -0.0381, 0.1926),
            ((0, 10), (0, 20), -0.1611, 0.2775),
            ((0, 10), (0, 10), -0.2775, 0.2775),
            ((10, 10), (0, 20), 0.6791, 1.0),
            ((10, 10), (0, 10), 0.6075, 1.0),
        ],
    )
    def test_gives_the_published_intervals(self, later, earlier, low, high):
        assert difference(of(*later), of(*earlier), 0.95) == pytest.approx((low, high), abs=0.00006)

    @steady
    @given(estimates, estimates, confidences)
    def test_turns_round_when_its_sides_change(self, one, other, confidence):
        low, high = difference(one, other, confidence)
        assert difference(other, one, confidence) == pytest.approx((-high, -low), abs=1e-12)

    @steady
    @given(estimates, estimates, confidences)
    def test_holds_its_point_and_lies_within_minus_1_and_1(self, one, other, confidence):
        low, high = difference(one, other, confidence)
        assert -1 - 1e-12 <= low <= one.rate - other.rate <= high <= 1 + 1e-12
        assert low < high

    @steady
    @given(estimates, estimates, confidences, confidences)
    def test_widens_with_confidence(self, one, other, less, more):
        assume(less < more)
        inner, outer = difference(one, other, less), difference(one, other, more)
        assert outer[0] <= inner[0] <= inner[1] <= outer[1]

    @steady
    @given(st.integers(20, 800).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n))), estimates, confidences)
    def test_grows_with_every_hit(self, count, earlier, confidence):
        hits, n = count
        lows = [difference(of(each, n), earlier, confidence)[0] for each in (hits, hits + 1)]
        assert lows[0] <= lows[1] + 1e-12

    def test_of_a_sure_thing_is_the_interval_of_the_other(self):
        sure = of(100_000_000, 1_000_000_000)
        low, high = difference(of(20, 100), sure, 0.95)
        assert (low + 0.1, high + 0.1) == pytest.approx(wilson(20, 100, 0.95), abs=1e-4)

    @pytest.mark.parametrize(
        ("later", "earlier"),
        [((0.24, 50), (0.05, 200)), ((0.05, 100), (0.05, 200)), ((0.5, 80), (0.3, 200)), ((0.02, 200), (0.10, 200))],
    )
    def test_covers_the_truth_about_as_often_as_it_says(self, later, earlier):
        rng, rounds = Random(f"{later} {earlier}"), 2_000
        truth, covered = later[0] - earlier[0], 0
        for _ in range(rounds):
            low, high = difference(drawn(rng, *later), drawn(rng, *earlier), 0.95)
            covered += low <= truth <= high
        assert 0.925 < covered / rounds < 0.985
