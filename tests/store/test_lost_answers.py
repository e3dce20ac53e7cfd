"""The server or the way to it ends in the middle of a transaction, or after the commit and before its answer."""

import select
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import event

from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.guard.actions.thresholds import pin
from cheapdeep_ops.recorder import Recorder
from cheapdeep_ops.recorder.counter_buffer import CounterBuffer
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters, incidents, policies, senders
from cheapdeep_ops.store.direct import DirectStore
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.inserts import table_name
from cheapdeep_ops.store.recording import Heartbeat
from cheapdeep_ops.values import Name
from tests.guard.conftest import Inbox, Town, town_rules
from tests.guard.test_commit import brew
from tests.test_recorder import decision

pytestmark = pytest.mark.thorough
NOW = 1_800_000_000.0


class Way:
    """A socket that leads to a server; it can break at a commit, before the server gets it or before it answers."""

    def __init__(self, server: Path, folder: Path) -> None:
        self._server = str(server / ".s.PGSQL.5432")
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(folder / ".s.PGSQL.5432"))
        self._listening.listen()
        self._awaited: list[bytes] = []
        self._reaches_server = False
        self.broken = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def break_at(self, *statements: bytes, reaches_server: bool) -> None:
        """Break the connection on which the last of these is sent, after the others in their order; once."""
        self._reaches_server, self._awaited = reaches_server, list(statements)

    def _is_awaited(self, sent: bytes) -> bool:
        was_armed = bool(self._awaited)
        while self._awaited and self._awaited[0] in sent:
            sent = sent[sent.index(self._awaited.pop(0)) :]
        return was_armed and not self._awaited

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._lead, args=(client,), daemon=True).start()

    def _lead(self, client: socket.socket) -> None:
        # Either side may go, and a server that restarts cannot be reached.
        with suppress(OSError), client, socket.socket(socket.AF_UNIX) as server:
            server.connect(self._server)
            other = {client: server, server: client}
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    sent = ready.recv(65536)
                    if not sent:
                        return
                    if ready is client and self._is_awaited(sent):
                        if self._reaches_server:
                            server.sendall(sent)
                            server.recv(65536)  # the answer, which nobody gets
                        self.broken += 1
                        return
                    other[ready].sendall(sent)


@pytest.fixture
def way(postgresql):
    with TemporaryDirectory(prefix="way-") as folder:
        way = Way(postgresql.folder, Path(folder))
        way.folder = folder
        yield way
        way.close()


@pytest.fixture
def url(way, postgresql):
    """A database at the end of the way."""
    with postgresql.database("migrated") as name:
        yield f"postgresql://postgres@/{name}?host={way.folder}"


@pytest.fixture
def store(url):
    store = Store(url)
    yield store
    store.close()


@pytest.fixture
def recorder(url):
    recorder = Recorder(Settings(store_url=url), clock=lambda: NOW, background=False)
    yield recorder
    recorder.close()


def counted(store):
    with store.reading() as connection:
        return counters.summed(connection, since=0, until=2**40).calls


INSERT = f"INSERT INTO {table_name('postgresql', 'total')}"


@pytest.mark.parametrize(("statement", "reaches_server"), [("COMMIT", True), ("COMMIT", False), (INSERT, False)])
def test_a_recorder_counts_once_whatever_became_of_its_commit(way, recorder, store, statement, reaches_server):
    for number in range(3):
        for _ in range(10):
            recorder.put(decision(NOW))
        way.break_at(statement.encode(), reaches_server=reaches_server)
        recorder.drain(NOW + number)
        assert way.broken == number + 1
        assert counted(store) == (number + 1) * 10
    recorder.close()
    assert counted(store) == 30
    assert recorder.dropped == 0


def test_a_flush_by_http_counts_once_although_its_number_is_noted_already(way, url, store, tmp_path):
    direct = DirectStore(url, patience_s=1.0, folder=tmp_path)
    beat = Heartbeat(process="p", kind="router", started_at=NOW, seen_at=NOW, base_threshold=0.8)
    identity = senders.join(direct, beat, process="a" * 32, secret="s")
    buffer = CounterBuffer(capacity=100)
    for number in (1, 2):
        buffer.add(decision(NOW), Name("support"), at=int(NOW))
        batch = buffer.next_batch(100)
        buckets, totals = buffer.rows(batch, identity.process)
        mine = replace(beat, process=identity.process)
        flush = senders.Flush(identity=identity, number=number, buckets=buckets, totals=totals, beat=mine)
        way.break_at(b"COMMIT", reaches_server=True)
        assert senders.apply_flush(direct, flush) == []
        buffer.saved(batch)
        assert (way.broken, counted(store)) == (number, number)
        with pytest.raises(senders.StaleFlushError):
            senders.apply_flush(direct, flush)
    direct.close()


@pytest.fixture
def town(store, url):
    town = Town(store, Settings(store_url=url), town_rules(), Inbox())
    yield town
    town.guard.close()
    town.recorder.close()


def raises(town):
    with town.store.reading() as connection:
        return [each["act"] for each in policies.history(connection)]


@pytest.mark.parametrize("reaches_server", [True, False])
def test_a_guard_that_does_not_know_what_became_of_a_raise_raises_and_tells_once(way, town, reaches_server):
    brew(town)
    way.break_at(b"INSERT INTO cheapdeep.policy_change", b"COMMIT", reaches_server=reaches_server)
    with pytest.raises(StoreError):
        town.guard.step(town.clock())
    assert way.broken == 1
    assert raises(town) == ["raise"] * reaches_server
    for _ in range(3):
        town.clock.advance(5)
        assert town.guard.step(town.clock())
        town.guard.deliver(town.clock())
    assert raises(town) == ["raise"]
    assert town.inbox.kinds == ["started"]
    assert town.threshold() == 0.9
    with town.store.reading() as connection:
        assert len([each for each in incidents.alerts(connection) if each["state"] == "firing"]) == 1


def end_session(server, name, process):
    server.execute(f"SELECT pg_terminate_backend({process}, 10000)", database=name)


def restart(server, _name, _process):
    with server.stopped():
        pass


@pytest.mark.parametrize("end", [end_session, restart])
def test_a_recorder_whose_transaction_is_ended_between_two_statements_counts_once(recorder, store, postgresql, end):
    recorder.put(decision(NOW))
    recorder.drain(NOW)
    direct, ended = recorder._destination._opened, []
    link = direct._link
    run = link.exec_driver_sql

    def ending(statement, parameters):
        cursor = run(statement, parameters)
        if not ended:
            ended.append(statement)
            end(postgresql, direct.address.database, link.connection.info.backend_pid)
        return cursor

    link.exec_driver_sql = ending
    recorder.put(decision(NOW))
    recorder.drain(NOW)
    assert (len(ended), direct._link is link) == (1, False)
    store.close()
    assert counted(store) == 2


@pytest.mark.parametrize("end", [end_session, restart])
def test_a_guard_whose_transaction_is_ended_between_two_statements_has_done_nothing(town, postgresql, end):
    brew(town)
    ended = []

    def note(connection, _cursor, statement, *_):
        if "INTO cheapdeep.policy_change" in statement and not ended:
            ended.append(statement)
            end(postgresql, town.store.url.database, connection.connection.driver_connection.info.backend_pid)

    event.listen(town.store.engine, "after_cursor_execute", note)
    with pytest.raises(StoreError):
        town.guard.step(town.clock())
    assert len(ended) == 1
    assert raises(town) == []
    town.clock.advance(5)
    assert town.guard.step(town.clock())
    town.guard.deliver(town.clock())
    assert (raises(town), town.inbox.kinds, town.threshold()) == (["raise"], ["started"], 0.9)


def test_a_person_is_told_that_a_pin_may_not_be_stored_and_may_repeat_it(way, town):
    town.recorder.drain(town.clock())
    given = {"threshold": 0.7, "route": "*", "author": "ann", "why": "a test"}
    way.break_at(b"INSERT INTO cheapdeep.policy_change", b"COMMIT", reaches_server=True)
    with pytest.raises(StoreError):
        town.do(pin, **given)
    assert town.threshold() == 0.7
    town.do(pin, **given)
    # The log has what was done, and it was done twice.
    assert (raises(town), town.threshold()) == (["pin", "pin"], 0.7)
