"""A primary and its standby: what processes do when another server takes over."""

import time
from pathlib import Path

import psycopg
import pytest

from cheapdeep_ops.cli import main
from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.recorder import Recorder
from cheapdeep_ops.recorder.store_destination import StoreDestination
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters, processes
from cheapdeep_ops.store.direct import DirectStore
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate, require_schema
from cheapdeep_ops.store.senders import read_fleet
from tests.postgres import packages, running
from tests.test_recorder import decision

pytestmark = pytest.mark.thorough
NOW = 1_800_000_000.0


@pytest.fixture
def servers():
    """A primary with a store, and its standby."""
    installed = packages()
    if installed is None:
        pytest.skip("PostgreSQL's programs are not installed; the extra dev has them")
    with running(installed) as primary:
        store = Store(primary.url("postgres"))
        migrate(store)
        store.close()
        with running(installed, primary) as standby:
            yield primary, standby


def url_of(*hosts, options=""):
    return f"postgresql://postgres@/postgres?host={','.join(map(str, hosts))}{options}"


def mark(connection):
    processes.mark_stopped(connection, "p")


def test_a_connection_to_a_standby_is_given_up_when_the_address_leads_to_the_primary(servers, tmp_path):
    primary, standby = servers
    address = Path(tmp_path / "current")
    address.symlink_to(standby.folder)
    store = Store(url_of(address))
    require_schema(store)  # a standby can be read
    with pytest.raises(StoreError, match="this server is a standby"):
        store.transact(mark)
    require_schema(store)
    address.unlink()
    address.symlink_to(primary.folder)
    store.transact(mark)
    store.close()


def test_a_recorder_tells_a_lost_connection_from_another_server(servers, tmp_path):
    primary, standby = servers
    address = Path(tmp_path / "current")
    address.symlink_to(standby.folder)
    limits = {"max_routes": 1, "max_classes": 1}
    destination = StoreDestination(url_of(address), folder=tmp_path, steady=time.monotonic, **limits)

    def disconnect(server):
        with psycopg.connect(host=str(server.folder), user="postgres", dbname="postgres") as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )

    told = DirectStore(url_of(address), patience_s=1, folder=tmp_path)
    first, first_told = destination.read().store, read_fleet(told).store
    disconnect(standby)
    assert (destination.read().store, read_fleet(told).store) == (first, first_told)
    address.unlink()
    address.symlink_to(primary.folder)
    disconnect(standby)
    assert destination.read().store != first
    assert read_fleet(told).store != first_told
    destination.close()
    told.close()


@pytest.mark.parametrize(
    ("command", "status"), [("status", 0), ("report", 0), ("migrate", 0), ("doctor", 1), ("threshold release", 1)]
)
def test_commands_look_at_a_standby_and_change_nothing_there(servers, capsys, monkeypatch, command, status):
    _, standby = servers
    monkeypatch.setenv("CHEAPDEEP_STORE_URL", url_of(standby.folder))
    assert main([*command.split(), "--json"]) == status
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert not status or "this server is a standby" in captured.out + captured.err


def test_of_two_hosts_the_primary_is_used_whichever_it_is(servers):
    primary, standby = servers
    recorder = Recorder(Settings(store_url=url_of(standby.folder, primary.folder)), clock=lambda: NOW, background=False)
    recorder.put(decision())
    recorder.drain(NOW)
    primary.stop()
    recorder.put(decision())
    with pytest.raises(StoreError):
        recorder.drain(NOW)
    standby.promote()
    recorder.drain(NOW)
    recorder.close()
    store = Store(url_of(standby.folder))
    with store.reading() as connection:
        assert counters.summed(connection, since=0, until=2**40).calls == 2
    store.close()
