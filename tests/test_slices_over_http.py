"""Slices of budgets over HTTP: a guard grants them to services without a database."""

import time

import pytest

from cheapdeep_ops.budgets import SliceRequest, day_of
from cheapdeep_ops.errors import BudgetError, StoreError
from cheapdeep_ops.recorder import Recorder
from cheapdeep_ops.recorder.guard_destination import GuardDestination
from cheapdeep_ops.settings import Settings
from tests.guards import TOKEN, serving, tokens_file

pytestmark = pytest.mark.thorough

HOLDER = "0" * 32
LIMIT = 1_000_000


def destination(served):
    return GuardDestination(served.url, token=TOKEN, clock=time.time, on_news=lambda: None)


def asked(budget, **changes):
    return SliceRequest(
        **{"day": day_of(time.time()), "budget": budget, "spent": 0, "ceiling": 0, "limit": LIMIT, **changes}
    )


@pytest.fixture
def served(sqlite_url):
    with serving(sqlite_url) as served:
        yield served


def test_a_guard_grants_as_the_store_does(served):
    sender = destination(served)
    first = sender.ask_budgets(0.0, HOLDER, 1, [asked("all"), asked("deep key mobile")])
    assert [(each.budget, each.ceiling, each.limit) for each in first.granted] == [
        ("all", LIMIT // 8, LIMIT),
        ("deep key mobile", LIMIT // 8, LIMIT),
    ]
    other = sender.ask_budgets(0.0, "1" * 32, 1, [asked("all")])
    assert other.granted[0].ceiling == (LIMIT - LIMIT // 8) // 8
    assert sender.ask_budgets(0.0, HOLDER, 0, [asked("all", spent=5)]).granted == []
    assert sender.ask_budgets(0.0, HOLDER, 2, []) == ([], {})
    sender.close()


def test_a_token_for_one_route_gets_none_of_another_routes_budget(sqlite_url, tmp_path):
    limited = tokens_file(tmp_path, "send", routes='routes = ["support"]')
    with serving(sqlite_url, api_tokens_file=limited) as served:
        sender = destination(served)
        asks = [asked("deep route support"), asked("deep route legal"), asked("all")]
        granted = sender.ask_budgets(0.0, HOLDER, 1, asks).granted
        assert [each.budget for each in granted] == ["deep route support", "all"]
        sender.close()


def test_a_malformed_request_is_refused(served):
    sender = destination(served)
    for wrong in ({"budget": "team a"}, {"spent": -1}, {"ceiling": 10**17}, {"day": 0.5}, {"is_last": 1}):
        with pytest.raises(StoreError, match="answers HTTP 400"):
            sender.ask_budgets(0.0, HOLDER, 1, [asked("all")._replace(**wrong)])
    sender.close()


def test_a_service_spends_its_slice_while_the_guard_is_away(sqlite_url):
    with serving(sqlite_url) as served:
        settings = Settings(
            store_url=served.url, guard_token=TOKEN, usd_per_day=8.0, at_budget="refuse", flush_every_s=60.0
        )
        recorder = Recorder(settings, background=False)
        recorder.ask_budgets(time.time())
    spending = recorder.spending
    spending.require("support", "", is_deep=True)
    spending.spend("support", "", usd=0.9)
    with pytest.raises(StoreError):
        recorder.ask_budgets(time.time())
    spending.require("support", "", is_deep=True)
    spending.spend("support", "", usd=0.2)
    with pytest.raises(BudgetError):
        spending.require("support", "", is_deep=True)
    recorder.close()
