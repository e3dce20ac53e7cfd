import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cheapdeep_ops.guard.reports import detection_delay
from cheapdeep_ops.guard.reports.detection_delay import (
    SMALLEST,
    SamplingShares,
    answers_needed,
    grades_needed,
    reach_of,
)
from cheapdeep_ops.guard.rules.false_confidence.detection import learned
from cheapdeep_ops.guard.statistics.intervals import Estimate

steady = settings(derandomize=True, deadline=None, max_examples=100, database=None)
ALPHA = 8e-6
STEERED, UNIFORM = SamplingShares(calm=0.005, hot=0.2, most_per_day=3_000), SamplingShares(calm=0.01)
targets, factors = st.floats(0.002, 0.6), st.floats(0.5, 30)


def alarm(rate, n=2_000):
    return learned(Estimate(rate=rate, n=n, count=n))


def found(rate=0.03, *, n=2_000, sampling=STEERED, per_day=12_300.0):
    return reach_of(alarm(rate, n), ALPHA, sampling, per_day=per_day)


@steady
@given(targets, factors, st.sampled_from([STEERED, UNIFORM]), st.floats(1, 1e8))
def test_answers_are_no_fewer_than_grades_and_unknown_together(target, factor, sampling, per_day):
    rate = min(target * factor, 0.99)
    grades = grades_needed(target, rate, ALPHA)
    answers = answers_needed(target, rate, ALPHA, sampling, per_day=per_day)
    if rate < SMALLEST * target:
        assert grades is answers is None
    else:
        assert 1 <= grades <= answers < math.inf


@steady
@given(targets, st.floats(1.3, 10), st.floats(0, 3_000))
def test_a_suspicion_lasts_as_the_motions_say(target, factor, time):
    outcomes = detection_delay._suspicion_outcomes(target, min(target * factor, 0.99))
    deviation, alive = math.sqrt(outcomes.spread * time), 0.0
    for chance, height, _ in outcomes.heights:
        mirrored = math.exp(min(2 * outcomes.fall * height / outcomes.spread, 700.0))
        above, below = ((sign * height - outcomes.fall * time) / (deviation or 1e-300) for sign in (1, -1))
        alive += chance * max(math.erfc(-above / math.sqrt(2)) / 2 - mirrored * math.erfc(-below / math.sqrt(2)) / 2, 0)
    assert 1 - outcomes.ended(outcomes.batch + time) == pytest.approx(alive, abs=1e-12)


@steady
@given(targets, st.floats(1.3, 20), st.floats(1.05, 3))
def test_a_larger_climb_takes_fewer_grades_and_a_stricter_rule_more(target, factor, more):
    rate = min(target * factor, 0.99)
    if rate >= SMALLEST * target:
        grades = grades_needed(target, rate, ALPHA)
        assert grades_needed(target, min(rate * more, 0.99), ALPHA) <= grades
        assert grades_needed(target, rate, ALPHA / more) >= grades


@steady
@given(targets, st.floats(1.3, 20))
def test_a_uniform_sample_takes_its_share(target, factor):
    rate = target * factor
    if SMALLEST * target <= rate < 0.99:
        answers = answers_needed(target, rate, ALPHA, UNIFORM, per_day=1_000)
        assert answers == pytest.approx(100 * grades_needed(target, rate, ALPHA))


def test_beyond_so_many_gradings_a_day_only_the_calm_share_is_left():
    few, many = (answers_needed(0.005, 0.0075, ALPHA, STEERED, per_day=each) for each in (1_000.0, 1_000_000.0))
    assert many > 1.5 * few
    free = replace(STEERED, most_per_day=math.inf)
    assert answers_needed(0.005, 0.0075, ALPHA, free, per_day=1_000_000.0) < few


@steady
@given(st.floats(0, 0.5), st.integers(100, 5_000), st.floats(1, 1e6), st.sampled_from([STEERED, UNIFORM]))
def test_the_smallest_climb_takes_just_that_long_and_a_week_shows_more_than_a_day(rate, n, per_day, sampling):
    reach = reach_of(alarm(rate, n), ALPHA, sampling, per_day=per_day)
    target = alarm(rate, n).target
    day, week = reach["smallest_in_day"], reach["smallest_in_week"]
    assert (day is None and week is None) or week is not None
    for smallest, days in ((day, 1), (week, 7)):
        if smallest is not None:
            assert answers_needed(target, smallest, ALPHA, sampling, per_day=per_day) <= days * per_day
            assert smallest >= SMALLEST * target * (1 - 1e-9)
    if day is not None:
        assert week <= day * 1.01


def test_climbs_are_multiples_of_what_is_normal_and_larger_ones_are_found_sooner():
    reach = found()
    assert [each["factor"] for each in reach["climbs"]] == [1.5, 2.0, 3.0, 5.0]
    assert [each["rate"] for each in reach["climbs"]] == pytest.approx([0.045, 0.06, 0.09, 0.15])
    known = [each for each in reach["climbs"] if each["seconds"] is not None]
    assert len(known) >= 3
    assert known == sorted(known, key=lambda each: -each["seconds"])
    assert all(each["seconds"] == pytest.approx(each["answers"] / 12_300 * 86_400) for each in known)
    assert (reach["normal"], reach["n"], reach["why"]) == (0.03, 2_000, "")


def test_a_climb_that_the_target_covers_is_not_found_at_all():
    (first, *_) = found(n=200)["climbs"]
    assert first["rate"] < alarm(0.03, 200).target
    assert first["answers"] is first["seconds"] is None


def test_a_rate_above_what_can_be_is_no_climb():
    assert [each["factor"] for each in found(0.4)["climbs"]] == [1.5, 2.0]
    assert found(0.0)["climbs"] == []


@pytest.mark.parametrize(
    ("reach", "why"),
    [
        (reach_of(None, ALPHA, STEERED, per_day=100.0), "not learned yet"),
        (found(per_day=0.0), "no confident answer"),
        (found(sampling=SamplingShares(calm=0.0)), "nothing is graded"),
        (found(per_day=1.0), "within a week"),
        (found(0.98), "within a week"),
    ],
)
def test_what_is_unknown_is_none_and_says_why(reach, why):
    assert why in reach["why"]
    assert reach["smallest_in_day"] is reach["smallest_in_week"] is None


@pytest.mark.parametrize("rate", [0.49, 0.55, 0.58, 0.6, 0.9])
@pytest.mark.parametrize("n", [1.0, 20.0, 60.0, 200.0])
def test_where_no_bet_can_grow_nothing_is_promised_and_nothing_breaks(rate, n):
    alarm = learned(Estimate(rate=rate, n=n, count=int(n)))
    found = reach_of(alarm, 8e-6, SamplingShares(calm=0.005, hot=0.3), per_day=12_300.0)
    assert found["smallest_in_week"] is None or 0 < found["smallest_in_week"] < 1
