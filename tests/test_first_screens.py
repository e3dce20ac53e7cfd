"""What people see first: the five figures of a report, the screen of `status`, and the view of `watch`."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from io import StringIO
from types import SimpleNamespace

import pytest
from rich.console import Console

from cheapdeep_ops.cli.commands import watch
from cheapdeep_ops.cli.render.courses import course
from cheapdeep_ops.cli.render.status import SCREEN_LINES, screen
from cheapdeep_ops.cli.render.watching import Watched, drawn
from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.guard.notify.receipt_figures import incident_lines, key_figures, saving_line
from cheapdeep_ops.guard.reports.receipt import receipt
from cheapdeep_ops.guard.reports.status import status
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import incidents
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate
from tests.test_all_deep import DOUBTFUL, NOW, cheap, counted, decided, deep

HOUR_S = 3_600
SHIPPED = decided(cheap(100))
ESCALATED = decided(DOUBTFUL, deep(90), cost_usd=0.011)


@pytest.fixture
def store(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/store.db")
    migrate(store)
    yield store
    store.close()


def report(store, since=NOW - HOUR_S):
    return receipt(store, Settings(), since=since, until=NOW)


def figures(found):
    return {each.name: each for each in key_figures(found)}


def test_five_figures_are_compared_with_the_period_before_and_chance_is_said(store):
    counted(store, NOW - 9 * HOUR_S, [SHIPPED])
    counted(store, NOW - 1.5 * HOUR_S, [SHIPPED] * 900 + [ESCALATED] * 100)
    counted(store, NOW - 0.5 * HOUR_S, [SHIPPED] * 850 + [ESCALATED] * 350)
    found = report(store)
    before = found["before"]
    assert (before["since"], before["until"], before["calls"]) == (NOW - 2 * HOUR_S, NOW - HOUR_S, 1_000)
    assert before["counted_since"] is None
    assert before["saved_usd"] == pytest.approx(1_000 * 0.005 - 900 * 0.001 - 100 * 0.011)
    assert found["saved_usd"] == pytest.approx(1_200 * 0.005 - 850 * 0.001 - 350 * 0.011)
    low, high = before["escalation_change"]
    assert 0 < low < 350 / 1_200 - 0.1 < high
    shown = figures(found)
    assert list(shown) == ["saving", "calls", "cost of a call", "escalation", "false-confident rate"]
    assert (shown["saving"].value, shown["saving"].change, shown["saving"].tone) == ("$1.30", "-$1.70", "worse")
    assert (shown["calls"].change, shown["calls"].before) == ("+20.0%", "1,000")
    assert (shown["cost of a call"].change, shown["cost of a call"].tone) == ("+95.8%", "worse")
    assert (shown["escalation"].change, shown["escalation"].tone) == ("+19.2 points", "worse")
    assert shown["false-confident rate"].beside == "no shipped answer was graded"
    assert saving_line(found) == "Saved $1.30 of $6.00 (21.7%), estimated from the length of the cheap answers"


def test_a_change_within_chance_is_neither_good_nor_bad(store):
    counted(store, NOW - 9 * HOUR_S, [SHIPPED])
    counted(store, NOW - 1.5 * HOUR_S, [SHIPPED] * 18 + [ESCALATED] * 2)
    counted(store, NOW - 0.5 * HOUR_S, [SHIPPED] * 17 + [ESCALATED] * 3)
    escalation = figures(report(store))["escalation"]
    assert (escalation.change, escalation.tone) == ("+5.0 points, may be chance", "")


def test_totals_are_not_compared_with_a_period_that_the_store_has_in_part(store):
    assert report(store)["before"] is None
    counted(store, NOW - 1.5 * HOUR_S, [SHIPPED] * 100)
    counted(store, NOW - 0.5 * HOUR_S, [SHIPPED] * 200)
    found = report(store)
    assert found["before"]["counted_since"] == NOW - 1.5 * HOUR_S
    shown = figures(found)
    assert (shown["calls"].change, shown["saving"].change) == ("", "")
    assert re.fullmatch(r"100, counted from \d+ Oct \d\d:\d\d UTC on", shown["calls"].before)
    assert shown["cost of a call"].change == "no change"


@pytest.mark.parametrize(
    ("calls", "says"),
    [
        ([], "No calls were counted"),
        ([ESCALATED] * 4, "Routing cost $0.024 more than the $0.02 of the deep tier alone, estimated from"),
        ([decided(cheap(9), cost_usd=None)] * 3 + [SHIPPED], "The saving is unknown: 1 of 4 calls have a price"),
        (
            [decided(cheap(9), deep(9), is_shadow=True)] * 4,
            "Shadow mode: the saving is unknown, because too few of 4 tried calls have a price",
        ),
    ],
)
def test_the_first_line_says_so_where_nothing_was_saved(store, calls, says):
    if calls:
        counted(store, NOW - 60, calls)
    assert saving_line(report(store)).startswith(says)


def test_incidents_that_were_open_in_the_period_are_listed_open_ones_first(store):
    def work(connection):
        for number, (began, ended) in enumerate(((-9, -2), (-3, None), (-2, -0.5), (1, None))):
            made = incidents.open_incident(connection, rule="Rule", scope=f"r{number}", at=NOW + began * HOUR_S)
            if ended is not None:
                incidents.resolve_incident(connection, made, at=NOW + ended * HOUR_S)

    store.transact(work)
    lines = incident_lines(report(store), 5)
    assert [line[:16] for line in lines] == ["#2 Rule, route r", "#3 Rule, route r"]
    assert lines[0].endswith("(3 h), not acknowledged")
    assert lines[1].endswith(" UTC, lasted 1.5 h")
    assert incident_lines(report(store), 1)[1] == "and 1 more: cheapdeep-ops incidents"


def test_a_course_has_a_block_for_each_value_and_a_gap_where_none_is_known():
    assert course([0.0, None, 0.5, 1.0]) == "▁ ▅█"
    assert course([1.0] * 100, 10) == "█" * 10
    assert course([None, None]) == "  "


def alert(rule, scope, **facts):
    signal = {"rate": 0.2, "low": 0.1, "high": 0.3, "n": 100, "limit": 0.35, "actual_rate": 0.2}
    return {
        "rule": rule, "scope": scope, "state": "inactive", "level": "below", "since": NOW - 90, "incident_id": None,
        "signal": signal, "updated_at": NOW, **facts,
    }  # fmt: skip


@pytest.fixture
def state(store):
    """A fleet of 200 routes, seven of which have an open incident."""
    found = status(store, Settings(), NOW)
    calm = [alert("EscalationStorm", f"route-{number}") for number in range(193)]
    firing = [
        alert("EscalationStorm", f"a-route-with-a-rather-long-name-{n}", state="firing", incident_id=n)
        for n in range(1, 8)
    ]
    watchers = {**found["watchers"], "guards": 1, "guard_last_seen": NOW - 3, "evaluated_at": NOW - 3}
    watchers["evaluates"] = True
    return {**found, "alerts": [*calm, *firing], "watchers": watchers}


def lines_of(part, width=80):
    out = Console(width=width, file=StringIO(), highlight=False)
    out.print(part)
    return [line.rstrip() for line in out.file.getvalue().splitlines()]


def test_the_status_of_many_routes_fits_a_small_terminal_with_alerts_first(state):
    lines = lines_of(screen(state, lines=SCREEN_LINES))
    assert len(lines) < SCREEN_LINES
    assert max(map(len, lines)) <= 80
    assert lines[0] == "7 alerts fire"
    assert lines[1].startswith("#1 EscalationStorm, route a-route-with-a-rather-lo, 1.5 min: 20.0% escalate, ")
    assert lines[5:8] == [
        "and 3 more: cheapdeep-ops incidents",
        "look: cheapdeep-ops incidents show 1",
        "act:  cheapdeep-ops alert ack 1 --why TEXT",
    ]
    assert lines[-1].endswith("more routes: cheapdeep-ops status --all")
    assert [line for line in lines if line.startswith("threshold ")] == ["threshold  0.8 (base 0.8, raised 0.9)"]


@pytest.mark.parametrize(
    ("guards", "last", "says"),
    [
        (0, None, "No guard runs on this store: run"),
        (0, NOW - 300, "No guard runs on this store (last evaluation 5 min ago): run"),
        (1, None, "A guard runs but has not evaluated yet: see"),
        (2, NOW - 300, "A guard runs but has not evaluated for 5 min: see the log of cheapdeep-ops serve"),
    ],
)
def test_a_guard_that_does_not_evaluate_comes_before_all_else(state, guards, last, says):
    watchers = {**state["watchers"], "guards": guards, "evaluated_at": last, "evaluates": False}
    assert lines_of(screen({**state, "watchers": watchers}, lines=SCREEN_LINES))[0].startswith(says)


def test_a_reading_that_fails_in_any_way_is_said_and_tried_again(monkeypatch):
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        if len(waits) == 2:
            raise KeyboardInterrupt

    def connected(_settings):
        raise ValueError("an answer that is no JSON")

    monkeypatch.setattr(watch, "time", SimpleNamespace(time=lambda: NOW, sleep=sleep))
    monkeypatch.setattr(watch.guard_client, "connected", connected)
    watched = Watched(every_s=2.0)
    with pytest.raises(KeyboardInterrupt):
        watch._follow(Settings(), watched)
    assert (watched.error, waits) == ("an answer that is no JSON", [2.0, 2.0])


def test_the_view_says_how_old_its_figures_are_and_why(state):
    watched = Watched(every_s=2.0)
    assert lines_of(drawn(watched, lines=24, now=NOW)) == ["cheapdeep-ops status  reading ..."]
    watched.keep(state, NOW)
    watched.fail(StoreError("the store is \x1b[31maway"), NOW + 5)
    watched.fail(StoreError("the store is away"), NOW + 7)
    title, problem, verdict, *_ = lines = lines_of(drawn(watched, lines=24, now=NOW + 9))
    assert "read 9 s ago" in title
    assert re.match(r"No reading since 08:53:25 UTC: the store is away", problem)
    assert verdict == "7 alerts fire"
    assert len(lines) < 24
    watched.keep(state, NOW + 11)
    assert lines_of(drawn(watched, lines=24, now=NOW + 11))[1] == "7 alerts fire"


class Terminal:
    """A command in a terminal of 80 by 24 characters."""

    def __init__(self, *arguments, **environment):
        self.seen = ""
        ours, theirs = pty.openpty()
        own = {"TERM": "xterm", "COLUMNS": "80", "LINES": "24", **environment}
        # A shell may have started the tests with Ctrl-C ignored, which children inherit.
        start = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
        start += "; from cheapdeep_ops.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", start, *arguments]
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, **own}, start_new_session=True
        )
        os.close(theirs)
        self._ours = ours

    def until(self, text, seconds=120):
        """Read until the terminal has shown `text`."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < end, self.seen[-2_000:]
            if select.select([self._ours], [], [], 1)[0]:
                self.seen += os.read(self._ours, 65_536).decode(errors="replace")

    def close(self):
        self.process.kill()
        self.process.wait(10)
        os.close(self._ours)


@pytest.mark.thorough
def test_watch_waits_for_a_store_shows_it_says_when_it_is_gone_and_ends_on_ctrl_c(tmp_path):
    file = tmp_path / "store.db"
    terminal = Terminal("watch", "--every", "0.5", CHEAPDEEP_STORE_URL=f"sqlite:///{file}")
    try:
        terminal.until("there is no store")
        made = Store(f"sqlite:///{file}")
        migrate(made)
        made.close()
        terminal.until("No guard runs on this store")
        terminal.seen = ""
        for each in tmp_path.iterdir():
            each.unlink()
        terminal.until("No reading since")
        terminal.process.send_signal(signal.SIGINT)
        terminal.until("\x1b[?1049l")  # the terminal has its own screen again
        assert terminal.process.wait(60) == 0
        assert "\x1b[?25h" in terminal.seen, "the cursor is shown again"
        assert "Traceback" not in terminal.seen
    finally:
        terminal.close()


@pytest.mark.thorough
def test_watch_gives_the_terminal_back_on_sigterm(store, store_url):
    terminal = Terminal("watch", "--every", "0.5", CHEAPDEEP_STORE_URL=store_url)
    try:
        terminal.until("No guard runs on this store")
        terminal.process.terminate()
        terminal.until("\x1b[?1049l")
        assert terminal.process.wait(60) == -signal.SIGTERM
        terminal.until("\x1b[?25h")
        assert "Traceback" not in terminal.seen
    finally:
        terminal.close()


@pytest.mark.thorough
@pytest.mark.parametrize(
    "command",
    ["status", "status --json", "report", "report --markdown", "report --json", "incidents", "watch", "threshold show"],
)
def test_a_pipe_that_its_reader_has_left_ends_a_command_without_a_traceback(command, store, store_url):
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "cheapdeep_ops", *command.split()], stdout=theirs, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "CHEAPDEEP_STORE_URL": store_url}, timeout=300, check=False,
        )  # fmt: skip
    finally:
        os.close(theirs)
    assert (done.returncode, done.stderr) == (1, "")
