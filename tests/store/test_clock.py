"""The store's time on hosts whose clocks differ, drift and step."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops.recorder import Recorder
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import processes, recording
from cheapdeep_ops.store.clock import StoreClock, StoreTime, corrected, steady
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.tables.call_tables import Bucket, Process
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.testing import FrozenClock
from tests.stores import migrated
from tests.test_recorder import decision

NOW = 1_800_000_000.0
HOUR_S = 3_600.0


class Host:
    """A host: real time goes on with `advance`, and its clock differs from it by `ahead_s`."""

    def __init__(self, *, ahead_s=0.0, boot_s=1e5):
        self.at, self.ahead_s, self._boot_s = NOW, ahead_s, boot_s

    def advance(self, seconds):
        self.at += seconds

    def wall(self):
        return self.at + self.ahead_s

    def steady(self):
        return self.at - NOW + self._boot_s

    def clock(self):
        return StoreClock(self.wall, steady_clock=self.steady)


def read(host, clock, *, trip_s=0.01):
    """The process reads the server's clock, which is right; the answer takes as long on both ways."""
    asked_at = host.steady()
    host.advance(trip_s / 2)
    now = host.at
    host.advance(trip_s / 2)
    clock.note(StoreTime(now=now), asked_at=asked_at)


@given(
    ahead=st.floats(-1e8, 1e8),
    moves=st.lists(st.tuples(st.floats(0, 1_000), st.floats(-1e5, 1e5), st.floats(0, 5), st.booleans()), max_size=20),
)
def test_with_a_server_no_step_of_the_hosts_clock_moves_the_time(ahead, moves):
    host = Host(ahead_s=ahead)
    clock = host.clock()
    read(host, clock)
    for seconds, step, trip_s, reads in moves:
        host.advance(seconds)
        host.ahead_s += step
        if reads:
            read(host, clock, trip_s=trip_s)
        assert clock() == pytest.approx(host.at, abs=0.3)
        assert clock.ahead_s == pytest.approx(host.ahead_s, abs=0.3)


def test_jitter_does_not_move_the_time_and_a_drift_does():
    host = Host()
    clock = host.clock()
    read(host, clock)
    for _ in range(100):
        before = clock() - host.steady()
        asked_at = host.steady()
        host.advance(0.2)
        clock.note(StoreTime(now=host.at), asked_at=asked_at)  # the way back took no time
        assert clock() - host.steady() == before
    clock.note(StoreTime(now=host.at + 1), asked_at=host.steady())
    assert clock() == pytest.approx(host.at + 1)


def test_an_answer_that_took_long_is_not_used_unless_it_is_the_first():
    host = Host(ahead_s=1_000)
    clock = host.clock()
    clock.note(StoreTime(now=NOW), asked_at=host.steady() - 10)
    assert clock() == pytest.approx(NOW + 5)
    read(host, clock)
    right = clock()
    clock.note(StoreTime(now=NOW + 50), asked_at=host.steady() - 10)
    assert clock() == right


@given(step=st.floats(5.01, 1e7), sign=st.sampled_from([1, -1]), after=st.floats(0, 1e6))
def test_without_a_server_a_step_is_noticed_and_not_followed(step, sign, after):
    host = Host()
    clock = host.clock()
    assert clock() == NOW
    host.ahead_s = sign * step
    host.advance(after)
    assert clock() == pytest.approx(host.at)
    assert clock.ahead_s == pytest.approx(sign * step)


@given(steps=st.lists(st.floats(-4.9, 4.9), max_size=20))
def test_without_a_server_small_corrections_are_followed(steps):
    host = Host()
    clock = host.clock()
    for step in steps:
        host.ahead_s += step
        host.advance(1)
        assert clock() == pytest.approx(host.wall())
        assert clock.ahead_s == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("ahead", [3 * HOUR_S, -3 * HOUR_S])
def test_a_process_that_starts_after_a_step_takes_over_the_difference(ahead):
    host = Host()
    first = host.clock()
    host.ahead_s = ahead
    host.advance(100)
    seen = StoreTime(seen_at=first() - 10, ahead_s=first.ahead_s)
    second = host.clock()
    second.note(seen, asked_at=host.steady())
    assert second() == pytest.approx(first())
    assert second.ahead_s == pytest.approx(ahead)


def test_when_no_process_runs_the_next_one_takes_the_hosts_clock_as_it_is():
    host = Host()
    first = host.clock()
    host.ahead_s = HOUR_S
    seen = StoreTime(seen_at=first(), ahead_s=first.ahead_s)
    host.advance(120)
    second = host.clock()
    second.note(seen, asked_at=host.steady())
    assert second() == pytest.approx(host.wall())


def test_a_clock_that_comes_alone_is_the_stores_time_itself():
    wall = FrozenClock(NOW)
    clock = StoreClock(wall)
    clock.note(StoreTime(now=1.0), asked_at=0.0)
    wall.advance(1e7)
    assert (clock(), clock.ahead_s) == (NOW + 1e7, 0.0)


def test_the_steady_clock_goes_on():
    before = steady()
    time.sleep(0.01)
    assert 0.005 < steady() - before < 5


@given(second=st.floats(0, 2e9), offset=st.floats(-1e8, 1e8))
def test_a_correction_moves_nothing_within_half_a_second(second, offset):
    assert corrected(second, offset) == (second + offset if abs(offset) >= 0.5 else second)


@pytest.fixture
def store(either_url):
    store = migrated(either_url)
    yield store
    store.close()


def test_the_store_tells_its_time(store):
    clock = StoreClock()
    with store.reading() as connection:
        asked_at = clock.steady()
        told = processes.store_time(connection)
        clock.note(told, asked_at=asked_at)
    assert (told.now is None) == store.is_sqlite
    assert clock() == pytest.approx(time.time(), abs=5)
    beat = recording.Heartbeat(
        process="p", kind="guard", started_at=NOW, seen_at=NOW, base_threshold=0.8, clock_ahead_s=7.5
    )
    store.transact(lambda connection: processes.beat(connection, beat))
    with store.reading() as connection:
        told = processes.store_time(connection)
    assert (told.seen_at, told.ahead_s) == ((NOW, 7.5) if store.is_sqlite else (None, None))


@pytest.mark.thorough
@pytest.mark.parametrize("ahead", [300.0, -300.0, 60 * 86_400.0])
def test_a_router_whose_clock_differs_counts_and_keeps_at_the_stores_time(postgresql_url, ahead):
    """And the step of its clock between two flushes moves no call."""
    offset = [ahead]

    def wall():
        return time.time() + offset[0]

    settings = Settings(store_url=postgresql_url)
    recorder = Recorder(settings, clock=wall, steady_clock=steady, background=False)
    recorder.refresh(recorder._clock())
    for step in (0.0, 3 * HOUR_S, -6 * HOUR_S):
        offset[0] += step
        recorder.put(decision(started_at=wall(), duration_s=0.0))
        recorder.drain(recorder._clock())
    store = Store(postgresql_url)
    now = time.time()
    with store.reading() as connection:
        seconds = [row.at for row in connection.execute(table_of(Bucket).select())]
        (process,) = connection.execute(table_of(Process).select()).all()
    store.close()
    recorder.close()
    assert sum(1 for at in seconds) >= 1
    assert all(abs(at - now) < 15 for at in seconds)
    assert abs(process.seen_at - now) < 15
    assert process.clock_ahead_s == pytest.approx(offset[0], abs=5)
