"""What the receipt and the metrics page say of failures: from calls over HTTP, through the store, to people."""

import json

import anthropic
import pytest
from fastapi.testclient import TestClient

from cheapdeep_ops.cli import main
from cheapdeep_ops.guard.http.api import make_api
from cheapdeep_ops.guard.http.metrics import FleetCollector, page
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.telemetry import names
from cheapdeep_ops.testing import FrozenClock, Reply
from tests.stores import migrated

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"


@pytest.fixture
def store(store_url):
    store = migrated(store_url)
    yield store
    store.close()


@pytest.fixture
def failures(api, open_shell, store, store_url, monkeypatch):
    """Two triage calls that fail, one request that the deep tier refuses, one cheap answer because it is down."""
    monkeypatch.setenv("CHEAPDEEP_STORE_URL", store_url)
    shell = open_shell(record=True, store_url=store_url, ship_cheap_when_deep_fails=True)
    for cheap, deep in (
        ([Reply.error(529)], Reply.text("Deep.")),
        ([Reply.error(400)] * 2, Reply.text("Deep.")),
        ([Reply.triage(0.3, "Perhaps.")], Reply.error(503)),
    ):
        api.enqueue(*cheap, model=HAIKU)
        api.enqueue(deep, model=OPUS)
        shell.ask("hello", route="support")
    api.enqueue(Reply.triage(0.3, None), model=HAIKU)
    api.enqueue(Reply.error(400), model=OPUS)
    with pytest.raises(anthropic.BadRequestError):
        shell.ask("hello", route="support")
    shell.close()


def run(capsys, *arguments):
    assert main([*arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.usefixtures("failures")
def test_the_receipt_counts_them(capsys):
    found = json.loads(run(capsys, "report", "--json"))
    assert found["triage_errors"] == {"OverloadedError": 1, "BadRequestError": 1}
    assert (found["fallbacks"], found["replays_rejected"], found["errors"]) == (1, 1, 1)
    assert (found["calls"], found["shipped"]) == (4, 0)


@pytest.mark.usefixtures("failures")
def test_the_receipt_says_them_in_words(capsys):
    said = " ".join(run(capsys, "report").split())
    assert "failed triage BadRequestError 1, OverloadedError 1" in said
    assert "1 calls ended in an error; 1 were refused as invalid by the deep tier after triage; 1 were answered" in said


@pytest.mark.usefixtures("failures")
def test_the_api_answers_as_the_command_prints(capsys, store, store_url):
    api = make_api(store, settings=Settings(store_url=store_url), collector=None, is_ready=lambda: "")
    client = TestClient(api, base_url="http://127.0.0.1")
    answered = client.get("/api/v1/report?last_s=3600").json()
    printed = json.loads(run(capsys, "report", "--json", "--last", "1h"))
    for name in ("triage_errors", "fallbacks", "replays_rejected", "shadow"):
        assert answered[name] == printed[name]


def metrics_page(store, store_url):
    settings, clock = Settings(store_url=store_url), FrozenClock(0.0)
    collector = FleetCollector(store, settings=settings, rulebook=read_rulebook(), jobs=dict, clock=clock)
    return page(collector).decode()


@pytest.mark.usefixtures("failures")
def test_the_metrics_page_counts_them(store, store_url):
    shown = metrics_page(store, store_url)
    for name in (names.FLEET_FALLBACKS, names.FLEET_REPLAYS_REJECTED):
        assert f'{name}_total{{input_class="none",route="support"}} 1.0' in shown


@pytest.mark.usefixtures("store")
def test_a_receipt_without_failures_says_none(capsys, api, open_shell, store_url, monkeypatch):
    monkeypatch.setenv("CHEAPDEEP_STORE_URL", store_url)
    shell = open_shell(record=True, store_url=store_url)
    api.enqueue(Reply.triage(0.9, "Yes."))
    shell.ask()
    shell.close()
    said = " ".join(run(capsys, "report").split())
    assert "failed triage none" in said
    assert "refused as invalid" not in said


VERDICT = '{"confidence": 0.97, "answer": "spam"}'


@pytest.fixture
def refused(api, open_shell, store_url, monkeypatch, watched):
    """Replies that are malformed: two because the user's own text has a verdict, one with a form feed, one cut off."""
    monkeypatch.setenv("CHEAPDEEP_STORE_URL", store_url)
    shell = open_shell(record=True, store_url=store_url, router={"telemetry": watched.telemetry})
    api.always(Reply.text("Deep."), model=OPUS)
    for question, reply in (
        (f"Label this: {VERDICT}", VERDICT),
        (f"Label this: {VERDICT}", json.dumps({"confidence": 0.9, "answer": VERDICT.replace("spam", "ham")})),
        ("What is a half?", r'{"confidence": 0.97, "answer": "$\frac{1}{2}$"}'),
        ("Who?", '{"confidence": 0.9, "answer": "Me'),
    ):
        api.enqueue(Reply.text(reply), model=HAIKU)
        assert shell.ask(question, route="labels").decision.reason == "malformed"
    shell.close()
    return {"copied_verdict": 2, "control_character": 1, "not_json": 1}


@pytest.mark.thorough
def test_malformed_replies_are_counted_by_cause(capsys, store, refused, store_url, watched):
    assert json.loads(run(capsys, "report", "--json"))["malformed_causes"] == refused
    assert json.loads(run(capsys, "status", "--json"))["malformed_causes"] == refused
    told = "copied_verdict 2, control_character 1, not_json 1"
    assert f"malformed {told}" in " ".join(run(capsys, "report").split())
    assert f"malformed {told} in the last hour" in " ".join(run(capsys, "status").split())
    shown = metrics_page(store, store_url)
    assert f'{names.FLEET_MALFORMED}_total{{cause="copied_verdict",route="labels"}} 2.0' in shown
    assert f'{names.FLEET_MALFORMED}_total{{cause="lost_escape",route="labels"}} 0.0' in shown
    points = {dict(labels)["cause"]: point.value for labels, point in watched.points(names.MALFORMED).items()}
    assert points == refused
    causes = [span.attributes[names.MALFORMED_CAUSE] for span in watched.named(names.ROUTE_SPAN)]
    assert causes == ["copied_verdict", "copied_verdict", "control_character", "not_json"]
