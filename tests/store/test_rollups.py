"""Folds of the counters against a model that only counts."""

from collections import Counter, defaultdict

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import func, select

from cheapdeep_ops.guard.retention import Retention
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters, processes, recording, retirement, rollups
from cheapdeep_ops.store.direct import DirectStore
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.inserts import combined
from cheapdeep_ops.store.tables.call_tables import Bucket, DeadSecond, Process, Rollup, Total
from cheapdeep_ops.store.tables.row import table_of
from tests.stores import migrated

from .rows import most_rows

HOUR, DAY = 3_600, 86_400
BEGIN = 20_000 * DAY
BUCKET, ROLLUP, PROCESS, TOTAL = map(table_of, (Bucket, Rollup, Process, Total))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.thorough)])
def engine(request: pytest.FixtureRequest) -> str:
    """Most statements here are SQLAlchemy's, so PostgreSQL runs with the thorough tests."""
    name: str = request.param
    return name


@pytest.fixture
def store(either_url):
    store = migrated(either_url)
    yield store
    store.close()


@pytest.fixture
def direct(either_url, tmp_path):
    direct = DirectStore(either_url, patience_s=5, folder=tmp_path)
    yield direct
    direct.close()


def row(at, *, process="p", route="support", input_class="", calls=1, base=0, **more):
    return {
        "route": route, "input_class": input_class, "process": process, "at": at, "calls": calls, "triaged": calls,
        "base_escalated": base, "confidence": {"80": calls}, "reasons": {"low_confidence": base}, **more,
    }  # fmt: skip


def beat(process="p", *, seen_at, closed_before=0, kind="router"):
    heartbeat = recording.Heartbeat(
        process=process, kind=kind, started_at=0, seen_at=seen_at, base_threshold=0.8, closed_before=closed_before
    )
    return recording.prepare_beat(heartbeat)


def flush(store, rows, *, process="p", seen_at, closed_before=0, kind="router"):
    """What a recorder writes in one transaction: rows of seconds, the totals, and its heartbeat."""
    totals = [{name: value for name, value in each.items() if name != "at"} for each in rows]
    beats = beat(process, seen_at=seen_at, closed_before=closed_before, kind=kind)
    store.transact(combined(recording.prepare_counters(buckets=rows, totals=totals), beats))


def count(store, table):
    with store.reading() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar()


def read(store, name, **period):
    with store.reading() as connection:
        return getattr(counters, name)(connection, **period)


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def folded(store, now, *, runs=2):
    """The store after a guard's retention at `now`."""
    retention = Retention(store, Settings())
    return [retention.step(now) for _ in range(runs)]


def test_seconds_go_into_minutes_hours_and_days_and_each_call_counts_once(store):
    ats = [BEGIN + 59, BEGIN + 60, BEGIN + 61, BEGIN + HOUR, BEGIN + DAY]
    flush(store, [row(at) for at in ats], seen_at=BEGIN + 2 * DAY, closed_before=BEGIN + 2 * DAY)
    assert folded(store, BEGIN + DAY + 2 * HOUR) == [5, 0]
    assert count(store, BUCKET) == 0
    with store.reading() as connection:
        query = select(ROLLUP.c.width_s, ROLLUP.c.at, ROLLUP.c.calls).where(ROLLUP.c.route == "support")
        rows = sorted(tuple(each) for each in connection.execute(query))
    assert rows == [
        (60, BEGIN, 1), (60, BEGIN + 60, 2), (60, BEGIN + HOUR, 1), (60, BEGIN + DAY, 1),
        (3_600, BEGIN, 3), (3_600, BEGIN + HOUR, 1), (3_600, BEGIN + DAY, 1), (DAY, BEGIN, 4), (DAY, BEGIN + DAY, 1),
    ]  # fmt: skip
    sums = read(store, "summed", since=BEGIN, until=BEGIN + 2 * DAY)
    assert (sums.calls, sums.confidence) == (5, {"80": 5})


def test_a_minute_knows_in_which_of_its_seconds_base_escalations_fell(store):
    first = [row(BEGIN + 5, base=1), row(BEGIN + 7, base=1, input_class="x"), row(BEGIN + 8)]
    second = [row(BEGIN + 7, process="q", base=1, route="faq"), row(BEGIN + 59, process="q", base=1)]
    flush(store, first, seen_at=BEGIN + 2 * HOUR, closed_before=BEGIN + 2 * HOUR)
    flush(store, second, process="q", seen_at=BEGIN + 2 * HOUR, closed_before=BEGIN + 2 * HOUR)
    before = read(store, "by_second", since=BEGIN, until=BEGIN + 60)
    assert folded(store, BEGIN + 2 * HOUR) == [5, 0]
    after = read(store, "by_second", since=BEGIN, until=BEGIN + 60)
    assert {route: [each.base_mask for each in entries] for route, entries in after.items()} == {
        "support": [1 << 5 | 1 << 7 | 1 << 59], "faq": [1 << 7],
    }  # fmt: skip
    for route, entries in before.items():
        assert sum(each.base_escalated for each in entries) == after[route][0].base_escalated
    with store.reading() as connection:
        bits = connection.execute(select(ROLLUP.c.call_seconds).where(ROLLUP.c.route == "*", ROLLUP.c.width_s == 60))
        assert bits.scalars().all() == [1 << 5 | 1 << 7 | 1 << 8 | 1 << 59]


def test_seconds_that_a_process_may_still_write_are_not_folded(store):
    now = BEGIN + 3 * HOUR
    flush(store, [row(BEGIN), row(BEGIN + 60)], seen_at=now, closed_before=BEGIN + 120)
    flush(store, [row(BEGIN + 61, process="q")], process="q", seen_at=now, closed_before=BEGIN + 60)
    assert folded(store, now) == [2, 0]
    # The process writes its open second again, as often as it likes.
    for calls in (5, 6):
        open_second = row(BEGIN + 61, process="q", calls=calls)
        flush(store, [open_second], process="q", seen_at=now, closed_before=BEGIN + 60)
    assert folded(store, now) == [0, 0]
    assert read(store, "sums_of", names=["calls"], since=BEGIN, until=now) == {"calls": 8}
    # Its seconds count in the entry of the minute, of which the others are folded.
    (entry,) = read(store, "by_second", since=BEGIN + 60, until=BEGIN + 120)["support"]
    assert (entry.triaged, entry.width_s) == (7, 60)


def test_the_last_hour_keeps_its_seconds(store):
    now = BEGIN + HOUR
    ats = [BEGIN + 1, BEGIN + 2, BEGIN + 63]
    flush(store, [row(at, base=1) for at in ats], seen_at=now, closed_before=BEGIN + 120)
    flush(store, [row(BEGIN + 2, process="q", base=1)], process="q", seen_at=now, closed_before=BEGIN)
    before = read(store, "by_second", since=BEGIN, until=now)
    assert folded(store, now) == [3, 0]
    assert read(store, "by_second", since=BEGIN, until=now) == before
    for since, until, calls in ((BEGIN + 2, BEGIN + 3, 2), (BEGIN, BEGIN + 2, 1), (BEGIN + 3, now, 1)):
        assert read(store, "sums_of", names=["calls"], since=since, until=until) == {"calls": calls}


@pytest.mark.parametrize("way", ["direct", "sqlalchemy"])
def test_a_late_row_of_a_sealed_second_is_refused_and_counted(store, direct, way):
    now = BEGIN + 3 * HOUR
    flush(store, [row(BEGIN)], seen_at=now, closed_before=BEGIN + 60)
    folded(store, now)
    writer = direct if way == "direct" else store
    for _ in range(2):
        flush(writer, [row(BEGIN, calls=7), row(now, calls=2)], seen_at=now, closed_before=BEGIN + 60)
    with store.reading() as connection:
        assert processes.late(connection) == 7
    assert read(store, "sums_of", names=["calls"], since=BEGIN, until=now + 1) == {"calls": 3}


@pytest.mark.parametrize("way", ["direct", "sqlalchemy"])
def test_a_process_that_counts_as_dead_writes_nothing_any_more(store, direct, way):
    flush(store, [row(BEGIN), row(BEGIN + 1)], seen_at=BEGIN + 1)
    rollups.seal_for_good(store, {"p": BEGIN + 1})
    assert retirement.retire(store, unseen_since=0) == 1
    flush(direct if way == "direct" else store, [row(BEGIN + DAY, calls=5)], seen_at=BEGIN + DAY)
    with store.reading() as connection:
        assert counters.totals(connection)["support", ""].calls == 1  # the totals of the last flush that was taken
        assert processes.late(connection) == 5
    assert count(store, BUCKET) == 2


def test_a_silent_process_is_sealed_only_if_the_guard_itself_has_watched_its_silence(store):
    clock = Clock()
    retention = Retention(store, Settings(), monotonic=clock)
    flush(store, [row(BEGIN)], seen_at=BEGIN + 1)
    flush(store, [row(BEGIN, process="alive")], process="alive", seen_at=BEGIN + 3 * DAY, closed_before=BEGIN + 3 * DAY)
    # The store was away for days, or a clock is wrong: the process may write in the next moment.
    assert retention.step(BEGIN + 3 * DAY) == 1
    clock.at += HOUR - 1
    assert retention.step(BEGIN + 3 * DAY + HOUR) == 0
    flush(store, [row(BEGIN + 1)], seen_at=BEGIN + 2)
    clock.at += HOUR - 1
    assert retention.step(BEGIN + 3 * DAY + 2 * HOUR) == 0
    clock.at += HOUR
    assert retention.step(BEGIN + 3 * DAY + 3 * HOUR) == 2
    clock.at += HOUR
    retention.step(BEGIN + 3 * DAY + 4 * HOUR)
    with store.reading() as connection:
        assert set(connection.execute(select(TOTAL.c.process)).scalars()) == {"", "alive"}


def test_a_process_that_has_stopped_is_sealed_an_hour_later_and_its_totals_are_folded(store):
    clock = Clock()
    retention = Retention(store, Settings(), monotonic=clock)
    flush(store, [row(BEGIN)], seen_at=BEGIN, kind="stopped")
    flush(store, [], process="q", seen_at=BEGIN + 3 * HOUR)
    for _ in range(3):
        clock.at += HOUR
        retention.step(BEGIN + 3 * HOUR)
    assert count(store, BUCKET) == 0
    with store.reading() as connection:
        assert counters.totals(connection)["support", ""].calls == 1
        assert connection.execute(select(TOTAL.c.process)).scalars().all() == [retirement.RETIRED]


def test_a_guard_whose_clock_is_ahead_folds_and_deletes_nothing_too_soon(store):
    flush(store, [row(BEGIN)], seen_at=BEGIN + 120, closed_before=BEGIN + 60)
    assert folded(store, BEGIN + 60 * DAY, runs=3) == [1, 0, 0]
    with store.reading() as connection:
        assert sorted(connection.execute(select(ROLLUP.c.width_s).distinct()).scalars()) == [1, 60, 3_600, DAY]


def test_minutes_and_hours_are_deleted_and_longer_rows_answer(store):
    ats = range(BEGIN, BEGIN + 3 * HOUR, 60)
    flush(store, [row(at) for at in ats], seen_at=BEGIN + 4 * HOUR, closed_before=BEGIN + 4 * HOUR)
    for _ in range(3):
        folded(store, BEGIN + 4 * HOUR)
    for days, stored in ((3, {3_600, DAY}), (33, {DAY})):
        flush(store, [], seen_at=BEGIN + days * DAY, closed_before=BEGIN + days * DAY)
        folded(store, BEGIN + days * DAY)
        with store.reading() as connection:
            assert set(connection.execute(select(ROLLUP.c.width_s)).scalars()) == stored
        # A window's edge inside of a deleted minute moves to the end of the row that is stored.
        width = min(stored)
        for since in (BEGIN, BEGIN + 60, BEGIN + HOUR):
            begins = -(-since // width) * width
            expected = sum(begins <= at for at in ats)
            assert read(store, "sums_of", names=["calls"], since=since, until=BEGIN + DAY) == {"calls": expected}
        assert read(store, "first_second", since=0, until=2**40) == BEGIN


def test_transactions_stay_short(store):
    rows = [row(BEGIN + at, route=f"r{at % 7}", process=process) for at in range(900) for process in "ab"]
    for process in "ab":
        own = [each for each in rows if each["process"] == process]
        flush(store, own, process=process, seen_at=BEGIN + 3 * DAY, closed_before=BEGIN + 3 * DAY)
    with most_rows(store) as changed:
        for _ in range(3):
            folded(store, BEGIN + 3 * DAY)
    assert max(changed) <= rollups.MOST_ROWS
    assert read(store, "sums_of", names=["calls"], since=0, until=2**40) == {"calls": 1_800}


def test_two_guards_fold_no_row_twice(store, either_url, monkeypatch):
    flush(store, [row(BEGIN), row(BEGIN + 61)], seen_at=BEGIN + DAY, closed_before=BEGIN + DAY)
    other = Store(either_url)
    rollups.seal(store, before=BEGIN + HOUR)
    transact = store.transact

    def slower(work):
        monkeypatch.undo()
        assert rollups.fold(other, orphaned_since=0) == 2
        return transact(work)

    monkeypatch.setattr(store, "transact", slower)
    assert rollups.fold(store, orphaned_since=0) == 0
    other.close()
    assert read(store, "sums_of", names=["calls"], since=0, until=2**40) == {"calls": 2}


def test_charts_get_rows_that_fit_their_steps(store):
    ats = range(BEGIN, BEGIN + 3 * HOUR, 30)
    flush(store, [row(at) for at in ats], seen_at=BEGIN + DAY, closed_before=BEGIN + DAY)
    for _ in range(2):
        folded(store, BEGIN + DAY)
    for step in (60, 300, 900, 2 * HOUR):
        expected = Counter(at - at % step for at in ats)
        steps = read(store, "by_step", since=BEGIN, until=BEGIN + DAY, step_s=step)
        assert {at: sums.calls for at, sums in steps.items()} == expected


class Model(RuleBasedStateMachine):
    """Recorders that write, repeat, stop and come back, and guards that seal and fold, against plain counts."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.store = migrated(self.url)
        with self.store.engine.begin() as connection:
            for table in (Bucket, DeadSecond, Rollup, Process, Total):
                connection.execute(table_of(table).delete())
        self.now = float(BEGIN)
        self.clock = Clock()
        self.retention = Retention(self.store, Settings(), monotonic=self.clock)
        self.calls: Counter[tuple[int, str]] = Counter()
        """What a model that only counts has: the calls of each second and route."""
        self.late = 0
        self.known: dict[tuple[str, int, str], int] = {}
        """The calls that are known of a second that is sealed: refused, or the last of a process that is dead."""
        self.open: dict[str, dict[tuple[int, str], int]] = defaultdict(dict)
        self.closed: dict[str, int] = defaultdict(int)
        self.sealed: dict[str, int] = defaultdict(int)

    def teardown(self) -> None:
        self.store.close()

    @initialize()
    def a_minute_is_folded(self):
        """Each run has folded rows from its begin, as short runs would seldom make some."""
        for _ in range(2):
            for process in "ab":
                self.a_process_flushes(process, "x", calls=2, back=0, times=1)
            self.time_goes_on(200)
        self.a_guard_retains(1)

    @rule(seconds=st.sampled_from([1, 7, 60, 1_800, HOUR, 7 * HOUR]))
    def time_goes_on(self, seconds):
        self.now += seconds

    @rule(process=st.sampled_from("abc"), route=st.sampled_from(["x", "y"]), calls=st.integers(1, 3),
          back=st.integers(0, 9), times=st.integers(1, 2))  # fmt: skip
    def a_process_flushes(self, process, route, calls, back, times):
        at = max(int(self.now) - back, self.closed[process])
        seconds = self.open[process]
        seconds[at, route] = seconds.get((at, route), 0) + calls
        self._flush(process, {(at, route): seconds[at, route]}, times)
        self.closed[process] = max(self.closed[process], int(self.now) - 10)
        self.open[process] = {key: count for key, count in seconds.items() if key[0] >= self.closed[process]}

    @rule(process=st.sampled_from("abc"), route=st.sampled_from(["x", "y"]), hours=st.integers(1, 30))
    def an_old_second_comes_late(self, process, route, hours):
        """A row that breaks the promise of its process: it is refused if it is sealed, and counted."""
        at = int(self.now) - hours * HOUR
        if at < self.sealed[process]:
            self._flush(process, {(at, route): 1}, 1)

    def _flush(self, process, seconds, times):
        rows = [row(at, route=route, process=process, calls=count) for (at, route), count in seconds.items()]
        for _ in range(times):
            flush(self.store, rows, process=process, seen_at=self.now, closed_before=self.closed[process])
        for (at, route), count in seconds.items():
            if at < self.sealed[process]:
                self.late += max(count - self.known.get((process, at, route), 0), 0)
                self.known[process, at, route] = max(count, self.known.get((process, at, route), 0))
        for (at, route), count in seconds.items():
            if at >= self.sealed[process]:
                self.calls[at, route, process] = count

    @rule(watched=st.sampled_from([1, HOUR]))
    def a_guard_retains(self, watched):
        self.clock.at += watched
        self.retention.step(self.now)
        before = self.sealed.copy()
        with self.store.reading() as connection:
            for process, sealed in connection.execute(select(PROCESS.c.process, PROCESS.c.sealed_before)):
                self.sealed[process] = sealed
        for (at, route, process), count in self.calls.items():
            if before[process] <= at < self.sealed[process] == recording.FOREVER:
                self.known[process, at, route] = count

    @rule()
    def another_guard_starts(self):
        self.retention = Retention(self.store, Settings(), monotonic=self.clock)

    @invariant()
    def all_windows_of_whole_minutes_are_exact(self):
        minute = int(self.now) // 60 * 60
        horizon = read(self.store, "minutes_since")
        for hours in (1, 5, 26):
            since, until = max(minute - hours * HOUR, horizon), minute - hours * 300
            for scope in ("*", "x"):
                expected = sum(
                    count for (at, route, _), count in self.calls.items()
                    if since <= at < until and scope in ("*", route)
                )  # fmt: skip
                assert read(self.store, "sums_of", names=["calls"], since=since, until=until, scope=scope) == {
                    "calls": expected
                }

    @invariant()
    def all_of_time_is_exact(self):
        everything = {"since": 0, "until": 2**40}
        expected = Counter()
        for (_, route, _), calls in self.calls.items():
            expected[route] += calls
        assert {name: each.calls for name, each in read(self.store, "by_route", **everything).items()} == expected
        sums = read(self.store, "summed", **everything)
        assert sums.calls == sum(expected.values())
        assert sums.confidence == ({"80": sums.calls} if expected else {})
        by_second = read(self.store, "by_second", **everything)
        assert {name: sum(each.triaged for each in entries) for name, entries in by_second.items()} == expected
        with self.store.reading() as connection:
            assert processes.late(connection) == self.late


def run_machine(url, *, examples, steps):
    model = type("Machine", (Model,), {"url": url})
    size = settings(max_examples=examples, stateful_step_count=steps, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(model, settings=size)


def test_sums_are_those_of_a_model_that_only_counts(sqlite_url):
    run_machine(sqlite_url, examples=2, steps=12)


@pytest.mark.thorough
def test_sums_are_those_of_a_model_that_only_counts_in_many_runs(either_url):
    run_machine(either_url, examples=20, steps=40)
