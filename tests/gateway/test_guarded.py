"""The guard's loop over two gateways whose traffic comes from the TypeScript SDK."""

import sqlite3
from contextlib import ExitStack, closing

import pytest

from cheapdeep_ops.testing import CLASSES, SimulatedSlack
from tests.gateway.processes import ServerProcess, gateway, serving, until
from tests.patience import PATIENCE_S
from tests.storm_rules import STORM_RULES

pytestmark = pytest.mark.thorough

PROMPTS = {each.name: each.prompt for each in CLASSES}


class Traffic:
    """Calls of one class after another, on the route `support`."""

    def __init__(self, client, urls):
        self._client, self._urls, self._asked = client, urls, 0
        self.calls = []

    def of(self, name, is_enough):
        """Ask 40 questions of this class at a time, until it is enough."""

        def asked():
            numbers = range(self._asked, self._asked + 40)
            self._asked += 40
            questions = [PROMPTS[name](number) for number in numbers]
            headers = {"x-cheapdeep-route": "support", "x-cheapdeep-input-class": name}
            self.calls += self._client("traffic", urls=self._urls, questions=questions, headers=headers)["calls"]
            return is_enough()

        until(asked, f"enough traffic of {name}")

    def thresholds_since(self, at):
        """The thresholds of the calls that began since then, for each gateway."""
        since = [call for call in self.calls if call["begunAt"] >= at]
        return [{call["threshold"] for call in since if call["gateway"] == each} for each in range(len(self._urls))]

    def known_at(self, threshold, since):
        """When each gateway had answered a first call with this threshold; None before."""
        known = [call for call in self.calls if call["begunAt"] >= since and call["threshold"] == threshold]
        return [
            min((call["endedAt"] for call in known if call["gateway"] == each), default=None)
            for each in range(len(self._urls))
        ]


def test_a_storm_raises_every_gateway_and_is_let_go(typescript_client, api, tmp_path):
    store, rules = tmp_path / "store.db", tmp_path / "rules.yaml"
    rules.write_text(STORM_RULES)

    def changes():
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
            found = connection.execute("SELECT act, scope, cause, at FROM policy_change ORDER BY version")
            return found.fetchall()

    with SimulatedSlack() as slack, ExitStack() as stack:
        known = {
            "CHEAPDEEP_RULES_FILE": str(rules), "CHEAPDEEP_EVALUATE_EVERY_S": "0.5", "CHEAPDEEP_FLUSH_EVERY_S": "0.5",
            "CHEAPDEEP_SLACK_BOT_TOKEN": slack.token, "CHEAPDEEP_SLACK_CHANNEL": "C0STORMS",
            "CHEAPDEEP_SLACK_BASE_URL": slack.url, "ANTHROPIC_API_KEY": "any",
        }  # fmt: skip
        stack.enter_context(serving(ServerProcess("serve", tmp_path, api.url, **known)))
        urls = [stack.enter_context(gateway(tmp_path, api.url, **known)).url for _ in range(2)]
        traffic = Traffic(typescript_client, urls)

        traffic.of("faq", lambda: len(traffic.calls) >= 200)
        assert (changes(), slack.posts) == ([], [])
        assert traffic.thresholds_since(0) == [{0.8}, {0.8}]

        traffic.of("legal", changes)
        told = slack.wait_for(lambda message: "EscalationStorm firing" in message.text, PATIENCE_S)
        (raised,) = changes()
        assert raised[:3] == ("raise", "support", "EscalationStorm")
        traffic.of("legal", lambda: None not in traffic.known_at(0.9, raised[3]))
        all_raised_at = max(traffic.known_at(0.9, raised[3]))
        print(f"all gateways were raised {all_raised_at - raised[3]:.2f} s after the guard's decision")
        # A call that began before may have overtaken the first that knew.
        traffic.of("legal", lambda: len([call for call in traffic.calls if call["begunAt"] > all_raised_at]) >= 80)
        assert traffic.thresholds_since(all_raised_at) == [{0.9}, {0.9}]

        traffic.of("faq", lambda: len(changes()) > 1)
        (_, released) = changes()
        assert released[:3] == ("release", "support", "EscalationStorm")
        traffic.of("faq", lambda: None not in traffic.known_at(0.8, released[3]))
        all_released_at = max(traffic.known_at(0.8, released[3]))
        traffic.of("faq", lambda: len([call for call in traffic.calls if call["begunAt"] > all_released_at]) >= 80)
        assert traffic.thresholds_since(all_released_at) == [{0.8}, {0.8}]
        until(lambda: "resolved" in slack_text(slack, told), "the resolved message")
        assert len(slack.posts) == 1
    with closing(sqlite3.connect(store)) as connection:
        counted = "SELECT sum(calls) FROM (SELECT calls FROM bucket UNION ALL SELECT calls FROM rollup WHERE {0})"
        query = counted.format("width_s = 1 AND route <> '*'")
        assert connection.execute(query).fetchone() == (len(traffic.calls),)


def slack_text(slack, told):
    return next(message.text for message in slack.messages if message.ts == told.ts)
