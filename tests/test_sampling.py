from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cheapdeep_ops.sampling import kept_share, position

steady = settings(derandomize=True, deadline=None, max_examples=300, database=None)

IDS = [f"call-{number}" for number in range(20_000)]


def chi_square(cells, expected):
    return sum((count - expected) ** 2 / expected for count in cells)


@pytest.mark.parametrize(
    ("call_id", "salt", "expected"),
    [
        ("call-0", "", 0.5848980183362794),
        ("call-1", "", 0.5632205541576644),
        ("call-0", "grader", 0.9546582553151569),
        ("", "", 0.5818916442384907),
        ("\u00fcber", "", 0.5569167882694849),
    ],
)
def test_a_call_lies_where_it_always_lay(call_id, salt, expected):
    assert position(call_id, salt) == expected


@steady
@given(st.text(st.characters(exclude_categories=[])), st.text(max_size=5))
def test_every_id_has_a_place_halves_of_characters_included(call_id, salt):
    assert 0 <= position(call_id, salt) < 1
    assert position(call_id, salt) == position(call_id, salt)


@pytest.mark.parametrize("salt", ["", "a", "b"])
def test_calls_lie_evenly(salt):
    cells = Counter(int(position(call_id, salt) * 20) for call_id in IDS)
    assert len(cells) == 20
    assert chi_square(cells.values(), len(IDS) / 20) < 43.8  # the 99.9% point at 19 degrees of freedom


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
def test_a_share_holds_about_its_share(share):
    chosen = sum(position(call_id) < share for call_id in IDS)
    spread = (len(IDS) * share * (1 - share)) ** 0.5
    assert abs(chosen - len(IDS) * share) < 3.3 * spread


def test_a_smaller_share_is_a_part_of_every_larger_one():
    chosen = [{call_id for call_id in IDS if position(call_id) < share} for share in (0.0, 0.01, 0.05, 0.2, 1.0)]
    assert chosen[0] == set()
    assert chosen[0] < chosen[1] < chosen[2] < chosen[3] < chosen[4] == set(IDS)


@pytest.mark.parametrize(("one", "other"), [("", "a"), ("a", "b"), ("a", "aa")])
def test_another_salt_draws_anew_and_independently(one, other):
    cells = Counter((int(position(call_id, one) * 10), int(position(call_id, other) * 10)) for call_id in IDS)
    counts = [cells[(row, column)] for row in range(10) for column in range(10)]
    assert chi_square(counts, len(IDS) / 100) < 148.3  # the 99.9% point at 99 degrees of freedom


@pytest.mark.parametrize(
    ("rate", "share"), [(0.0, 0.0), (0.002, 0.06), (0.01, 0.3), (0.025, 0.75), (0.05, 1.0), (0.5, 1.0), (1.0, 1.0)]
)
def test_twenty_answers_are_kept_for_each_that_is_graded_and_never_more_than_all(rate, share):
    assert kept_share(rate) == pytest.approx(share)
    assert rate <= kept_share(rate) <= 1.0
