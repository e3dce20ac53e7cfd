import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cheapdeep_ops.histogram import PRECISION, duration_bin, quantile

steady = settings(derandomize=True, deadline=None, max_examples=300, database=None)

durations = st.lists(st.floats(1e-4, 1e5), min_size=1, max_size=60)


def counted(seconds):
    return Counter(duration_bin(each) for each in seconds)


def test_a_quantile_is_off_by_less_than_a_twentieth():
    assert 0 < PRECISION < 0.05


@steady
@given(durations, st.data())
def test_a_quantile_lies_within_the_precision_of_the_true_one(seconds, data):
    rank = data.draw(st.integers(1, len(seconds)))
    true = sorted(seconds)[rank - 1]
    found = quantile(counted(seconds), (rank - 0.5) / len(seconds))
    assert abs(found - true) <= PRECISION * true * (1 + 1e-9)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 0.1), (0.5, 0.1), (0.94, 0.1), (0.95, 0.1), (0.951, 2.0), (1.0, 2.0)]
)
def test_a_share_that_is_reached_exactly_goes_no_further(share, expected):
    counts = {duration_bin(0.1): 95, duration_bin(2.0): 5}
    assert quantile(counts, share) == pytest.approx(expected, rel=PRECISION)


@steady
@given(durations, durations, st.sampled_from([0.05, 0.5, 0.95]))
def test_parts_add_up_to_the_whole(one, other, share):
    assert quantile(counted(one) + counted(other), share) == quantile(counted([*one, *other]), share)


@steady
@given(durations)
def test_quantiles_rise_with_their_share(seconds):
    found = [quantile(counted(seconds), share / 20) for share in range(21)]
    assert all(low <= high for low, high in pairwise(found))


def test_the_order_of_the_bins_does_not_matter():
    counts = {duration_bin(3.0): 1, duration_bin(0.001): 1, duration_bin(0.5): 1}
    assert quantile(counts, 0.5) == pytest.approx(0.5, rel=PRECISION)
    assert quantile(dict(reversed(counts.items())), 0.5) == quantile(counts, 0.5)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_of_nothing_no_quantile_is_known(share):
    assert quantile({}, share) is None
    assert quantile({"5": 0}, share) is None


@pytest.mark.parametrize("seconds", [-5.0, 0.0, 1e-9, 1e-4])
def test_durations_too_short_to_tell_apart_share_the_first_bin(seconds):
    assert duration_bin(seconds) == duration_bin(1e-4)
    assert quantile({duration_bin(seconds): 1}, 0.5) == pytest.approx(1e-4, rel=PRECISION)


def test_the_bins_of_a_day_are_few():
    names = {duration_bin(1e-4 * 1.01**power) for power in range(2_100)}
    assert len(names) <= math.ceil(math.log(1.01**2_100, 1.1)) + 1
    assert duration_bin(86_400.0) in names
