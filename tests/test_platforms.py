"""Routers over the SDK's clients for other platforms, as far as they can be tried without an account there."""

import json

import httpx2
import pytest
from anthropic import AnthropicBedrock, AnthropicFoundry, AnthropicVertex, AsyncAnthropicFoundry, AsyncAnthropicVertex

from cheapdeep_ops import AsyncRouter, Router, Settings
from cheapdeep_ops.pricing import PriceBook
from cheapdeep_ops.testing import Reply
from cheapdeep_ops.testing.messages_api import wire
from cheapdeep_ops.values import Usage

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
USAGE = {"input_tokens": 300, "output_tokens": 40}


class Platform:
    """A platform's server that answers whole messages: the first tier with a confidence, the other with text."""

    def __init__(self, *, confidence):
        self.confidence, self.asked = confidence, []
        self.http = httpx2.Client(transport=httpx2.MockTransport(self._answer))
        self.async_http = httpx2.AsyncClient(transport=httpx2.MockTransport(self._answer))

    def _answer(self, request):
        self.asked.append((request.url.path, json.loads(request.content)))
        is_first = len(self.asked) == 1
        reply = Reply.triage(self.confidence, "Cheap.", usage=USAGE) if is_first else Reply.text("Deep.", usage=USAGE)
        whole = wire.message(reply, message_id="m", model="claude", prompt=wire.PromptTokens(uncached=300))
        if "stream" in request.url.path.lower() or self.asked[-1][1].get("stream"):
            events = b"".join(wire.event_stream(whole))
            return httpx2.Response(200, content=events, headers={"content-type": "text/event-stream"})
        return httpx2.Response(200, json=dict(whole))


def bedrock(platform):
    return AnthropicBedrock(aws_region="us-east-1", api_key="any", http_client=platform.http)


def vertex(platform):
    return AnthropicVertex(region="global", project_id="p", access_token="any", http_client=platform.http)


def foundry(platform):
    return AnthropicFoundry(resource="r", api_key="any", http_client=platform.http)


CLIENTS = [
    (bedrock, f"us.anthropic.{HAIKU}-20251001-v1:0", f"us.anthropic.{OPUS}", 1.1),
    (bedrock, f"global.anthropic.{HAIKU}-20251001-v1:0", f"global.anthropic.{OPUS}", 1.0),
    (vertex, f"{HAIKU}@20251001", OPUS, 1.0),
    (foundry, HAIKU, OPUS, 1.0),
]


def cost(model):
    return PriceBook().cost(model, Usage(**USAGE), at=1_795_000_000.0)


@pytest.mark.parametrize(("client", "cheap", "deep", "factor"), CLIENTS)
@pytest.mark.parametrize("confidence", [0.95, 0.3])
def test_a_router_over_a_platforms_client_routes_and_prices(client, cheap, deep, factor, confidence):
    platform = Platform(confidence=confidence)
    settings = Settings(record=False, tiers=(cheap, deep))
    with client(platform) as own, Router(client=own, settings=settings) as router:
        routed = router.ask("How do I reset my password?")
    asked = [(cheap, HAIKU), (deep, OPUS)] if routed.decision.escalated else [(cheap, HAIKU)]
    assert routed.decision.escalated is (confidence == 0.3)
    assert (routed.text, routed.decision.model) == ("Deep." if len(asked) == 2 else "Cheap.", asked[-1][0])
    assert routed.decision.cost_usd == pytest.approx(factor * sum(cost(plain) for _, plain in asked))
    assert routed.decision.baseline_cost_usd > 0
    sent = [body.get("model", path) for path, body in platform.asked]
    assert [name in where for (name, _), where in zip(asked, sent, strict=True)] == [True] * len(asked)


@pytest.mark.parametrize("kind", [AsyncAnthropicVertex, AsyncAnthropicFoundry])
async def test_for_asyncio_too(kind):
    platform = Platform(confidence=0.95)
    known = {"resource": "r", "api_key": "any"} if kind is AsyncAnthropicFoundry else {"access_token": "any"}
    known |= {} if kind is AsyncAnthropicFoundry else {"region": "global", "project_id": "p"}
    async with kind(http_client=platform.async_http, **known) as own:
        router = AsyncRouter(client=own, settings=Settings(record=False))
        assert (await router.ask("hello")).text == "Cheap."
        await router.aclose()


@pytest.mark.parametrize("client", [vertex, foundry])
@pytest.mark.parametrize(("confidence", "text"), [(0.95, "Cheap."), (0.3, "Deep.")])
def test_streams_are_routed(client, confidence, text):
    platform = Platform(confidence=confidence)
    with client(platform) as own, Router(client=own, settings=Settings(record=False)) as router:
        question = {"max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
        with router.messages.stream(**question) as stream:
            assert "".join(stream.text_stream) == text
    assert len(platform.asked) == (1 if text == "Cheap." else 2)


@pytest.mark.parametrize(
    ("tier", "named"),
    [
        (f"{HAIKU}-20251001", HAIKU),
        (HAIKU, f"{HAIKU}-20251001"),
        (HAIKU, f"{HAIKU}-latest"),
        (HAIKU, HAIKU.upper()),
        (f"us.anthropic.{HAIKU}-20251001-v1:0", HAIKU),
        (HAIKU, f"anthropic/{HAIKU}"),
        (HAIKU, f"{HAIKU}@20251001"),
    ],
)
def test_a_call_that_names_the_cheap_model_by_another_name_is_answered_by_it_as_it_was_named(tier, named):
    platform = Platform(confidence=0.95)
    with foundry(platform) as own, Router(client=own, settings=Settings(record=False, tiers=(tier, OPUS))) as router:
        decision = router.route(model=named, max_tokens=9, messages=[{"role": "user", "content": "hello"}]).decision
    assert (decision.bypass_cause, decision.tier, decision.model) == ("cheap_requested", 0, named)
    assert [body["model"] for _, body in platform.asked] == [named]
