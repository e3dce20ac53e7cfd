"""Not run: what a service writes against the routers, which has to type-check under mypy's strict mode."""

from typing import assert_type

from anthropic import Anthropic, AsyncAnthropic, AsyncStream, Stream
from anthropic.resources.messages import Batches
from anthropic.types import Message, MessageParam, RawMessageStreamEvent

from cheapdeep_ops import (
    AsyncRouter,
    BypassCause,
    Decision,
    Outcome,
    Reason,
    Routed,
    Router,
    Settings,
    SettingsError,
)
from cheapdeep_ops.testing import FrozenClock, Reply, SimulatedAnthropic, SimulatedSlack, TrafficClass

CONVERSATION: list[MessageParam] = [
    {"role": "user", "content": "Where is my order?"},
    {"role": "assistant", "content": [{"type": "text", "text": "Which one?"}]},
    {"role": "user", "content": [{"type": "text", "text": "42", "cache_control": {"type": "ephemeral"}}]},
]


def settings() -> Settings | None:
    try:
        return Settings(base_threshold=0.85, tiers=("claude-haiku-4-5", "claude-opus-4-7"))
    except SettingsError:
        return None


def calls(router: Router) -> str:
    message = router.messages.create(max_tokens=1024, messages=CONVERSATION, system="Be brief.", route="support")
    assert_type(message, Message)
    routed = router.route(max_tokens=1024, messages=CONVERSATION, input_class="order", model="claude-opus-5-5")
    assert_type(routed, Routed)
    assert_type(routed.text, str)
    assert_type(routed.message.usage.output_tokens, int)
    events = router.messages.create(max_tokens=1024, messages=CONVERSATION, stream=True)
    assert_type(events, Stream[RawMessageStreamEvent])
    assert_type(router.messages.count_tokens(model="claude-opus-4-7", messages=CONVERSATION).input_tokens, int)
    assert_type(router.messages.batches, Batches)
    assert_type(router.with_options(timeout=5.0), Router)
    with router.messages.stream(max_tokens=1024, messages=CONVERSATION) as stream:
        for text in stream.text_stream:
            assert_type(text, str)
    return router.ask("How do I reset my password?", route="support").text


async def awaited_calls(router: AsyncRouter) -> str:
    message = await router.messages.create(max_tokens=1024, messages=CONVERSATION)
    assert_type(message, Message)
    routed = await router.route(max_tokens=1024, messages=CONVERSATION, route="support")
    assert_type(routed, Routed)
    events = await router.messages.create(max_tokens=1024, messages=CONVERSATION, stream=True)
    assert_type(events, AsyncStream[RawMessageStreamEvent])
    async with router.messages.stream(max_tokens=1024, messages=CONVERSATION) as stream:
        async for text in stream.text_stream:
            assert_type(text, str)
    return (await router.ask("How do I reset my password?")).text


def reading(decision: Decision) -> tuple[float | None, float | None]:
    assert_type(decision.reason, Reason | None)
    assert_type(decision.bypass_cause, BypassCause | None)
    assert_type(decision.base_outcome, Outcome | None)
    assert_type(decision.confidence, float | None)
    assert_type((decision.tier, decision.model, decision.threshold), tuple[int, str, float])
    assert_type((decision.escalated, decision.policy_version, decision.call_id), tuple[bool, int, str])
    return decision.cost_usd, decision.baseline_cost_usd


def wiring() -> None:
    with Router() as router, Router(settings=settings(), client=Anthropic(max_retries=5), route="support") as other:
        calls(router)
        calls(other)


def clients(router: Router, arouter: AsyncRouter) -> tuple[Anthropic, AsyncAnthropic]:
    return router, arouter


async def awaited_wiring() -> None:
    async with AsyncRouter(client=AsyncAnthropic()) as router:
        await awaited_calls(router)
    closed_by_hand = AsyncRouter()
    await closed_by_hand.aclose()


def simulated() -> None:
    known = TrafficClass(name="faq", marker="faq", confidences={0.9: 1.0})
    with SimulatedAnthropic(classes=[known], clock=FrozenClock(0.0)) as api, SimulatedSlack() as slack:
        api.enqueue(Reply.triage(0.9, "Yes."), Reply.error(529).slow(0.1))
        client = Anthropic(base_url=api.url, api_key="any")
        calls(Router(client=client))
        assert_type(slack.url, str)
