"""A recorder whose store is away at its close, is made anew, or hangs."""

import json
import logging
import stat
import time
from pathlib import Path

import pytest

from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.recorder import Recorder
from cheapdeep_ops.recorder.counter_writer import CounterWriter
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.rollups import seal_for_good
from cheapdeep_ops.testing import FrozenClock
from cheapdeep_ops.values import Exchange, Hop, Outcome, TextTurn, Tier, Verdict
from tests.stores import migrated
from tests.test_recorder import NOW, calls, decision, locked

EXCHANGE = Exchange(turns=(TextTurn(role="user", text="Mail me at ann@example.com"),), answer="Within 30 days.")


def answered(call_id):
    tier = Tier(model="claude-haiku-4-5", index=0, is_deep=False)
    verdict = Verdict(confidence=0.9, answer="yes")
    hop = Hop(tier=tier, usage=None, cost_usd=None, verdict=verdict, outcome=Outcome.SHIP, base_outcome=Outcome.SHIP)
    return decision(call_id=call_id, hops=(hop,), error="")


@pytest.fixture
def clock():
    return FrozenClock(NOW)


@pytest.fixture
def folder(tmp_path):
    """The store's folder, which is not there yet."""
    return tmp_path / "later"


@pytest.fixture
def settings(folder, tmp_path):
    return Settings(store_url=f"sqlite:///{folder}/store.db", sample_rate=1.0, spool_dir=tmp_path / "spool")


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """Closing waits for no store: that it ends in time is shown by the bench of outages."""
    monkeypatch.setattr("cheapdeep_ops.recorder.recorder._CLOSE_S", 0.3)


def recorded(settings, clock, count=3):
    """A recorder that has put calls while its store was away, and is closed."""
    recorder = Recorder(settings, clock=clock, background=False)
    for number in range(count):
        recorder.put(answered(f"call-{number}"), lambda: EXCHANGE)
    with pytest.raises(StoreError):
        recorder.drain(clock())
    recorder.close()
    return recorder.process


def spooled(settings):
    return sorted(settings.spool_dir.glob("*")) if settings.spool_dir.exists() else []


def stored_candidates(settings):
    store = Store(settings.store_url)
    with store.reading() as connection:
        rows = connection.exec_driver_sql("SELECT call_id FROM candidate").all()
    store.close()
    return len(rows)


def test_closing_says_how_much_the_store_did_not_take(settings, clock, caplog):
    recorded(settings.model_copy(update={"spool_dir": None}), clock)
    assert "did not take 3 calls and 3 answers for grading: they are lost" in caplog.text
    assert spooled(settings) == []


def test_what_the_store_did_not_take_is_stored_by_the_next_process(settings, folder, clock, caplog):
    process = recorded(settings, clock)
    (path,) = spooled(settings)
    assert process in path.name
    assert "answers lost: 0" in caplog.text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "ann@example.com" not in path.read_text()
    folder.mkdir()
    following = Recorder(settings, clock=clock, background=False)
    following.drain(clock())
    assert (calls(settings), stored_candidates(settings), spooled(settings)) == (3, 3, [])
    following.close()
    assert calls(settings) == 3


def test_a_spooled_file_that_is_stored_twice_counts_once(settings, folder, clock):
    recorded(settings, clock)
    (path,) = spooled(settings)
    left = path.read_bytes()
    folder.mkdir()
    for _ in range(2):
        path.write_bytes(left)
        recorder = Recorder(settings, clock=clock, background=False)
        recorder.drain(clock())
        recorder.close()
    assert calls(settings) == 3


def test_another_stores_file_and_an_unreadable_one_stay(settings, folder, clock, tmp_path):
    recorded(settings, clock)
    other = settings.model_copy(update={"store_url": f"sqlite:///{tmp_path}/other.db"})
    recorder = Recorder(other, clock=clock, background=False)
    recorder.drain(clock())
    recorder.close()
    (path,) = spooled(settings)
    path.write_text(json.dumps({"format": 99}))
    folder.mkdir()
    recorder = Recorder(settings, clock=clock, background=False)
    recorder.drain(clock())
    recorder.close()
    assert [each.suffix for each in spooled(settings)] == [".unreadable"]
    assert calls(settings) == 0


def test_a_spool_without_room_keeps_counters_before_answers_and_says_what_is_lost(
    settings, folder, clock, caplog, monkeypatch
):
    recorded(settings, clock)
    (path,) = spooled(settings)
    monkeypatch.setattr("cheapdeep_ops.recorder.spool._MOST_BYTES", path.stat().st_size - 1)
    path.unlink()
    recorded(settings, clock)
    assert "answers lost: 3" in caplog.text
    monkeypatch.setattr("cheapdeep_ops.recorder.spool._MOST_BYTES", 100)
    recorded(settings, clock)
    assert "lost, because the spool is full" in caplog.text
    assert len(spooled(settings)) == 1


def test_a_folder_that_cannot_be_written_to_fails_no_close(settings, clock, caplog, tmp_path):
    (tmp_path / "spool").write_text("a file")
    recorded(settings, clock)
    assert "lost, because the spool failed" in caplog.text


@pytest.fixture
def here(tmp_path):
    """Settings whose store can be used."""
    return Settings(store_url=f"sqlite:///{tmp_path}/store.db", flush_every_s=0.05, sample_rate=0)


def test_a_store_that_was_deleted_gets_the_totals_since_the_process_began(here, clock):
    path = Path(here.store_url.removeprefix("sqlite:///"))
    recorder = Recorder(here, clock=clock, background=False)
    recorder.refresh(clock())
    for route in ("early", "late"):
        recorder.put(decision(clock(), route=route))
        recorder.drain(clock())
        clock.advance(30)
    recorder.drain(clock())
    for each in path.parent.glob("store.db*"):
        each.unlink()
    recorder._destination._look_at = 0.0
    recorder.refresh(clock())
    recorder.drain(clock())
    store = Store(here.store_url)
    with store.reading() as connection:
        totals = dict(connection.exec_driver_sql("SELECT route, calls FROM total").all())
    store.close()
    recorder.close()
    assert totals == {"early": 1, "late": 1}


def test_a_clock_that_is_set_back_while_the_store_is_away_loses_nothing(settings, folder, clock):
    folder.mkdir()
    recorder = Recorder(settings, clock=clock, background=False)
    recorder.put(decision(clock()))
    recorder.drain(clock() + 60)
    with locked(settings):
        for number in range(30):
            recorder.put(decision(clock() - 3_600 + number))
            recorder.fold(clock() - 3_600 + number)
    recorder.drain(clock())
    recorder.close()
    assert calls(settings) == 31


def test_a_router_that_is_closed_does_not_wait_for_a_store_that_is_away(settings, caplog):
    recorder = Recorder(settings)
    recorder.put(decision(time.time()))
    recorder.flush()
    assert caplog.text.count("a router was closed while the store did not take its counters") == 1
    recorder.close()


def test_many_calls_of_a_long_outage_wait_in_few_rows(settings, folder, clock, caplog):
    recorder = Recorder(settings.model_copy(update={"sample_rate": 0.0}), clock=clock, background=False)
    for _ in range(200):
        recorder.put(decision(clock()))
        with pytest.raises(StoreError):
            recorder.drain(clock())
        clock.advance(1)
    writer: CounterWriter = recorder._writer
    assert len(writer.buffer._buckets) < 75
    folder.mkdir()
    recorder.drain(clock())
    assert calls(settings) == 200
    recorder.close()


@pytest.mark.thorough
def test_a_server_that_hangs_is_left_and_gets_all_counts_when_it_answers(postgresql, postgresql_url, clock, caplog):
    recorder = Recorder(Settings(store_url=postgresql_url, sample_rate=0), clock=clock, background=False)
    recorder.put(decision())
    recorder.drain(clock())
    with postgresql.hung():
        for use in (recorder.refresh, recorder.drain, recorder.drain):
            recorder.put(decision())
            with pytest.raises(StoreError, match="does not answer"):
                use(clock())
    recorder.drain(clock())
    recorder.close()
    assert calls(recorder._settings) == 4


@pytest.mark.thorough
def test_a_schema_that_was_made_anew_gets_every_total(postgresql, postgresql_url, clock):
    settings = Settings(store_url=postgresql_url, sample_rate=0)
    database = postgresql_url.partition("?")[0].rpartition("/")[2]
    recorder = Recorder(settings, clock=clock, background=False)
    recorder.put(decision(route="early"))
    recorder.drain(clock())
    recorder.refresh(clock())
    recorder.drain(clock() + 60)
    postgresql.execute("DROP SCHEMA cheapdeep CASCADE", database=database)
    store = migrated(postgresql_url)
    recorder.refresh(clock() + 61)
    recorder.drain(clock() + 61)
    with store.reading() as connection:
        assert connection.exec_driver_sql("SELECT sum(calls) FROM cheapdeep.total").scalar() == 1
    store.close()
    recorder.close()


@pytest.mark.thorough
def test_an_interrupted_write_is_said_in_one_line(postgresql, postgresql_url, caplog):
    settings = Settings(store_url=postgresql_url, sample_rate=0, flush_every_s=0.05)
    recorder = Recorder(settings)
    with caplog.at_level(logging.INFO), postgresql.hung():
        recorder.put(decision(time.time()))
        deadline = time.monotonic() + 120
        while "does not answer" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.05)
    recorder.close()
    assert caplog.text.count("does not answer") == 1
    assert "Traceback" not in caplog.text


def test_a_spool_that_is_taken_over_after_days_loses_no_call(settings, folder, clock):
    folder.mkdir()
    recorder = Recorder(settings, clock=clock, background=False)
    recorder.put(decision())
    recorder.drain(clock())
    process, seen_at = recorder.process, clock()
    with locked(settings), pytest.raises(StoreError):
        recorder.drain(clock.advance(60))
    clock.advance(60)
    recorder.put(decision(started_at=clock()))
    recorder.fold(clock())
    recorder._give_up()
    store = Store(settings.store_url)
    seal_for_good(store, {process: seen_at})
    store.close()
    clock.advance(3 * 86_400)
    later = Recorder(settings, clock=clock, background=False)
    later.drain(clock())
    later.close()
    assert calls(settings) == 2
