"""A change of the traffic is found from all calls, and asks for grades."""

import json
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cheapdeep_ops.guard.grading.adaptive import Suspicion
from cheapdeep_ops.guard.grading.sampler import Sampler
from cheapdeep_ops.guard.grading.traffic_watch import BLOCK_S, MIN_CALLS, watch
from cheapdeep_ops.guard.grading.version import grader_version
from cheapdeep_ops.guard.rules.hold import HeldTimes
from cheapdeep_ops.guard.statistics.change import ChangeDetector, distance, variation
from cheapdeep_ops.store import detectors

CALM = {"60": 0.1, "80": 0.2, "90": 0.7}
MOVED = {"60": 0.1, "80": 0.4, "90": 0.5}


@pytest.fixture
def engine():
    return "sqlite"


def block(random, shares, n):
    drawn = random.choices(list(shares), list(shares.values()), k=n)
    return {name: drawn.count(name) for name in shares}


def after(detector, random, shares, blocks, n=100):
    """The detector after so many blocks, and after which of them it found a change."""
    found = []
    for number in range(blocks):
        detector = detector.after(block(random, shares, n))
        found += [number] if detector.has_changed else []
    return detector, found


def test_a_moved_histogram_is_found_once_within_a_few_blocks():
    random = Random(1)
    calm, alarms = after(ChangeDetector(), random, CALM, 150)
    assert alarms == []
    _, alarms = after(calm, random, MOVED, 100)
    assert len(alarms) == 1
    assert alarms[0] < 12


@pytest.mark.parametrize("seed", range(3))
def test_a_tenth_of_the_calls_that_moves_is_found_in_blocks_of_the_fewest_calls(seed):
    usual = {"40": 0.04, "60": 0.04, "70": 0.07, "80": 0.15, "85": 0.2, "90": 0.3, "95": 0.2}
    random = Random(seed)
    calm, alarms = after(ChangeDetector(), random, usual, 150, n=MIN_CALLS)
    assert alarms == []
    found = after(calm, random, {**usual, "80": 0.25, "90": 0.2}, 50, n=MIN_CALLS)[1]
    assert found
    assert found[0] < 24, "later the histogram has followed the change"


def test_traffic_that_doubles_is_no_change():
    random = Random(2)
    calm, _ = after(ChangeDetector(), random, CALM, 150)
    assert after(calm, random, CALM, 100, n=200)[1] == []


def test_a_single_odd_block_is_no_change():
    random = Random(3)
    calm, _ = after(ChangeDetector(), random, CALM, 150)
    odd, alarms = after(calm, random, {"60": 0.1, "80": 0.9, "90": 0.0}, 1)
    assert alarms == []
    assert after(odd, random, CALM, 60)[1] == []


def test_a_stored_detector_goes_on_where_it_was():
    detector, _ = after(ChangeDetector(), Random(4), CALM, 60)
    kept = ChangeDetector.from_row(json.loads(json.dumps(detector.row())))
    assert after(kept, Random(5), MOVED, 20) == after(detector, Random(5), MOVED, 20)


histograms = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 50), max_size=4)


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(histograms, histograms)
def test_a_distance_is_that_of_shares(one, other):
    assert distance(one, other) >= 0
    assert 0 <= variation(one, other) <= 1 + 1e-9
    assert variation(one, one) == pytest.approx(0)
    assert variation(one, {name: 3 * count for name, count in one.items()}) == pytest.approx(0)


def test_an_alerted_suspicion_asks_for_grades_until_they_are_calm():
    suspicion, grades = Suspicion().alerted(), 0
    assert suspicion.retrospective_quota(0, 0.05) > 0
    while suspicion.is_raised:
        suspicion, grades = suspicion.after(incorrect=False, target=0.05, steered=True), grades + 1
    assert 10 < grades < 40


def live(school, blocks, confidences):
    """So many blocks of the fewest calls; returns the routes whose traffic changed, by block."""
    grader, changes = grader_version(school.settings), []
    for _ in range(blocks):
        for number in range(MIN_CALLS):
            school.put(confidences[number % len(confidences)])
        school.recorder.drain(school.clock())
        school.clock.advance(BLOCK_S)
        with school.store.reading() as connection:
            found = watch(connection, grader, school.clock())
        school.store.transact(
            lambda connection, states=found.states: detectors.write(connection, grader, states, now=school.clock())
        )
        changes.append(set(found.changed))
    return changes


def test_a_doubt_that_neither_grows_nor_goes_ends_within_a_day_so_the_state_stays_small():
    calm = tuple((1.0 + number / 40, 600) for number in range(288))
    doubted = ChangeDetector(histogram={"80": 5_000.0, "90": 5_000.0}, blocks=30, scores=calm, log=4.6)
    block = {"80": 333, "90": 267}
    assert len(replace(doubted, held=calm[:287]).after(block).held) == 288
    after = replace(doubted, held=calm).after(block)
    assert (len(after.held), len(after.scores), after.blocks) == (0, 288, 31)


@pytest.mark.thorough
def test_a_route_whose_confidence_has_moved_is_suspected(make_school):
    school = make_school(sample_rate=0.01)
    school.learn(700, 0.05)
    assert not any(live(school, 60, [0.95] * 5 + [0.9] * 3 + [0.85, 0.5]))
    changes = live(school, 12, [0.99] * 9 + [0.5])
    assert {"support"} in changes[:10]
    sampler = Sampler(school.settings, grader_version(school.settings))
    with school.store.reading() as connection:
        calm = sampler._suspicions(connection, HeldTimes())
        told = sampler._suspicions(connection, HeldTimes(), changed=frozenset({"support", "unknown"}))
    assert (calm.by_route.get("support", Suspicion()).is_raised, told.by_route["support"].is_raised) == (False, True)
    assert told.new_state is not None
    assert "unknown" not in told.new_state.state
