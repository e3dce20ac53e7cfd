"""Eight services spend one budget, over a database and over a guard: how much beyond it, and who is told."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from cheapdeep_ops.testing import Reply, SimulatedAnthropic, SimulatedSlack
from tests.e2e.test_processes import get, guard, until
from tests.guards import TOKEN, tokens_file
from tests.patience import PATIENCE_S
from tests.ports import free_port

pytestmark = pytest.mark.thorough

PROCESSES, EVERY_S = 8, 0.24
PRICE_USD = 0.005
"""200 output tokens of Opus; together the services would spend $10 in a minute."""

RULES = """
rules:
  - {alert: BudgetNearlySpent, signal: budget_spent, limit: 0.8, keep_firing_for: 0s, actions: [notify]}
  - {alert: BudgetSpent, signal: budget_spent, limit: 1.0, keep_firing_for: 0s, actions: [notify]}
"""


@pytest.fixture
def environment(tmp_path):
    (tmp_path / "rules.yaml").write_text(RULES)
    with SimulatedAnthropic() as api, SimulatedSlack() as slack:
        api.always(Reply.text("Deep.", usage={"input_tokens": 0, "output_tokens": 200}), model="claude-opus-4-7")
        yield (
            api,
            slack,
            {
                "PATH": "/usr/bin:/bin",
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "ANTHROPIC_BASE_URL": api.url,
                "ANTHROPIC_API_KEY": "simulated",
                "CHEAPDEEP_RULES_FILE": str(tmp_path / "rules.yaml"),
                "CHEAPDEEP_EVALUATE_EVERY_S": "0.5",
                "CHEAPDEEP_SLACK_BOT_TOKEN": slack.token,
                "CHEAPDEEP_SLACK_CHANNEL": "C0BUDGET",
                "CHEAPDEEP_SLACK_BASE_URL": slack.url,
                "CHEAPDEEP_PORT": str(free_port()),
                "CHEAPDEEP_API_TOKENS_FILE": str(tokens_file(tmp_path)),
                "CHEAPDEEP_DEEP_USD_PER_DAY": "1.0",
                "CHEAPDEEP_AT_BUDGET": "refuse",
            },
        )


@contextlib.contextmanager
def spenders(environment):
    """The services, once all of them have begun; they end by themselves."""
    command = [sys.executable, str(Path(__file__).with_name("spender.py")), str(EVERY_S)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    services = [subprocess.Popen(command, env=environment, **pipes) for _ in range(PROCESSES)]
    try:
        for each in services:
            assert each.stdout.readline() == "ready\n"
        for each in services:
            each.stdin.write("\n")
            each.stdin.flush()
        yield services
    finally:
        for each in services:
            each.kill()
            each.wait(PATIENCE_S)
            each.stdin.close()
            each.stdout.close()


def outcomes_of(services):
    found = [json.loads(each.stdout.readline()) for each in services]
    assert [each.wait(PATIENCE_S) for each in services] == [0] * PROCESSES
    return [outcome for each in found for outcome in each]


@pytest.mark.parametrize(("store", "way"), [("sqlite", "database"), ("postgresql", "database"), ("sqlite", "guard")])
def test_eight_services_spend_no_more_than_the_budget_and_people_are_told_twice(environment, request, store, way):
    api, slack, known = environment
    known["CHEAPDEEP_STORE_URL"] = request.getfixturevalue(f"{store}_url")
    of_service = known
    if way == "guard":
        url = f"http://127.0.0.1:{known['CHEAPDEEP_PORT']}"
        of_service = {**known, "CHEAPDEEP_STORE_URL": url, "CHEAPDEEP_GUARD_TOKEN": TOKEN}
        # The guard has set the budget, and the services learn of it.
        del of_service["CHEAPDEEP_DEEP_USD_PER_DAY"]
    with guard(known):
        if way == "guard":
            until(lambda: json.loads(get(known, "/api/v1/status", token=TOKEN))["budgets"], "the budget to be set")
        with spenders(of_service) as services:
            outcomes = outcomes_of(services)
        paid = [cost for cost, _ in outcomes if cost is not None]
        refused = [budget for cost, budget in outcomes if cost is None]
        assert len(paid) == sum(each.path == "/v1/messages" for each in api.requests)
        assert set(paid) == {PRICE_USD}
        assert set(refused) == {"deep"}
        # At most one call of each service was in flight.
        spent = sum(paid)
        print(f"{way} {store}: ${spent:.3f} of $1.000, {len(refused)} of {len(outcomes)} calls refused")
        assert 0.98 <= spent <= 1.02 + PROCESSES * PRICE_USD

        slack.wait_for(lambda message: "BudgetSpent" in message.text, PATIENCE_S)
        (budget,) = until(
            lambda: [
                each
                for each in json.loads(get(known, "/api/v1/status", token=TOKEN))["budgets"]
                if each["spent_usd"] == pytest.approx(spent)
            ],
            "the status to have all spend",
        )
        assert (budget["budget"], budget["limit_usd"], budget["unpriced_calls"]) == ("deep", 1.0, 0)
        metrics = get(known, "/metrics", token=TOKEN)
        assert f'cheapdeep_fleet_budget_spent_usd{{budget="deep"}} {budget["spent_usd"]}' in metrics
        assert "cheapdeep_fleet_budget_refused_total" in metrics
    # What is posted below a message is its history.
    titles = [each.text for each in slack.messages if not each.text[0].isdigit()]
    assert sorted(title.split()[0] for title in titles) == ["BudgetNearlySpent", "BudgetSpent"], titles
