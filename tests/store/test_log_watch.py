"""A router on a SQLite file reads only after a write, and every two seconds."""

import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from cheapdeep_ops.policy import PolicyAct, blank_book
from cheapdeep_ops.recorder import Recorder, store_destination
from cheapdeep_ops.recorder.store_destination import StoreDestination
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import direct, log_watch, policies
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.log_watch import LogWatch
from cheapdeep_ops.store.policies import PolicyEdit
from cheapdeep_ops.store.schema import migrate

NOW = 1_800_000_000.0


@pytest.fixture
def file(tmp_path):
    """A file in use, whose other connections write through this one."""
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (x)")
        yield connection


@pytest.fixture
def watch(file, tmp_path):
    watch = LogWatch(str(tmp_path / "store.db"))
    yield watch
    watch.close()


def test_a_file_is_unchanged_once_nothing_was_written_for_half_a_second(file, watch):
    assert [watch.is_unchanged(now) for now in (0.0, 0.3, 0.6, 0.9)] == [False, False, True, True]
    file.execute("INSERT INTO t VALUES (1)")
    assert [watch.is_unchanged(now) for now in (1.2, 1.5, 1.8)] == [False, False, True]
    # A write over the beginning of the log, whose size stays.
    file.execute("PRAGMA wal_checkpoint(RESTART)")
    watch.is_unchanged(2.0)
    assert watch.is_unchanged(3.0)
    file.execute("INSERT INTO t VALUES (2)")
    assert not watch.is_unchanged(3.1)


def test_watching_a_file_releases_none_of_its_locks(file, watch, tmp_path):
    file.execute("BEGIN IMMEDIATE")
    watch.is_unchanged(0.0)
    watch.close()
    # Another process, because the locks are this process's.
    write = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
    command = [sys.executable, "-S", "-c", write, tmp_path / "store.db"]
    assert "database is locked" in subprocess.run(command, capture_output=True, text=True, check=False).stderr


@pytest.mark.parametrize("path", ["", ":memory:", "/nowhere/store.db"])
def test_what_has_no_log_cannot_be_seen(path):
    watch = LogWatch(path)
    assert not any(watch.is_unchanged(now) for now in (0.0, 9.0, 99.0))
    watch.close()


@pytest.fixture
def store(sqlite_url):
    store = Store(sqlite_url)
    migrate(store)
    yield store
    store.close()


@pytest.fixture
def later(monkeypatch):
    """Lets some seconds pass on the monotonic clock of reading, which stands still else."""
    now = [100.0]
    for module in (store_destination, direct):
        monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def pass_by(seconds):
        now[0] += seconds

    return pass_by


@pytest.fixture
def asked(monkeypatch):
    """The statements that were sent to find news."""
    sent, poll = [], direct.DirectStore.poll
    monkeypatch.setattr(
        direct.DirectStore, "poll", lambda store, statement: (sent.append(statement), poll(store, statement))[1]
    )
    return sent


def destination_at(url, folder):
    return StoreDestination(url, folder=folder, max_routes=200, max_classes=50, steady=time.monotonic)


def raise_on(store, route):
    edit = PolicyEdit(scope=route, act=PolicyAct.RAISE, cause="EscalationStorm")
    store.transact(lambda connection: policies.apply(connection, blank_book(), edit, at=NOW))


def test_a_router_at_rest_reads_every_two_seconds_and_after_each_write(store, sqlite_url, tmp_path, later, asked):
    destination = destination_at(sqlite_url, tmp_path)
    for _ in range(4):
        destination.read()
        later(0.3)
    asked.clear()
    for _ in range(21):
        destination.read()
        later(0.3)
    assert 3 <= len(asked) <= 4
    raise_on(store, "a")
    assert [policy.scope for policy in destination.read().policies] == ["a"]
    destination.close()


def test_a_read_that_fails_is_not_taken_for_one(store, sqlite_url, tmp_path, later, monkeypatch):
    destination = destination_at(sqlite_url, tmp_path)
    for _ in range(4):
        destination.read()
        later(0.3)
    raise_on(store, "a")
    with monkeypatch.context() as broken:
        broken.setattr(direct.DirectStore, "poll", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            destination.read()
    monkeypatch.setattr(log_watch.LogWatch, "is_unchanged", lambda *_: True)
    assert [policy.scope for policy in destination.read().policies] == ["a"]
    destination.close()


def test_a_caller_that_refreshes_itself_always_reads(store, sqlite_url, later, asked, monkeypatch):
    monkeypatch.setattr(log_watch.LogWatch, "is_unchanged", lambda *_: True)
    recorder = Recorder(Settings(store_url=sqlite_url), clock=lambda: NOW, background=False)
    for _ in range(5):
        recorder.refresh(NOW)
    assert len(asked) == 5
    recorder.close()


class Ticks:
    """A wake that lets its time pass at once, and counts the looks."""

    def __init__(self, later):
        self._later, self.slept, self.is_set = later, [], False

    def wait(self, seconds, *, beside=None):
        assert beside is None
        self.slept.append(seconds)
        self._later(seconds)
        return self.is_set


def test_a_process_at_rest_looks_three_times_a_second_and_comes_back_for_a_write_a_call_or_the_next_read(
    store, sqlite_url, tmp_path, later
):
    destination, wake = destination_at(sqlite_url, tmp_path), Ticks(later)
    assert destination.await_news(wake, 1.0), "it has read nothing yet"
    destination.read()
    while destination.await_news(wake, 0.3):
        destination.read()
    wake.slept.clear()
    assert not destination.await_news(wake, 1.0)
    assert 3 <= len(wake.slept) <= 4
    assert sum(wake.slept) == pytest.approx(1)
    wake.is_set = True
    assert not destination.await_news(wake, 1.0)
    assert wake.slept[-1] == pytest.approx(1 / 3)
    wake.is_set = False
    assert destination.await_news(wake, 60.0), "a read is due after two seconds"
    assert sum(wake.slept) < 3
    destination.read()
    raise_on(store, "a")
    wake.slept.clear()
    assert destination.await_news(wake, 1.0)
    assert len(wake.slept) == 1
    destination.close()
