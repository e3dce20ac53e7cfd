"""PgBouncer between the processes and PostgreSQL: each transaction may run in another session."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import text

from cheapdeep_ops.errors import StoreBusyError
from cheapdeep_ops.guard.guard import Guard
from cheapdeep_ops.guard.notify.log import LogSender
from cheapdeep_ops.guard.reports.status import present
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.recorder import Recorder, store_destination
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters, direct, engines
from cheapdeep_ops.store.engine import Store, take_lock
from cheapdeep_ops.store.schema import migrate
from tests.postgres import pooled
from tests.test_recorder import decision

pytestmark = pytest.mark.thorough
NOW = 1_800_000_000.0
LIMITS = "SELECT name, setting FROM pg_settings WHERE name IN ('lock_timeout', 'idle_in_transaction_session_timeout')"


@pytest.fixture(scope="module", params=["transaction", "session"])
def pooler(request, postgresql):
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer is not installed; apt-get install pgbouncer has it")
    with pooled(postgresql, program, mode=request.param) as where:
        yield where


@pytest.fixture
def where(pooler, postgresql):
    """How a client connects to a blank database of the test's own."""
    with postgresql.database() as name:
        yield {**pooler, "dbname": name}


@pytest.fixture
def pooled_url(where):
    return f"postgres://postgres@/{where['dbname']}?host={where['host']}&port={where['port']}"


@pytest.fixture
def store(pooled_url):
    store = Store(pooled_url)
    migrate(store)
    yield store
    store.close()


def evaluations(url, moments):
    """How many evaluations of a guard's own succeed."""
    store = Store(url)
    settings = Settings(store_url=url)
    guard = Guard(
        store, settings=settings, rulebook=read_rulebook(), senders={"log": LogSender()}, started_at=moments[0]
    )
    for now in moments:
        guard.step(now)
        guard.deliver(now)
        present(store, settings, now)
    guard.close()
    store.close()
    return len(moments)


def recorded(url, moments):
    recorder = Recorder(Settings(store_url=url), clock=lambda: moments[-1], background=False)
    for now in moments:
        recorder.refresh(now)
        recorder.put(decision(now))
        recorder.drain(now)
    recorder.close()
    return len(moments)


def test_guards_and_routers_work_side_by_side(store, pooled_url, monkeypatch):
    # On a loaded machine, a turn in one of two sessions may come late.
    monkeypatch.setattr(direct, "ANSWER_S", 60.0)
    monkeypatch.setattr(engines, "_ANSWER_S", 60.0)
    monkeypatch.setattr(store_destination, "_PATIENCE_S", 60.0)
    moments = [NOW + 5 * step for step in range(13)]
    with ThreadPoolExecutor(6) as pool:
        guards = [pool.submit(evaluations, pooled_url, moments) for _ in range(2)]
        routers = [pool.submit(recorded, pooled_url, moments) for _ in range(4)]
        assert [each.result() for each in guards + routers] == [13] * 6
    with store.reading() as connection:
        assert counters.summed(connection, since=0, until=2**40).calls == 4 * 13


def test_limits_hold_in_each_transaction_and_stay_in_no_session(where, pooled_url):
    store = Store(pooled_url, patience_s=0.2)
    for connecting in (store.reading, store.snapshot, store.engine.begin):
        with connecting() as connection:
            limits = dict(connection.execute(text(LIMITS)).all())
        assert limits == {"lock_timeout": "200", "idle_in_transaction_session_timeout": "60000"}
    store.close()
    with psycopg.connect(**where, user="postgres") as other:
        assert {setting for _, setting in other.execute(LIMITS).fetchall()} == {"0"}


def test_a_lock_is_held_until_the_end_of_its_transaction_and_no_longer(store, pooled_url):
    other, is_held, may_end = Store(pooled_url, patience_s=0.1), threading.Event(), threading.Event()

    def hold(connection):
        take_lock(connection, "policy")
        is_held.set()
        assert may_end.wait(60)

    with ThreadPoolExecutor(1) as pool:
        holding = pool.submit(store.transact, hold)
        assert is_held.wait(60)
        with pytest.raises(StoreBusyError, match="lock timeout"):
            other.transact(lambda connection: take_lock(connection, "policy"))
        may_end.set()
        holding.result()
    other.transact(lambda connection: take_lock(connection, "policy"))
    other.close()
