"""What a client gets from the API itself, and what through the gateway; and what the API is to answer."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cheapdeep_ops.testing import Reply, SimulatedAnthropic
from tests.gateway.processes import ClientProcess

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
ANSWER = "Under Settings, Account: choose »Reset«, and then wait for the mail."
USAGE = {"input_tokens": 41, "output_tokens": 17}
QUESTION = "How do I reset my password?"


@dataclass
class Pair:
    """What a client got from the API itself and through the gateway, and the models that were asked meanwhile."""

    straight: Any
    routed: Any
    asked_straight: list[str]
    asked_routed: list[str]


@dataclass
class Both:
    """Lets one client do one thing twice: straight at the API, and through the gateway."""

    client: ClientProcess
    api: SimulatedAnthropic
    gateway_url: str

    def __call__(self, act: str, script: Callable[[SimulatedAnthropic], None] | None = None, **given: Any) -> Pair:
        """`script` says before each of the two what the API is to answer."""
        known = {"question": QUESTION, "key": "any", **given}
        results, asked = [], []
        for url in (self.api.url, self.gateway_url):
            self.api.clear()
            if script is not None:
                script(self.api)
            results.append(self.client(act, url=url, **known))
            asked.append([request.model or request.path for request in self.api.requests])
        return Pair(*results, *asked)


def answered_by(confidence: float) -> Callable[[SimulatedAnthropic], None]:
    """The first tier states this confidence; both tiers give one answer with one usage, so that results compare."""

    def script(api: SimulatedAnthropic) -> None:
        triage, deep = Reply.triage(confidence, ANSWER, usage=USAGE), Reply.text(ANSWER, usage=USAGE)
        api.always(lambda request: triage if request.is_triage else deep)

    return script


SHIPPED, ESCALATED = answered_by(0.95), answered_by(0.3)


def with_a_tool(api: SimulatedAnthropic) -> None:
    """The model calls a tool once, and says what it got."""
    call = Reply.tool_use("weather", {"city": "Zürich"}, usage=USAGE)
    last = Reply.text("Sunny there.", usage=USAGE)
    api.always(lambda request: last if "tool_result" in json.dumps(request.body) else call)


def failing(status: int, **more: Any) -> Callable[[SimulatedAnthropic], None]:
    """The first tier is unsure, and the deep one fails with this status."""

    def script(api: SimulatedAnthropic) -> None:
        triage, error = Reply.triage(0.3, None, usage=USAGE), Reply.error(status, **more)
        api.always(lambda request: triage if request.is_triage else error)

    return script
