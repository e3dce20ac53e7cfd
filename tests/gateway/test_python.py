"""The Python SDK by `base_url`, LangChain and Pydantic AI, straight at the API and through the gateway."""

import pytest

from tests.gateway.both import ANSWER, ESCALATED, HAIKU, OPUS, SHIPPED, USAGE, failing, with_a_tool

pytestmark = pytest.mark.thorough

ROUTED = [(SHIPPED, [HAIKU]), (ESCALATED, [HAIKU, OPUS])]
PLAIN = ["create", "stream", "create_async", "stream_async"]
FRAMEWORKS = ["langchain", "langchain_async", "langchain_stream", "pydantic_ai", "pydantic_ai_stream"]
STATUSES = [400, 401, 404, 429, 500, 529]


@pytest.mark.parametrize("act", PLAIN)
@pytest.mark.parametrize(("script", "asked"), ROUTED)
def test_the_sdk_gets_answer_usage_and_stop_reason(python, act, script, asked):
    pair = python(act, script)
    assert (pair.asked_straight, pair.asked_routed) == ([OPUS], asked)
    for name in ("content", "stop_reason", "usage"):
        assert pair.routed[name] == pair.straight[name]
    assert pair.routed["content"] == [{"type": "text", "text": ANSWER}]
    assert USAGE.items() <= pair.routed["usage"].items()
    assert pair.routed["model"] == (pair.straight["model"] if OPUS in asked else f"{HAIKU}-20251001")


def test_twenty_calls_at_once_are_all_answered(python):
    pair = python("together_async", SHIPPED)
    assert [each["content"] for each in pair.routed] == [each["content"] for each in pair.straight]
    assert pair.asked_routed == [HAIKU] * 20


def test_tools_tokens_models_and_batches_are_those_of_the_api(python):
    pair = python("tools", with_a_tool)
    assert pair.routed == pair.straight
    assert pair.straight["stop_reason"] == "tool_use"
    pair = python("others", SHIPPED)
    assert pair.routed == pair.straight
    assert pair.straight["results"]


@pytest.mark.parametrize("act", PLAIN)
def test_the_sdk_raises_the_errors_of_the_api(python, act):
    for status in STATUSES:
        pair = python(act, failing(status, message="It's ünusual."))
        assert pair.routed == pair.straight
        assert pair.straight["status"] == status


@pytest.mark.parametrize("act", FRAMEWORKS)
@pytest.mark.parametrize(("script", "asked"), ROUTED)
def test_a_framework_gets_text_and_usage(frameworks, act, script, asked):
    pair = frameworks(act, script)
    assert pair.routed == pair.straight
    assert pair.routed["text"] == ANSWER
    assert pair.routed["usage"] == USAGE
    assert (pair.asked_straight, pair.asked_routed) == ([OPUS], asked)


@pytest.mark.parametrize("act", ["langchain_tools", "pydantic_ai_tools"])
def test_a_framework_calls_tools(frameworks, act):
    pair = frameworks(act, with_a_tool)
    assert pair.routed == pair.straight
    assert pair.asked_routed == pair.asked_straight
    assert pair.straight.get("calls") == [["weather", {"city": "Zürich"}]] or pair.straight["called"] == ["Zürich"]


@pytest.mark.parametrize("act", FRAMEWORKS)
def test_a_framework_raises_what_it_raises_without_the_gateway(frameworks, act):
    for status in STATUSES:
        pair = frameworks(act, failing(status))
        assert pair.routed == pair.straight
        assert status in (pair.straight["status"], pair.straight.get("inner"))
