"""Streams through both routers: shipped while they arrive, escalated early, and recorded however they end."""

import gc
import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace

import anthropic
import pytest

from cheapdeep_ops import AsyncRouter, BypassCause, Outcome, Reason, decision_of
from cheapdeep_ops.claude import tier_requests
from cheapdeep_ops.claude.profiles import UNKNOWN
from cheapdeep_ops.claude.prompt import CONTRACT
from cheapdeep_ops.policy import PolicyAct, ScopeState, act_on, blank_book
from cheapdeep_ops.recorder.tally import Tally
from cheapdeep_ops.router.streams import AsyncRoutedStream, RoutedStream
from cheapdeep_ops.testing import Reply
from cheapdeep_ops.values import MalformedCause

HAIKU, SONNET, OPUS = "claude-haiku-4-5", "claude-sonnet-4-6", "claude-opus-4-7"
LONG = 'An answer of some length, with "quotes", a \\ and ünïcödé 🙂, so that it takes several events.'
QUESTION = {"max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
BYPASSED = {**QUESTION, "stop_sequences": ["END"]}


def raised_book():
    return blank_book().with_scope(act_on(ScopeState(scope="*"), PolicyAct.RAISE, cause="EscalationStorm"))


def text_in(events):
    return "".join(each.delta.text for each in events if each.type == "content_block_delta")


def models(api):
    return [request.model for request in api.requests]


@pytest.fixture
def shell(open_shell, ledger):
    return open_shell(router={"recorder": ledger})


def opened(shell, params=QUESTION):
    return shell.create(stream=True, **params)


def first_text(shell, stream):
    """The text of the first event that has any; the stream stays open."""

    if isinstance(shell.router, AsyncRouter):
        return shell._run(afirst_text(stream))
    return next(event.delta.text for event in stream if event.type == "content_block_delta")


async def afirst_text(stream):
    return await anext(event.delta.text async for event in stream if event.type == "content_block_delta")


def each_event(shell, stream, take):
    """Call `take` with each event of the stream, up to its end or its error."""

    async def taken():
        async for event in stream:
            take(event)

    if isinstance(shell.router, AsyncRouter):
        shell._run(taken())
    else:
        for event in stream:
            take(event)


def closed(shell, stream):
    shell._run(stream.close())


class TestAnAnswerThatShips:
    def test_arrives_as_a_message_of_the_sdks_whose_only_text_it_is(self, api, shell, ledger):
        api.enqueue(Reply.triage(0.93, LONG, usage={"input_tokens": 320, "output_tokens": 40}))
        events = shell.streamed_events(**QUESTION)
        kinds = [each.type for each in events]
        assert kinds[:2] == ["message_start", "content_block_start"]
        assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
        assert set(kinds[2:-3]) == {"content_block_delta"}
        assert len(kinds) > 8
        assert text_in(events) == LONG
        assert events[0].message.model.startswith(HAIKU)
        assert models(api) == [HAIKU]
        (decision,) = ledger.decisions
        assert (decision.tier, decision.confidence, decision.escalated, decision.reason) == (0, 0.93, False, None)
        assert (decision.base_outcome, decision.shipped, decision.error) == (Outcome.SHIP, True, "")
        assert 0 < decision.cost_usd < decision.baseline_cost_usd

    def test_is_the_same_through_the_sdks_helper(self, api, shell, ledger):
        api.enqueue(Reply.triage(0.93, LONG))
        assert shell.streamed_text(**QUESTION, route="chat", input_class="long") == LONG
        (decision,) = ledger.decisions
        assert (decision.route, decision.input_class) == ("chat", "long")

    def test_costs_what_the_same_call_costs_unstreamed(self, api, shell, ledger):
        api.enqueue(Reply.triage(0.93, LONG), Reply.triage(0.93, LONG))
        shell.streamed_events(**QUESTION)
        whole = shell.route(**QUESTION)
        assert ledger.decisions[0].hops[0].usage == whole.decision.hops[0].usage
        assert ledger.decisions[0].baseline_cost_usd == whole.decision.baseline_cost_usd

    def test_is_a_candidate_for_grading_like_any_other(self, api, shell, ledger):
        api.enqueue(Reply.triage(0.93, LONG))
        shell.streamed_events(**QUESTION)
        exchange = ledger.tells[0]()
        assert exchange.answer == LONG
        assert exchange.response_id.startswith("msg_")

    def test_is_kept_to_the_end_where_that_is_asked_for(self, api, open_shell, ledger):
        api.enqueue(Reply.triage(0.93, LONG))
        events = open_shell(router={"recorder": ledger}, stream_whole=True).streamed_events(**QUESTION)
        assert [each.type for each in events].count("content_block_delta") == 1
        assert text_in(events) == LONG
        assert ledger.decisions[0].shipped

    def test_may_state_its_fields_in_another_order(self, api, shell, ledger):
        api.enqueue(Reply.text(json.dumps({"answer": LONG, "confidence": 0.9})))
        assert shell.streamed_text(**QUESTION) == LONG
        assert ledger.decisions[0].shipped

    def test_is_sent_with_the_triage_contract_as_a_stream(self, api, shell):
        api.enqueue(Reply.triage(0.93, LONG))
        shell.streamed_events(**QUESTION)
        (request,) = api.requests
        assert request.body["stream"] is True
        assert request.body["system"][-1]["text"] == CONTRACT


class TestConnections:
    def test_a_stream_that_is_closed_early_gives_its_connection_back(self, api, shell):
        api.enqueue(Reply.triage(0.93, LONG))
        stream = opened(shell)
        first_text(shell, stream)
        closed(shell, stream)
        assert stream.response.is_closed

    def test_the_stream_of_a_triage_tier_is_closed_when_the_call_leaves_it(self, api, shell, monkeypatch):
        kind = anthropic.AsyncStream if isinstance(shell.router, AsyncRouter) else anthropic.Stream
        responses, close = [], kind.close

        def recorded(stream):
            responses.append(stream.response)
            return close(stream)

        monkeypatch.setattr(kind, "close", recorded)
        api.enqueue(Reply.triage(0.5, LONG), Reply.text(LONG))
        stream = opened(shell)
        assert stream.decision is None  # the call is at the deep tier, whose stream is still open
        (triage,) = responses
        assert triage.is_closed
        closed(shell, stream)


class TestWhatDoesNotShip:
    @pytest.mark.parametrize(
        "case",
        [
            (Reply.triage(0.5, LONG), Reason.LOW_CONFIDENCE),
            (Reply.triage(0.95, None), Reason.NO_ANSWER),
            (Reply.text("I cannot say."), Reason.MALFORMED),
            (Reply.text('{"confidence": 1.2, "answer": "x"}'), Reason.MALFORMED),
            (Reply.refusal(), Reason.REFUSAL),
            (Reply.error(529), Reason.TRIAGE_ERROR),
            (Reply.error(403), Reason.TRIAGE_ERROR),
            (Reply.triage(0.9, LONG).cut(700), Reason.TRIAGE_ERROR),
        ],
    )
    def test_goes_to_the_deep_tier_whose_events_come_unchanged(self, api, bare, shell, ledger, case):
        reply, reason = case
        api.enqueue(reply, model=HAIKU)
        api.always(Reply.text("The deep answer, in pieces."))
        events = [each.model_dump() for each in shell.streamed_events(**QUESTION)]
        with bare.messages.create(model=OPUS, stream=True, **QUESTION) as stream:
            expected = [each.model_dump() for each in stream]
        expected[0]["message"]["id"] = events[0]["message"]["id"]
        assert events == expected
        assert models(api) == [HAIKU, OPUS, OPUS]
        assert api.requests[1].body == api.requests[2].body
        (decision,) = ledger.decisions
        assert (decision.reason, decision.escalated, decision.model) == (reason, True, OPUS)
        assert decision.base_outcome is Outcome.ESCALATE
        assert decision.baseline_cost_usd == decision.hops[-1].cost_usd

    def test_is_left_as_soon_as_it_is_known_and_its_tokens_are_an_estimate(self, api, shell, ledger):
        api.enqueue(Reply.triage(0.5, LONG * 50), model=HAIKU)
        api.enqueue(Reply.text("Deep."), model=OPUS)
        assert shell.streamed_text(**QUESTION) == "Deep."
        triage, deep = ledger.decisions[0].hops
        assert triage.usage.is_estimate
        assert triage.usage.output_tokens < 30  # of some thousand
        assert not deep.usage.is_estimate

    def test_is_withheld_where_the_threshold_is_raised(self, api, shell, ledger):
        ledger.book = raised_book()
        api.enqueue(Reply.triage(0.85, LONG), model=HAIKU)
        api.enqueue(Reply.text("Deep."), model=OPUS)
        assert shell.streamed_text(**QUESTION) == "Deep."
        (decision,) = ledger.decisions
        assert (decision.reason, decision.base_outcome) == (Reason.RAISED_THRESHOLD, Outcome.SHIP)
        assert decision.withheld

    def test_may_ship_from_a_tier_between(self, api, open_shell, ledger):
        api.enqueue(Reply.triage(0.5, None), model=HAIKU)
        api.enqueue(Reply.triage(0.9, LONG), model=SONNET)
        shell = open_shell(router={"recorder": ledger}, tiers=(HAIKU, SONNET, OPUS))
        assert shell.streamed_text(**QUESTION) == LONG
        (decision,) = ledger.decisions
        assert (decision.tier, decision.escalated, decision.shipped) == (1, True, True)
        assert decision.reason is Reason.LOW_CONFIDENCE

    def test_fails_with_the_sdks_own_error_where_the_deep_tier_does(self, api, shell, ledger):
        api.always(Reply.error(529))
        with pytest.raises(anthropic.OverloadedError):
            opened(shell)
        with pytest.raises(anthropic.OverloadedError):
            shell.streamed_text(**QUESTION)
        assert [each.error for each in ledger.decisions] == ["OverloadedError"] * 2

    def test_goes_deep_at_once_where_it_cannot_be_triaged(self, api, bare, shell, ledger):
        api.always(Reply.text("The deep answer."))
        assert shell.streamed_text(**BYPASSED) == "The deep answer."
        with bare.messages.stream(model=OPUS, **BYPASSED) as stream:
            stream.until_done()
        assert api.requests[0].body == api.requests[1].body
        (decision,) = ledger.decisions
        assert (decision.bypass_cause, decision.cost_usd) == (BypassCause.STOP_SEQUENCES, decision.baseline_cost_usd)
        assert decision.cost_usd > 0


class TestAWithheldAnswerThatIsKeptForGrading:
    @pytest.fixture
    def kept(self, open_shell, ledger):
        ledger.book = raised_book()
        return open_shell(router={"recorder": ledger}, record=True, sample_rate=1.0)

    def test_is_read_to_its_end_beside_the_deep_answer(self, api, kept, ledger):
        api.enqueue(Reply.triage(0.85, LONG * 20), model=HAIKU)
        api.enqueue(Reply.text("Deep."), model=OPUS)
        assert kept.streamed_text(**{**QUESTION, "max_tokens": 1_000}) == "Deep."
        kept.close()
        (decision,) = ledger.decisions
        assert (decision.reason, decision.base_outcome) == (Reason.RAISED_THRESHOLD, Outcome.SHIP)
        assert ledger.tells[0]().answer == LONG * 20
        assert not decision.hops[0].usage.is_estimate
        assert decision.model == OPUS

    @pytest.mark.parametrize(("haiku", "tier"), [(0.3, 1), (0.85, 0), (None, 1)])
    def test_is_the_first_that_ships_at_base_whatever_its_tier(self, api, open_shell, ledger, haiku, tier):
        ledger.book = raised_book()
        tiers = {"tiers": (HAIKU, SONNET, OPUS), "breaker_failures": 0}
        kept = open_shell(router={"recorder": ledger}, record=True, sample_rate=1.0, **tiers)
        first = Reply.error(529) if haiku is None else Reply.triage(haiku, f"Haiku's. {LONG}" * 20)
        api.enqueue(first, model=HAIKU)
        api.enqueue(Reply.triage(0.87, f"Sonnet's. {LONG}" * 20), model=SONNET)
        api.enqueue(Reply.text("Deep."), model=OPUS)
        assert kept.streamed_text(**{**QUESTION, "max_tokens": 1_000}) == "Deep."
        kept.close()
        (decision,) = ledger.decisions
        assert [hop.outcome for hop in decision.hops] == [Outcome.ESCALATE, Outcome.ESCALATE, None]
        assert (decision.confidence, decision.candidate.tier.index) == (haiku, tier)
        assert ledger.tells[0]().answer == f"{('Haiku', 'Sonnet')[tier]}'s. {LONG}" * 20
        assert not decision.hops[tier].usage.is_estimate

    def test_is_no_evidence_where_its_end_is_not_an_answers(self, api, kept, ledger):
        api.enqueue(Reply.text('{"confidence": 0.85, "answer": "Open', stop_reason="max_tokens"), model=HAIKU)
        api.enqueue(Reply.text("Deep."), model=OPUS)
        assert kept.streamed_text(**QUESTION) == "Deep."
        kept.close()
        (decision,) = ledger.decisions
        assert (decision.reason, decision.base_outcome) == (Reason.LOW_CONFIDENCE, Outcome.ESCALATE)
        assert ledger.tells[0]() is None

    def test_that_breaks_leaves_the_call_as_it_is(self, api, kept, ledger):
        api.enqueue(Reply.triage(0.85, LONG * 20).cut(2_500), model=HAIKU)
        api.enqueue(Reply.text("Deep."), model=OPUS)
        assert kept.streamed_text(**QUESTION) == "Deep."
        kept.close()
        (decision,) = ledger.decisions
        assert (decision.reason, decision.error) == (Reason.RAISED_THRESHOLD, "")
        assert decision.hops[0].usage.is_estimate

    def test_is_recorded_where_the_deep_tier_fails(self, api, kept, ledger):
        api.enqueue(Reply.triage(0.85, LONG), model=HAIKU)
        api.enqueue(Reply.error(529), model=OPUS)
        with pytest.raises(anthropic.OverloadedError):
            kept.streamed_text(**QUESTION)
        kept.close()
        assert ledger.decisions[0].error == "OverloadedError"


def until_failure(shell):
    """The text of a stream, and the error that ends it, if any."""
    shown = []
    try:
        shell.streamed_text_of(shown.append, **QUESTION)
    except anthropic.APIError as error:
        return "".join(shown), error
    return "".join(shown), None


CUT = (
    ' are called "settings"."}',
    '" or not}',
    '", which is "not" it"}',
    '\nand more"}',
    '\\d+"}',
    '\\ud83d, then"}',
    ' with \\beta."}',
    ' for $\\theta$."}',
    " for",
    '", "confidence": 0.1}',
    '"} but no',
)


class TestAnAnswerThatGoesWrongAfterItHasBegun:
    @pytest.mark.parametrize(
        ("reply", "reason"),
        [
            (Reply.text('{"confidence": 0.9, "answer": "Open Settings', stop_reason="max_tokens"), Reason.TRUNCATED),
            (Reply.text('{"confidence": 0.9, "answer": "Open Settings', stop_reason="refusal"), Reason.REFUSAL),
            (Reply.text('{"confidence": 0.9, "answer": "Open Settings"'), Reason.MALFORMED),
            (Reply.text('{"confidence": 0.9, "answer": "Open Settings\n"}'), Reason.MALFORMED),
        ],
    )
    def test_ends_as_it_is_where_the_caller_can_tell_or_nothing_is_lost(self, api, shell, ledger, reply, reason):
        api.enqueue(reply)
        events = shell.streamed_events(**QUESTION)
        assert text_in(events) == "Open Settings"
        assert events[-2].delta.stop_reason == reply.stop_reason
        (decision,) = ledger.decisions
        assert (decision.reason, decision.base_reason) == (reason, reason)
        assert (decision.escalated, decision.tier, decision.error) == (False, 0, "")
        assert decision.confidence == 0.9
        assert ledger.tells[0]() is None
        assert models(api) == [HAIKU]

    @pytest.mark.parametrize("text", CUT)
    def test_fails_behind_what_was_shown_where_the_rest_is_lost(self, api, shell, ledger, text):
        api.enqueue(Reply.text(f'{{"confidence": 0.9, "answer": "Open Settings{text}'))
        shown, failure = until_failure(shell)
        assert shown.startswith("Open Settings")
        assert isinstance(failure, anthropic.APIError)
        (decision,) = ledger.decisions
        assert decision_of(failure).call_id == decision.call_id
        assert (decision.reason, decision.base_reason) == (Reason.MALFORMED, Reason.MALFORMED)
        assert (decision.escalated, decision.shipped, decision.error) == (False, False, type(failure).__name__)
        assert (decision.tier, decision.confidence) == (0, 0.9)
        assert decision.cost_usd > 0
        tally = Tally()
        tally.add(decision)
        assert (tally.errors, tally.shipped, tally.escalated, tally.base_escalated) == (1, 0, 0, 1)
        assert (tally.reasons, tally.triage_errors) == ({"malformed": 1}, {"CutAnswerError": 1})
        assert tally.malformed_causes == {decision.malformed_cause: 1}
        assert ledger.tells[0]() is None
        assert models(api) == [HAIKU]

    def test_has_no_end_where_the_rest_is_lost(self, api, shell):
        api.enqueue(Reply.text('{"confidence": 0.9, "answer": "Open Settings and'))
        kinds = []
        with pytest.raises(anthropic.APIError):
            each_event(shell, opened(shell), lambda event: kinds.append(event.type))
        assert kinds[:2] == ["message_start", "content_block_start"]
        assert set(kinds[2:]) == {"content_block_delta"}

    def test_fails_where_the_stream_just_ends(self, api, shell, ledger):
        api.enqueue(Reply.body(stream_of('{"confidence": 0.9, "answer": "Open Settings and')))
        shown, failure = until_failure(shell)
        assert (shown, type(failure).__name__) == ("Open Settings and", "CutAnswerError")
        assert ledger.decisions[0].malformed_cause is MalformedCause.STOP_REASON

    def test_fails_where_something_else_follows_the_answer(self, api, shell, ledger):
        second = ({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},)
        api.enqueue(Reply.body(whole_stream("", *second)))
        shown, failure = until_failure(shell)
        assert (shown[:4], type(failure).__name__) == ("Fine", "CutAnswerError")
        assert ledger.decisions[0].malformed_cause is MalformedCause.NOT_TEXT

    def test_fails_in_the_sdks_helper_too(self, api, shell):
        api.enqueue(Reply.text('{"confidence": 0.9, "answer": "It is called a "springing" power."}'))
        with pytest.raises(anthropic.APIError, match="cut"):
            shell.final_message(**QUESTION)

    @pytest.mark.parametrize("control", ["\\b", "\\f", "\\u0007", "\x7f", "\\u0085"])
    def test_shows_nothing_of_a_control_character_and_what_follows(self, api, shell, control):
        api.enqueue(Reply.text(f'{{"confidence": 0.9, "answer": "Half: ${control}rac{{1}}{{2}}$, as you know."}}'))
        assert until_failure(shell)[0] == "Half: $"

    def test_is_left_where_it_is_cut(self, api, shell, ledger):
        text = f'{{"confidence": 0.9, "answer": "Call it a "springing" power. {LONG.replace(chr(34), "")}"}}'
        api.enqueue(Reply.text(text.replace("\\", "") * 20))
        until_failure(shell)
        assert ledger.decisions[0].hops[0].usage.is_estimate
        assert ledger.decisions[0].hops[0].usage.output_tokens < 40  # of some hundred

    def test_escalates_where_the_fault_comes_before_anything_was_shown(self, api, shell, ledger):
        api.enqueue(Reply.text(f'{{"confidence": 0.9, "answer": "\\frac{{1}}{{2}} {LONG}'), model=HAIKU)
        api.enqueue(Reply.text("Deep."), model=OPUS)
        assert shell.streamed_text(**QUESTION) == "Deep."
        (decision,) = ledger.decisions
        assert (decision.reason, decision.malformed_cause) == (Reason.MALFORMED, MalformedCause.CONTROL_CHARACTER)
        assert decision.hops[0].usage.is_estimate

    def test_escalates_where_the_fault_comes_with_its_first_text(self, api, shell, ledger):
        rest = LONG.replace('"', "").replace("\\", "") * 20
        api.enqueue(Reply.text(f'{{"confidence": 0.9,"answer":"$\\frac{{1}}{{2}}$ {rest}"}}'), model=HAIKU)
        api.enqueue(Reply.text("Deep."), model=OPUS)
        assert shell.streamed_text(**QUESTION) == "Deep."
        (decision,) = ledger.decisions
        assert (decision.reason, decision.escalated, decision.error) == (Reason.MALFORMED, True, "")
        assert decision.hops[0].usage.is_estimate  # it is left at once

    def test_of_a_model_without_structured_outputs_is_judged_before_its_first_character(
        self, api, shell, ledger, monkeypatch
    ):
        monkeypatch.setattr(tier_requests, "profile_of", lambda _: replace(UNKNOWN, efforts=frozenset()))
        api.enqueue(Reply.text('{"confidence": 0.9, "answer": "It is called a "springing" power."}'), model=HAIKU)
        api.enqueue(Reply.text("Deep."), model=OPUS)
        assert shell.streamed_text(**QUESTION) == "Deep."
        assert (ledger.decisions[0].reason, ledger.decisions[0].escalated) == (Reason.MALFORMED, True)
        assert "output_config" not in api.requests[0].body

    def test_fails_as_the_sdk_fails_where_the_connection_breaks(self, api, shell, ledger):
        whole = Reply.triage(0.9, LONG * 20)
        api.enqueue(whole.cut(2_500))
        with pytest.raises(Exception, match=r"peer closed|incomplete|closed") as failure:
            shell.streamed_events(**QUESTION)
        (decision,) = ledger.decisions
        assert decision.error == type(failure.value).__name__
        assert (decision.reason, decision.base_reason) == (Reason.TRIAGE_ERROR, Reason.TRIAGE_ERROR)
        assert decision.cost_usd > 0
        assert decision.hops[0].usage.is_estimate
        assert models(api) == [HAIKU]

    def test_fails_as_the_sdk_fails_where_the_api_says_so(self, api, bare, shell, ledger):
        error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
        api.always(Reply.body(stream_of('{"confidence": 0.9, "answer": "Open', error)))
        with pytest.raises(anthropic.APIStatusError) as expected:
            list(bare.messages.create(model=OPUS, stream=True, **QUESTION))
        with pytest.raises(type(expected.value)) as failure:
            shell.streamed_events(**QUESTION)
        assert failure.value.body == expected.value.body
        assert ledger.decisions[0].error == type(expected.value).__name__


def stream_of(text, *more):
    """The bytes of a stream whose text comes in one piece, without an end."""
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": HAIKU, "content": [], "stop_reason": None,
        "stop_sequence": None, "usage": {"input_tokens": 9, "output_tokens": 1},
    }  # fmt: skip
    events = (
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        *more,
    )
    return sse(events)


def sse(events):
    return b"".join(b"event: %b\ndata: %b\n\n" % (each["type"].encode(), json.dumps(each).encode()) for each in events)


class TestAnAnswerThatIsLongerThanTheCallerAllows:
    def test_is_cut_at_the_limit_and_says_so(self, api, shell, ledger):
        usage = {"input_tokens": 20, "output_tokens": 60}
        api.enqueue(Reply.triage(0.9, "one two three four five six " * 5, usage=usage))
        events = shell.streamed_events(**{**QUESTION, "max_tokens": 3})
        assert text_in(events).split() == ["one", "two", "three"]
        assert [each.type for each in events[-3:]] == ["content_block_stop", "message_delta", "message_stop"]
        assert (events[-2].delta.stop_reason, events[-2].usage.output_tokens) == ("max_tokens", 60)
        (decision,) = ledger.decisions
        assert (decision.reason, decision.escalated, decision.error) == (Reason.TRUNCATED, False, "")
        assert (decision.confidence, decision.hops[0].usage.output_tokens) == (0.9, 60)
        assert models(api) == [HAIKU]

    def test_is_cut_at_the_limit_even_where_its_first_text_reaches_it(self, api, shell, ledger):
        api.enqueue(Reply.triage(0.9, "word " * 40))
        message = shell.final_message(**{**QUESTION, "max_tokens": 1})
        assert (message.content[0].text.strip(), message.stop_reason) == ("word", "max_tokens")
        (decision,) = ledger.decisions
        assert (decision.reason, decision.escalated, decision.tier) == (Reason.TRUNCATED, False, 0)

    def test_keeps_its_end_where_it_has_just_as_many(self, api, shell, ledger):
        api.enqueue(Reply.triage(0.9, "one two three\n"))
        events = shell.streamed_events(**{**QUESTION, "max_tokens": 3})
        assert (text_in(events), events[-2].delta.stop_reason) == ("one two three\n", "end_turn")
        assert ledger.decisions[0].reason is None

    def test_escalates_where_it_is_judged_whole(self, api, open_shell, ledger):
        shell = open_shell(router={"recorder": ledger}, stream_whole=True)
        api.enqueue(Reply.triage(0.9, "one two three four"), model=HAIKU)
        api.enqueue(Reply.text("one two three", stop_reason="max_tokens"), model=OPUS)
        assert shell.streamed_text(**{**QUESTION, "max_tokens": 3}) == "one two three"
        assert (ledger.decisions[0].reason, ledger.decisions[0].escalated) == (Reason.TRUNCATED, True)

    def test_is_no_fault_behind_the_limit(self, api, shell, ledger):
        api.enqueue(Reply.text('{"confidence": 0.9, "answer": "one two three four "five" six"}'))
        events = shell.streamed_events(**{**QUESTION, "max_tokens": 3})
        assert (text_in(events).split(), events[-2].delta.stop_reason) == (["one", "two", "three"], "max_tokens")
        assert ledger.decisions[0].reason is Reason.TRUNCATED


class TestAStreamThatIsLeft:
    @pytest.mark.parametrize("deep", [False, True])
    def test_closes_its_connection_and_is_recorded_with_an_estimate(self, api, shell, ledger, deep):
        api.enqueue(Reply.triage(0.3 if deep else 0.9, LONG * 50), model=HAIKU)
        api.enqueue(Reply.text(LONG * 50), model=OPUS)
        stream = opened(shell)
        assert first_text(shell, stream)
        assert ledger.decisions == []
        closed(shell, stream)
        (decision,) = ledger.decisions
        assert stream.decision is decision
        assert decision.hops[-1].usage.is_estimate
        assert (decision.error, decision.reason) == ("", Reason.LOW_CONFIDENCE if deep else None)
        assert decision.cost_usd > 0
        closed(shell, stream)
        assert len(ledger.decisions) == 1

    @pytest.mark.thorough
    def test_is_recorded_though_nobody_reads_or_closes_it(self, api, shell, ledger):
        api.enqueue(Reply.triage(0.9, LONG))
        opened(shell)
        gc.collect()
        assert ledger.decisions == []  # not there, where a lock may be held
        shell.close()
        (decision,) = ledger.decisions
        assert decision.shipped

    @pytest.mark.thorough
    def test_is_recorded_where_the_interpreter_ends_while_it_is_open(self, api, store_url):
        api.always(Reply.triage(0.9, LONG * 50).paced(0.01), model=HAIKU)
        script = f"""
from cheapdeep_ops import Router, Settings
router = Router(base_url={api.url!r}, api_key="any", settings=Settings(store_url={store_url!r}))
left = router.messages.create(max_tokens=100, messages=[dict(role="user", content="hello")], stream=True)
next(iter(left))
"""
        subprocess.run([sys.executable, "-c", script], check=True, timeout=300)
        with closing(sqlite3.connect(store_url.removeprefix("sqlite:///"))) as connection:
            assert connection.execute("SELECT sum(calls), sum(shipped) FROM bucket").fetchone() == (1, 1)

    def test_by_an_error_of_the_callers_is_no_error_of_the_call(self, api, shell, ledger):
        api.enqueue(Reply.triage(0.9, LONG * 50))
        with pytest.raises(ZeroDivisionError):
            shell.streamed_text_of(lambda _: 1 / 0, **QUESTION)
        assert ledger.decisions[0].error == ""


class ShiftedClock:
    """The clock that durations are read from, which a test moves forward without waiting."""

    def __init__(self, monkeypatch):
        self._ahead_s = 0.0
        real = time.perf_counter
        monkeypatch.setattr(time, "perf_counter", lambda: real() + self._ahead_s)

    def advance(self, seconds):
        self._ahead_s += seconds


class TestTime:
    def test_a_stream_that_is_not_decided_in_time_escalates_whatever_trickles_in(self, api, open_shell, ledger):
        api.enqueue(Reply.triage(0.9, LONG).paced(0.15), model=HAIKU)
        api.enqueue(Reply.text("Deep."), model=OPUS)
        shell = open_shell(router={"recorder": ledger}, triage_timeout_s=0.3)
        assert shell.streamed_text(**QUESTION) == "Deep."
        assert ledger.decisions[0].reason is Reason.TRIAGE_ERROR
        assert ledger.decisions[0].hops[0].error in ("TimeoutError", "APITimeoutError")  # or a piece was late

    @pytest.mark.thorough
    def test_an_answer_that_has_begun_may_take_longer_than_a_triage(self, api, open_shell, ledger):
        api.enqueue(Reply.triage(0.9, "Open Settings, then.").paced(0.6, at_once=6), model=HAIKU)
        shell = open_shell(router={"recorder": ledger}, triage_timeout_s=2.0)
        assert shell.streamed_text(**QUESTION) == "Open Settings, then."
        assert ledger.decisions[0].shipped

    def test_what_the_caller_does_meanwhile_is_not_the_models(self, api, shell, ledger, monkeypatch):
        clock = ShiftedClock(monkeypatch)
        api.enqueue(Reply.triage(0.9, "Yes, it is."))
        shell.streamed_text_of(lambda _: clock.advance(3_600), **QUESTION)
        (decision,) = ledger.decisions
        assert decision.duration_s > 3_600 > decision.triage_duration_s

    @pytest.mark.thorough
    def test_what_a_model_takes_between_its_events_is_the_models(self, api, open_shell, watched, ledger):
        api.enqueue(Reply.triage(0.3, None), model=HAIKU)
        api.enqueue(Reply.text("A deep answer, in pieces.").paced(0.05), model=OPUS)
        given = {"telemetry": watched.telemetry, "recorder": ledger}
        assert open_shell(router=given).streamed_text(**QUESTION)
        models = watched.points("gen_ai.client.operation.duration")
        (deep,) = [point for labels, point in models.items() if OPUS in str(labels)]
        assert deep.sum > 0.3
        (overhead,) = watched.points("cheapdeep.overhead.duration").values()
        waited_s = sum(point.sum for point in models.values())
        assert overhead.sum == pytest.approx(ledger.decisions[0].duration_s - waited_s, abs=1e-6)


class TestWhatServersMaySend:
    @pytest.mark.parametrize("without", ["start", "end", "both"])
    def test_streams_without_usage_are_read_all_the_same(self, api, shell, ledger, without):
        api.enqueue(Reply.body(whole_stream(without)))
        assert text_in(shell.streamed_events(**QUESTION)) == "Fine."
        (decision,) = ledger.decisions
        assert (decision.reason, decision.shipped) == (None, True)

    @pytest.mark.parametrize(
        ("begun", "told"),
        [
            ('{"confidence": 0.9, "ans', 'wer": "Fine."}'),
            ('{"confidence": 0.9, "answer": "Fi', 'ne."}'),
            ('{"confidence": 0.9, "answer": "Fine."}', ""),
            ("Here it is: ", '{"confidence": 0.9, "answer": "Fine."}'),
        ],
    )
    def test_text_that_comes_with_the_beginning_of_its_block_is_a_part_of_the_reply(self, api, shell, begun, told):
        api.enqueue(Reply.body(beginning_with(begun, told)))
        assert shell.final_message(**QUESTION).content[0].text == "Fine."

    @pytest.mark.parametrize("begun", ["Refunded: 100%. ", '{"confidence": 0.1, "answer": null} '])
    def test_text_that_comes_with_the_beginning_of_its_block_does_not_go_out_unread(self, api, shell, begun):
        api.enqueue(Reply.body(beginning_with(begun, '{"confidence": 0.9, "answer": "Fine."}')), Reply.text("Deep."))
        assert shell.final_message(**QUESTION).content[0].text == "Deep."

    def test_a_message_that_begins_with_content_does_not_ship(self, api, shell, ledger):
        told = whole_stream("").replace(b'"content": []', b'"content": [{"type": "text", "text": "Refunded."}]')
        api.enqueue(Reply.body(told), Reply.text("Deep."))
        assert shell.final_message(**QUESTION).content[0].text == "Deep."
        assert ledger.decisions[0].reason is Reason.MALFORMED

    @pytest.mark.parametrize(
        "odd", [{"type": "content_block_start", "index": 1}, {"type": "tomorrow"}, {"type": "ping"}]
    )
    def test_odd_events_behind_the_beginning_of_an_answer_cost_nothing(self, api, shell, ledger, odd):
        api.enqueue(Reply.body(whole_stream("", odd)))
        assert text_in(shell.streamed_events(**QUESTION)) == "Fine."
        assert ledger.decisions[0].shipped


def whole_stream(without, *more):
    """The bytes of a stream with a confident answer, without the usage at its start or end."""
    start = stream_of('{"confidence": 0.9, "answer": "Fine')
    if without in {"start", "both"}:
        start = start.replace(b', "usage": {"input_tokens": 9, "output_tokens": 1}', b"")
    usage = {} if without in {"end", "both"} else {"usage": {"output_tokens": 9}}
    rest = (
        *more,
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": '."}'}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, **usage},
        {"type": "message_stop"},
    )
    return start + sse(rest)


def beginning_with(begun, told):
    """The bytes of a stream whose block begins with `begun` and goes on with `told`."""
    given = json.dumps(begun).encode()
    rest = (
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    )
    return stream_of(told, *rest).replace(b'"type": "text", "text": ""', b'"type": "text", "text": ' + given, 1)


def test_spans_of_a_stream_end_with_it(api, open_shell, watched):
    api.enqueue(Reply.triage(0.9, LONG * 50))
    shell = open_shell(router={"telemetry": watched.telemetry})
    stream = opened(shell)
    assert first_text(shell, stream)
    assert watched.spans == ()
    closed(shell, stream)
    chat, route = watched.spans
    assert (chat.name, route.name) == (f"chat {HAIKU}", "cheapdeep.route")
    assert chat.parent.span_id == route.context.span_id


def test_the_sdks_helper_adds_up_to_the_sdks_own_message(api, open_shell):
    api.enqueue(Reply.triage(0.9, LONG))
    message = open_shell().final_message(**QUESTION)
    assert isinstance(message, anthropic.types.ParsedMessage)
    assert [block.text for block in message.content] == [LONG]
    assert (message.stop_reason, message.model) == ("end_turn", f"{HAIKU}-20251001")


@pytest.mark.thorough
def test_a_stream_after_a_failed_triage_is_collected(api, shell, ledger):
    for _ in range(3):
        api.enqueue(Reply.error(529), model=HAIKU)
        api.enqueue(Reply.text(LONG), model=OPUS)
        assert shell.streamed_text(**QUESTION) == LONG
    ledger.tells.clear()
    gc.collect()
    gc.collect()
    assert [each for each in gc.get_objects() if isinstance(each, RoutedStream | AsyncRoutedStream)] == []
    assert len(ledger.decisions) == 3
