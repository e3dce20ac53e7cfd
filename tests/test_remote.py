import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import time

import pytest
import uvicorn
from pydantic import SecretStr

from cheapdeep_ops import Router, Settings
from cheapdeep_ops.claude.grade_request import GraderApi
from cheapdeep_ops.cli import main
from cheapdeep_ops.guard.grading.grader import Grader
from cheapdeep_ops.guard.http.api import make_api
from cheapdeep_ops.guard.http.version import API_VERSION, serves
from cheapdeep_ops.listening import listen
from cheapdeep_ops.recorder.wire import VERSION_HEADER
from cheapdeep_ops.store import incidents, policies, processes
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.testing import Reply, SimulatedAnthropic
from tests.prometheus import wait_until
from tests.stores import migrated

TOKEN = "s3same"
ROUTE = "sup[port]"


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[Store]:
    """A store in which a router has kept six answers, a grader has graded them, and an incident is open."""
    store = migrated(f"sqlite:///{tmp_path_factory.mktemp('guard')}/store.db")
    with pytest.MonkeyPatch.context() as environment, SimulatedAnthropic() as api:
        environment.setenv("ANTHROPIC_BASE_URL", api.url)
        environment.setenv("ANTHROPIC_API_KEY", "simulated")
        settings = Settings(store_url=store.url.render_as_string(), sample_rate=1.0, grade_concurrency=1)
        with Router(settings=settings, new_id=map("call-{}".format, range(6)).__next__) as router:
            for number in range(6):
                api.enqueue(Reply.triage(0.95, f"Answer {number}."))
                router.ask("Is it open?", route=ROUTE, input_class="hours")
        for verdict in ("correct", "incorrect") * 3:
            api.enqueue(Reply.text(json.dumps({"reason": "said so", "verdict": verdict})))
        grader = Grader(store, settings=settings, api=GraderApi())
        assert grader.run(time()) == 6
        grader.close()
    store.transact(lambda connection: incidents.open_incident(connection, rule="EscalationStorm", scope=ROUTE, at=1.0))
    yield store
    store.close()


def guards_of(store: Store) -> list[str]:
    with store.reading() as connection:
        return processes.running_guards(connection, since=0.0)


@pytest.fixture(scope="module")
def url(store) -> Iterator[str]:
    """Where a real `serve` answers, which has looked at nothing yet."""
    never = {"CHEAPDEEP_EVALUATE_EVERY_S": "3600", "CHEAPDEEP_GRADE_EVERY_S": "3600"}
    known = {"CHEAPDEEP_STORE_URL": store.url.render_as_string(), "CHEAPDEEP_API_TOKENS": TOKEN, **never}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CHEAPDEEP_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "cheapdeep_ops", "serve"],
        env={**inherited, **known, "CHEAPDEEP_PORT": "0", "ANTHROPIC_API_KEY": "none"},
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        at = next(found[0] for line in process.stderr if (found := re.search(r"http://\S+", line)))
        # It answers before its first heartbeat, which the reports show.
        wait_until(lambda: guards_of(store), what=lambda: "no heartbeat")
        yield at
        process.terminate()


@pytest.fixture
def local(monkeypatch, capsys, store):
    """Runs a command on the store itself."""

    def run(*arguments):
        monkeypatch.setenv("CHEAPDEEP_STORE_URL", store.url.render_as_string())
        monkeypatch.delenv("CHEAPDEEP_GUARD_URL", raising=False)
        return ran(capsys, arguments)

    return run


@pytest.fixture
def remote(monkeypatch, capsys, url):
    """Runs a command on a machine that knows the guard's URL and has no store."""

    def run(*arguments, at=url, token=TOKEN):
        monkeypatch.setenv("CHEAPDEEP_STORE_URL", "sqlite:////nowhere/store.db")
        monkeypatch.setenv("CHEAPDEEP_GUARD_URL", at)
        monkeypatch.delenv("CHEAPDEEP_GUARD_TOKEN", raising=False)
        if token:
            monkeypatch.setenv("CHEAPDEEP_GUARD_TOKEN", token)
        return ran(capsys, arguments)

    return run


def ran(capsys, arguments):
    """Exit status, standard output, standard error."""
    status = main(arguments)
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out, captured.err


def timeless(text):
    """What a command prints, without what another moment changes."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "TIME", text)
    text = re.sub(r'"(at|since|until)": [\d.]+', "TIME", text)
    text = re.sub(r"\b1[78]\d{8}\.\d+", "TIME", text)
    text = re.sub("[\u2581-\u2588]+ *", "PLOT", text)
    text = re.sub(r'"trends": .*', "TRENDS", text, flags=re.DOTALL)  # time is one of their axes
    text = re.sub(r"<svg (.*?)</svg>", "<svg></svg>", text, flags=re.DOTALL)  # time is one of its axes
    return re.sub(r"[\d.]+ (s|min) ago *", "AGO", text)


@pytest.mark.thorough
@pytest.mark.parametrize("form", [(), ("--json",)])
@pytest.mark.parametrize(
    "command", ["status", "report", "report --last 2h", "threshold show", "normal show", "alert silences", "review"]
)
def test_reports_are_the_same_from_afar(local, remote, command, form):
    asked = (
        *command.split(),
        *(form or (("--limit", "1", "--label", "call-5=incorrect") if command == "review" else ())),
    )
    near, far = local(*asked), remote(*asked)
    assert near[0] == far[0] == 0
    assert timeless(near[1]) == timeless(far[1])
    assert len(near[1]) > 2


@pytest.mark.thorough
def test_the_receipt_is_the_same_page_from_afar(local, remote, tmp_path):
    assert timeless(remote("report", "--markdown")[1]) == timeless(local("report", "--markdown")[1])
    pages = [tmp_path / "near.html", tmp_path / "far.html"]
    assert [run("report", "--html", str(page))[0] for run, page in zip((local, remote), pages, strict=True)] == [0, 0]
    near, far = (timeless(page.read_text()) for page in pages)
    assert near == far
    assert near.count("<svg>") > 2


def test_a_threshold_is_pinned_and_released_from_afar(local, remote, store):
    status, out, _ = remote("threshold", "set", "0.85", "--route", ROUTE, "--why", "trial [b]", "--json")
    assert (status, json.loads(out)["scopes"][ROUTE]["pin"]) == (0, 0.85)
    assert remote("threshold", "show")[1:] == local("threshold", "show")[1:]
    with store.reading() as connection:
        change = policies.history(connection)[0]
    assert (change["scope"], change["why"], change["act"]) == (ROUTE, "trial [b]", "pin")
    assert change["author"]
    assert remote("threshold", "release", "--route", ROUTE)[0] == 0
    far, near = (run("threshold", "release", "--route", ROUTE) for run in (remote, local))
    assert far == near == (1, "", f"error: {ROUTE} is not pinned; pinned scopes: none\n")


def test_alerts_are_acknowledged_and_silenced_from_afar(local, remote):
    asked = ("--rule", "EscalationStorm", "--for", "2h", "--why", "deploying")
    status, out, _ = remote("alert", "silence", *asked, "--json")
    (made,) = json.loads(out)
    assert (status, made["route"], made["until"] - made["since"]) == (0, None, 7_200)
    assert remote("alert", "silences") == local("alert", "silences")
    assert remote("alert", "unsilence", str(made["id"]))[:2] == (0, "no rule is silenced\n")
    assert remote("alert", "ack", "1", "--why", "on it")[:2] == (0, "incident 1 (EscalationStorm) is acknowledged\n")
    for missing in (
        ("alert", "ack", "99", "--why", "x"),
        ("alert", "unsilence", str(made["id"])),
        ("alert", "silence", "--rule", "Storm", "--for", "1h", "--why", "x"),
    ):
        far, near = remote(*missing), local(*missing)
        assert far == near
        assert (far[0], far[2].startswith("error: there is no ")) == (1, True)


def test_what_is_normal_is_learned_anew_from_afar(local, remote):
    status, out, _ = remote("normal", "relearn", "--route", ROUTE, "--why", "new product")
    assert (status, out) == local("normal", "show")[:2]
    assert "new product" in out
    assert remote("normal", "relearn", "--route", "x", "--why", "y") == local(
        "normal", "relearn", "--route", "x", "--why", "y"
    )


def test_answers_are_labelled_from_afar_and_the_judges_word_comes_afterwards(remote, monkeypatch):
    keys = iter("siq")
    monkeypatch.setattr("builtins.input", lambda _: next(keys))
    status, out, _ = remote("review", "--author", "ann", "--route", ROUTE)
    assert status == 0
    shown = re.findall(r"--- call (\S+),", out)
    assert len(set(shown)) == 3
    assert out.count("the grader's verdict: ") == 1
    assert out.index("the grader's verdict: ") > out.index(f"--- call {shown[1]}")
    assert remote("review", "--label", "call-0=correct", "--label", "nosuch=correct")[0] == 1
    assert json.loads(remote("review", "--json")[1])["authors"]["ann"] == 1


@pytest.mark.parametrize("command", ["purge --older-than 1d", "backtest", "recommend --limit 0.05"])
def test_what_needs_the_store_itself_says_so(remote, command):
    status, _, err = remote(*command.split())
    assert status == 2
    assert "unset CHEAPDEEP_GUARD_URL" in err


@pytest.mark.parametrize(
    ("token", "mark", "says"),
    [
        (TOKEN, "ok  ", "knows the token"),
        (None, "ok  ", "commands can only read"),
        ("wrong", "FAIL", "does not know"),
    ],
)
def test_the_doctor_asks_the_guard_elsewhere(remote, token, mark, says):
    out = remote("doctor", token=token)[1]
    (line,) = [line for line in out.splitlines() if "guard over HTTP" in line]
    assert line.startswith(mark)
    assert says in line


# What goes wrong


def test_changes_and_content_need_the_guards_token(remote):
    assert remote("status", token=None)[0] == 0
    pin = ("threshold", "set", "0.9", "--why", "x")
    status, _, err = remote(*pin, token=None)
    assert (status, "needs a token in CHEAPDEEP_GUARD_TOKEN" in err) == (1, True)
    status, _, err = remote(*pin, token="wrong")
    assert (status, "does not know the token in CHEAPDEEP_GUARD_TOKEN" in err) == (1, True)
    assert "wrong" not in err


def test_a_guard_that_is_not_there_is_said_with_its_url_and_without_a_password(remote):
    with listen("127.0.0.1", 0, setting="CHEAPDEEP_PORT") as listener:
        port = listener.getsockname()[1]
    status, _, err = remote("status", at=f"http://ann:hush@127.0.0.1:{port}/")
    assert status == 1
    assert err.startswith(f"error: no guard answers at http://127.0.0.1:{port}: ")
    assert "CHEAPDEEP_GUARD_URL" in err
    assert "hush" not in err


@pytest.mark.parametrize("wrong", ["guard", "ftp://guard", "http://", "http://a b"])
def test_a_url_that_is_none_is_named(remote, wrong):
    status, _, err = remote("status", at=wrong)
    assert status == 2
    assert f"CHEAPDEEP_GUARD_URL = '{wrong}'" in err


@pytest.mark.parametrize("wrong", [" ", "t\u00f6ken", "a\nb"])
def test_a_token_that_no_header_can_hold_is_refused_unseen(remote, wrong):
    status, _, err = remote("status", token=wrong)
    assert (status, "CHEAPDEEP_GUARD_TOKEN: needs" in err) == (2, True)
    assert wrong.strip() == "" or wrong not in err


@contextmanager
def answering(status, body, **headers):
    """A server that always gives this answer; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("status", "version", "says"),
    [
        (200, None, "is not a guard, or an older one"),
        (404, None, "(HTTP 404) is not a guard, or an older one"),
        (502, None, "no guard answers at http"),
        (200, "1.0", f"it serves API 1.0, and this command needs {API_VERSION} or a later 1.x"),
        (200, "2.0", "it serves API 2.0"),
        (200, "newest", "it serves API newest"),
        (500, API_VERSION, "answers 500: <b>oops</b>"),
        (200, API_VERSION, "is not JSON"),
    ],
)
def test_what_is_no_guard_of_this_version_is_told(remote, status, version, says):
    with answering(status, "<b>oops</b>", **({VERSION_HEADER: version} if version else {})) as url:
        code, out, err = remote("status", at=url)
    assert (code, out) == (1, "")
    assert says in err


def test_a_later_guard_of_the_same_api_will_do():
    assert serves(API_VERSION)
    assert serves("1.10", "1.9")
    assert not serves("1.9", "1.10")
    assert not serves("", "1.0")


@contextmanager
def serving(store, **changes):
    settings = Settings(store_url=store.url.render_as_string()).model_copy(update=changes)
    api = make_api(store, settings=settings, collector=None, is_ready=str)
    with listen("127.0.0.1", 0, setting="CHEAPDEEP_PORT") as listener:
        server = uvicorn.Server(uvicorn.Config(api, log_level="warning"))
        running = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        running.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        running.join(60)


def test_a_guard_without_tokens_says_that_nothing_is_changed_over_http(remote, store):
    with serving(store) as url:
        status, _, err = remote("threshold", "set", "0.9", "--why", "x", at=url)
    assert (status, "set CHEAPDEEP_API_TOKENS_FILE or CHEAPDEEP_API_TOKENS to allow this over HTTP" in err) == (1, True)


def test_off_loopback_reports_need_a_token_too(remote, store):
    with serving(store, host="0.0.0.0", api_tokens=(SecretStr(TOKEN),)) as url:
        assert remote("status", at=url, token=None)[0] == 1
        assert remote("status", at=url)[0] == 0


def test_a_store_that_the_guard_cannot_reach_is_its_own_refusal(remote, tmp_path):
    path = tmp_path / "broken.db"
    path.write_text("this is no database" * 100)
    broken = Store(f"sqlite:///{path}")
    with serving(broken) as url:
        status, _, err = remote("threshold", "show", at=url)
    broken.close()
    assert (status, "not a database" in err) == (1, True)
