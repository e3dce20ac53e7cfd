"""SQLite files and folders that this user may only read, or not even that."""

import json
import os
import shutil
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import mkdtemp

import pytest

from cheapdeep_ops.cli import main
from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.recorder import Recorder
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters, processes
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate, require_schema
from tests.test_recorder import decision

NOW = 1_800_000_000.0
NOBODY = 65_534
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
pytestmark = pytest.mark.skipif(not hasattr(os, "seteuid"), reason="this platform has other rights")


@contextmanager
def as_reader():
    """As a user who may read what all may read; root would be allowed everything."""
    if IS_ROOT:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if IS_ROOT:
            os.seteuid(0)


@pytest.fixture
def folder():
    """A folder that everybody may look into; pytest's own are closed to others."""
    folder = Path(mkdtemp(prefix="cheapdeep-"))
    folder.chmod(0o755)
    yield folder
    for each in (folder, *folder.rglob("*")):
        each.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def path(folder):
    """A store with one call in it, that nobody has open."""
    path = folder / "store.db"
    recorded(path)
    lock_up(path)
    return path


def recorded(path):
    recorder = Recorder(Settings(store_url=f"sqlite:///{path}"), clock=lambda: NOW, background=False)
    recorder.put(decision())
    recorder.drain(NOW)
    recorder.close()


def lock_up(path, *, file=0o444, folder=0o555):
    for each in path.parent.glob("store.db*"):
        each.chmod(file)
    path.parent.chmod(folder)


@contextmanager
def opened(path):
    store = Store(f"sqlite:///{path}")
    try:
        yield store
    finally:
        store.close()


def calls(store):
    with store.reading() as connection:
        return counters.summed(connection, since=0, until=2**40).calls


def write(store):
    store.transact(lambda connection: processes.mark_stopped(connection, "p"))


def test_what_may_only_be_read_is_read_and_nothing_is_made_beside_it(path):
    with as_reader(), opened(path) as store:
        require_schema(store)
        assert calls(store) == 1
        with store.snapshot() as connection:
            assert counters.summed(connection, since=0, until=2**40).calls == 1
    assert [each.name for each in path.parent.iterdir()] == ["store.db"]


@pytest.mark.parametrize(("of_file", "of_folder"), [(0o444, 0o555), (0o666, 0o555), (0o444, 0o777)])
def test_to_write_there_is_refused_with_the_plain_cause(path, of_file, of_folder):
    lock_up(path, file=of_file, folder=of_folder)
    with as_reader(), opened(path) as store:
        assert calls(store) == 1
        for _ in range(2):
            with pytest.raises(StoreError, match=f"this user may only read {path}, or may not make files beside it"):
                write(store)
        assert calls(store) == 1


def test_rights_that_are_given_later_count_from_the_next_use(path):
    with as_reader(), opened(path) as store:
        assert calls(store) == 1
        with pytest.raises(StoreError):
            write(store)
        with as_owner():
            lock_up(path, file=0o666, folder=0o777)
        write(store)
        assert calls(store) == 1


@contextmanager
def as_owner():
    before = os.geteuid()
    if IS_ROOT:
        os.seteuid(0)
    try:
        yield
    finally:
        os.seteuid(before)


def test_what_another_user_writes_meanwhile_is_seen(path):
    lock_up(path, file=0o644, folder=0o755)
    with opened(path) as writer:
        write(writer)
        with as_reader(), opened(path) as store:
            assert calls(store) == 1
            with as_owner():
                recorded(path)
            assert calls(store) == 2


@pytest.mark.skipif(not IS_ROOT, reason="only root has another user's files")
def test_a_log_that_is_left_without_its_index_is_not_ignored(folder):
    path = folder / "store.db"
    with opened(path) as writer:
        migrate(writer)
        write(writer)
        copy = folder / "copy"
        copy.mkdir()
        for name in ("store.db", "store.db-wal"):
            shutil.copy(folder / name, copy / name)
    lock_up(copy / "store.db")
    with as_reader(), opened(copy / "store.db") as store, pytest.raises(StoreError, match="may only read"):
        calls(store)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "is a folder, and the store is a file"),
        ("nowhere/store.db", "there is no folder .*nowhere"),
        ("new.db", "this user may not make a file in"),
        ("store.db/store.db", "there is no folder .*store.db"),
    ],
)
def test_a_path_that_cannot_be_a_store_is_told_its_plain_cause(path, name, says):
    with as_reader(), opened(path.parent / name) as store, pytest.raises(StoreError, match=says):
        require_schema(store)


def test_a_file_that_this_user_may_not_even_read_is_said_so(path):
    path.chmod(0o000)
    with as_reader(), opened(path) as store, pytest.raises(StoreError, match="may"):
        require_schema(store)


def test_a_recorder_there_knows_the_policies_and_says_why_it_cannot_count(path, caplog):
    with as_reader():
        recorder = Recorder(Settings(store_url=f"sqlite:///{path}"), clock=lambda: NOW, background=False)
        recorder.refresh(NOW)
        recorder.put(decision())
        assert recorder.book.for_route("support").threshold == 0.8
        with pytest.raises(StoreError, match="may only read"):
            recorder.drain(NOW)
        with as_owner():
            lock_up(path, file=0o666, folder=0o777)
        recorder.drain(NOW)
        recorder.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT sum(calls) FROM bucket").fetchone() == (2,)


@pytest.mark.thorough
@pytest.mark.parametrize("command", ["status", "report", "threshold show", "doctor"])
def test_commands_that_only_look_say_there_what_they_say_elsewhere(path, capsys, monkeypatch, command):
    # The first time, with all rights, loads what the command needs: a reader may not look into root's folders.
    said = []
    for rights in (as_owner, as_reader):
        monkeypatch.setenv("CHEAPDEEP_STORE_URL", f"sqlite:///{path}")
        with rights():
            status = main([*command.split(), "--json"])
        out = capsys.readouterr().out
        assert command != "doctor" or ("this user may only read" in out) == (IS_ROOT and rights is as_reader)
        said.append((status, json.loads(out).keys()))
    assert said[0] == said[1]
    assert command == "doctor" or said[0][0] == 0


def test_a_command_that_changes_something_fails_there_in_one_plain_line(path, capsys, monkeypatch):
    monkeypatch.setenv("CHEAPDEEP_STORE_URL", f"sqlite:///{path}")
    with as_reader():
        status = main(["threshold", "set", "0.9", "--why", "trial"])
    captured = capsys.readouterr()
    assert (status, captured.out) == (1, "")
    assert captured.err.count("\n") == 1
    assert f"this user may only read {path}" in captured.err
