"""Several guards in processes of their own: killed, frozen, on hosts with other clocks, and ended while things hang."""

import contextlib
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.e2e.host import set_clock
from tests.e2e.test_processes import Database, api, caller, environment, is_ready, slack, until
from tests.patience import PATIENCE_S
from tests.ports import free_port
from tests.postgres import packages, running
from tests.raw_server import talking

__all__ = ["api", "environment", "slack"]

pytestmark = pytest.mark.thorough
# A guard promises 7.5 s; the rest is for a busy machine. What hangs here would hang for minutes.
ENDS_WITHIN_S = 30.0
# At CHEAPDEEP_EVALUATE_EVERY_S of 0.5: how long a guard must see a lease unchanged before it takes it over.
LEASE_S = 3.5
TAKEN = "another guard has taken over this work: evaluate"
HOUR_S, DAY_S = 3_600.0, 86_400.0


class GuardProcess:
    """A guard, with its log. On a host whose clock differs if `clock` is the file that says by how much."""

    def __init__(self, environment, folder, *, clock=None):
        self.environment = {**environment, "CHEAPDEEP_PORT": str(free_port())}
        command = ["-m", "cheapdeep_ops", "serve"] if clock is None else ["-m", "tests.e2e.serve_on_host", str(clock)]
        self._log = Path(folder) / f"guard-{self.environment['CHEAPDEEP_PORT']}.log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen([sys.executable, *command], env=self.environment, stderr=log, stdout=log)

    @property
    def log(self):
        return self._log.read_text()

    @property
    def pid(self):
        return self.process.pid

    def signal(self, number):
        self.process.send_signal(number)

    def ends_within(self, seconds):
        """Seconds until it has ended after SIGTERM."""
        begun = time.monotonic()
        self.signal(signal.SIGTERM)
        self.process.wait(seconds)
        return time.monotonic() - begun


@pytest.fixture
def start(environment, tmp_path):
    guards = []

    def start(*, clock=None, **changes):
        guards.append(GuardProcess({**environment, **changes}, tmp_path, clock=clock))
        return guards[-1]

    yield start
    for guard in guards:
        with contextlib.suppress(ProcessLookupError):
            guard.signal(signal.SIGCONT)
            guard.process.kill()
        guard.process.wait(PATIENCE_S)


@pytest.fixture
def database(environment, either_url):
    environment["CHEAPDEEP_STORE_URL"] = either_url
    return Database(either_url)


@pytest.fixture
def pid_of(database):
    """Which process holds a lease."""

    def pid_of(name):
        with contextlib.suppress(Exception):  # before the first guard has made the store
            found = database.rows(
                f"SELECT pid FROM lease JOIN process ON process.process = lease.holder WHERE lease.name = '{name}'"
            )
            return found[0]["pid"] if found else None

    return pid_of


class Handovers:
    """Looks at the lease to evaluate all the time: no guard takes it from one that has renewed it lately.

    A holder that gets no CPU for 3.5 s loses it, as it should. So its number alone proves nothing.
    """

    def __init__(self, database):
        self._database = database
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.too_soon = []

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def _watch(self):
        known, looked_at = None, time.monotonic()
        unchanged_since = looked_at
        while not self._ended.wait(0.05):
            begun = time.monotonic()
            (lease,) = self._database.rows("SELECT holder, number, beats FROM lease WHERE name = 'evaluate'")
            if known and lease["number"] != known["number"] and time.monotonic() - unchanged_since < LEASE_S:
                self.too_soon.append((known, lease))
            if lease != known:  # since some time after the look before
                known, unchanged_since = lease, looked_at
            looked_at = begun


def fleet(start, pid_of, size=3):
    """Guards that have shared the work; by process id."""
    guards = [start()]
    until(lambda: pid_of("evaluate"), "the first guard")
    guards += [start() for _ in range(size - 1)]
    names = ("evaluate", "deliver", "grade", "retain")
    until(lambda: len({pid_of(name) for name in names} - {None}) == min(size, 4), "all guards to have work")
    return {guard.pid: guard for guard in guards}


def test_guards_that_are_killed_one_after_another_leave_each_act_once(environment, start, database, pid_of, slack):
    guards = fleet(start, pid_of)
    with caller(environment) as service:
        until(lambda: len(service.decisions) > 100, "traffic")
        service.traffic("legal")
        until(database.changes, "the raise")
        for _ in range(2):
            victim = guards.pop(pid_of("evaluate"))
            victim.signal(signal.SIGKILL)
            until(lambda: pid_of("evaluate") in guards, "the next guard")
            until(lambda: pid_of("deliver") in guards, "the next guard to deliver")
        service.traffic("faq")
        until(lambda: len(database.changes()) == 2, "the release")
        slack.wait_for(lambda message: "resolved" in message.text, 240)
        time.sleep(2)
    assert [each["act"] for each in database.changes()] == ["raise", "release"]
    assert len(slack.posts) == 1


def test_a_guard_that_was_frozen_and_wakes_changes_nothing(environment, start, database, pid_of):
    guards = fleet(start, pid_of, size=2)
    frozen = guards.pop(pid_of("evaluate"))
    (other,) = guards.values()
    frozen.signal(signal.SIGSTOP)
    until(lambda: pid_of("evaluate") not in (frozen.pid, None), "the other guard")
    with caller(environment) as service:
        until(lambda: len(service.decisions) > 100, "traffic")
        service.traffic("legal")
        until(database.changes, "the raise")
        asleep = frozen.log
        with Handovers(database) as handovers:
            frozen.signal(signal.SIGCONT)
            until(lambda: TAKEN in frozen.log, "it to notice")
            service.traffic("faq")
            until(lambda: len(database.changes()) == 2, "the release")
    assert [each["act"] for each in database.changes()] == ["raise", "release"]
    assert handovers.too_soon == []
    before_it_noticed = frozen.log.removeprefix(asleep).partition(TAKEN)[0]
    assert "this guard now does" not in before_it_noticed
    assert "raise of" not in frozen.log
    assert "release of" not in frozen.log or TAKEN in other.log
    assert "Traceback" not in frozen.log


def test_a_guard_that_is_told_to_end_leaves_its_work_to_another_at_once(start, database, pid_of):
    guards = fleet(start, pid_of, size=2)
    first = guards.pop(pid_of("evaluate"))
    query = "SELECT holder FROM lease WHERE name = 'evaluate'"
    (before,) = database.rows(query)
    first.ends_within(ENDS_WITHIN_S)
    assert first.process.returncode == 0
    # It is free, or the other guard has it already: neither waits until the lease would have run out.
    assert database.rows(query) != [before]
    until(lambda: pid_of("evaluate") in guards, "the other guard")


@pytest.fixture
def clocks(tmp_path):
    """Makes the clock of a host, with its difference."""

    def make(name, seconds):
        path = tmp_path / f"{name}.clock"
        set_clock(path, seconds)
        return path

    return make


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_clocks_of_guards_and_routers_that_differ_change_nothing(environment, start, database, pid_of, clocks):
    """Guards 120 s apart and one 60 days ahead; routers five minutes apart in both directions; one clock steps."""
    guards = {start(clock=clocks(f"guard{at}", at)).pid for at in (60 * DAY_S, -120.0, 0.0)}
    until(lambda: pid_of("evaluate") in guards, "a guard")
    early, late = clocks("early", 300.0), clocks("late", -300.0)
    begun_at = time.time()
    with (
        Handovers(database) as handovers,
        caller({**environment, "CALLER_CLOCK": str(early)}) as one,
        caller({**environment, "CALLER_CLOCK": str(late)}) as other,
    ):
        until(lambda: min(len(one.decisions), len(other.decisions)) > 150, "traffic")
        for service in (one, other):
            service.traffic("legal")
        until(database.changes, "the raise")
        set_clock(early, 300.0 + 3 * HOUR_S)
        set_clock(late, -300.0 - 3 * HOUR_S)
        for _ in range(2):
            seen = len(one.decisions)
            until(lambda seen=seen: len(one.decisions) > seen + 200, "the storm to go on")
            assert [each["act"] for each in database.changes()] == ["raise"]
        for service in (one, other):
            service.traffic("faq")
        until(lambda: len(database.changes()) == 2, "the release")
    assert handovers.too_soon == []
    counted = database.counted()
    assert begun_at - 30 < counted["first"] < counted["last"] < time.time() + 30
    assert counted["calls"] == len(one.decisions) + len(other.decisions)
    assert [each["act"] for each in database.changes()] == ["raise", "release"]
    skews = database.rows("SELECT clock_ahead_s FROM process WHERE kind = 'guard'")
    assert sorted(round(each["clock_ahead_s"], -1) for each in skews) == [-120, 0, 60 * DAY_S]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize("step_s", [3 * HOUR_S, -3 * HOUR_S])
def test_a_step_of_the_hosts_clock_in_a_storm_changes_nothing_on_sqlite(environment, start, database, clocks, step_s):
    host = clocks("host", 0.0)
    guard = start(clock=host)
    until(lambda: is_ready(guard.environment), "the guard")
    begun_at = time.time()
    on_host = {**environment, "CALLER_CLOCK": str(host)}
    with caller(on_host) as service:
        until(lambda: len(service.decisions) > 150, "traffic")
        service.traffic("legal")
        until(database.changes, "the raise")
        set_clock(host, step_s)
        seen = len(service.decisions)
        until(lambda: len(service.decisions) > seen + 500, "the storm to go on")
        assert [each["act"] for each in database.changes()] == ["raise"]
        until(lambda: "ahead of the store's time" in guard.log, "the step to be logged")
        with caller(on_host, route="late") as newcomer:  # it takes over the difference
            until(lambda: len(newcomer.decisions) > 50, "traffic of a process that started after the step")
        service.traffic("faq")
        until(lambda: len(database.changes()) == 2, "the release")
    assert [each["act"] for each in database.changes()] == ["raise", "release"]
    counted = database.counted()
    assert begun_at - 30 < counted["first"] < counted["last"] < time.time() + 30
    assert guard.log.count("ahead of the store's time") == 1


@pytest.fixture
def server():
    """A server of the test's own, that it may stop and freeze."""
    installed = packages()
    if installed is None:
        pytest.skip("PostgreSQL's programs are not installed; the extra dev has them")
    with running(installed) as server:
        yield server


def test_a_guard_whose_store_hangs_ends_in_time_and_says_so_in_few_lines(environment, start, server):
    guard = start(CHEAPDEEP_STORE_URL=server.url("postgres"))
    until(lambda: is_ready(guard.environment), "the guard")
    with server.hung():
        until(lambda: "does not answer" in guard.log, "the outage to be logged")
        assert guard.ends_within(ENDS_WITHIN_S) < ENDS_WITHIN_S
    assert len(guard.log.splitlines()) <= 15
    assert "Traceback" not in guard.log


def test_an_outage_of_the_store_is_over_when_it_is_back(environment, start, server):
    guard = start(CHEAPDEEP_STORE_URL=server.url("postgres"))
    until(lambda: is_ready(guard.environment), "the guard")
    before = len(guard.log.splitlines())
    with server.stopped():
        until(lambda: "cannot be reached" in guard.log or "is stopping" in guard.log, "the outage to be logged")
        time.sleep(10)
    until(lambda: "the store works again" in guard.log, "its end")
    until(lambda: is_ready(guard.environment), "the guard")
    assert len(guard.log.splitlines()) - before <= 10
    assert "Traceback" not in guard.log


def test_a_guard_whose_batch_request_hangs_ends_in_time(environment, start, database, pid_of, api):
    """And the next guard finds what it has sent, or sends it."""
    hung = threading.Event()

    def hang(_server, connection):
        _server.read(connection)
        hung.set()
        connection.recv(1)

    with talking(hang) as deaf:
        batches = {"CHEAPDEEP_SAMPLE_RATE": "1", "CHEAPDEEP_GRADE_EVERY_S": "0.5", "CHEAPDEEP_GRADE_BY": "batch"}
        guard = start(**batches, ANTHROPIC_BASE_URL=deaf.url)
        until(lambda: pid_of("evaluate"), "the guard")
        with caller({**environment, **batches}) as service:
            until(lambda: len(service.decisions) > 20, "traffic")
            assert hung.wait(PATIENCE_S)
        assert guard.ends_within(ENDS_WITHIN_S) < ENDS_WITHIN_S
    assert database.rows("SELECT kind FROM grading_batch") == [{"kind": "intent"}]


def test_a_guard_whose_slack_hangs_ends_in_time(environment, start, database, pid_of):
    hung = threading.Event()

    def hang(_server, connection):
        _server.read(connection)
        hung.set()
        connection.recv(1)

    with talking(hang) as deaf:
        guard = start(CHEAPDEEP_SLACK_BASE_URL=deaf.url + "/api/")
        until(lambda: pid_of("evaluate"), "the guard")
        with caller(environment) as service:
            until(lambda: len(service.decisions) > 100, "traffic")
            service.traffic("legal")
            assert hung.wait(PATIENCE_S)
        assert guard.ends_within(ENDS_WITHIN_S) < ENDS_WITHIN_S
    assert database.rows("SELECT holder FROM lease WHERE name = 'evaluate'") == [{"holder": ""}]
