"""What the receipt says of prompt caches: from calls over HTTP, through the store, to people and programs."""

import json

import pytest
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator

from cheapdeep_ops.cli import main
from cheapdeep_ops.guard.http.api import make_api
from cheapdeep_ops.guard.notify.messages import details
from cheapdeep_ops.guard.reports.receipt import caches_of
from cheapdeep_ops.guard.reports.weekly import message_of
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters
from cheapdeep_ops.store.counts import Sums
from cheapdeep_ops.testing import Reply
from tests.stores import migrated

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
CALL = {
    "max_tokens": 100,
    "system": [{"type": "text", "text": "a" * 20_000, "cache_control": {"type": "ephemeral"}}],
    "messages": [{"role": "user", "content": "hello"}],
}


@pytest.fixture
def settings(store_url, monkeypatch):
    monkeypatch.setenv("CHEAPDEEP_STORE_URL", store_url)
    return Settings(store_url=store_url)


@pytest.fixture
def store(settings):
    store = migrated(settings.store_url)
    yield store
    store.close()


@pytest.fixture
def decisions(api, open_shell, store, store_url):
    """An answer that ships, one that finds the deep tier's cache cold, and one that finds it warm."""
    api.enqueue(Reply.triage(0.95, "Yes."), Reply.triage(0.3, None), Reply.triage(0.3, None), model=HAIKU)
    shell = open_shell(record=True, store_url=store_url)
    made = [shell.route(**CALL).decision for _ in range(3)]
    shell.close()
    return made


def run(capsys, *arguments):
    assert main([*arguments]) == 0
    return capsys.readouterr().out


def test_the_receipt_says_what_cold_caches_cost_and_what_was_read(capsys, decisions):
    found = json.loads(run(capsys, "report", "--json"))
    hops = [hop for each in decisions for hop in each.hops]
    triage, deep = ([hop.usage for hop in hops if hop.tier.is_deep is is_deep] for is_deep in (False, True))
    assert found["cold_cache_usd"] == pytest.approx(5_000 * 5.75e-6, abs=1e-9)
    assert found["cold_cache_share"] == pytest.approx(found["cold_cache_usd"] / found["cost_usd"])
    assert found["triage_cache_read_share"] == 10_000 / sum(usage.total_input_tokens for usage in triage)
    assert found["deep_cache_read_share"] == 5_000 / sum(usage.total_input_tokens for usage in deep)
    assert (found["triage_replies"], found["deep_replies"]) == (3, 2)
    paid = sum(each.cost_usd for each in decisions)
    all_deep = sum(each.baseline_cost_usd for each in decisions)
    assert found["saving"] == pytest.approx(1 - paid / all_deep)
    assert "less what its cold cache cost" in found["baseline_basis"]


@pytest.mark.thorough
def test_people_read_it_in_text_in_markdown_and_on_a_page(capsys, decisions, tmp_path):
    share = decisions[1].cold_cache_usd / sum(each.cost_usd for each in decisions)
    cold = f"$0.029, {share:.1%} of the cost: the deep tier wrote this to its cache"
    text = run(capsys, "report")
    assert "cold caches" in text
    assert cold in " ".join(text.split())
    assert "the deep tier read 50.0% of its input tokens (n 2)" in " ".join(text.split())
    assert f"| cold caches | {cold}" in run(capsys, "report", "--markdown")
    run(capsys, "report", "--html", str(tmp_path / "page.html"))
    assert cold in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.thorough
def test_programs_read_it_as_the_api_says(settings, store, decisions):
    now = decisions[-1].started_at + 5
    api = make_api(store, settings=settings, collector=None, is_ready=str, clock=lambda: now)
    found = TestClient(api, base_url="http://localhost").get("/api/v1/report").json()
    document = api.openapi()
    schema = document["paths"]["/api/v1/report"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    Draft202012Validator({"components": document["components"], **schema}).validate(found)
    assert found["cold_cache_usd"] == pytest.approx(decisions[1].cold_cache_usd, abs=1e-9)


def told(store, settings, until):
    lines = details(message_of(store, settings, since=0.0, until=until))
    return dict(line.split(": ", 1) for line in lines if ": " in line)


def test_slack_is_told_where_it_is_not_nothing(settings, store, decisions):
    now = decisions[-1].started_at + 5
    assert told(store, settings, now)["Cold caches"].startswith("$0.029, ")
    assert "Cold caches" not in told(store, settings, decisions[0].started_at - 5)


def test_the_sums_of_a_store_are_the_decisions(store, decisions):
    with store.reading() as connection:
        (sums,) = counters.totals(connection).values()
    assert sums.cold_cache_nusd == 28_750_000
    assert (sums.triage_cache_read_tokens, sums.deep_cache_read_tokens) == (10_000, 5_000)


UNKNOWN = {"cold_cache_usd": None, "cold_cache_share": None}
NOTHING_READ = {"triage_cache_read_share": None, "triage_replies": 0, "deep_cache_read_share": None, "deep_replies": 0}


@pytest.mark.parametrize(
    ("sums", "expected"),
    [
        (Sums(), UNKNOWN | NOTHING_READ),
        (Sums(calls=2, unpriced=2, escalated=2, deep_replies=2), UNKNOWN),
        # Counted before caches were.
        (Sums(calls=2, escalated=1, cost_nusd=5), UNKNOWN | {"deep_cache_read_share": None}),
        (Sums(calls=2, shipped=2, cost_nusd=5), {"cold_cache_usd": 0.0, "cold_cache_share": 0.0}),
        (
            Sums(calls=2, escalated=1, deep_replies=1, deep_input_tokens=8, deep_cache_read_tokens=2, cost_nusd=8),
            {"cold_cache_usd": 0.0, "deep_cache_read_share": 0.25, "deep_replies": 1},
        ),
    ],
)
def test_what_is_not_known_is_not_said_to_be_nothing(sums, expected):
    found = caches_of(sums)
    assert {name: found[name] for name in expected} == expected


def test_an_empty_receipt_says_that_nothing_is_known(capsys, store):
    text = " ".join(run(capsys, "report").split())
    assert "cold caches unknown" in text
    assert "triage read unknown of its input tokens (n 0)" in text
