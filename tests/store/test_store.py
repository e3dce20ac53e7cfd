import logging
import multiprocessing
import sqlite3
from collections import Counter
from dataclasses import asdict, replace
from random import Random

import pytest
from sqlalchemy import select

from cheapdeep_ops.errors import RowError, StoreBusyError, StoreError
from cheapdeep_ops.policy import PolicyAct, blank_book
from cheapdeep_ops.store import (
    counters,
    deliveries,
    incidents,
    policies,
    processes,
    recording,
    retirement,
    revisions,
    rollups,
    stories,
)
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.inserts import write_accepted
from cheapdeep_ops.store.policies import PolicyEdit
from cheapdeep_ops.store.schema import migrate, require_schema
from cheapdeep_ops.store.tables.call_tables import Bucket, Total
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.store.url import read_address
from tests.stores import migrated

from .rows import most_rows

COUNTED = {
    "calls": 3, "triaged": 3, "shipped": 2, "escalated": 1, "base_escalated": 1, "withheld": 0, "bypassed": 0,
    "errors": 0, "unpriced": 0, "cost_nusd": 5_000_000_000_000, "triage_cost_nusd": 1, "baseline_nusd": 7,
    "reasons": {"low_confidence": 1}, "base_reasons": {"low_confidence": 1}, "bypass_causes": {},
    "confidence": {"80": 2, "50": 1}, "models": {"claude-haiku-4-5": 2},
}  # fmt: skip


@pytest.fixture
def store(either_url):
    store = migrated(either_url)
    yield store
    store.close()


def bucket(at, *, route="support", process="p", **changes):
    return {"route": route, "input_class": "", "process": process, "at": at, **COUNTED, **changes}


def total(*, route="support", process="p", **changes):
    return {"route": route, "input_class": "", "process": process, **COUNTED, **changes}


def write(store, buckets=(), totals=()):
    store.transact(recording.prepare_counters(buckets=list(buckets), totals=list(totals)))


def test_writing_the_same_rows_again_counts_nothing_twice(store):
    for _ in range(3):
        write(store, [bucket(10), bucket(11)], [total(calls=6)])
    with store.reading() as connection:
        assert counters.summed(connection, since=10, until=12).calls == 6
        assert counters.totals(connection)[("support", "")].calls == 6


def test_totals_are_the_sums_of_their_rows(store):
    random = Random("totals")

    def drawn(name):
        if name in counters.COUNTS:
            return {random.choice(["80", "a,b", 'a"]', "é"]): random.randint(1, 9) for _ in range(random.randint(0, 3))}
        return random.randint(0, 10**15 if name.endswith("_nusd") else 99)

    names = [*counters.SUMS, *counters.COUNTS]
    rows = [
        {"route": route, "input_class": input_class, "process": process, **{name: drawn(name) for name in names}}
        for route in ("support", "faq") for input_class in ("", "x") for process in "abc"
    ]  # fmt: skip
    write(store, totals=rows)
    expected = {}
    for each in rows:
        sums = expected.setdefault((each["route"], each["input_class"]), {name: Counter() for name in counters.COUNTS})
        for name in names:
            sums[name] = sums.get(name, 0) + (Counter(each[name]) if name in counters.COUNTS else each[name])
    with store.reading() as connection:
        assert {key: asdict(sums) for key, sums in counters.totals(connection).items()} == expected
        some = counters.totals(connection, mappings=["confidence"])
        # Of what was known before, only what has new calls is read again.
        known = {**some, ("faq", "x"): replace(some["faq", "x"], confidence={"kept": 1})}
        write(store, totals=[total(route="support")])
        again = counters.totals(connection, mappings=["confidence"], known=known)
        assert again["faq", "x"].confidence == {"kept": 1}
        assert again["support", ""] == counters.totals(connection, mappings=["confidence"])["support", ""]
        assert again["support", ""].calls == some["support", ""].calls + 3
    empty = {name: {} for name in counters.COUNTS if name != "confidence"}
    assert {key: asdict(sums) for key, sums in some.items()} == {key: {**expected[key], **empty} for key in expected}


def test_counts_add_up_over_processes_and_keep_to_their_window(store):
    write(store, [bucket(at, process=process) for at in (9, 10, 11, 12) for process in "abc"])
    with store.reading() as connection:
        (counts,) = counters.by_route(connection, since=10, until=12).values()
        seconds = counters.by_second(connection, since=10, until=12)["support"]
    assert [second.at for second in seconds] == [10, 11]
    assert sum(second.base_escalated for second in seconds) == counts.base_escalated
    assert (counts.calls, counts.base_escalated) == (18, 6)


def test_seconds_come_oldest_first_by_route_and_add_up_over_processes(store):
    write(store, [bucket(12), bucket(10), bucket(11, base_escalated=0, process="b"), bucket(12, process="b")])
    with store.reading() as connection:
        (seconds,) = counters.by_second(connection, since=0, until=20).values()
    (one,) = {second.base_escalated for second in seconds if second.at == 10}
    assert [(second.at, second.base_escalated) for second in seconds] == [(10, one), (11, 0), (12, 2 * one)]
    assert {type(each) for second in seconds for each in second} == {int}


def test_the_first_second_and_the_seconds_of_one_route_are_told_from_the_others(store):
    write(store, [bucket(8), bucket(12), bucket(10, route="legal"), bucket(11)])
    with store.reading() as connection:
        assert counters.first_second(connection, since=9, until=20) == 10
        assert counters.first_second(connection, since=9, until=20, scope="support") == 11
        assert counters.first_second(connection, since=13, until=20) is None
        seconds = counters.by_second(connection, since=9, until=20, scope="support")
    assert {route: [second.at for second in found] for route, found in seconds.items()} == {"support": [11, 12]}


def test_sums_of_money_and_mappings_are_exact(store):
    write(store, [bucket(at) for at in range(100)])
    with store.reading() as connection:
        sums = counters.summed(connection, since=0, until=100)
    assert sums.cost_nusd == 500_000_000_000_000
    assert sums.confidence == {"80": 200, "50": 100}


def test_one_route_is_told_from_the_others(store):
    write(store, [bucket(1), bucket(1, route="legal", calls=7)])
    with store.reading() as connection:
        assert counters.summed(connection, since=0, until=2, scope="legal").calls == 7
        assert counters.summed(connection, since=0, until=2).calls == 10


def test_a_policy_goes_in_and_comes_out_with_its_version(store):
    def raise_support(connection):
        change = PolicyEdit(scope="support", act=PolicyAct.RAISE, cause="EscalationStorm", signal={"n": 3})
        return policies.apply(connection, blank_book(), change, at=5.0)

    book = store.transact(raise_support)
    with store.reading() as connection:
        assert policies.read_book(connection, base=0.8, raised=0.9) == book
        (row,) = policies.history(connection)
    assert book.for_route("support").threshold == 0.9
    assert book.for_route("support").version == row["version"] == 1
    assert (row["from_threshold"], row["to_threshold"], row["signal"]) == (0.8, 0.9, {"n": 3})


def test_routers_use_the_raised_threshold_that_the_guard_announced(store):
    def raise_all(connection):
        policies.apply(
            connection, blank_book(raised=0.85), PolicyEdit(scope="*", act=PolicyAct.RAISE, cause="x"), at=1.0
        )

    store.transact(raise_all)
    with store.reading() as connection:
        assert policies.read_book(connection, base=0.8, raised=0.9).for_route("any").threshold == 0.85


def test_a_noted_change_is_in_the_log_and_not_in_force(store):
    store.transact(
        lambda connection: policies.write(
            connection,
            policies.step_of(blank_book(), PolicyEdit(scope="*", act=PolicyAct.RAISE, cause="x"), applied=False),
            at=1.0,
        )
    )
    with store.reading() as connection:
        assert policies.read_book(connection, base=0.8, raised=0.9).scopes == {}
        assert policies.history(connection)[0]["applied"] is False


def routed(store, *receivers):
    """Route what waits to these receivers; every delivery is named after its message and its receiver."""
    with store.reading() as connection:
        messages = deliveries.unrouted(connection, receivers)
    ids = {(each, receiver): f"{each}-{receiver}" for each in messages.message_ids for receiver in receivers}
    store.transact(lambda connection: deliveries.route(connection, messages, delivery_ids=ids, at=1))


def due(store, receiver, now):
    with store.reading() as connection:
        return deliveries.next_due(connection, receiver, now=now)


def begun(store, receiver, now):
    """An attempt at the next delivery."""
    delivery = due(store, receiver, now)
    return store.transact(lambda connection: deliveries.begin(connection, delivery, at=now))


def queued(store):
    with store.reading() as connection:
        return deliveries.queue_state(connection)


def fill(connection):
    """An incident with a start and an end to tell of, and one with a start."""
    first = incidents.open_incident(connection, rule="R", scope="a", at=1)
    second = incidents.open_incident(connection, rule="R", scope="b", at=1)
    for incident, kind in ((first, "started"), (first, "resolved"), (second, "started")):
        incidents.enqueue(connection, incident_id=incident, kind=kind, payload={"kind": kind}, at=1)


def test_deliveries_keep_the_order_within_an_incident_and_let_others_pass(store):
    store.transact(fill)
    assert (due(store, "slack", 1), queued(store)["waiting"]) == (None, 3)
    routed(store, "slack")
    first = begun(store, "slack", 1)
    store.transact(lambda connection: deliveries.postponed(connection, first, at=1, until=100, error="down"))
    second = begun(store, "slack", 2)
    assert (first.kind, second.kind, second.incident_id) == ("started", "started", 2)
    store.transact(lambda connection: deliveries.delivered(connection, second, at=2, channel="C", ts="1.0"))
    assert due(store, "slack", 3) is None
    assert due(store, "slack", 100).message_id == first.message_id
    assert queued(store) == {
        "waiting": 2, "delivered": 1, "attempts": 2, "last_error": "down",
        "receivers": {"slack": {"waiting": 2, "delivered": 1, "failed": 0, "attempts": 2}},
    }  # fmt: skip


def test_each_receiver_has_its_own_order_attempts_and_message(store):
    store.transact(fill)
    routed(store, "slack", "webhook")
    stuck = begun(store, "slack", 1)
    store.transact(lambda connection: deliveries.postponed(connection, stuck, at=1, until=100, error="down"))
    for _ in range(3):
        delivery = begun(store, "webhook", 1)
        store.transact(
            lambda connection, each=delivery: deliveries.delivered(connection, each, at=1, channel="W", ts="9.0")
        )
    assert due(store, "webhook", 1) is None
    assert (due(store, "slack", 100).channel, due(store, "slack", 100).attempts) == ("", 1)
    with store.reading() as connection:
        shown = incidents.incidents(connection)
        assert [each["slack_ts"] for each in shown] == ["9.0", "9.0"], "the message that a receiver keeps is named"
        oldest = deliveries.oldest_waiting(connection)
    assert oldest == {"waiting": 3, "oldest": 1, "attempts": 1, "error": "down", "is_used": True}


def test_a_message_that_was_refused_for_good_lets_the_next_one_pass_and_is_known_until_one_arrives(store):
    store.transact(fill)
    routed(store, "webhook")
    refused = begun(store, "webhook", 1)
    store.transact(lambda connection: deliveries.failed(connection, refused, at=5, error="answered 401"))

    def refusal(since):
        with store.reading() as connection:
            return deliveries.refusal(connection, since=since)

    assert (refusal(5), refusal(6)) == ("answered 401", "")
    following = begun(store, "webhook", 1)
    assert (following.incident_id, following.kind) == (refused.incident_id, "resolved")
    store.transact(lambda connection: deliveries.delivered(connection, following, at=6, channel="", ts=""))
    assert refusal(5) == ""
    with store.reading() as connection:
        start, end = stories.story(connection, refused.incident_id)["messages"]
    assert (start["delivered_at"], start["error"], start["attempts"]) == (None, "answered 401", 1)
    assert (end["delivered_at"], end["error"], end["deliveries"][0]["state"]) == (6, "", "delivered")


def test_what_waits_for_a_receiver_that_is_taken_out_goes_to_the_others_once(store):
    store.transact(fill)
    routed(store, "slack", "webhook")
    taken = begun(store, "webhook", 1)
    store.transact(lambda connection: deliveries.delivered(connection, taken, at=1, channel="", ts=""))
    routed(store, "webhook", "pager")
    assert due(store, "slack", 1) is None
    assert due(store, "webhook", 1).message_id == taken.message_id + 1
    assert due(store, "webhook", 1).delivery_id == f"{taken.message_id + 1}-webhook"
    assert due(store, "pager", 1).message_id == taken.message_id
    assert queued(store)["receivers"]["slack"]["waiting"] == 0


def test_counters_begin_with_nothing():
    assert {getattr(counters.Sums(), name) for name in counters.SUMS} == {0}
    for table in map(table_of, (Bucket, Total)):
        assert {table.c[name].default.arg for name in counters.SUMS} == {0}


def test_a_revision_advances_from_the_number_that_was_read_and_from_no_other(store):
    def read():
        with store.reading() as connection:
            return revisions.current(connection)

    def advance_from(number):
        return store.transact(lambda connection: revisions.advance_from(connection, number))

    assert read() == 0
    assert advance_from(0)
    assert not advance_from(0)
    store.transact(revisions.advance)
    assert read() == 2
    assert not advance_from(1)
    assert advance_from(2)


def test_a_snapshot_sees_one_moment_and_holds_no_writer_up(store):
    with store.snapshot() as connection:
        before = revisions.current(connection)
        store.transact(revisions.advance)
        assert revisions.current(connection) == before
    with store.snapshot() as connection:
        assert revisions.current(connection) == before + 1


def test_a_relative_path_is_made_absolute_and_said(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        assert read_address("sqlite:///cheapdeep.db", tmp_path).database == str(tmp_path / "cheapdeep.db")
    assert "relative" in caplog.text


def test_a_connection_that_is_in_use_while_its_store_closes_is_closed_once_it_is_given_back(either_url):
    store = Store(either_url)
    with store.engine.connect() as connection:
        driver = connection.connection.driver_connection
        store.close()
        assert connection.scalar(select(1)) == 1
    with pytest.raises(Exception, match="closed"):
        driver.execute("SELECT 1")


@pytest.mark.parametrize("url", ["", "cheapdeep.db", "nonsense://x", "sqlite://" + "/nowhere/at/all/x.db"])
def test_what_is_no_store_is_a_clear_error(url):
    with pytest.raises(StoreError):
        require_schema(Store(url))


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path):
    (tmp_path / "x.db").write_text("no database at all, but long enough to be read as a header" * 20)
    store = Store(f"sqlite:///{tmp_path}/x.db")
    with pytest.raises(StoreError, match="not a database"):
        require_schema(store)
    store.close()


def test_a_password_is_not_shown(tmp_path):
    store = Store("postgresql+psycopg://ann:secret@127.0.0.1:1/x")
    assert "secret" not in store.shown_url
    with pytest.raises(StoreError) as caught, store.reading():
        pass
    assert "secret" not in str(caught.value)


def test_a_failed_transaction_leaves_nothing(store):
    def half(connection):
        recording.prepare_counters(buckets=[bucket(1)], totals=[])(connection)
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        store.transact(half)
    with store.reading() as connection:
        assert counters.summed(connection, since=0, until=2).calls == 0


def test_a_locked_store_is_tried_again(sqlite_url):
    blocker = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    tries = []

    def unblock(_seconds):
        tries.append(1)
        blocker.execute("COMMIT")

    patient = Store(sqlite_url, sleep=unblock)
    migrate(patient)
    blocker.execute("BEGIN IMMEDIATE")
    patient.transact(recording.prepare_counters(buckets=[bucket(1)], totals=[]))
    assert tries == [1]
    blocker.close()
    patient.close()


def test_a_heartbeat_does_not_look_for_the_installed_version_each_time(store, monkeypatch):
    seen(store, "a", 1)
    monkeypatch.setattr(recording, "version", lambda _name: pytest.fail("read again"))
    monkeypatch.setattr("socket.gethostname", lambda: pytest.fail("asked again"))
    seen(store, "a", 2)


def test_a_store_that_stays_locked_is_told_from_one_that_is_gone(sqlite_url, tmp_path):
    store = Store(sqlite_url, patience_s=0.05)
    migrate(store)
    blocker = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusyError, match="locked"):
        write(store, [bucket(1)])
    blocker.close()
    write(store, [bucket(1)])
    store.close()
    gone = Store(f"sqlite:///{tmp_path}/nowhere/x.db", patience_s=0.05)
    with pytest.raises(StoreError) as caught:
        write(gone, [bucket(1)])
    assert not isinstance(caught.value, StoreBusyError)


def test_a_row_that_does_not_fit_is_an_error_of_its_own(store):
    with pytest.raises(RowError):
        write(store, [bucket(1, calls=None)])
    write(store, [bucket(1)])


def test_of_rows_that_are_written_together_the_refused_ones_alone_are_left_out(store):
    seconds, prepared = list(range(20)), []

    def prepare(some):
        prepared.append(len(some))
        return recording.prepare_counters(
            buckets=[bucket(at, calls=None if at in (3, 17) else 1) for at in some], totals=[]
        )

    assert [(at, type(error)) for at, error in write_accepted(store, seconds, prepare)] == [
        (3, RowError),
        (17, RowError),
    ]
    assert prepared[0] == 20
    with store.reading() as connection:
        assert counters.summed(connection, since=0, until=20).calls == 18


def test_columns_that_rows_leave_out_get_their_default_once_and_are_not_set_back(store):
    write(store, [bucket(1, fallbacks=5, origins={"a": 1})])
    write(store, [bucket(1)])
    with store.reading() as connection:
        sums = counters.summed(connection, since=0, until=2)
    assert (sums.fallbacks, sums.origins, sums.shadowed, sums.triage_errors) == (5, {"a": 1}, 0, {})


def _write_flat_out(url, process, count):
    store = Store(url)
    for at in range(count):
        write(store, [bucket(at, process=process)])
    store.close()


@pytest.mark.thorough
def test_five_processes_that_write_flat_out_lose_nothing(store, either_url):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write_flat_out, args=(either_url, str(i), 100)) for i in range(5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
    assert [worker.exitcode for worker in workers] == [0] * 5
    with store.reading() as connection:
        assert counters.summed(connection, since=0, until=1_000).calls == 5 * 100 * 3


def seen(store, process, at, **more):
    beat = {"kind": "router", "started_at": 1.0, "seen_at": at, "base_threshold": 0.8, **more}
    store.transact(lambda connection: processes.beat(connection, processes.Heartbeat(process=process, **beat)))


def ever(store):
    """The sums since everything began, and what was dropped."""
    with store.reading() as connection:
        return counters.totals(connection), processes.dropped(connection)


def dead(store, *names):
    """Seal these processes for good, at their last heartbeat."""
    with store.reading() as connection:
        beats = {each["process"]: each["seen_at"] for each in processes.processes(connection, since=0)}
    rollups.seal_for_good(store, {name: beats[name] for name in names})


def test_totals_of_dead_processes_are_folded_and_their_sums_stay_in_every_step(store, monkeypatch):
    monkeypatch.setattr(retirement, "_FOLDED_AT_ONCE", 3)
    for number in range(10):
        seen(store, str(number), number, dropped=number)
        write(store, [], [total(process=str(number), route=route) for route in "abcde"])
    dead(store, *map(str, range(8)))
    before, transact, after = ever(store), store.transact, []

    def watched(work):
        found = transact(work)
        after.append(ever(store))
        return found

    monkeypatch.setattr(store, "transact", watched)
    with most_rows(store) as rows:
        assert [retirement.retire(store, unseen_since=5) for _ in range(2)] == [8, 0]
    # Two transactions fold five totals and a third finds none; five processes were last seen before that time.
    assert len(after) == 8 * 3 + 5
    assert all(each == before for each in after)
    assert max(rows) <= 6
    with store.reading() as connection:
        of = table_of(Total).c.process
        left = connection.execute(select(of).distinct().order_by(of)).scalars().all()
        known = {each["process"] for each in processes.processes(connection, since=-1)}
    assert left == ["", "8", "9"]
    # A dead process is known for a while, because its rows must be refused.
    assert known == {"", "5", "6", "7", "8", "9"}


def test_a_process_that_shows_itself_again_does_not_count_as_dead(store):
    seen(store, "a", 1)
    write(store, [], [total(process="a")])
    silent = rollups.silent_processes(store, unseen_since=8, stopped_since=8)
    seen(store, "a", 100)
    rollups.seal_for_good(store, silent)
    assert (silent, retirement.retire(store, unseen_since=200)) == ({"a": 1}, 0)


def test_sums_by_the_database_are_those_of_the_rows(store):
    rows = [bucket(at, process=process, route=route) for at in range(50) for process in "ab" for route in ("x", "y")]
    write(store, rows)
    with store.reading() as connection:
        sums = counters.summed(connection, since=10, until=20, scope="x")
        assert (sums.calls, sums.reasons, sums.confidence) == (60, {"low_confidence": 20}, {"80": 40, "50": 20})
        assert counters.base_escalations_by_class(connection, since=10, until=20, scope="*") == {"": 40}
        assert counters.base_reasons(connection, since=10, until=20, scope="*") == {"low_confidence": 40}
        assert counters.sums_of(connection, ("calls",), since=90, until=99) == {"calls": 0}
