"""What is about PostgreSQL alone; what both engines promise is in `test_store.py` and in the guard's tests."""

import re
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
from cheapdeep_ops.store.postgresql import server_trouble
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
    deadline = time.monotonic() + 120
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
        time.sleep(0.3)
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        assert asked(blank_postgresql_url, others)[0] <= 1


def test_a_recorder_that_may_not_read_the_version_keeps_no_connection(postgresql_url, watcher):
    recorder = Recorder(Settings(store_url=as_role(watcher, postgresql_url)), background=False)
    # The error holds what was open when it was raised, as a garbage collector that comes late does.
    with pytest.raises(StoreError, match="permission denied") as refused:
        recorder.refresh(time.time())
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'watcher'"
    assert soon(lambda: asked(postgresql_url, others) == [0])
    assert refused.tb
    recorder.close()


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
                met.wait(60)
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
    with locked(open_store(), table), pytest.raises(StoreError, match="lock timeout"):
        recorder.drain(clock())
    recorder.drain(clock())
    with open_store().reading() as connection:
        assert counters.summed(connection, since=0, until=NOW + 1).calls == 1


def test_a_lock_holds_up_a_read_for_a_moment_and_leaves_the_policies(open_store, recorder, clock):
    recorder.refresh(clock())
    with locked(open_store(), "policy"), pytest.raises(StoreError, match="lock timeout"):
        recorder.refresh(clock())
    assert recorder.book.for_route("support").threshold == 0.8


@pytest.mark.thorough
def test_a_process_that_stops_in_the_middle_holds_the_others_up_for_a_while_only(open_store, monkeypatch):
    monkeypatch.setattr("cheapdeep_ops.store.postgresql._ABANDONED_S", 1)
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


@contextmanager
def read_only(postgresql, url):
    """New sessions cannot write while the context lasts, and those that began in it never can: as on a standby."""
    name = url.partition("?")[0].rpartition("/")[2]
    postgresql.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        yield
    finally:
        postgresql.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")


def test_a_session_that_can_no_longer_write_is_given_up_for_one_that_can(
    postgresql, postgresql_url, recorder, decision, clock
):
    store = Store(postgresql_url)
    with read_only(postgresql, postgresql_url):
        recorder.refresh(clock())
        with store.reading():
            pass
    recorder.put(decision)
    recorder.drain(clock())
    store.transact(lambda connection: processes.mark_stopped(connection, "p"))
    store.close()
    assert asked(postgresql_url, CALLS) == [1]


def test_a_server_that_takes_no_writes_is_said_so_and_loses_no_counter(
    postgresql, postgresql_url, recorder, decision, clock
):
    with read_only(postgresql, postgresql_url):
        recorder.refresh(clock())
        recorder.put(decision)
        for _ in range(2):
            with pytest.raises(StoreError, match="read-only transaction; this server is a standby"):
                recorder.drain(clock())
        recorder.refresh(clock())
    recorder.drain(clock())
    assert asked(postgresql_url, CALLS) == [1]


def test_work_that_found_no_writer_is_done_once(postgresql, postgresql_url, open_store):
    store, attempts = open_store(), []
    with read_only(postgresql, postgresql_url), store.reading():
        pass

    def work(connection):
        attempts.append(1)
        processes.mark_stopped(connection, "p")

    store.transact(work)
    store.transact(work)
    assert len(attempts) == 3


def test_a_session_that_the_server_ends_is_not_used_again(postgresql, open_store):
    store = open_store()

    def end_itself(connection):
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with pytest.raises(StoreError, match="terminating connection"):
        store.transact(end_itself)
    store.transact(wait_for("policy"))


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_cannot_hold_every_text_is_refused(postgresql, encoding):
    name = f"of_{encoding.lower()}"
    postgresql.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C'")
    store = Store(postgresql.url(name))
    for use in (migrate, require_schema):
        with pytest.raises(StoreError, match=f"encoding {encoding}.*ENCODING 'UTF8'"):
            use(store)
    store.close()
    postgresql.execute(f"DROP DATABASE {name}")


@pytest.mark.parametrize(
    ("version", "encoding", "says"),
    [(90_624, "UTF8", "version 9:"), (11_800, "UTF8", "version 1:"), (180_001, "", "encoding"), (120_000, "UTF8", "")],
)
def test_servers_that_cannot_hold_the_store_are_refused(version, encoding, says):
    trouble = server_trouble(version, encoding)
    assert says in trouble
    assert bool(trouble) == bool(says)


def test_every_text_comes_back_as_it_was_whatever_the_client_is_set_to(postgresql_url, monkeypatch):
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    store = Store(postgresql_url)
    beat = {"kind": "guard", "started_at": 1.0, "seen_at": 1.0, "base_threshold": 0.8}
    store.transact(lambda connection: processes.beat(connection, processes.Heartbeat(process="日本語 €", **beat)))
    with store.reading() as connection:
        assert [row["process"] for row in processes.processes(connection, since=0)] == ["日本語 €"]
    store.close()


# Rights


def grant(postgresql, url, rights):
    """Execute `rights` in the database of `url`."""
    postgresql.execute(rights, database=url.partition("?")[0].rpartition("/")[2])


def test_a_role_that_may_not_make_the_tables_is_told_the_right_and_works_with_it(
    postgresql, blank_postgresql_url, watcher
):
    url = as_role(watcher, blank_postgresql_url)
    store = Store(url)
    with pytest.raises(StoreError, match=r"permission denied.*GRANT CREATE ON DATABASE test\d+ TO watcher") as caught:
        migrate(store)
    right = re.search(r"GRANT CREATE ON DATABASE \w+ TO watcher", str(caught.value)).group()
    grant(postgresql, blank_postgresql_url, right)
    migrate(store)
    require_schema(store)
    store.close()


def test_a_role_without_rights_on_the_tables_is_told_them_and_works_with_them(postgresql, postgresql_url, watcher):
    store = Store(as_role(watcher, postgresql_url))
    for right in ("GRANT USAGE ON SCHEMA cheapdeep", "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES"):
        with pytest.raises(StoreError, match=f"permission denied.*{right}"):
            require_schema(store)
        in_schema = "" if "ON SCHEMA" in right else "IN SCHEMA cheapdeep"
        grant(postgresql, postgresql_url, f"{right} {in_schema} TO watcher")
    require_schema(store)
    store.close()


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

    def note(connection, _record):
        asked.append(connection.info.get_parameters())

    event.listen(store.engine, "connect", note)
    store.transact(wait_for("policy"))
    assert {(each["connect_timeout"], each["tcp_user_timeout"]) for each in asked} == {("5", "30000")}
