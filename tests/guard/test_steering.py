import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cheapdeep_ops.guard.grading.adaptive import (
    CALM,
    LEARNING,
    MAX_RETROSPECTIVE,
    MAX_WAITING,
    Suspicion,
    has_moved,
    is_adaptive,
    shares,
    waiting_capacity,
)

steady = settings(derandomize=True, deadline=None, max_examples=200, database=None)


def after(wrongs, *, target=0.03, steered=False, suspicion=None):
    suspicion = suspicion or Suspicion()
    for wrong in wrongs:
        suspicion = suspicion.after(incorrect=wrong, target=target, steered=steered)
    return suspicion


def test_a_suspicion_arises_with_a_few_wrong_answers_and_goes_with_correct_ones():
    assert not after([False] * 100).is_raised
    raised = after([True, True])
    assert raised.is_raised
    assert not after([False] * 100, suspicion=raised).is_raised


def test_correct_answers_alone_leave_it_at_rest():
    assert after([False] * 500).value == pytest.approx(1.0)


def test_it_asks_for_the_past_first_and_for_the_future_once_that_has_not_ended_it():
    raised = after([True, True])
    assert raised.retrospective_quota(0, 0.03) == 10
    assert not raised.raises_sampling_rate(0)
    convinced = after([True] * 10, steered=True, suspicion=raised)
    assert convinced.raises_sampling_rate(0)
    assert convinced.retrospective_quota(0, 0.03) == 10
    for many in (MAX_RETROSPECTIVE, MAX_RETROSPECTIVE + 9):
        assert after([True] * many, steered=True, suspicion=raised).retrospective_quota(0, 0.03) == 0


def test_one_that_has_gone_begins_anew():
    raised = after([True] * 5, steered=True, suspicion=after([True, True]))
    assert after([False] * 300, suspicion=raised) == Suspicion(value=after([False] * 300, suspicion=raised).value)


@steady
@given(st.lists(st.booleans(), max_size=400), st.floats(0.001, 0.99))
def test_it_is_a_number_whatever_comes_and_is_kept(wrongs, target):
    found = after(wrongs, target=target)
    assert 0 < found.value <= 1e9
    assert Suspicion.from_row(json.loads(json.dumps(found.row()))) == found


suspicions = st.builds(Suspicion, value=st.floats(0.1, 1e9), hindsight=st.integers(0, 2 * MAX_RETROSPECTIVE))
waits = st.integers(0, 3 * MAX_WAITING)
targets = st.floats(1e-6, 0.999)


def test_where_more_is_wrong_anyway_fewer_are_graded_at_a_time():
    raised = Suspicion(value=9.0)
    assert [raised.retrospective_quota(0, target) for target in (0.001, 0.03, 0.05, 0.1, 0.2, 0.9)] == [
        10,
        10,
        6,
        3,
        1,
        1,
    ]


@steady
@given(suspicions, waits, targets)
def test_what_is_asked_for_in_hindsight_fills_up_what_may_wait_and_no_more(suspicion, waiting, target):
    wanted = suspicion.retrospective_quota(waiting, target)
    assert 0 <= wanted <= min(waiting_capacity(waiting), suspicion.retrospective_quota(0, target))
    assert waiting + wanted <= max(waiting, MAX_WAITING)


@steady
@given(suspicions, waits, waits, targets)
def test_the_more_wait_the_less_is_asked_for(suspicion, few, more, target):
    few, more = sorted([few, more])
    assert suspicion.retrospective_quota(few, target) >= suspicion.retrospective_quota(more, target)
    assert suspicion.raises_sampling_rate(few) >= suspicion.raises_sampling_rate(more)


@steady
@given(suspicions, waits)
def test_more_of_the_calls_to_come_while_there_is_room_for_one(suspicion, waiting):
    assert suspicion.raises_sampling_rate(waiting) is (suspicion.raises_sampling_rate(0) and waiting < MAX_WAITING)


def share(answers, **routes):
    return shares(answers, budget=0.01, kept=0.2, **routes)


def test_one_route_has_its_part_of_the_budget():
    assert share({"a": 5_000}) == {"a": pytest.approx(0.01 * CALM)}
    assert share({"a": 5_000}, whole=frozenset("a")) == {"a": pytest.approx(0.01)}
    assert share({"a": 5_000}, learning=frozenset("a")) == {"a": pytest.approx(0.01 * LEARNING)}
    assert share({"a": 5_000}, hot=frozenset("a")) == {"a": 0.2}
    assert share({}) == {}


def test_a_route_of_a_hundredth_of_the_traffic_has_a_tenth_of_the_grades():
    found = share({"large": 100_000, "small": 1_000})
    assert found["small"] * 1_000 == pytest.approx(found["large"] * 100_000 / 10)


@steady
@given(st.dictionaries(st.text(max_size=3), st.integers(1, 10**7), min_size=1, max_size=20))
def test_all_routes_together_spend_no_more_than_the_budget(answers):
    found = share(answers)
    assert sum(found[route] * count for route, count in answers.items()) <= 0.01 * CALM * sum(answers.values()) * 1.0001
    assert max(found.values()) <= 0.2


def test_a_share_that_has_moved_a_little_stays():
    assert not has_moved(0.01, 0.011)
    assert has_moved(0.01, 0.013)
    assert has_moved(0.01, 0.007)


@pytest.mark.parametrize(
    ("budget", "kept", "is_so"), [(0.01, 0.2, True), (0.25, 1.0, True), (0.3, 1.0, False), (1, 1, False)]
)
def test_there_is_something_to_steer_where_more_is_kept_than_graded(budget, kept, is_so):
    assert is_adaptive(budget, kept) is is_so
