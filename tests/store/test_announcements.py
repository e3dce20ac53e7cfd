"""A recorder follows the policies without asking for them: on real servers, behind poolers, and while they fail."""

import os
import select
import shutil
import signal
import time

import psycopg
import pytest

from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.policy import PolicyAct, blank_book
from cheapdeep_ops.recorder import store_destination
from cheapdeep_ops.recorder.store_destination import StoreDestination
from cheapdeep_ops.recorder.wake import Wake
from cheapdeep_ops.store import policies
from cheapdeep_ops.store.announcements import announce
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.policies import PolicyEdit
from tests.postgres import packages, pooled, running
from tests.stores import migrated

pytestmark = pytest.mark.thorough
NOW = 1_800_000_000.0
FOLLOWS_WITHIN_S = 120
OTHERS = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"


@pytest.fixture(autouse=True)
def announced_only(monkeypatch):
    """Nothing is read because of time alone, so what is followed was announced."""
    monkeypatch.setattr(store_destination, "_READ_EVERY_S", 3600.0)


@pytest.fixture
def destination(tmp_path):
    """Makes destinations at URLs."""
    made = []

    def make(url):
        made.append(StoreDestination(url, folder=tmp_path, max_routes=200, max_classes=50, steady=time.monotonic))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def guard():
    """Makes stores at URLs, as a guard has them."""
    made = []

    def make(url):
        made.append(Store(url))
        return made[-1]

    yield make
    for each in made:
        each.close()


def raise_on(store, route, *, applied=True):
    edit = PolicyEdit(scope=route, act=PolicyAct.RAISE, cause="EscalationStorm")
    step = policies.step_of(blank_book(), edit, applied=applied)
    store.transact(lambda connection: policies.write(connection, step, at=NOW))


def scopes(news):
    return {policy.scope for policy in news.policies}


def followed(destination, wanted):
    """Reads until the policies of these routes are known, as the recorder's thread does."""
    deadline = time.monotonic() + FOLLOWS_WITHIN_S
    while scopes(news := destination.read()) != wanted:
        assert time.monotonic() < deadline, scopes(news)
        time.sleep(0.01)
    return news


def fails(destination):
    """Reads until that fails: the first look takes the server's farewell from the socket, the second sees the end."""
    for _ in range(3):
        try:
            destination.read()
        except StoreError:
            return True
    return False


def is_listening(destination):
    found = destination._opened._link.connection.execute("SELECT pg_listening_channels()").fetchall()
    return found == [("cheapdeep_news",)]


def statements(destination):
    """Counts the statements that the destination sends from now on."""
    sent, pgconn = [], destination._opened._link.connection
    poll = pgconn.poll

    def noted(statement):
        sent.append(statement)
        return poll(statement)

    pgconn.poll = noted
    return sent


def where(url):
    """The same for psycopg itself."""
    return url.replace("+psycopg", "")


def test_a_router_at_rest_sends_nothing_and_follows_what_is_applied(postgresql_url, destination, guard):
    router, store = destination(postgresql_url), guard(postgresql_url)
    first = router.read()
    assert is_listening(router)
    sent = statements(router)
    with psycopg.connect(where(postgresql_url), autocommit=True) as other:
        asked = "SELECT query_start FROM pg_stat_activity WHERE pid = %s"
        process = [router._opened._link.connection.info.backend_pid]
        begun = other.execute(asked, process).fetchone()
        assert all(router.read() is first for _ in range(100))
        assert other.execute(asked, process).fetchone() == begun
    raise_on(store, "a")
    followed(router, {"a"})
    assert len(sent) == 1
    raise_on(store, "b", applied=False)
    with pytest.raises(ZeroDivisionError):
        store.transact(lambda connection: (raise_on(OneConnection(connection), "c"), 1 / 0))
    raise_on(store, "d")
    followed(router, {"a", "d"})
    assert len(sent) == 2


def test_a_router_at_rest_sleeps_until_an_announcement_comes(postgresql_url, destination, guard):
    router, store, wake = destination(postgresql_url), guard(postgresql_url), Wake()
    router.read()
    assert not router.await_news(wake, 0.01)
    raise_on(store, "a")
    assert router.await_news(wake, FOLLOWS_WITHIN_S)
    assert scopes(router.read()) == {"a"}
    raise_on(store, "b")
    for _ in range(20):  # the driver takes the notification from the socket during one of these
        router._opened.read("SELECT 1")
    assert router.await_news(wake, 3600.0), "or it sleeps for an hour"
    wake.set()
    router.read()
    assert not router.await_news(wake, 3600.0)
    wake.close()


def test_a_recorder_may_announce_too(postgresql_url, destination):
    one, other = destination(postgresql_url), destination(postgresql_url)
    other.read()
    one.read()
    one._opened.transact(announce)
    sent = statements(other)
    deadline = time.monotonic() + FOLLOWS_WITHIN_S
    while not sent and time.monotonic() < deadline:
        other.read()
        time.sleep(0.01)
    assert len(sent) == 1


class OneConnection:
    """A store whose transaction is under way."""

    def __init__(self, connection):
        self._connection = connection

    def transact(self, work):
        return work(self._connection)


def test_what_is_announced_while_the_router_writes_or_reads_is_not_missed(postgresql_url, destination, guard):
    router, store = destination(postgresql_url), guard(postgresql_url)
    router.read()
    raise_on(store, "a")
    direct = router._opened
    for _ in range(20):  # the driver takes the notification from the socket during one of these
        direct.read("SELECT 1")
    followed(router, {"a"})
    connection, read = direct._link.connection, []
    poll = connection.poll

    def overtaken(statement):
        found = poll(statement)
        read.append(found)
        if len(read) == 1:  # announced after this read began, so another follows
            raise_on(store, "c")
            assert select.select([connection.pgconn.socket], [], [], FOLLOWS_WITHIN_S)[0]
        return found

    connection.poll = overtaken
    raise_on(store, "b")
    followed(router, {"a", "b", "c"})
    router.read()
    assert len(read) == 2


@pytest.fixture(params=["transaction", "session"])
def pooler(request, postgresql):
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer is not installed; apt-get install pgbouncer has it")
    with pooled(postgresql, program, mode=request.param) as where, postgresql.database("migrated") as name:
        yield f"postgresql://postgres@/{name}?host={where['host']}&port={where['port']}", postgresql.url(name)


def test_behind_a_pooler_each_read_asks_and_no_session_listens(pooler, destination, guard):
    behind, straight = pooler
    router, store = destination(behind), guard(behind)
    router.read()
    sent = statements(router)
    for number in range(3):
        raise_on(store, f"route-{number}")
        assert len(scopes(router.read())) == number + 1  # at once, without a notification to wait for
    assert len(sent) == 3
    assert not is_listening(router)
    # A change that goes through the pooler reaches those that listen without it.
    neighbour = destination(straight)
    neighbour.read()
    assert is_listening(neighbour)
    raise_on(store, "through")
    followed(neighbour, {"route-0", "route-1", "route-2", "through"})


def test_a_session_that_was_ended_is_replaced_at_once_and_misses_nothing(postgresql_url, destination, guard):
    router, store = destination(postgresql_url), guard(postgresql_url)
    router.read()
    store.close()
    with psycopg.connect(where(postgresql_url), autocommit=True) as other:
        other.execute(f"SELECT pg_terminate_backend(pid, 10000) {OTHERS}")
    raise_on(store, "a")
    # What was announced meanwhile was told to no session.
    router.read()
    assert scopes(router.read()) == {"a"}
    assert is_listening(router)
    raise_on(store, "b")
    followed(router, {"a", "b"})


def test_a_server_that_restarts_is_followed_again(postgresql, postgresql_url, destination, guard):
    router, store = destination(postgresql_url), guard(postgresql_url)
    router.read()
    with postgresql.stopped():
        assert fails(router)
        assert fails(router)
    store.close()
    raise_on(store, "a")
    assert scopes(router.read()) == {"a"}
    assert is_listening(router)


def test_a_server_that_hangs_holds_no_turn_at_rest_and_a_read_for_its_limit(postgresql_url, destination, monkeypatch):
    router = destination(postgresql_url)
    first = router.read()
    process = router._opened._link.connection.info.backend_pid
    os.kill(process, signal.SIGSTOP)
    try:
        assert all(router.read() is first for _ in range(100))
        monkeypatch.setattr(router, "_read_at", float("-inf"))
        with pytest.raises(StoreError, match="does not answer"):
            router.read()
        # Another session answers.
        assert scopes(router.read()) == set()
        assert router._opened._link.connection.info.backend_pid != process
    finally:
        os.kill(process, signal.SIGCONT)


def test_after_a_failover_the_new_primary_is_listened_to(destination, guard):
    installed = packages()
    if installed is None:
        pytest.skip("PostgreSQL's programs are not installed; the extra dev has them")
    with running(installed) as primary:
        first = migrated(primary.url("postgres"))
        raise_on(first, "before")
        with running(installed, primary) as standby:
            hosts = f"postgresql://postgres@/postgres?host={standby.folder},{primary.folder}"
            router = destination(f"{hosts}&target_session_attrs=read-write")
            reader = destination(standby.url("postgres"))
            followed(reader, {"before"})
            assert not is_listening(reader)  # a standby is told nothing
            assert scopes(router.read()) == {"before"}
            assert is_listening(router)
            raise_on(first, "straight")
            followed(router, {"before", "straight"})
            followed(reader, {"before", "straight"})
            first.close()
            primary.stop()
            assert fails(router)
            standby.promote()
            second = guard(standby.url("postgres"))
            raise_on(second, "after")
            assert scopes(router.read()) == {"before", "straight", "after"}
            assert is_listening(router)
            raise_on(second, "later")
            followed(router, {"before", "straight", "after", "later"})
            router.close()
            reader.close()
            second.close()
