import pytest

from cheapdeep_ops import Outcome, Reason
from cheapdeep_ops.router import conversations
from cheapdeep_ops.router.conversations import Conversations
from cheapdeep_ops.testing import FrozenClock, Reply

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"


def turns(*texts, **more):
    """A conversation up to its last turn, which is the user's."""
    roles = ("user", "assistant") * len(texts)
    said = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return {"max_tokens": 100, "messages": said, **more}


FIRST = turns("My card is gone.")
SECOND = turns("My card is gone.", "Was it stolen?", "Yes.")


class TestConversations:
    def test_stay_deep_for_so_many_turns(self):
        found = Conversations(turns=2, lasts_s=60)
        found.went_deep("a", 0)
        assert [found.stays_deep("a", 1) for _ in range(3)] == [True, True, False]
        assert not found.stays_deep("b", 1)

    def test_stay_deep_for_so_long(self):
        found = Conversations(turns=9, lasts_s=60)
        found.went_deep("a", 0)
        assert found.stays_deep("a", 59.9)
        assert not found.stays_deep("a", 60)

    def test_are_forgotten_oldest_first(self, monkeypatch):
        monkeypatch.setattr(conversations, "MOST", 2)
        found = Conversations(turns=1, lasts_s=60)
        for key in ("a", "b", "a", "c"):
            found.went_deep(key, 0)
        assert [found.stays_deep(key, 1) for key in "abc"] == [True, False, True]


@pytest.fixture
def clock():
    return FrozenClock(1_790_000_000.0)


@pytest.fixture
def shell(open_shell, ledger, clock, api):
    api.always(Reply.triage(0.3, None), model=HAIKU)
    api.always(Reply.text("Deep."), model=OPUS)
    return open_shell(router={"recorder": ledger, "clock": clock}, sticky_turns=2, sticky_s=600)


def models(api):
    return [request.model for request in api.requests]


def test_a_conversation_that_went_deep_stays_there_for_some_turns(api, shell, ledger):
    shell.route(**FIRST)
    api.requests.clear()
    for _ in range(2):
        assert shell.route(**SECOND).text == "Deep."
    assert models(api) == [OPUS, OPUS]
    decision = ledger.decisions[-1]
    assert (decision.reason, decision.escalated, decision.triaged) == (Reason.STICKY, True, False)
    assert (decision.bypass_cause, decision.base_outcome) == (None, None)
    assert decision.cost_usd == decision.baseline_cost_usd > 0
    assert shell.route(**SECOND).decision.reason is Reason.LOW_CONFIDENCE


def test_a_stream_of_it_stays_there_too(api, shell, ledger):
    shell.streamed_text(**FIRST)
    assert shell.streamed_text(**SECOND) == "Deep."
    assert ledger.decisions[-1].reason is Reason.STICKY


def test_it_is_over_after_a_time(shell, clock):
    shell.route(**FIRST)
    clock.advance(600)
    assert shell.route(**SECOND).decision.reason is Reason.LOW_CONFIDENCE


def test_a_first_turn_is_always_triaged_and_other_conversations_are(shell):
    shell.route(**FIRST)
    others = (FIRST, turns("My dog is gone.", "Where?", "Here."), {**SECOND, "system": "Be brief."})
    assert [shell.route(**each).decision.reason for each in others] == [Reason.LOW_CONFIDENCE] * 3


def test_a_name_of_the_callers_own_tells_conversations_apart(api, shell):
    shell.route(**FIRST, conversation="c-17")
    assert shell.route(**turns("Next."), conversation="c-17").decision.reason is Reason.STICKY
    assert shell.route(**SECOND, conversation="c-18").decision.reason is Reason.LOW_CONFIDENCE
    assert not any("conversation" in request.body for request in api.requests)


@pytest.mark.parametrize("reply", [Reply.triage(0.9, "Yes."), Reply.error(529)])
def test_what_says_nothing_of_the_conversation_leaves_it_triaged(api, shell, reply):
    api.always(reply, model=HAIKU)
    shell.route(**FIRST)
    assert shell.route(**SECOND).decision.reason is not Reason.STICKY


def test_it_is_off_by_default(api, open_shell):
    api.always(Reply.triage(0.3, None), model=HAIKU)
    shell = open_shell()
    shell.route(**FIRST)
    decision = shell.route(**SECOND, conversation="c-17").decision
    assert (decision.reason, decision.base_outcome) == (Reason.LOW_CONFIDENCE, Outcome.ESCALATE)
