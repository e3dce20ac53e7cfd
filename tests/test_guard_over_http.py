"""A recorder without a database: it sends to a guard, and follows the policies there, over real HTTP."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPMessage
from itertools import pairwise
from pathlib import Path

import httpx2
import pytest
from jsonschema import Draft202012Validator

from cheapdeep_ops import Router
from cheapdeep_ops.cli import main
from cheapdeep_ops.cli.commands import doctor
from cheapdeep_ops.cli.commands.doctor import examine
from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.policy import PolicyAct, blank_book
from cheapdeep_ops.recorder import guard_destination
from cheapdeep_ops.recorder.guard_connection import Answer
from cheapdeep_ops.recorder.policy_follower import PolicyFollower, _State
from cheapdeep_ops.recorder.wire import POLICIES_PATH, WIRE_HEADER
from cheapdeep_ops.store import policies
from cheapdeep_ops.store.admission import Limits, prepare_admission
from cheapdeep_ops.store.policies import PolicyEdit
from cheapdeep_ops.testing import Reply, SimulatedAnthropic
from cheapdeep_ops.values import Name
from tests.guards import (
    EXCHANGE,
    TOKEN,
    Deal,
    calls,
    dealing,
    decision,
    drained,
    recorder_at,
    rows,
    serving,
    settings_for,
    tokens_file,
)
from tests.ports import free_port
from tests.raw_server import answer, hang, talking

pytestmark = pytest.mark.usefixtures("patient_recorders")
CERTIFICATE = Path(__file__).with_name("loopback.pem")
HEADERS = {"Authorization": f"Bearer {TOKEN}", WIRE_HEADER: "1"}


@pytest.fixture
def engine():
    return "sqlite"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(f"sqlite:///{tmp_path_factory.mktemp('guard')}/guard.db", sample_rate=1.0) as served:
        yield served


@pytest.fixture
def guard(served):
    """A guard whose store is empty. Most tests share one server, which takes a third of a second to start."""
    for table in ("bucket", "total", "process", "candidate", "policy"):
        served.store.transact(lambda connection, table=table: connection.exec_driver_sql(f"DELETE FROM {table}"))
    return served


@pytest.fixture
def store_url(request, tmp_path):
    """The shared guard's store, or a blank one for a test that starts its own."""
    if "guard" in request.fixturenames:
        return request.getfixturevalue("guard").store.url.render_as_string()
    return f"sqlite:///{tmp_path}/guard.db"


def pin(store, threshold=0.85):
    change = PolicyEdit(scope="support", act=PolicyAct.PIN, author="ann", why="trial", threshold=threshold)
    store.transact(lambda connection: policies.apply(connection, blank_book(), change, at=1.0))


def test_a_router_needs_no_database_its_counts_answers_and_thresholds_go_by_the_guard(guard, store_url, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "simulated")
    with SimulatedAnthropic() as api:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
        api.enqueue(Reply.triage(0.95, "Yes."))
        with Router(settings=settings_for(guard.url)) as router:
            assert router.ask("Is it open?", route="support").text == "Yes."
    assert calls(store_url) == 1
    assert rows(store_url, "SELECT kind, flush > 0, length(secret) FROM process") == [("stopped", 1, 64)]
    assert rows(store_url, "SELECT route, state FROM candidate WHERE 0") == []


def test_a_change_of_policy_wakes_the_recorder(guard):
    recorder = recorder_at(guard.url)
    woken = threading.Event()
    recorder._destination._follower._on_change = woken.set
    recorder.refresh(time.time())
    assert recorder.book.for_route("support").threshold == 0.8
    woken.clear()
    pin(guard.store)
    assert woken.wait(60)
    recorder.refresh(time.time())
    assert recorder.book.for_route("support").threshold == 0.85
    known = recorder._destination.read()
    assert recorder._destination.read() is known
    recorder.close()
    assert not [each for each in threading.enumerate() if each.name == "cheapdeep-policies"]


def test_answers_for_grading_arrive_once_and_only_if_they_are_wanted(guard, store_url):
    recorder = recorder_at(guard.url)
    for number in (1, 1, 2):
        recorder.put(decision(call_id=f"call-{number}"), lambda: EXCHANGE)
    drained(recorder)
    assert rows(store_url, "SELECT call_id, answer FROM candidate") == [("call-1", "Yes."), ("call-2", "Yes.")]
    recorder.close()


def test_what_a_guard_does_not_want_is_not_kept(store_url):
    with serving(store_url, sample_rate=0.0) as guard:
        recorder = recorder_at(guard.url)
        recorder.refresh(time.time())
        recorder.put(decision(), lambda: pytest.fail("the answer was read"))
        recorder.close()


@pytest.mark.thorough
def test_two_guards_behind_one_address_that_is_cut_at_random_count_exactly(store_url):
    """Each third response is cut off after the guard has stored the flush."""
    turns = iter(range(10**6))
    with serving(store_url) as one, serving(store_url) as other:
        cut = lambda request: request.startswith(b"POST") and next(turns) % 3 == 0  # noqa: E731
        with dealing(Deal([one.port, other.port], cut)) as deal:
            recorders = [recorder_at(deal.url) for _ in range(3)]
            failures = 0
            for round_ in range(12):
                for recorder in recorders:
                    try:
                        drained(recorder, calls=2)
                    except StoreError:
                        failures += 1
                if round_ == 6:
                    deal.cut_all()
            for recorder in recorders:
                recorder.close()
    assert failures
    assert calls(store_url) == 3 * 12 * 2


@pytest.mark.thorough
def test_a_guard_that_is_killed_between_commit_and_answer_and_restarted_has_each_call_once(tmp_path, store_url):
    known = {name: value for name, value in os.environ.items() if not name.startswith("CHEAPDEEP_")}
    known |= {"CHEAPDEEP_STORE_URL": store_url, "ANTHROPIC_API_KEY": "none"}
    known["CHEAPDEEP_API_TOKENS_FILE"] = str(tokens_file(tmp_path))
    running, killed = [], threading.Event()

    def start(port):
        process = subprocess.Popen(
            [sys.executable, "-m", "cheapdeep_ops", "serve"],
            env={**known, "CHEAPDEEP_PORT": str(port), "CHEAPDEEP_EVALUATE_EVERY_S": "3600"},
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert any("watching" in line for line in process.stderr)

    def kill(request):
        if b"buckets" not in request or killed.is_set():
            return False
        running[0].kill()
        running[0].communicate()
        killed.set()
        return True

    port = free_port()
    try:
        start(port)
        with dealing(Deal([port], kill)) as deal:
            recorder = recorder_at(deal.url)
            with pytest.raises(StoreError, match="does not answer"):
                drained(recorder, calls=5)
            assert killed.is_set()
            assert calls(store_url) == 5
            with pytest.raises(StoreError):
                drained(recorder, calls=2)
            start(port)
            drained(recorder, calls=3)
            recorder.close()
        running[-1].send_signal(signal.SIGTERM)
        running[-1].communicate()
    finally:
        for process in running:
            process.kill()
            process.wait()
            process.stderr.close()
    assert calls(store_url) == 10


def test_a_store_that_was_made_anew_gets_what_is_known(store_url, tmp_path):
    with serving(store_url) as guard:
        recorder = recorder_at(guard.url)
        drained(recorder, calls=2)
    for path in tmp_path.glob("guard.db*"):
        path.unlink()
    known = recorder._destination._follower._state.news.store
    with serving(store_url, port=guard.port):
        drained(recorder, calls=3)
        assert recorder._destination._follower._state.news.store != known
        recorder.close()
    (((counted,),), ((total,),)) = rows(store_url), rows(store_url, "SELECT sum(calls) FROM total")
    assert counted >= 3
    assert total == 5


def refreshed(recorder, now):
    """Refresh as the thread does: a guard that was away is asked again after a pause."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return recorder.refresh(now)
        except StoreError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_totals_without_open_seconds_reach_a_store_that_was_made_anew(store_url, tmp_path):
    begun = time.time()
    with serving(store_url) as guard:
        recorder = recorder_at(guard.url)
        recorder.refresh(begun)
        recorder.put(decision(started_at=begun, route="early"))
        recorder.drain(begun)
        recorder.drain(begun + 60)
        recorder.drain(begun + 120)
    for path in tmp_path.glob("guard.db*"):
        path.unlink()
    with serving(store_url, port=guard.port):
        for later in (121, 122):
            recorder.put(decision(started_at=begun + later))
            recorder.drain(begun + later)
            refreshed(recorder, begun + later)
        recorder.drain(begun + 140)
        recorder.close()
    assert dict(rows(store_url, "SELECT route, sum(calls) FROM total GROUP BY route")) == {"early": 1, "support": 2}


def test_a_guard_whose_file_is_deleted_makes_another_and_routers_send_what_they_know(store_url, tmp_path):
    with serving(store_url) as guard:
        recorder = recorder_at(guard.url)
        recorder.refresh(time.time())
        drained(recorder, calls=2)
        for path in tmp_path.glob("guard.db*"):
            path.unlink()
        for _ in range(2):
            drained(recorder, calls=1)
            recorder.refresh(time.time())
        recorder.close()
        assert (calls(store_url), rows(store_url, "SELECT sum(calls) FROM total")) == (4, [(4,)])


def test_two_guards_with_different_settings_are_not_asked_without_a_pause():
    waits, tags = [], iter("abc")

    class Stopping:
        def is_set(self):
            return len(waits) == 3

        def wait(self, seconds):
            waits.append(seconds)

    class Guards:
        def ask(self, method, path, *, headers, timeout_s):
            return Answer(200, HTTPMessage(), {"etag": next(tags), "policies": [], "version": 0})

    follower = PolicyFollower("http://127.0.0.1:1", token="t", clock=lambda: 1.0, on_change=lambda: None)
    follower._follow(Guards(), Stopping())
    assert min(waits) > 0


def test_a_router_learns_from_its_guard_that_another_server_has_taken_over():
    state = _State(lambda: 100.0)
    seen = []
    for store in ("a", "a", "", "b", "b", "a"):
        state.take({"evaluated_age_s": 1.0, "store": store}, is_whole=False)
        seen.append(state.news.store)
    changes = [before is not after for before, after in pairwise(seen)]
    assert changes == [False, False, True, False, True]


def test_counts_do_not_wait_for_a_guard_that_admits_no_names(guard, store_url, monkeypatch):
    monkeypatch.setattr(guard_destination, "NAMES_PATH", "/api/v1/none")
    recorder = recorder_at(guard.url)
    recorder.put(decision(route="billing"))
    drained(recorder)
    recorder.close()
    assert rows(store_url, "SELECT route, calls FROM bucket") == [("billing", 1)]


def test_a_limited_token_loses_no_call_of_a_route_without_a_place(store_url, tmp_path):
    limited = tokens_file(tmp_path, "send", routes='routes = ["support"]\n')
    with serving(store_url, api_tokens_file=limited, max_routes=1) as guard:
        guard.store.transact(prepare_admission([Name("first")], limits=Limits(1, 1), now=1.0))
        recorder = recorder_at(guard.url)
        recorder.put(decision(route="support"))
        drained(recorder)
        recorder.close()
    assert (rows(store_url, "SELECT route, calls FROM bucket"), recorder.dropped) == ([("other", 1)], 0)


def test_a_clock_that_is_set_back_begins_a_new_process_and_overwrites_nothing(guard, store_url):
    recorder = recorder_at(guard.url)
    now = time.time()
    recorder.put(decision(started_at=now))
    recorder.drain(now)
    recorder.drain(now + 60)
    recorder.put(decision(started_at=now))
    recorder.drain(now)
    assert calls(store_url) == 2
    assert rows(store_url, "SELECT count(*) FROM process") == [(2,)]
    recorder.close()


def test_a_wrong_token_is_said_with_what_to_do_and_counts_wait_for_the_right_one(guard, store_url, caplog):
    recorder = recorder_at(guard.url, guard_token="wr0ng")
    with pytest.raises(StoreError, match=r"HTTP 401: .*CHEAPDEEP_GUARD_TOKEN") as refused:
        drained(recorder, calls=2)
    assert "wr0ng" not in str(refused.value) + caplog.text + repr(recorder._settings)
    assert calls(store_url) == 0
    assert recorder.is_behind
    recorder._destination._connection._token = TOKEN
    recorder.close()
    assert calls(store_url) == 2


def test_another_token_makes_another_recorder(guard):
    def recorder_of(token):
        with Router(api_key="none", settings=settings_for(guard.url, guard_token=token)) as router:
            return router._core.recorder.recorder

    with Router(api_key="none", settings=settings_for(guard.url)) as router:
        assert recorder_of(TOKEN) is router._core.recorder.recorder
        assert recorder_of("other") is not router._core.recorder.recorder


def test_a_token_follows_no_redirect():
    with talking(hang_after_redirect) as elsewhere:
        location = f"HTTP/1.1 307 Moved\r\nlocation: {elsewhere.url}/\r\ncontent-length: 0\r\n\r\n".encode()
        with talking(answer(location)) as server:
            recorder = recorder_at(server.url)
            with pytest.raises(StoreError, match="redirects"):
                drained(recorder, calls=1)
            recorder._destination.close()
    assert elsewhere.requests == []


def hang_after_redirect(server, connection):
    server.read(connection)


def test_a_sender_that_is_asked_to_wait_sends_nothing_until_then(monkeypatch):
    busy = b"HTTP/1.1 503 Busy\r\nretry-after: 7.5\r\ncontent-length: 4\r\n\r\nbusy"
    now = [100.0]
    monkeypatch.setattr(guard_destination.time, "monotonic", lambda: now[0])
    with talking(answer(busy)) as server:
        recorder = recorder_at(server.url)
        for _ in range(3):
            with pytest.raises(StoreError, match="wait") as asked:
                drained(recorder, calls=1)
        assert asked.value.retry_after_s == 7.5
        assert len(server.requests) == 1
        now[0] += 7.6
        with pytest.raises(StoreError):
            drained(recorder)
        assert len(server.requests) == 2
        recorder._destination.close()


def test_a_guard_that_hangs_holds_up_no_caller_and_closing_ends(monkeypatch, caplog):
    monkeypatch.setattr(guard_destination, "_TIMEOUT_S", 0.1)
    monkeypatch.setattr("cheapdeep_ops.recorder.recorder._CLOSE_S", 0.3)
    with talking(lambda server, connection: hang(connection)) as server, caplog.at_level(logging.WARNING):
        recorder = recorder_at(server.url)
        recorder.put(decision())
        recorder.close()
    assert "did not take" in caplog.text


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 4\r\n\r\nlogin", "answers HTTP 200"),
        (b"HTTP/1.1 502 Bad\r\ncontent-length: 5\r\n\r\nproxy", "answers HTTP 502: proxy"),
        (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1\r\n\r\n{", "not JSON"),
        (b"garbage\r\n\r\n", "does not answer"),
        (b"", "does not answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9000000\r\n\r\n" + b" " * 9_000_000,
         "more than"),
    ],
)  # fmt: skip
def test_what_is_no_guard_is_told_and_the_counts_wait(response, said):
    with talking(answer(response)) as server:
        recorder = recorder_at(server.url)
        with pytest.raises(StoreError, match=said):
            drained(recorder, calls=1)
        assert recorder.is_behind
        recorder._destination.close()


def test_many_routers_that_wait_for_policies_keep_nothing_else_waiting(guard):
    """More routers than the server has threads wait; one thread of the guard reads the store for all of them."""
    waiting = 64
    with httpx2.Client(base_url=guard.url, headers=HEADERS, limits=httpx2.Limits(max_connections=200)) as client:
        first = client.get(POLICIES_PATH)
        tag = {"If-None-Match": first.headers["etag"]}

        def poll(_number):
            return client.get(POLICIES_PATH, params={"wait_s": 30}, headers=tag, timeout=40)

        with ThreadPoolExecutor(waiting) as pool:
            answers = [pool.submit(poll, number) for number in range(waiting)]
            assert client.get("/healthz").status_code == 200
            drained(recorder := recorder_at(guard.url), calls=1)
            assert not any(each.done() for each in answers)
            pin(guard.store)
            found = {each.result().headers["etag"] for each in answers}
        assert len(found) == 1
        assert found != {first.headers["etag"]}
        recorder.close()
        assert len([each for each in threading.enumerate() if each.name.startswith("policies")]) == 1
        late = client.get(POLICIES_PATH, params={"wait_s": 0.01}, headers={"If-None-Match": found.pop()})
        assert (late.status_code, late.content) == (304, b"")


def test_a_guard_that_does_not_evaluate_counts_as_silent(guard):
    with httpx2.Client(base_url=guard.url, headers=HEADERS) as client:
        assert client.get(POLICIES_PATH).json()["evaluated_age_s"] is None
    recorder = recorder_at(guard.url)
    recorder.refresh(time.time())
    assert recorder._destination.read().guard_seen is None
    recorder.close()


def test_a_router_of_another_wire_version_is_refused_with_what_to_do(guard, monkeypatch):
    monkeypatch.setattr("cheapdeep_ops.recorder.wire.WIRE_VERSION", 2)
    recorder = recorder_at(guard.url)
    with pytest.raises(StoreError, match=r"HTTP 400: .*install one version of cheapdeep_ops"):
        drained(recorder, calls=1)
    assert recorder.is_behind
    recorder._destination.close()


def test_without_a_token_nothing_is_taken_or_told(guard):
    with httpx2.Client(base_url=guard.url, headers={WIRE_HEADER: "1"}) as client:
        assert client.get(POLICIES_PATH).status_code == 401
        for path in ("flushes", "candidates"):
            assert client.post(f"/api/v1/{path}", content=b"{}").status_code == 401


@pytest.mark.parametrize(
    "role", ["act", *(pytest.param(role, marks=pytest.mark.thorough) for role in ("read", "content", "outcome"))]
)
def test_only_the_role_send_may_send_and_it_may_do_nothing_else(store_url, tmp_path, role):
    with (
        serving(store_url, api_tokens_file=tokens_file(tmp_path, role)) as guard,
        httpx2.Client(base_url=guard.url, headers=HEADERS) as client,
    ):
        for path in ("flushes", "candidates"):
            assert client.post(f"/api/v1/{path}", content=b"{}").status_code == 403
        assert client.get(POLICIES_PATH).status_code == 403
        tokens_file(tmp_path, "send")
        deadline = time.monotonic() + 120
        while client.get(POLICIES_PATH).status_code != 200 and time.monotonic() < deadline:
            time.sleep(0.05)  # the file is read again within a second
        assert client.get(POLICIES_PATH).status_code == 200
        assert client.put("/api/v1/policy/pin", json={}).status_code == 403
        assert client.get("/api/v1/review/next").status_code == 403


def test_a_token_that_is_limited_to_routes_sends_counts_of_those_alone(store_url, tmp_path):
    limited = tokens_file(tmp_path, "send", routes='routes = ["support"]\n')
    with serving(store_url, api_tokens_file=limited) as guard:
        recorder = recorder_at(guard.url)
        recorder.put(decision(route="sales", call_id="sales"), lambda: EXCHANGE)
        recorder.put(decision(call_id="support"), lambda: EXCHANGE)
        drained(recorder)
        recorder.close()
    assert calls(store_url) == 1
    assert recorder.dropped == 1
    assert rows(store_url, "SELECT call_id FROM candidate") == [("support",)]


def test_what_a_guard_answers_is_documented(guard):
    with httpx2.Client(base_url=guard.url, headers=HEADERS) as client:
        document = client.get("/openapi.json").json()
        about = {"started_at": 1.0, "base_threshold": 0.8, "host": "h", "pid": 1, "package_version": "1"}
        joined = client.post("/api/v1/flushes", json={"beat": about})
        identity = {name: joined.json()[name] for name in ("process", "secret")}
        flush = client.post("/api/v1/flushes", json={**identity, "number": 1, "beat": about})
        candidates = client.post("/api/v1/candidates", json={**identity, "rows": []})
        for answered, method in (
            (joined, "post"),
            (flush, "post"),
            (candidates, "post"),
            (client.get(POLICIES_PATH), "get"),
        ):
            assert answered.status_code == 200, answered.text
            operation = document["paths"][answered.url.path][method]
            schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
            Draft202012Validator({"components": document["components"], **schema}).validate(answered.json())
            assert operation["security"]
            assert operation["summary"]
            assert operation["description"]
            assert ("requestBody" in operation) == (method == "post")


def test_bodies_that_are_too_long_are_refused_before_they_are_read(guard):
    def body():
        yield b" " * 5_000_000
        yield b" " * 5_000_000

    with httpx2.Client(base_url=guard.url, headers=HEADERS) as client:
        for content in (b" " * 8_000_001, body()):
            answered = client.post("/api/v1/flushes", content=content)
            assert (answered.status_code, "more than 8,000,000 bytes" in answered.text) == (413, True)


def test_rows_that_are_too_long_for_one_body_go_in_several(guard, store_url, monkeypatch):
    monkeypatch.setattr(guard_destination, "LARGEST_SENT", 1_500)
    recorder = recorder_at(guard.url)
    for number in range(40):
        recorder.put(decision(route=f"route-{number}", call_id=f"call-{number}"), lambda: EXCHANGE)
    drained(recorder)
    recorder.close()
    assert calls(store_url) == 40
    assert rows(store_url, "SELECT count(*) FROM candidate") == [(40,)]
    assert rows(store_url, "SELECT flush > 20 FROM process") == [(1,)]


# Commands


@pytest.mark.parametrize("command", ["serve", "migrate", "purge --call x"])
def test_commands_that_need_the_store_itself_refuse_a_guards_address(command, monkeypatch, capsys, guard):
    monkeypatch.setenv("CHEAPDEEP_STORE_URL", guard.url)
    monkeypatch.setenv("CHEAPDEEP_GUARD_TOKEN", TOKEN)
    assert main(command.split()) != 0
    assert "sqlite:///path or postgresql://user@host/name" in capsys.readouterr().err


def test_the_doctor_of_a_service_asks_for_no_receiver_of_messages(guard):
    found = {each.name: each for each in examine(settings_for(guard.url))}
    assert found["Slack"].ok
    assert found["Slack"].found == "not checked: the guard sends messages, with its own settings"


@pytest.mark.parametrize(("ahead_s", "ok", "says"), [(20.0, True, "agrees with"), (-90.0, False, "behind")])
def test_the_doctor_of_a_service_compares_its_clock_with_the_stores_time(guard, monkeypatch, ahead_s, ok, says):
    told = doctor._state_of_guard

    def other_time(settings):
        where, said = told(settings)
        return where, {**said, "time": said["time"] - ahead_s}

    monkeypatch.setattr(doctor, "_state_of_guard", other_time)
    found = doctor._run("clock", doctor._clock, settings_for(guard.url))
    assert (found.ok, says in found.found) == (ok, True), found


def test_the_doctor_says_what_a_guard_refuses(guard):
    refused = doctor._run("clock", doctor._clock, settings_for(guard.url, guard_token="guessed"))
    assert not refused.ok
    assert "CHEAPDEEP_GUARD_TOKEN needs one of its tokens that may send" in refused.found


def test_commands_that_ask_a_guard_ask_the_one_that_is_the_store(monkeypatch, capsys, guard):
    monkeypatch.setenv("CHEAPDEEP_STORE_URL", guard.url)
    monkeypatch.setenv("CHEAPDEEP_GUARD_TOKEN", TOKEN)
    assert main(["threshold", "set", "0.85", "--route", "support", "--why", "trial"]) == 0
    assert main(["threshold", "show", "--json"]) == 0
    assert '"threshold": 0.85' in capsys.readouterr().out


# Processes


FORKED = """
import os, sys, time
from cheapdeep_ops import Settings
from cheapdeep_ops.recorder import Recorder
sys.path.insert(0, sys.argv[2])
from tests.guards import decision, settings_for

recorder = Recorder(settings_for(sys.argv[1], flush_every_s=0.05))
for _ in range(10):
    recorder.put(decision())
while recorder.is_behind:
    time.sleep(0.01)
recorder.put(decision())
children = []
for number in range(3):
    child = os.fork()
    if not child:
        for _ in range(5):
            recorder.put(decision())
        recorder.close()
        os._exit(int(recorder.is_behind))
    children.append(child)
failed = sum(os.waitpid(child, 0)[1] for child in children)
recorder.put(decision())
recorder.close()
sys.exit(failed)
"""


@pytest.mark.thorough
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_after_a_fork_each_process_has_an_id_of_its_own_and_counts_go_on(guard, store_url):
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED, guard.url, str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert calls(store_url) == 10 + 2 + 3 * 5
    assert rows(store_url, "SELECT count(*), count(DISTINCT secret) FROM process WHERE flush > 0") == [(4, 4)]
