"""`@ai-sdk/anthropic`, straight at the API and through the gateway."""

import pytest

from tests.gateway.both import ANSWER, ESCALATED, HAIKU, OPUS, SHIPPED, USAGE, failing, with_a_tool

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize("act", ["generateText", "streamText"])
@pytest.mark.parametrize(("script", "asked"), [(SHIPPED, [HAIKU]), (ESCALATED, [HAIKU, OPUS])])
def test_text_usage_and_end_are_those_of_the_api(typescript, api, act, script, asked):
    pair = typescript(act, script)
    assert (pair.asked_straight, pair.asked_routed) == ([OPUS], asked)
    for name in ("text", "finishReason", "usage", "calls"):
        assert pair.routed[name] == pair.straight[name]
    assert pair.routed["text"] == ANSWER
    assert pair.routed["usage"] == {"input": USAGE["input_tokens"], "output": USAGE["output_tokens"]}
    if OPUS in asked:
        assert api.requests[-1].body["max_tokens"] == 128_000  # as it asked for


def test_tools_are_called_in_steps(typescript):
    for act in ("generateWithTools", "streamWithTools"):
        pair = typescript(act, with_a_tool)
        assert pair.routed == pair.straight
        assert pair.straight["text"] == "Sunny there."
        assert pair.straight["steps"][0]["calls"] == [["weather", {"city": "Zürich"}]]
        assert pair.asked_routed == pair.asked_straight


@pytest.mark.parametrize("act", ["generateText", "streamText"])
@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 529])
def test_errors_have_class_status_and_words(typescript, act, status):
    pair = typescript(act, failing(status, message="It's ünusual."))
    for name in ("failed", "status", "type", "message", "retryable"):
        assert pair.routed[name] == pair.straight[name]
    assert pair.straight["status"] == status
