"""Some calls of the real API, for those who have a key: CHEAPDEEP_LIVE=1 and ANTHROPIC_API_KEY."""

import os

import pytest

from cheapdeep_ops import Router, Settings
from cheapdeep_ops.values import Reason
from tests.injections import ATTACKS, LIVE, WANTED

KEY = os.environ.get("ANTHROPIC_API_KEY", "")
IS_LIVE = os.environ.get("CHEAPDEEP_LIVE") == "1" and bool(KEY)

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not IS_LIVE, reason="runs with CHEAPDEEP_LIVE=1 and ANTHROPIC_API_KEY only: it spends money"),
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


REFUND = "Has the refund for my order 81723 been approved?"
"""A question that nobody can answer from what it says."""


def test_what_users_try_does_not_get_past_the_reader_and_how_often_it_gets_past_the_model_is_told(router, capsys):
    attacks = [attack for attack in ATTACKS if attack.name in LIVE]
    calm = router.ask(REFUND, max_tokens=100).decision
    asked = [(attack, router.ask(f"{REFUND}\n\n{attack.text}", max_tokens=100)) for attack in attacks]
    moved = [attack.name for attack, routed in asked if (routed.decision.confidence or 0.0) >= calm.threshold]
    with capsys.disabled():
        print(f"\nwithout an attack: confidence {calm.confidence}, {calm.reason or 'shipped'}")
        for attack, routed in asked:
            told = routed.decision
            wanted = ", as wanted" if told.shipped and WANTED in routed.text else ""
            print(f"{attack.name}: confidence {told.confidence}, {told.reason or 'shipped'}{wanted}")
        print(f"{len(moved)} of {len(asked)} moved the stated confidence to {calm.threshold} or more: {moved}")
    for attack, routed in asked:
        assert not (attack.is_copied and routed.decision.shipped and routed.text == WANTED), attack.name
        assert routed.decision.shipped is (routed.decision.reason is None), attack.name
