"""Which guard does which part of the work, on clocks that a test moves."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cheapdeep_ops.errors import LeaseLostError
from cheapdeep_ops.guard.lease import STUCK_S, Leases, Watch, keep_every_s, lease_s
from cheapdeep_ops.store import leases
from cheapdeep_ops.store.leases import LeaseState

WORK = ("grade", "deliver", "retain", "evaluate")
EVERY_S = 5.0


class Fleet:
    """Guards on one store. `alive` are those that write heartbeats; each has a monotonic clock of its own."""

    def __init__(self, store):
        self.store = store
        self.now = 0.0
        self.alive = set()
        self.leases = {}

    def start(self, name, *, offset=0.0):
        self.alive.add(name)
        self.leases[name] = Leases(
            self.store, WORK, holder=name, evaluate_every_s=EVERY_S, monotonic=lambda: self.now + offset
        )
        return self.leases[name]

    def kill(self, name):
        self.alive.discard(name)
        del self.leases[name]

    def keep(self, name):
        return self.leases[name].keep(guards=lambda _connection: self.alive, beat=lambda _connection: None)

    def run(self, seconds, *, step_s=1):
        for _ in range(int(seconds / step_s)):
            self.now += step_s
            for name in list(self.leases):
                self.keep(name)

    def holders(self):
        with self.store.reading() as connection:
            return {name: state.holder for name, state in leases.states(connection).items()}


@pytest.fixture
def fleet(store):
    return Fleet(store)


def test_one_guard_does_all_the_work_at_once(fleet):
    fleet.start("a")
    assert fleet.keep("a") == set(WORK)
    assert set(fleet.holders().values()) == {"a"}


def test_a_guard_that_was_killed_is_replaced_within_the_bound_and_not_before(fleet):
    fleet.start("a")
    fleet.run(3)
    fleet.start("b", offset=-5e6)
    fleet.run(20)
    assert fleet.holders()["evaluate"] == "a"
    fleet.kill("a")
    fleet.run(lease_s(EVERY_S) - 1)
    assert fleet.holders()["evaluate"] == "a"
    fleet.run(2)
    assert set(fleet.holders().values()) == {"b"}


def test_an_observer_that_did_not_look_for_a_time_begins_to_watch_anew(fleet):
    """Both are frozen, as by a suspended machine or a store that is away; the observer wakes first."""
    fleet.start("a")
    fleet.start("b")
    fleet.run(5)
    before = fleet.holders()
    fleet.now += 3_600
    fleet.keep("b")
    fleet.run(10)
    assert fleet.holders() == before


def test_three_guards_share_the_work_and_nothing_moves_without_a_cause(fleet):
    for name in "abc":
        fleet.start(name)
    fleet.run(10)
    shares = fleet.holders()
    assert sorted(Counter(shares.values()).values()) == [1, 1, 2]
    assert shares["evaluate"] == "a"
    fleet.run(100, step_s=5)
    assert fleet.holders() == shares
    fleet.kill("c")
    fleet.run(30)
    assert sorted(Counter(fleet.holders().values()).values()) in ([1, 3], [2, 2])


def test_a_guard_that_looks_alive_and_takes_nothing_costs_one_lease_for_the_lease_time(fleet):
    fleet.start("a")
    fleet.keep("a")
    fleet.alive.add("dead")
    fleet.run(2)
    assert fleet.holders()["grade"] == ""
    fleet.alive.discard("dead")
    fleet.run(1)
    assert set(fleet.holders().values()) == {"a"}


def test_a_lease_is_not_given_away_during_a_run(fleet):
    held = fleet.start("a")
    fleet.keep("a")
    fleet.start("b")
    with held["grade"].working() as may_work:
        fleet.run(2)
        assert may_work
        assert held["grade"].is_held
    assert fleet.holders()["deliver"] == "b"


def test_a_holder_that_slept_may_write_nothing(fleet, store):
    old = fleet.start("a")
    fleet.keep("a")
    sleeping = fleet.leases["a"]
    fleet.kill("a")
    fleet.start("b")
    fleet.run(lease_s(EVERY_S) + 2)
    assert set(fleet.holders().values()) == {"b"}
    wrote = []
    with old["evaluate"].working() as may_work:
        assert may_work  # it does not know yet
        with pytest.raises(LeaseLostError, match="evaluate"):
            sleeping["evaluate"].store.transact(wrote.append)
    assert wrote == []
    fleet.leases["a"] = sleeping
    fleet.keep("a")
    assert not any(old[name].is_held for name in WORK)


def test_a_run_that_takes_long_keeps_its_lease_and_one_that_is_stuck_loses_it(fleet):
    held = fleet.start("a")
    fleet.keep("a")
    fleet.start("b")
    fleet.run(5)
    with held["evaluate"].working():
        fleet.run(STUCK_S - 10, step_s=5)
        held["evaluate"].store.transact(lambda connection: None)
        fleet.run(STUCK_S, step_s=5)
        assert fleet.holders()["evaluate"] == "a"
        fleet.run(lease_s(EVERY_S) + 2)
        assert fleet.holders()["evaluate"] == "b"
        with pytest.raises(LeaseLostError):
            held["evaluate"].store.transact(lambda connection: None)


def test_what_is_released_is_taken_at_the_next_look(fleet, store):
    first = fleet.start("a")
    fleet.keep("a")
    fleet.start("b")
    fleet.run(2)
    store.transact(first.give_up())
    fleet.kill("a")
    fleet.keep("b")
    assert set(fleet.holders().values()) == {"b"}


@given(every_s=st.floats(0.05, 3_600))
@settings(max_examples=50)
def test_the_next_guard_evaluates_within_two_intervals_and_five_seconds(every_s):
    assert lease_s(every_s) + 2 * keep_every_s(every_s) <= 2 * every_s + 5 - min(every_s, 0.05)
    assert lease_s(every_s) >= 3 * keep_every_s(every_s)


@given(
    moves=st.lists(st.tuples(st.floats(0.01, 3), st.booleans()), min_size=1, max_size=50),
    offset=st.floats(-1e7, 1e7),
)
def test_a_watch_counts_only_time_without_a_change(moves, offset):
    watch, at, beats, moved_at = Watch(), offset, 0, offset
    for step_s, moves_on in moves:
        at, beats = at + step_s, beats + moves_on
        if moves_on:
            moved_at = at
        watch.note(LeaseState(holder="a", number=1, beats=beats), at, longest_gap_s=5)
        assert -1e-6 <= watch.unchanged_s <= at - moved_at + 1e-6
