"""The counters of a recorder while its store is away: bounded in memory, and exact whatever became of each write."""

from contextlib import suppress
from dataclasses import replace
from unittest.mock import patch

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cheapdeep_ops.admission import Admitted
from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.recorder import counter_writer
from cheapdeep_ops.recorder.counter_buffer import CounterBuffer
from cheapdeep_ops.recorder.counter_writer import CounterWriter
from cheapdeep_ops.recorder.tally import Tally
from cheapdeep_ops.store.recording import Heartbeat
from cheapdeep_ops.values import Name
from tests.test_recorder import NOW, decision, escalating

OPEN_S = 10


class Store:
    """A destination in memory: rows replace rows, as in the tables. `fates` says what becomes of each write."""

    def __init__(self):
        self.buckets, self.totals, self.fates = {}, {}, []
        self.stopped = set()
        self.admitted = Admitted(called={Name(each): NOW for each in ("a", "support", "old", "new")})

    def write_counters(self, *, buckets, totals, beat):
        fate = self.fates.pop(0) if self.fates else "stored"
        if fate == "refused":
            raise StoreError("nothing was written")
        self.buckets |= {(row["process"], row["route"], row["input_class"], row["at"]): row for row in buckets}
        self.totals |= {(row["process"], row["route"], row["input_class"]): row for row in totals}
        if fate == "unanswered":
            raise StoreError("written, and the answer was lost")
        return []

    def admit(self, names, now):
        if self.fates and self.fates[0] == "refused":
            raise StoreError("nothing was admitted")
        self.admitted = Admitted(called={**self.admitted.called, **dict.fromkeys(names, now)})
        return self.admitted

    def sign_off(self, process):
        self.stopped.add(process)

    def calls(self):
        return sum(row["calls"] for row in self.buckets.values())


def beat(process):
    return Heartbeat(process=process, kind="router", started_at=NOW, seen_at=NOW, base_threshold=0.8)


def unexpected(lost, why):
    pytest.fail(f"{lost} calls lost: {why}")


class AwayStore(RuleBasedStateMachine):
    """Puts, writes of every fate, additions and steps of the clock, against a model that only counts."""

    def __init__(self):
        super().__init__()
        self.store, self.put, self.kept, self.now = Store(), 0, {}, int(NOW)
        self.writer = CounterWriter(self.store, self.store.admitted, drop=unexpected)
        self.writer.buffer._capacity = 40

    @rule(route=st.sampled_from("ab"), seconds_ago=st.lists(st.integers(0, 12), min_size=1, max_size=6))
    def call(self, route, seconds_ago):
        for ago in seconds_ago:
            at = min(max(self.now - ago, self.now - OPEN_S + 1), self.now)
            assert self.writer.add(decision(route=route), at=at)
        self.put += len(seconds_ago)
        self.kept[route] = self.kept.get(route, 0) + len(seconds_ago)

    @rule(seconds=st.one_of(st.integers(1, 5), st.integers(30, 4_000)))
    def wait(self, seconds):
        self.now += seconds

    @rule(seconds=st.integers(1, 8_000))
    def set_the_clock_back(self, seconds):
        self.now -= seconds
        if self.writer.buffer.is_ahead_of(self.now):
            self.writer.restart(beat(self.writer.process))
            self.writer.buffer._capacity = 40

    @rule()
    def flush(self):
        self.writer.settle(float(self.now))
        self.save()
        self.writer.close_seconds(before=self.now - OPEN_S)
        assert self.store.calls() == self.put
        assert not self.writer.is_dirty
        totals = {}
        for (_, route, _), row in self.store.totals.items():
            totals[route] = totals.get(route, 0) + row["calls"]
        assert totals == self.kept

    @rule(stored=st.integers(0, 2), fate=st.sampled_from(["refused", "unanswered"]))
    def flush_that_fails(self, stored, fate):
        self.store.fates = ["stored"] * stored + [fate]
        with suppress(StoreError):
            self.writer.settle(float(self.now))
            self.save()
        self.store.fates = []

    def save(self):
        with patch.object(counter_writer, "_SECONDS_AT_ONCE", 3):
            self.writer.save(beat(self.writer.process))

    @rule(later=st.integers(0, 200))
    def add_up_minutes(self, later):
        self.now += later
        self.writer.coarsen(before=self.now - OPEN_S)

    @rule()
    def go_on_under_a_new_name(self):
        self.writer.restart(beat(self.writer.process))
        self.writer.buffer._capacity = 40

    @rule()
    def restore_the_store_from_a_backup(self):
        self.writer.store_lost()

    @invariant()
    def nothing_is_counted_twice(self):
        assert self.store.calls() <= self.put
        # If the process is sealed now, what it has not sent counts under another name.
        buffer, totals = self.writer.buffer, sum(row["calls"] for row in self.store.totals.values())
        assert totals + sum(buffer._buckets[key].calls for key in buffer._unsaved - buffer._sent) <= self.put
        assert self.writer.buffer._size <= 40


TestAwayStore = AwayStore.TestCase
TestAwayStore.settings = settings(max_examples=100, stateful_step_count=30)


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def writer(store):
    return CounterWriter(store, store.admitted, drop=unexpected)


def test_an_hour_of_outage_is_a_row_for_each_minute_and_loses_no_call(writer, store):
    calls = 60 * 12
    for number in range(calls):
        at = int(NOW) + 5 * number
        writer.add(decision(), at=at)
        writer.coarsen(before=at - OPEN_S)
    assert len(writer.buffer._buckets) <= 60 + 2 * 12
    writer.save(beat(writer.process))
    assert store.calls() == calls
    assert all(row["at"] % 60 == 0 for row in list(store.buckets.values())[:-30])


def test_a_second_that_the_store_may_have_is_not_added_to_a_minute(writer, store):
    for at in (0, 1):
        writer.add(decision(), at=60 + at)
    store.fates = ["unanswered"]
    with pytest.raises(StoreError):
        writer.save(beat(writer.process))
    for at in (2, 3, 4):
        writer.add(decision(), at=60 + at)
    writer.coarsen(before=1_000)
    assert sorted(at for *_, at in writer.buffer._buckets) == [60, 61, 62]
    writer.save(beat(writer.process))
    assert {key[-1]: row["calls"] for key, row in store.buckets.items()} == {60: 1, 61: 1, 62: 3}


def test_while_a_write_is_in_doubt_no_other_second_is_sent(writer, store):
    for at in range(5):
        writer.add(decision(), at=60 + at)
        store.fates = ["refused"]
        with pytest.raises(StoreError):
            writer.save(beat(writer.process))
    assert writer.buffer._sent == {("support", "", 60)}


def test_a_full_buffer_adds_up_its_seconds_and_refuses_only_more_labels_than_it_can_hold():
    buffer = CounterBuffer(capacity=10)
    assert all(buffer.add(decision(), Name("support"), at=at) for at in range(0, 10_000_000, 997))
    assert sum(row["calls"] for row in buffer.rows(buffer.next_batch(10), "p")[0]) == len(range(0, 10_000_000, 997))
    taken = [buffer.add(decision(route=str(number)), Name(str(number)), at=10_000_000) for number in range(12)]
    assert not taken[-1]


def test_a_store_that_was_made_anew_gets_every_total_and_the_seconds_that_are_known(writer, store):
    for route, at in (("old", 100), ("new", 200)):
        writer.add(decision(route=route), at=at)
        writer.save(beat(writer.process))
        writer.close_seconds(before=at - OPEN_S)
    store.buckets, store.totals = {}, {}
    writer.store_lost()
    writer.save(beat(writer.process))
    assert {key[1]: row["calls"] for key, row in store.totals.items()} == {"old": 1, "new": 1}
    assert [key[1] for key in store.buckets] == ["new"]
    assert not writer.is_dirty


def test_added_up_counters_are_those_of_all_decisions_at_once():
    decisions = [decision(), escalating(), escalating(policy_version=2), decision(model="own", cost_usd=None)]
    whole, parts = Tally(), Tally()
    for each in decisions:
        part = Tally()
        part.add(each)
        whole.add(each)
        parts.merge(part)
    assert parts == whole


def test_names_stay_bounded_when_counters_are_added_up():
    parts = [Tally() for _ in range(3)]
    for number, part in enumerate(parts):
        for version in range(40):
            part.add(escalating(policy_version=version + 40 * number))
    sum_of_all = Tally()
    for part in parts:
        sum_of_all.merge(part)
    assert (len(sum_of_all.origins), sum(sum_of_all.origins.values())) == (51, 120)
    assert sum_of_all.base_origins == sum_of_all.origins


def test_what_is_taken_away_leaves_what_was_there_before():
    parts = [Tally() for _ in range(2)]
    for number, part in enumerate(parts):
        for version in range(20):
            part.add(escalating(policy_version=version + 20 * number))
    total = Tally()
    for part in parts:
        total.merge(part)
    total.subtract(parts[1])
    assert total == parts[0]


def test_a_rejected_second_leaves_the_total_of_the_others():
    buffer = CounterBuffer(capacity=10)
    for at in (1, 2):
        buffer.add(decision(), Name("support"), at=at)
    buffer.next_batch(1)
    assert buffer.discard([("support", "", 1)]) == 1
    _, totals = buffer.rows(buffer.everything(), "p")
    assert [row["calls"] for row in totals] == [1]


def test_counters_under_the_name_before_the_clock_was_set_back_wait_for_the_store_too(writer, store):
    writer.add(decision(), at=100)
    writer.save(beat(writer.process))
    writer.close_seconds(before=90)
    first = writer.process
    writer.add(decision(), at=101)
    writer.restart(beat(writer.process))
    writer.add(decision(), at=50)
    store.fates = ["refused"]
    with pytest.raises(StoreError):
        writer.save(replace(beat(writer.process)))
    assert writer.unsaved_calls == 2
    writer.save(beat(writer.process))
    assert (store.calls(), store.stopped) == (3, {first})
