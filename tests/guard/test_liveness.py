"""Whether a guard evaluates: its heartbeat does not count, and all that people look at say so alike."""

from io import StringIO

import pytest
from rich.console import Console

from cheapdeep_ops.cli.commands import doctor
from cheapdeep_ops.cli.render.status import SCREEN_LINES, screen
from cheapdeep_ops.guard.reports.liveness import is_stale, stale_after_s
from cheapdeep_ops.guard.reports.status import status
from cheapdeep_ops.store import processes
from cheapdeep_ops.store.direct import DirectStore
from cheapdeep_ops.store.senders import read_fleet

CALM = [0.95] * 9 + [0.5]


def shown(town):
    out = Console(width=100, file=StringIO(), highlight=False)
    out.print(screen(status(town.store, town.settings, town.clock()), lines=SCREEN_LINES))
    return out.file.getvalue()


def fails(*_args, **_options):
    raise RuntimeError("an evaluation that fails")


@pytest.mark.thorough
def test_evaluations_that_fail_are_shown_as_stale_although_heartbeats_go_on(town, tmp_path, monkeypatch):
    town.run(30, CALM)
    waiting = town.another_guard()
    monkeypatch.setattr("cheapdeep_ops.guard.guard.store_group", fails)
    monkeypatch.setattr("cheapdeep_ops.guard.guard.processes.mark_evaluated", fails)
    last = town.clock()
    for _ in range(int(stale_after_s(town.settings.evaluate_every_s) / 2)):
        assert shown(town).startswith("All well")
        town.clock.advance(2)
        town.guard.keep_leases(town.clock())
        waiting.keep_leases(town.clock())
        with pytest.raises(RuntimeError):
            town.guard.step(town.clock())
        town.store.transact(lambda connection: processes.beat(connection, town.guard._heartbeat(town.clock())))
    town.clock.advance(1)
    watchers = status(town.store, town.settings, town.clock())["watchers"]
    assert (watchers["guards"], watchers["guard_last_seen"]) == (2, town.clock() - 1)
    assert (watchers["evaluates"], watchers["evaluated_at"]) == (False, last)
    assert shown(town).startswith("A guard runs but has not evaluated for 21 s: see the log of cheapdeep-ops serve")
    monkeypatch.setattr(doctor, "_watchers", lambda _settings: watchers)
    with pytest.raises(doctor._Problem, match="a guard runs but does not evaluate"):
        doctor._guard(town.settings)
    store = DirectStore(town.settings.store_url, patience_s=30.0, folder=tmp_path)
    assert read_fleet(store).evaluated_at == last, "routers that send over HTTP learn it too"
    store.close()
    monkeypatch.undo()
    town.guard.step(town.clock())
    assert shown(town).startswith("All well")


@pytest.mark.thorough
def test_changes_that_come_in_between_leave_the_evaluation_undone(town, monkeypatch):
    town.run(30, CALM)
    last = town.clock()
    monkeypatch.setattr("cheapdeep_ops.guard.guard.revisions.advance_from", lambda *_: False)
    town.run(60, [0.95] * 2 + [0.5] * 8)
    with town.store.reading() as connection:
        assert processes.evaluated_at(connection) == last
        assert processes.last_seen(connection, "guard") == town.clock()


def test_the_limit_is_three_intervals_and_five_seconds():
    assert [is_stale(100.0, now, evaluate_every_s=5.0) for now in (100.0, 120.0, 120.5)] == [False, False, True]
    assert is_stale(None, 100.0, evaluate_every_s=5.0)
