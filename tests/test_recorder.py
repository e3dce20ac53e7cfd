import logging
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import wraps
from pathlib import Path

import pytest

from cheapdeep_ops.errors import StoreBusyError, StoreError
from cheapdeep_ops.policy import PolicyAct, blank_book
from cheapdeep_ops.recorder import Recorder
from cheapdeep_ops.recorder.tally import Tally, confidence_bin, origin_of
from cheapdeep_ops.recorder.trouble_log import MOST_LINES, PATIENCE_S, PEACE_S, TroubleLog
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters, policies, processes
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.policies import PolicyEdit
from cheapdeep_ops.store.rollups import seal_for_good
from cheapdeep_ops.store.schema import migrate
from cheapdeep_ops.testing import FrozenClock
from cheapdeep_ops.values import Decision, Hop, Outcome, Reason, Tier

NOW = 1_800_000_000.0


def decision(at=NOW, **changes):
    values = {
        "call_id": "id", "route": "support", "input_class": "", "tier": 0, "model": "claude-haiku-4-5",
        "confidence": 0.9, "threshold": 0.8, "policy_version": 0, "escalated": False, "reason": None,
        "bypass_cause": None, "base_outcome": Outcome.SHIP, "base_reason": None, "cost_usd": 0.0004,
        "triage_cost_usd": 0.0004, "baseline_cost_usd": 0.002, "baseline_basis": "", "started_at": at,
        "duration_s": 0.0, "triage_duration_s": 0.0, "hops": (), "error": "failed",
    }  # fmt: skip
    return Decision(**{**values, **changes})


@pytest.fixture
def settings(tmp_path):
    return Settings(store_url=f"sqlite:///{tmp_path}/store.db", flush_every_s=0.05)


@pytest.fixture
def clock():
    return FrozenClock(NOW)


@pytest.fixture
def recorder(settings, clock):
    recorder = Recorder(settings, clock=clock, background=False)
    yield recorder
    recorder.close()


def calls(settings):
    store = Store(settings.store_url)
    try:
        with store.reading() as connection:
            return counters.summed(connection, since=0, until=2**40).calls
    finally:
        store.close()


def test_what_was_put_is_counted_in_its_second(recorder, settings, clock):
    recorder.put(decision(NOW))
    recorder.put(decision(NOW + 0.9))
    recorder.put(decision(NOW + 1.0))
    clock.advance(2)
    recorder.drain(clock())
    rows = sqlite3.connect(Path(settings.store_url.removeprefix("sqlite:///")))
    assert rows.execute("SELECT at, calls FROM bucket ORDER BY at").fetchall() == [(int(NOW), 2), (int(NOW) + 1, 1)]
    rows.close()


def test_a_second_that_is_still_open_is_written_again_and_not_twice(recorder, settings, clock):
    for _ in range(5):
        recorder.put(decision())
        recorder.drain(clock())
    assert calls(settings) == 5


def escalating(model="claude-haiku-4-5", **changes):
    hop = Hop(tier=Tier(model=model, index=0, is_deep=False), usage=None, cost_usd=None)
    values = {"hops": (hop,), "prompt_version": "aa11", "error": ""} | changes
    return decision(base_outcome=Outcome.ESCALATE, base_reason=Reason.LOW_CONFIDENCE, **values)


def test_a_model_is_counted_once_under_all_its_names():
    tally = Tally()
    for name in ("claude-haiku-4-5", "us.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-haiku-4-5@20251001", "own"):
        tally.add(decision(model=name))
    assert tally.models == {"claude-haiku-4-5": 3, "own": 1}
    assert origin_of(decision(model="CLAUDE-HAIKU-4-5")) == origin_of(decision())


def test_triaged_calls_are_counted_by_what_answered_them_first():
    tally = Tally()
    tally.add(escalating(policy_version=3))
    tally.add(decision(prompt_version="aa11"))
    tally.add(decision(base_outcome=None))
    assert tally.origins == {"claude-haiku-4-5|aa11|3": 1, "claude-haiku-4-5|aa11|0": 1}
    assert tally.base_origins == {"claude-haiku-4-5|aa11|3": 1}


def test_origins_stay_bounded_and_printable_and_a_base_escalation_goes_where_its_call_went():
    tally = Tally()
    for version in range(80):
        tally.add(escalating(policy_version=version))
        tally.add(escalating(policy_version=version))
    assert len(tally.origins) == 51
    assert tally.base_origins == tally.origins
    assert tally.origins["other"] == 60
    odd = origin_of(escalating(model="a|b\n\0" + "x" * 500, prompt_version="p|q"))
    assert odd.rsplit("|", 2)[1:] == ["p?q", "0"]
    assert odd.isprintable()
    assert len(odd) < 120


def test_a_clock_that_is_set_back_overwrites_nothing(recorder, settings, clock):
    recorder.put(decision(NOW))
    recorder.drain(NOW + 100)
    recorder.put(decision(NOW))
    recorder.drain(NOW)
    recorder.drain(NOW + 200)
    assert calls(settings) == 2


def test_a_full_queue_drops_counts_and_says_so_once(settings, clock, caplog):
    told = []

    class Drops:
        def record_dropped(self, count):
            told.append(count)

        def record_guard_age(self, seconds):
            pytest.fail("this recorder was not told of a guard")

    recorder = Recorder(settings, clock=clock, background=False, queue_size=3, drops=Drops())
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            recorder.put(decision())
    recorder.drain(clock())
    assert (recorder.dropped, sum(told), calls(settings)) == (7, 7, 3)
    assert caplog.text.count("queue is full") == 1
    recorder.close()


def test_a_store_out_of_reach_costs_nothing_but_time(tmp_path, clock):
    folder = tmp_path / "later"
    settings = Settings(store_url=f"sqlite:///{folder}/store.db")
    recorder = Recorder(settings, clock=clock, background=False)
    recorder.put(decision())
    with pytest.raises(StoreError):
        recorder.drain(clock())
    recorder.put(decision())
    folder.mkdir()
    recorder.drain(clock())
    assert calls(settings) == 2
    recorder.close()


def test_the_background_thread_goes_on_through_a_store_out_of_reach(tmp_path, caplog):
    folder = tmp_path / "later"
    settings = Settings(store_url=f"sqlite:///{folder}/store.db", flush_every_s=0.05)
    with caplog.at_level(logging.WARNING):
        recorder = Recorder(settings)
        recorder.put(decision(time.time()))
    folder.mkdir()
    recorder.close()
    assert calls(settings) == 1
    assert "counters wait" in caplog.text


def test_closing_loses_nothing(settings):
    recorder = Recorder(settings)
    for _ in range(500):
        recorder.put(decision(time.time()))
    recorder.close()
    assert calls(settings) == 500


def test_after_closing_decisions_are_dropped_and_counted(settings):
    recorder = Recorder(settings)
    recorder.close()
    recorder.put(decision())
    assert recorder.dropped == 1


def test_policies_arrive_by_themselves(settings):
    recorder = Recorder(settings)
    assert recorder.book.for_route("support").threshold == 0.8
    raise_threshold(settings)
    assert soon(lambda: recorder.book.for_route("support").threshold == 0.9)
    recorder.close()


def test_a_recorder_that_starts_late_knows_the_policy_before_the_first_call(settings):
    raise_threshold(settings)
    recorder = Recorder(settings)
    assert recorder.book.for_route("support").threshold == 0.9
    recorder.close()


def raise_threshold(settings):
    store = Store(settings.store_url)
    migrate(store)
    change = PolicyEdit(scope="support", act=PolicyAct.RAISE, cause="EscalationStorm")
    store.transact(lambda connection: policies.apply(connection, blank_book(), change, at=1.0))
    store.close()


def test_a_router_that_sees_no_guard_says_so_once_and_again_after_it_was_there(recorder, settings, clock, caplog):
    with caplog.at_level(logging.WARNING):
        recorder.refresh(clock())
        assert "no guard" not in caplog.text
        clock.advance(61)
        recorder.refresh(clock())
        recorder.refresh(clock())
    assert caplog.text.count("no guard") == 1
    assert "CHEAPDEEP_STORE_URL" in caplog.text
    beat = {
        "process": "g", "kind": "guard", "started_at": 1.0, "seen_at": clock(),
        "base_threshold": 0.8, "policy_version": 0, "dropped": 0,
    }  # fmt: skip
    store = Store(settings.store_url)
    store.transact(lambda connection: processes.beat(connection, processes.Heartbeat(**beat)))
    store.close()
    with caplog.at_level(logging.WARNING):
        recorder.refresh(clock())
        clock.advance(61)
        recorder.refresh(clock())
    assert caplog.text.count("no guard") == 2


def test_put_costs_next_to_nothing_while_the_store_is_locked(settings):
    recorder = Recorder(settings)
    blocker = sqlite3.connect(settings.store_url.removeprefix("sqlite:///"), isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    began = time.process_time()
    for _ in range(1_000):
        recorder.put(decision(time.time()))
    assert time.process_time() - began < 1
    blocker.execute("COMMIT")
    blocker.close()
    recorder.close()
    assert calls(settings) == 1_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_at_any_moment_gets_a_recorder_of_its_own_and_the_parent_keeps_its_counts(settings):
    recorder = Recorder(settings.model_copy(update={"flush_every_s": 0.01}))
    name, put = recorder.process, 0
    for fork in range(10):
        for _ in range(fork):
            recorder.put(decision(time.time()))
            put += 1
            time.sleep(0.001)  # so that the thread is now and then in the middle of a write
        child = os.fork()
        if child == 0:
            recorder.put(decision(time.time()))
            recorder.close()
            os._exit(0 if recorder.process != name else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    recorder.close()
    assert calls(settings) == put + 10


def _put_many(settings_url, count):
    recorder = Recorder(Settings(store_url=settings_url, flush_every_s=0.05))
    for _ in range(count):
        recorder.put(decision(time.time()))
    recorder.close()


@pytest.mark.thorough
def test_processes_share_a_store(settings):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_put_many, args=(settings.store_url, 200)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
    assert calls(settings) == 600


UNCLOSED = """
import sys, time
sys.path.insert(0, {tests!r})
from test_recorder import Recorder, Settings, decision
recorder = Recorder(Settings(store_url={url!r}))
for _ in range(100):
    recorder.put(decision(time.time()))
"""


def test_a_process_that_ends_without_closing_loses_nothing(settings):
    code = UNCLOSED.format(tests=str(Path(__file__).parent), url=settings.store_url)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    assert calls(settings) == 100


KILLED = """
import sys, time
sys.path.insert(0, {tests!r})
from test_recorder import Recorder, Settings, decision
recorder = Recorder(Settings(store_url={url!r}, flush_every_s=0.5))
put = 0
while True:
    recorder.put(decision(time.time()))
    put += 1
    print(put, time.time(), flush=True)
    time.sleep(0.02)
"""


@pytest.mark.thorough
def test_a_killed_process_loses_at_most_one_flush_interval(settings):
    code = KILLED.format(tests=str(Path(__file__).parent), url=settings.store_url)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    lines = []
    for line in process.stdout:
        lines.append(line.split())
        if len(lines) == 400:
            process.send_signal(signal.SIGKILL)
            break
    rest = process.stdout.read().splitlines()
    process.stdout.close()
    process.wait()
    lines += [line.split() for line in rest if len(line.split()) == 2]
    killed_at = float(lines[-1][1])
    # One interval, and what a busy machine may take longer; without a write at intervals there would be none at all.
    kept_at_least = sum(float(at) < killed_at - 0.5 - 4 for _, at in lines)
    assert kept_at_least > 50
    assert calls(settings) >= kept_at_least


@pytest.mark.parametrize(
    ("confidence", "name"), [(0.0, "0"), (0.29, "29"), (0.7999, "79"), (0.8, "80"), (0.57, "57"), (1.0, "100")]
)
def test_confidence_bins_are_hundredths_rounded_down(confidence, name):
    assert confidence_bin(confidence) == name


def test_unpriced_calls_stay_out_of_cost_and_baseline_alike(recorder, settings, clock):
    recorder.put(decision())
    recorder.put(decision(cost_usd=None))
    recorder.put(decision(baseline_cost_usd=None))
    recorder.drain(clock())
    store = Store(settings.store_url)
    with store.reading() as connection:
        sums = counters.summed(connection, since=0, until=2**40)
    store.close()
    assert (sums.calls, sums.unpriced, sums.cost_nusd, sums.baseline_nusd) == (3, 2, 400_000, 2_000_000)


def test_a_clock_that_is_set_back_by_an_hour_stops_nothing(recorder, settings, clock):
    for _ in range(20):
        recorder.put(decision(clock()))
        clock.advance(1)
        recorder.drain(clock())
    earlier = clock() - 3_600
    for second in range(20):
        recorder.put(decision(earlier + second))
        recorder.drain(earlier + second + 1)
    assert calls(settings) == 40
    rows = sqlite3.connect(settings.store_url.removeprefix("sqlite:///"))
    assert rows.execute("SELECT max(calls), count(DISTINCT process) FROM bucket").fetchone() == (1, 2)
    rows.close()


def test_a_row_that_the_driver_refuses_keeps_no_other_out(recorder, settings, clock, caplog):
    for route, usd in (("a", 0.1), ("too large", 1e12), ("b", 0.1), ("c", 0.1), ("too large", 1e12)):
        recorder.put(decision(route=route, cost_usd=usd))
    recorder.drain(clock())
    assert (calls(settings), recorder.dropped) == (3, 2)
    assert "rejected" in caplog.text
    recorder.put(decision(route="b"))
    recorder.drain(clock())
    assert (calls(settings), recorder.dropped) == (4, 2)


def test_calls_of_a_name_that_the_driver_refuses_count_as_other(recorder, settings, clock):
    for route in ("a", "a lone surrogate \ud800", "b"):
        recorder.put(decision(route=route))
    recorder.drain(clock())
    assert (calls(settings), recorder.dropped) == (3, 0)


@pytest.mark.thorough
def test_closing_takes_a_few_seconds_at_most_while_the_store_is_locked(settings, caplog):
    recorder = Recorder(settings)
    blocker = sqlite3.connect(settings.store_url.removeprefix("sqlite:///"), isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    recorder.put(decision(time.time()))
    began = time.monotonic()
    recorder.close()
    assert time.monotonic() - began < 60
    assert "did not take" in caplog.text
    blocker.close()


def test_a_store_that_is_replaced_is_opened_anew(recorder, settings, clock):
    path = Path(settings.store_url.removeprefix("sqlite:///"))
    recorder.put(decision())
    recorder.drain(clock())
    for each in path.parent.glob("store.db*"):
        each.unlink()
    recorder.refresh(clock())
    recorder.put(decision())
    recorder.drain(clock())
    assert calls(settings) == 2


def test_an_unreachable_store_does_not_hold_up_the_start(tmp_path):
    began = time.monotonic()
    recorder = Recorder(Settings(store_url=f"sqlite:///{tmp_path}/nowhere/store.db"))
    assert time.monotonic() - began < 30
    recorder.close()


def test_a_logging_filter_that_fails_does_not_end_the_thread(settings):
    class Broken(logging.Filter):
        def filter(self, record):
            raise RuntimeError("broken")

    logger, broken = logging.getLogger("cheapdeep_ops.recorder.recorder"), Broken()
    logger.addFilter(broken)
    try:
        recorder = Recorder(settings, queue_size=1)
        recorder.put(decision(time.time()))
        recorder.put(decision(time.time()))
        assert recorder._thread.is_alive()
        recorder.close()
    finally:
        logger.removeFilter(broken)
    assert calls(settings) == 1


# A store that is busy


@contextmanager
def locked(settings):
    """Another process's write lock; the one that holds it."""
    connection = sqlite3.connect(settings.store_url.removeprefix("sqlite:///"), isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    finally:
        connection.close()


def soon(condition):
    deadline = time.monotonic() + 120
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_a_locked_store_gets_everything_with_the_next_flush_and_nothing_is_said(recorder, settings, clock, caplog):
    recorder.drain(clock())
    with locked(settings), caplog.at_level(logging.DEBUG, "cheapdeep_ops"):
        for _ in range(3):
            recorder.put(decision())
            with pytest.raises(StoreBusyError):
                recorder.drain(clock())
    recorder.drain(clock())
    assert (calls(settings), recorder.dropped, caplog.text) == (3, 0, "")


@pytest.mark.thorough
def test_policies_are_read_between_the_attempts_to_write_into_a_locked_store(settings):
    recorder, done = Recorder(settings), []
    for part in (recorder.refresh, recorder.drain):

        def noted(now, part=part):
            done.append(part.__name__)
            part(now)

        setattr(recorder, part.__name__, wraps(part)(noted))
    assert soon(lambda: "drain" in done)
    with locked(settings):
        recorder.put(decision(time.time()))
        done.clear()
        assert soon(lambda: done.count("drain") >= 5)
        seen = list(done)
    assert ["drain", "drain"] not in [seen[at : at + 2] for at in range(len(seen))]
    recorder.close()
    assert calls(settings) == 1


@contextmanager
def traced(recorder):
    """The statements that a recorder's connection runs, without their values."""
    statements, connection = [], recorder._destination._store()._link.connection
    connection.set_trace_callback(lambda statement: statements.append(statement.split("(")[0].strip()))
    try:
        yield statements
    finally:
        connection.set_trace_callback(None)


INSERTS = [f'INSERT INTO "{table}"' for table in ("bucket", "total", "process")]


def test_a_recorder_that_was_asleep_goes_on_under_a_new_name(recorder, settings, clock):
    recorder.put(decision())
    recorder.drain(clock())
    before = recorder.process
    clock.advance(11 * 3_600)
    recorder.drain(clock())
    assert recorder.process == before
    clock.advance(13 * 3_600)
    recorder.put(decision(started_at=clock() - 1))
    recorder.drain(clock())
    assert recorder.process != before
    clock.advance(1)
    recorder.put(decision(started_at=clock() - 1))
    recorder.drain(clock())
    assert calls(settings) == 3


def test_a_call_counts_though_its_process_was_sealed_while_its_store_was_away(recorder, settings, clock):
    recorder.put(decision())
    recorder.drain(clock())
    clock.advance(20)
    recorder.drain(clock())
    store = Store(settings.store_url)
    for _ in range(5):
        clock.advance(6 * 3_600)
        recorder.put(decision(started_at=clock() - 1))
        recorder.fold(clock())
    seal_for_good(store, {recorder.process: clock() - 5 * 6 * 3_600})
    recorder.drain(clock())
    with store.reading() as connection:
        late = processes.late(connection)
    store.close()
    assert (calls(settings), late) == (6, 0)


def test_a_process_gets_one_new_name_however_many_attempts_its_first_write_takes(
    recorder, settings, clock, monkeypatch
):
    recorder.put(decision())
    recorder.drain(clock())
    before = recorder.process
    clock.advance(50_000)
    recorder.put(decision(started_at=clock()))
    write, names = recorder._destination.write_counters, set()

    def fail(*, beat, **rows):
        names.add(beat.process)
        if beat.process != before:
            raise StoreError("a test")
        return write(beat=beat, **rows)

    monkeypatch.setattr(recorder._destination, "write_counters", fail)
    for _ in range(3):
        with pytest.raises(StoreError):
            recorder.drain(clock.advance(1))
    monkeypatch.undo()
    recorder.drain(clock.advance(1))
    assert names == {before, recorder.process}
    assert calls(settings) == 2


def test_a_dropped_decision_counts_once_though_the_process_gets_another_name(recorder, settings, clock):
    recorder.put(decision())
    recorder._drop(3, "a test")
    recorder.drain(clock())
    recorder._drop(2, "a test")
    recorder.put(decision())
    recorder.drain(NOW - 3_600)
    store = Store(settings.store_url)
    with store.reading() as connection:
        dropped = processes.dropped(connection)
    store.close()
    assert (recorder.dropped, dropped) == (5, 5)


def test_a_heartbeat_promises_the_seconds_that_are_closed_and_stored(recorder, clock):
    buffer = recorder._writer.buffer
    recorder.put(decision(started_at=clock()))
    recorder.drain(clock())
    begun = int(clock())
    assert buffer.closed_before == begun - 10
    clock.advance(30)
    recorder.put(decision(started_at=clock()))
    recorder.fold(clock())
    # The open second is not stored, and those since the last flush may still change.
    assert buffer.closed_before == begun - 10
    recorder.drain(clock())
    assert buffer.closed_before == begun + 20


def test_a_flush_holds_the_lock_for_its_rows_and_nothing_else(recorder, settings, clock):
    for _ in range(2):
        recorder.drain(clock())
        for route in "abc":
            recorder.put(decision(route=route))
    with traced(recorder) as statements:
        recorder.drain(clock())
    bucket, total, process = INSERTS
    begun = statements.index("BEGIN IMMEDIATE")
    # One look at the process's own row, because a guard may have sealed the seconds.
    sealed = f"SELECT sealed_before FROM \"process\" WHERE process = '{recorder.process}'"
    written = ["BEGIN IMMEDIATE", sealed, *[bucket] * 3, *[total] * 3, process, "COMMIT"]
    assert statements[begun : begun + len(written)] == written
    assert not [each for each in statements[:begun] + statements[begun + len(written) :] if "PRAGMA" not in each]


def test_what_has_piled_up_is_written_in_transactions_of_a_thousand_rows(settings, clock):
    recorder = Recorder(settings.model_copy(update={"max_routes": 2_000}), clock=clock, background=False)
    recorder.drain(clock())
    for number in range(1_300):
        recorder.put(decision(route=str(number)))
    with traced(recorder) as statements:
        recorder.drain(clock())
    assert calls(settings) == 1_300
    rows = [0]
    for statement in statements:
        rows[-1] += statement in INSERTS
        if statement == "COMMIT":
            rows.append(0)
    *rows, rest = rows
    assert max(rows) <= 1_000
    # Bucket, total, and a heartbeat each time; the first transaction admits the names.
    assert (sum(rows), rest) == (2 * 1_300 + len(rows) - 1, 0)
    recorder.close()


def test_policies_that_have_not_changed_are_not_read_into_another_book(recorder, settings, clock):
    recorder.refresh(clock())
    before = recorder.book
    recorder.refresh(clock())
    assert recorder.book is before
    raise_threshold(settings)
    recorder.refresh(clock())
    assert recorder.book.for_route("support").threshold == 0.9


BUSY, GONE, DENIED = StoreBusyError("database is locked"), StoreError("no such file"), StoreError("denied")


@pytest.fixture
def troubles(clock, caplog):
    caplog.set_level(logging.INFO)
    return TroubleLog(clock)


def said(caplog):
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_a_lock_is_said_once_it_lasts_and_when_it_is_over(troubles, clock, caplog):
    for _ in range(2):
        troubles.failed("writing", BUSY, "it waits")
        clock.advance(PATIENCE_S - 1)
        troubles.failed("writing", BUSY, "it waits")
        assert said(caplog) == []
        troubles.ended("writing")
    troubles.failed("writing", BUSY, "it waits")
    for _ in range(3):
        clock.advance(PATIENCE_S)
        troubles.failed("writing", BUSY, "it waits")
    troubles.ended("writing")
    troubles.ended("writing")
    assert said(caplog) == [("INFO", "it waits"), ("INFO", "writing works again after 15.0 s")]


def test_any_other_failure_is_said_at_once_as_a_warning_for_each_time_that_it_comes(troubles, clock, caplog):
    for _ in range(2):
        troubles.failed("writing", GONE, "%s", GONE)
        troubles.failed("writing", GONE, "%s", GONE)
        troubles.failed("reading", DENIED, "reads nothing")
        clock.advance(2)
        troubles.ended("writing")
    again = [("WARNING", "no such file"), ("WARNING", "writing works again after 2.0 s")]
    assert said(caplog) == [again[0], ("WARNING", "reads nothing"), again[1], *again]


def test_one_cause_that_stops_reading_and_writing_is_said_once(troubles, clock, caplog):
    troubles.failed("reading", GONE, "reads nothing")
    troubles.failed("writing", StoreError("no such file: another path"), "writes nothing")
    troubles.ended("reading")
    troubles.ended("writing")
    assert [text for _, text in said(caplog)] == ["reads nothing", "reading works again after 0.0 s"]


def test_a_failure_of_another_kind_is_said_while_the_first_lasts(troubles, clock, caplog):
    for error in (GONE, DENIED, GONE, DENIED):
        troubles.failed("writing", error, "%s", error)
    assert [text for _, text in said(caplog)] == ["no such file", "denied", "no such file", "denied"]


def test_an_outage_that_comes_and_goes_says_ten_lines_at_most_and_a_later_one_speaks_again(troubles, clock, caplog):
    for _ in range(50):
        troubles.failed("writing", GONE, "%s", GONE)
        clock.advance(1)
        troubles.ended("writing")
    assert len(said(caplog)) == MOST_LINES + 1 <= 10
    assert "no more" in said(caplog)[-1][1]
    clock.advance(PEACE_S + 1)
    troubles.failed("writing", GONE, "%s", GONE)
    assert said(caplog)[-1] == ("WARNING", "no such file")


def test_a_lock_that_turns_into_another_failure_is_said_as_that(troubles, clock, caplog):
    troubles.failed("writing", BUSY, "it waits")
    clock.advance(PATIENCE_S)
    for error in (BUSY, GONE, BUSY):
        troubles.failed("writing", error, "%s", error)
    assert [level for level, _ in said(caplog)] == ["INFO", "WARNING"]
