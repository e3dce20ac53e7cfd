"""Two calls of the real API, for those who have a key: CHEAPDEEP_LIVE=1 and ANTHROPIC_API_KEY."""

import os

import pytest

from cheapdeep_ops import Router, Settings
from cheapdeep_ops.values import Reason

KEY = os.environ.get("ANTHROPIC_API_KEY", "")
LIVE = os.environ.get("CHEAPDEEP_LIVE") == "1" and bool(KEY)

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not LIVE, reason="runs with CHEAPDEEP_LIVE=1 and ANTHROPIC_API_KEY only: it spends money"),
]


@pytest.fixture
def router(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    with Router(settings=Settings(record=False)) as router:
        yield router


def test_an_easy_question_is_answered_by_the_cheap_tier(router):
    routed = router.ask("What is the capital of France? One word.", max_tokens=64)
    assert "Paris" in routed.text
    assert routed.decision.reason in (None, Reason.LOW_CONFIDENCE)
    assert routed.decision.cost_usd < 0.01


def test_a_conversation_reaches_the_deep_tier_as_it_is(router):
    routed = router.route(
        max_tokens=64,
        system="Answer in one word.",
        messages=[{"role": "user", "content": "Name a prime number between 90 and 100."}],
        stop_sequences=["\n"],
    )
    assert routed.decision.bypass_cause == "stop_sequences"
    assert "97" in routed.text
