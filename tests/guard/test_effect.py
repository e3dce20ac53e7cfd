"""Whether a raise has helped: shipped and withheld answers of one period, compared at any time."""

from math import exp
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cheapdeep_ops.guard.rules.false_confidence.effect import EffectKind, effect_of
from cheapdeep_ops.guard.statistics.comparison import TwoGroups, _gain
from cheapdeep_ops.store.grades import DecidedGrade

steady = settings(derandomize=True, deadline=None, max_examples=200, database=None)


def graded(shipped, withheld, *, n=400, share=0.3, seed=0, route="support", inclusion=0.3):
    """Grades of answers that ship at base; both rates may differ from one answer to the next."""
    random = Random(seed)
    for number in range(n):
        ships = random.random() >= share
        rate = shipped(number) if ships else withheld(number)
        yield DecidedGrade(
            id=number, route=route, called_at=float(number), incorrect=random.random() < rate, inclusion=inclusion,
            shipped=ships, input_class="",
        )  # fmt: skip


def kind(grades, enough=50):
    return effect_of(list(grades), enough=enough).kind


def test_it_helps_where_withheld_answers_are_worse():
    effect = effect_of(list(graded(lambda _: 0.02, lambda _: 0.4)), enough=50)
    assert effect.kind is EffectKind.HELPS
    shipped, withheld = "1.4% of the answers that shipped since are wrong (n 284)", "43.1% of those that it withheld"
    assert effect.why == f"the raise helps: {shipped}, and {withheld} (n 116)"


def test_it_is_said_when_the_better_answers_are_withheld():
    assert kind(graded(lambda _: 0.4, lambda _: 0.02)) is EffectKind.WORSE


def test_there_is_no_sign_where_both_are_equally_wrong():
    assert kind(graded(lambda _: 0.2, lambda _: 0.2)) is EffectKind.NO_SIGN


@pytest.mark.parametrize(("n", "share"), [(0, 0.5), (60, 0.3), (400, 0.0), (400, 1.0)])
def test_it_is_unknown_with_few_grades_or_none_of_either(n, share):
    effect = effect_of(list(graded(lambda _: 0.2, lambda _: 0.2, n=n, share=share)), enough=50)
    assert effect.kind is EffectKind.UNKNOWN
    assert "of 50 each" in effect.why


def test_a_difference_between_routes_is_no_effect_inside_them():
    # Together, 35% of what is withheld is wrong, and 12% of what ships; in each route both are alike.
    bad = graded(lambda _: 0.4, lambda _: 0.4, share=0.8, seed=1, route="bad")
    good = graded(lambda _: 0.05, lambda _: 0.05, share=0.1, seed=2, route="good")
    mixed = [each for pair in zip(bad, good, strict=True) for each in pair]
    assert kind(mixed) is EffectKind.NO_SIGN


def test_a_rate_that_falls_after_the_raise_is_no_effect():
    assert kind(graded(lambda n: 0.4 if n < 200 else 0.02, lambda n: 0.4 if n < 200 else 0.02)) is EffectKind.NO_SIGN


@given(n=st.integers(2, 40), ratio=st.floats(0.05, 20.0), data=st.data())
@steady
def test_a_bet_is_fair_in_every_block_whatever_the_rate(n, ratio, data):
    hits = data.draw(st.integers(1, n - 1))
    share = hits / n  # of the block's members, each is equally likely to be a hit
    won, lost = (exp(_gain(n, hits, ratio, is_hit=is_hit)) for is_hit in (True, False))
    assert share * won + (1 - share) * lost == pytest.approx(1.0)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=80))
@steady
def test_names_of_groups_are_exchangeable(stream):
    one, other = TwoGroups(), TwoGroups()
    for is_first, is_hit in stream:
        one.add("", is_first=is_first, is_hit=is_hit)
        other.add("", is_first=not is_first, is_hit=is_hit)
    assert one.evidence == pytest.approx(other.evidence, abs=1e-9)
    assert not (one.is_higher and other.is_higher)
