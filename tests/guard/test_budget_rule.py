"""Budgets as the guard has them: its limits in the store, two alerts a day for each, and what reports show."""

from io import StringIO

import pytest
from rich.console import Console

from cheapdeep_ops.budgets import charged_to, nusd
from cheapdeep_ops.cli.render.status import show_status, show_whole_status
from cheapdeep_ops.errors import RulesError
from cheapdeep_ops.guard.reports.status import present, status
from cheapdeep_ops.guard.rules.book import RouteBudget, Rulebook, read_rulebook
from cheapdeep_ops.guard.rules.budget.rule import BudgetRule
from cheapdeep_ops.guard.rules.recipients import Recipient, told
from cheapdeep_ops.store import budgets
from cheapdeep_ops.units import DAY_S

from .conftest import START, Town


def rulebook(*route_budgets):
    rules = tuple(rule for rule in read_rulebook().rules if isinstance(rule, BudgetRule))
    return Rulebook(rules=rules, budgets=route_budgets)


@pytest.fixture
def town(store, settings, inbox):
    changed = settings.model_copy(update={"usd_per_day": 1.0})
    town = Town(store, changed, rulebook(RouteBudget(route="support", deep_usd_per_day=0.1)), inbox)
    yield town
    town.recorder.close()


def spend(town, usd, *, route="billing", deep_usd=0.0):
    town.recorder.spending.spend(route, "", usd=usd, deep_usd=deep_usd)
    report(town)


def report(town):
    town.recorder.ask_budgets(town.clock())
    town.look()


def messages(town):
    return [f"{each['kind']} {each['rule']} {each['scope']}" for each in town.inbox.payloads]


def test_a_budget_has_one_message_at_80_percent_and_one_when_it_is_spent(town):
    spend(town, 0.79)
    assert messages(town) == []
    spend(town, 0.02)
    spend(town, 0.01)
    assert messages(town) == ["started BudgetNearlySpent all spend"]
    town.recorder.spending.spend("billing", "", usd=None)
    spend(town, 0.3)
    spend(town, 0.3)
    assert messages(town)[1:] == ["started BudgetSpent all spend"]
    assert town.inbox.payloads[-1]["signal"]["why"] == (
        "$1.12 of $1.00 for this day of UTC is spent, without 1 call of unknown cost"
    )
    town.clock.advance(DAY_S)
    report(town)
    assert sorted(messages(town)[2:]) == ["resolved BudgetNearlySpent all spend", "resolved BudgetSpent all spend"]
    spend(town, 0.9)
    assert messages(town)[4:] == ["started BudgetNearlySpent all spend"]


def test_a_routes_budget_is_told_to_those_who_are_told_of_the_route(town):
    report(town)  # the process learns of the budget
    report(town)
    spend(town, 0.2, route="support", deep_usd=0.09)
    (payload,) = town.inbox.payloads
    assert (payload["scope"], payload["severity"]) == ("support: deep tier", "ticket")
    team = Recipient(name="team", routes=("support",), receiver="slack")
    rest = Recipient(name="rest", receiver="log")
    assert told((team, rest), payload) == ["team"]
    spend(town, 0.7)
    assert told((team, rest), town.inbox.payloads[-1]) == ["rest"]


@pytest.mark.thorough
def test_a_process_holds_the_rest_of_a_budget_that_is_spent(town):
    spend(town, 0.95)
    (all_spend, _) = present(town.store, town.settings, town.clock())["budgets"]
    assert all_spend["held_usd"] < 0.01
    assert all_spend["share"] == pytest.approx(0.95)


@pytest.mark.thorough
def test_reports_say_what_is_spent_of_what_and_what_that_rests_on(town):
    town.recorder.spending.limit_keys({"mobile": (0.5, None)})
    with charged_to("mobile"):
        town.recorder.spending.spend("billing", "mobile", usd=0.25)
    report(town)
    found = {each["budget"]: each for each in present(town.store, town.settings, town.clock())["budgets"]}
    assert found.keys() == {"all", "all key mobile", "deep route support"}
    key, overall, route = found["all key mobile"], found["all"], found["deep route support"]
    assert (key["spent_usd"], key["limit_usd"], key["share"], key["key"], key["route"]) == (
        0.25,
        0.5,
        0.5,
        "mobile",
        None,
    )
    assert (overall["spent_usd"], overall["limit_usd"], overall["processes"]) == (0.25, 1.0, 1)
    assert (route["spent_usd"], route["route"], route["as_of"], route["processes"]) == (0.0, "support", None, 0)
    assert overall["resets_at"] > town.clock()


@pytest.mark.thorough
def test_a_terminal_shows_the_fullest_budget_and_on_request_all(town):
    town.recorder.spending.spend("billing", "", usd=0.25)
    town.recorder.spending.spend("billing", "", usd=None)
    report(town)
    report(town)
    found = status(town.store, town.settings, town.clock())
    shown = []
    for show in (show_status, show_whole_status):
        out = Console(file=StringIO(), width=140)
        show(out, found)
        shown.append(out.file.getvalue())
    said = "all spend $0.25 of $1.00 (25.0%) since midnight UTC, without 1 call of unknown cost"
    assert said in shown[0]
    assert "1 more: cheapdeep-ops status --all" in shown[0]
    assert "support: deep tier" in shown[1]


@pytest.mark.thorough
def test_the_guard_sets_its_limits_and_takes_back_those_that_it_no_longer_has(town):
    report(town)
    with town.store.reading() as connection:
        assert budgets.limits(connection) == {"all": nusd(1), "deep route support": nusd(0.1)}
    spend(town, 0.95)
    town.guard.close()
    town.guard = town.another_guard(rulebook())
    town.recorder.spending._own.clear()
    report(town)
    report(town)
    with town.store.reading() as connection:
        assert budgets.limits(connection) == {"all": nusd(1)}
    assert messages(town) == ["started BudgetNearlySpent all spend"]


@pytest.mark.thorough
def test_old_days_are_forgotten(town):
    spend(town, 0.5)
    with town.store.reading() as connection:
        (first, _) = budgets.spends(connection, day=int(START // DAY_S), now=START)
    assert first.spent == nusd(0.5)
    town.clock.advance(9 * DAY_S)
    town.look()
    town.guard.retain(town.clock())
    with town.store.reading() as connection:
        (first, _) = budgets.spends(connection, day=int(START // DAY_S), now=START)
    assert first.spent == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- {usd_per_day: 1}", "budget number 1, route: Field required"),
        ("- {route: a}", "budget a: needs usd_per_day or deep_usd_per_day"),
        ("- {route: a, usd_per_day: 0}", "budget a, usd_per_day: Input should be greater than 0"),
        ("- {route: a, usd_a_day: 1, deep_usd_per_day: 1}", "budget a, usd_a_day: Extra inputs are not permitted; did"),
        ("- {route: '*', usd_per_day: 1}", "budget *: a budget for all routes is CHEAPDEEP_USD_PER_DAY"),
        ("- {route: a, usd_per_day: 1}\n- {route: a, usd_per_day: 2}", "more than one entry is for the route a"),
    ],
)
def test_each_fault_of_a_budget_is_named(tmp_path, text, said):
    rule = "{alert: A, signal: budget_spent, limit: 0.8, keep_firing_for: 0s, actions: [notify]}"
    path = tmp_path / "rules.yaml"
    path.write_text(f"rules: [{rule}]\nbudgets:\n{text}\n")
    with pytest.raises(RulesError) as refused:
        read_rulebook(path)
    assert said in str(refused.value)
