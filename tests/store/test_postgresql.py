"""What is about PostgreSQL alone; what both engines promise is in `test_store.py` and in the guard's tests."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy import event, text

from cheapdeep_ops import Router, Settings
from cheapdeep_ops.errors import SchemaError, StoreError
from cheapdeep_ops.recorder import Recorder
from cheapdeep_ops.store import counters, processes
from cheapdeep_ops.store.engine import Store, take_lock
from cheapdeep_ops.store.schema import migrate, require_schema
from cheapdeep_ops.testing import FrozenClock

NOW = 1_800_000_000.0
MADE_BY_SOMEBODY = "SELECT nspname FROM pg_namespace WHERE nspname = 'cheapdeep'"
CALLS = "SELECT coalesce(sum(calls), 0) FROM cheapdeep.bucket"


@pytest.fixture(scope="session")
def watcher(postgresql):
    """A role that may make nothing, and may use what it is given leave to."""
    postgresql.execute("CREATE ROLE watcher LOGIN")
    return "watcher"


@pytest.fixture
def open_store(postgresql_url):
    """Opens stores on the test's database, and closes them."""
    opened = []

    def make(**options):
        opened.append(Store(postgresql_url, **options))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def decision(api, bare):
    """A real one."""
    with Router(settings=Settings(record=False), client=bare) as router:
        return router.ask("hello").decision


@pytest.fixture
def clock():
    return FrozenClock(NOW)


@pytest.fixture
def recorder(postgresql_url, clock):
    recorder = Recorder(Settings(store_url=postgresql_url), clock=clock, background=False)
    yield recorder
    recorder.close()


def asked(url, statement):
    store = Store(url)
    with store.reading() as connection:
        found = connection.execute(text(statement)).scalars().all()
    store.close()
    return found


def as_role(role, url):
    return url.replace("postgres@", f"{role}@")


def allow(role):
    rights = (
        f"GRANT USAGE ON SCHEMA cheapdeep TO {role};"
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA cheapdeep TO {role}"
    )
    return lambda connection: connection.execute(text(rights))


def soon(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def wait_for(what):
    return lambda connection: take_lock(connection, what)


@contextmanager
def locked(store, table):
    """Another session's lock on a whole table, as a migration or a careless person takes it."""
    with store.engine.connect() as connection:
        connection.execute(text(f"LOCK TABLE cheapdeep.{table} IN ACCESS EXCLUSIVE MODE"))
        yield connection


@pytest.mark.thorough
@pytest.mark.parametrize("role", ["postgres", "watcher"])
def test_a_router_makes_no_table_and_begins_to_count_when_somebody_has(
    blank_postgresql_url, watcher, bare, caplog, role
):
    settings = Settings(store_url=as_role(role, blank_postgresql_url), flush_every_s=0.05)
    with Router(settings=settings, client=bare) as router:
        for _ in range(4):
            assert router.ask("hello").text
            time.sleep(0.3)
        assert asked(blank_postgresql_url, MADE_BY_SOMEBODY) == []
        # Once for reading and once for writing, however often it is tried.
        assert 1 <= caplog.text.count("run cheapdeep-ops migrate") <= 2
        owner = Store(blank_postgresql_url)
        with pytest.raises(SchemaError, match="run cheapdeep-ops migrate"):
            require_schema(owner)
        migrate(owner)
        owner.transact(allow(watcher))
        owner.close()
        assert soon(lambda: asked(blank_postgresql_url, CALLS) == [4])


def test_a_router_that_waits_for_its_tables_keeps_no_connection(blank_postgresql_url, bare):
    with Router(settings=Settings(store_url=blank_postgresql_url, flush_every_s=0.05), client=bare):
        time.sleep(1)
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        assert asked(blank_postgresql_url, others)[0] <= 1


def test_leave_to_read_and_write_is_all_that_a_recorder_needs(postgresql_url, watcher, decision, clock):
    owner = Store(postgresql_url)
    owner.transact(allow(watcher))
    owner.close()
    recorder = Recorder(Settings(store_url=as_role(watcher, postgresql_url)), clock=clock, background=False)
    recorder.put(decision)
    recorder.refresh(clock())
    recorder.drain(clock())
    recorder.close()
    assert asked(postgresql_url, CALLS) == [1]


def test_the_same_is_done_by_one_alone_and_different_things_by_several(open_store):
    one, other = open_store(), open_store(patience_s=0.1)
    with one.engine.begin() as connection:
        take_lock(connection, "policy")
        with pytest.raises(StoreError, match="lock timeout"):
            other.transact(wait_for("policy"))
        other.transact(wait_for("schema"))
    other.transact(wait_for("policy"))


def test_what_is_read_and_then_written_alone_loses_nothing(open_store):
    def count_on(_number):
        store = open_store()

        def work(connection):
            take_lock(connection, "policy")
            found = processes.dropped(connection)
            beat = {"kind": "guard", "started_at": 1.0, "seen_at": 1.0, "base_threshold": 0.8}
            processes.beat(connection, processes.Heartbeat(process="p", dropped=found + 1, **beat))

        for _ in range(10):
            store.transact(work)

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(count_on, range(5)))
    with open_store().reading() as connection:
        assert processes.dropped(connection) == 50


def test_two_that_wait_for_each_other_both_get_it_done(open_store):
    met, done = threading.Barrier(2), []

    def cross(first, second):
        attempts = []

        def work(connection):
            take_lock(connection, first)
            attempts.append(1)
            if len(attempts) == 1:
                met.wait(10)
            take_lock(connection, second)

        open_store().transact(work)
        done.append(len(attempts))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(cross, ("a", "b"), ("b", "a")))
    assert sorted(done) == [1, 2]


def test_a_locked_store_is_tried_again(open_store, monkeypatch):
    monkeypatch.setattr("cheapdeep_ops.store.engine._LOCK_TIMEOUT_S", 0.05)
    tries = []
    with locked(open_store(), "process") as blocker:

        def unblock(_seconds):
            tries.append(1)
            blocker.rollback()

        open_store(sleep=unblock).transact(lambda connection: processes.mark_stopped(connection, "p"))
    assert tries == [1]


@pytest.mark.parametrize("table", ["bucket", "process"])
def test_a_lock_holds_up_a_write_for_a_moment_and_costs_no_counter(open_store, recorder, decision, clock, table):
    recorder.drain(clock())
    recorder.put(decision)
    with locked(open_store(), table):
        began = time.monotonic()
        with pytest.raises(StoreError, match="lock timeout"):
            recorder.drain(clock())
        assert time.monotonic() - began < 2
    recorder.drain(clock())
    with open_store().reading() as connection:
        assert counters.summed(connection, since=0, until=NOW + 1).calls == 1


def test_a_lock_holds_up_a_read_for_a_moment_and_leaves_the_policies(open_store, recorder, clock):
    recorder.refresh(clock())
    with locked(open_store(), "policy"), pytest.raises(StoreError, match="lock timeout"):
        recorder.refresh(clock())
    assert recorder.book.for_route("support").threshold == 0.8


def test_a_process_that_stops_in_the_middle_holds_the_others_up_for_a_while_only(open_store, monkeypatch):
    monkeypatch.setattr("cheapdeep_ops.store.engine._ABANDONED_S", 0.1)
    frozen, other = open_store(), open_store()

    def stop_in_the_middle(connection):
        take_lock(connection, "policy")
        other.transact(wait_for("policy"))

    with pytest.raises(StoreError, match="idle"):
        frozen.transact(stop_in_the_middle)
    frozen.transact(wait_for("policy"))


def test_a_server_that_comes_back_finds_everything_as_it_was(postgresql, open_store, recorder, decision, clock):
    store = open_store()
    recorder.put(decision)
    recorder.drain(clock())
    with postgresql.stopped():
        recorder.put(decision)
        for work in (recorder.drain, recorder.refresh):
            with pytest.raises(StoreError):
                work(clock())
        with pytest.raises(StoreError), store.reading():
            pass
        with pytest.raises(StoreError):
            store.transact(wait_for("policy"))
        recorder.put(decision)
    recorder.refresh(clock())
    recorder.drain(clock())
    with store.reading() as connection:
        assert counters.summed(connection, since=0, until=NOW + 1).calls == 3


def test_a_router_answers_while_the_server_is_away_and_its_counters_come_later(
    postgresql, postgresql_url, bare, caplog
):
    with Router(settings=Settings(store_url=postgresql_url, flush_every_s=0.05), client=bare) as router:
        router.ask("hello")
        assert soon(lambda: asked(postgresql_url, CALLS) == [1])
        with postgresql.stopped():
            assert router.ask("hello").text
            assert soon(lambda: "counters wait" in caplog.text)
        assert soon(lambda: asked(postgresql_url, CALLS) == [2])


def test_a_password_that_is_refused_is_not_shown(postgresql, postgresql_url):
    postgresql.execute("CREATE ROLE locked LOGIN PASSWORD 'right'")
    store = Store(as_role("locked:secret", postgresql_url))
    with pytest.raises(StoreError, match="authentication failed") as caught, store.reading():
        pass
    assert "secret" not in str(caught.value) + store.shown_url
    store.close()


def test_a_server_that_does_not_answer_is_given_five_seconds(open_store):
    asked = []
    store = open_store()
    event.listen(store.engine, "do_connect", lambda _dialect, _record, _given, options: asked.append(dict(options)))
    store.transact(wait_for("policy"))
    assert {each["connect_timeout"] for each in asked} == {5}
