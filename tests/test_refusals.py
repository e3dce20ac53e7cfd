"""Platforms that refuse a part of the triage requests: it is found by proof, and triage goes on without it."""

import asyncio
import itertools
import logging
import threading
from dataclasses import replace

import anthropic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops import AsyncRouter, Reason, Router, Settings
from cheapdeep_ops.flow import Ask, cascade
from cheapdeep_ops.router import planner
from cheapdeep_ops.router.refusals import PROBE_EVERY_S, CallRefusals, RefusedParts, refused_parts_of
from cheapdeep_ops.telemetry import names
from cheapdeep_ops.testing import Reply
from cheapdeep_ops.testing.messages_api.models import MODELS
from cheapdeep_ops.values import NO_PARTS, Tier, TierReply, TriagePart, Verdict

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
BEDROCK = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
FORMAT, EFFORT = TriagePart.FORMAT, TriagePart.EFFORT
QUESTION = {"max_tokens": 300, "messages": [{"role": "user", "content": "How do I reset my password?"}]}


def sure(request):
    return Reply.triage(0.95, "Under Settings.") if request.is_triage else None


@pytest.fixture
def refusing(api):
    """The simulated API on a platform where the cheap model takes no output format."""
    api.refuse("format", model=HAIKU)
    api.always(sure, model=HAIKU)
    return api


@pytest.fixture
def clock(monkeypatch):
    now = [1_000.0]
    monkeypatch.setattr(planner.time, "monotonic", lambda: now[0])
    return now


def tried(shell):
    """Let what is tried beside the last call come to its end."""
    if isinstance(shell.router, AsyncRouter):
        shell._run(asyncio.wait(shell.router._readers))
    else:
        shell.router._readers.join(60)


def named(name, model=HAIKU):
    """The simulated model under another name."""
    return replace(next(each for each in MODELS if each.id == model), id=name)


def formats(api, model=HAIKU):
    return ["format" in request.body.get("output_config", {}) for request in api.requests if request.model == model]


# Over HTTP


def test_twelve_calls_need_one_request_more(refusing, open_shell, watched, caplog):
    shell = open_shell(router={"telemetry": watched.telemetry})
    decisions = [shell.ask().decision for _ in range(12)]
    assert {decision.reason for decision in decisions} == {None}
    assert [decision.shipped for decision in decisions] == [True] * 12
    assert formats(refusing) == [True, *[False] * 12]
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said == [f"{HAIKU} refuses output_config.format: triage goes on without it (CHEAPDEEP_STRUCTURED_OUTPUTS)"]
    (point,) = watched.points(names.REFUSED_PARTS).items()
    assert dict(point[0]) == {"model": HAIKU, "part": "output_config.format"}
    assert point[1].value == 1


def test_a_second_question_counts_in_the_step_of_the_first(refusing, open_shell, watched, ledger):
    shell = open_shell(router={"telemetry": watched.telemetry, "recorder": ledger})
    decision = shell.ask().decision
    assert [hop.error for hop in decision.hops] == [""]
    assert (decision.confidence, decision.escalated) == (0.95, False)
    refused, answered = watched.named(f"chat {HAIKU}")
    assert refused.attributes["error.type"] == "BadRequestError"
    assert answered.attributes["cheapdeep.request.translated"] == ("format: json_schema -> dropped",)
    assert decision.triage_duration_s <= decision.duration_s
    took_s = sum((each.end_time - each.start_time) / 1e9 for each in (refused, answered))
    assert decision.triage_duration_s == pytest.approx(took_s, abs=0.05)


def test_streams_learn_and_are_read_whole_before_their_first_character(refusing, open_shell):
    shell = open_shell()
    assert [shell.streamed_text(**QUESTION) for _ in range(3)] == ["Under Settings."] * 3
    assert formats(refusing) == [True, False, False, False]
    # An answer with a raw quote is not JSON: read whole, it escalates, and nothing of it is shown.
    refusing.always(Reply.text('{"confidence": 0.95, "answer": "the "springing" power"}'), model=HAIKU)
    refusing.always(Reply.text("Deep."), model=OPUS)
    assert shell.streamed_text(**QUESTION) == "Deep."


def test_streams_and_whole_answers_share_what_they_learn(refusing, open_shell):
    shell = open_shell()
    shell.ask()
    assert shell.streamed_text(**QUESTION) == "Under Settings."
    assert formats(refusing) == [True, False, False]


def test_shadow_triage_learns_too(refusing, open_shell, ledger):
    shell = open_shell(router={"recorder": ledger}, mode="shadow", shadow_share=1.0)
    for _ in range(3):
        shell.ask()
        tried(shell)
    assert formats(refusing) == [True, *[False] * 3]
    assert {decision.triage_error for decision in ledger.decisions} == {""}


def test_a_platforms_own_model_names_are_learned_too(api, open_shell):
    api.put_model(named(BEDROCK))
    api.refuse("format", model=BEDROCK)
    api.always(sure, model=BEDROCK)
    shell = open_shell(tiers=(BEDROCK, OPUS))
    assert all(shell.ask().decision.shipped for _ in range(3))
    assert formats(api, BEDROCK) == [True, *[False] * 3]


@pytest.mark.parametrize("status", [400, 422])
def test_whatever_a_gateway_says_the_proof_counts(api, open_shell, status):
    refused = Reply.error(status, message="unexpected field")
    api.always(lambda request: refused if "output_config" in request.body else sure(request), model=HAIKU)
    shell = open_shell()
    assert all(shell.ask().decision.shipped for _ in range(4))
    assert formats(api) == [True, *[False] * 4]


def test_effort_that_a_platform_refuses_is_found_after_the_format(api, open_shell, clock):
    api.refuse("effort", model="claude-haiku-5-5")
    api.always(sure, model="claude-haiku-5-5")
    shell = open_shell(tiers=("claude-haiku-5-5", OPUS))
    reasons = []
    for _ in range(3):
        reasons.append(shell.route(**QUESTION, output_config={"effort": "low"}).decision.reason)
        clock[0] += PROBE_EVERY_S
    assert reasons == [Reason.TRIAGE_ERROR, None, None]
    assert api.requests[-1].body["output_config"].keys() == {"format"}


def test_a_request_that_is_refused_anyway_teaches_nothing_and_is_repeated_once_a_minute(api, open_shell, clock):
    invalid = {**QUESTION, "messages": [*QUESTION["messages"], {"role": "user", "content": "x"}]}
    api.always(lambda request: Reply.error(400) if len(request.body["messages"]) > 1 else None)
    shell = open_shell()
    for _ in range(5):
        with pytest.raises(anthropic.BadRequestError):
            shell.route(**invalid)
    assert formats(api) == [True, False, *[True] * 4]
    clock[0] += PROBE_EVERY_S - 0.001
    with pytest.raises(anthropic.BadRequestError):
        shell.route(**invalid)
    assert formats(api)[6:] == [True]
    clock[0] += 0.001
    with pytest.raises(anthropic.BadRequestError):
        shell.route(**invalid)
    assert formats(api)[7:] == [True, False]
    api.always(sure, model=HAIKU)
    assert shell.ask().decision.shipped
    assert formats(api)[9:] == [True]


@pytest.mark.parametrize("status", [401, 403, 404, 413, 429, 500, 529])
def test_other_errors_are_no_refusals(api, open_shell, status):
    api.always(Reply.error(status), model=HAIKU)
    shell = open_shell()
    assert shell.ask().decision.reason is Reason.TRIAGE_ERROR
    assert formats(api) == [True]


def test_a_second_question_that_fails_otherwise_teaches_nothing(api, open_shell):
    api.enqueue(Reply.error(400), Reply.error(529), model=HAIKU)
    shell = open_shell()
    assert shell.ask().decision.hops[0].error == "OverloadedError"
    api.always(sure, model=HAIKU)
    assert shell.ask().decision.shipped
    assert formats(api) == [True, False, True]


@pytest.mark.parametrize(("wanted", "has_format"), [("never", False), ("always", True)])
def test_a_setting_decides_it_outright(refusing, open_shell, wanted, has_format):
    shell = open_shell(structured_outputs=wanted)
    shipped = [shell.ask().decision.shipped for _ in range(3)]
    assert shipped == [not has_format] * 3
    assert formats(refusing) == [has_format] * 3


def test_a_setting_gives_a_format_to_a_model_that_is_not_known(api, open_shell):
    api.put_model(named("poem-1"))
    for wanted, has_format in (("auto", False), ("always", True)):
        api.requests.clear()
        open_shell(tiers=("poem-1", OPUS), structured_outputs=wanted).ask()
        assert formats(api, "poem-1") == [has_format]


def test_routers_over_one_client_and_their_views_share_what_they_learn(refusing):
    with anthropic.Anthropic(base_url=refusing.url, api_key="any") as client:
        settings = Settings(record=False)
        for _ in range(3):
            router = Router(client=client, settings=settings)
            assert router.ask("hello").decision.shipped
            assert router.with_options(timeout=20.0, api_key="other").ask("hello").decision.shipped
            router.close()
        assert formats(refusing) == [True, *[False] * 6]
        elsewhere = router.with_options(base_url=refusing.url)
        assert elsewhere.ask("hello").decision.shipped
        assert formats(refusing)[7:] == [True, False]
    with anthropic.Anthropic(base_url=refusing.url, api_key="any") as other:
        assert Router(client=other, settings=settings).ask("hello").decision.shipped
        assert formats(refusing)[9:] == [True, False]


def test_views_for_one_other_server_share_what_they_learn(refusing):
    with anthropic.Anthropic(base_url="http://127.0.0.1:9", api_key="any") as client:
        router = Router(client=client, settings=Settings(record=False))
        for _ in range(3):  # as a service with a view for each call
            router.with_options(base_url=refusing.url).ask("hello")
    assert len(refusing.requests) == 3 + 1


def test_threads_that_are_refused_together_probe_once(refusing):
    refusing.always(lambda request: sure(request).slow(0.05), model=HAIKU)
    with anthropic.Anthropic(base_url=refusing.url, api_key="any") as client:
        router = Router(client=client, settings=Settings(record=False))
        threads = [threading.Thread(target=router.ask, args=("hello",)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert router.ask("hello").decision.shipped
    assert formats(refusing)[-1] is False
    assert refused_parts_of(client).of(HAIKU) == {FORMAT}


# What is known, without the waiting

MODEL_TIERS = (Tier(model=HAIKU, index=0, is_deep=False), Tier(model=OPUS, index=1, is_deep=True))
parts = st.frozensets(st.sampled_from(list(TriagePart)))


class World:
    """Models that refuse some parts, and calls that are invalid whatever is left out."""

    def __init__(self, refused):
        self.refused, self.asks = refused, []

    def call(self, known, *, sent, now, is_valid=True):
        refusals = CallRefusals(
            refused=known,
            decided=NO_PARTS,
            left_out=NO_PARTS,
            sent=lambda ask: sent - ask.without,
            is_invalid=lambda error: isinstance(error, ValueError),
            clock=lambda: now,
            on_learned=lambda _model, _part: None,
        )
        flow = cascade(MODEL_TIERS, threshold=0.8, base_threshold=0.8, refusals=refusals)
        ask, asked = next(flow), 0
        try:
            while True:
                asked += ask.kind == "triage"
                is_refused = ask.kind == "triage" and (not is_valid or (sent - ask.without) & self.refused)
                ask = flow.throw(ValueError()) if is_refused else flow.send(answer())
        except StopIteration as stop:
            return asked, stop.value


def answer():
    return TierReply(verdict=Verdict(confidence=0.9, answer="Yes."))


@given(parts, st.lists(st.tuples(parts, st.booleans(), st.floats(0, 40)), max_size=40))
def test_only_what_is_refused_is_ever_learned_and_at_most_one_probe_a_minute_is_made(refused, calls):
    world, known, now, probes = World(refused), RefusedParts(), 0.0, []
    for sent, is_valid, later_s in calls:
        now += later_s
        before = known.of(HAIKU)
        asked, result = world.call(known, sent=sent, now=now, is_valid=is_valid)
        assert asked <= 2
        probes += [now] if asked == 2 else []
        assert known.of(HAIKU) <= refused
        assert known.of(HAIKU) >= before
        if is_valid and not sent & refused - before:
            assert result.reason is None
    assert all(later - earlier >= PROBE_EVERY_S for earlier, later in itertools.pairwise(probes))


@given(st.frozensets(st.sampled_from(list(TriagePart)), min_size=1))
def test_whatever_is_refused_is_found_within_three_minutes(refused):
    world, known = World(refused), RefusedParts()
    for minute in range(4):
        world.call(known, sent=frozenset(TriagePart), now=PROBE_EVERY_S * minute)
    assert known.of(HAIKU) == refused
    assert world.call(known, sent=frozenset(TriagePart), now=0.0)[0] == 1


def test_a_call_that_was_sent_before_it_was_learned_is_repeated_without_a_probe():
    known = RefusedParts()
    assert known.suspects(HAIKU, frozenset({FORMAT, EFFORT}), 0.0) == {FORMAT}
    assert known.suspects(HAIKU, frozenset({FORMAT, EFFORT}), 1.0) == NO_PARTS
    assert known.learn(HAIKU, frozenset({FORMAT})) == {FORMAT}
    assert known.learn(HAIKU, frozenset({FORMAT})) == NO_PARTS
    assert known.suspects(HAIKU, frozenset({FORMAT, EFFORT}), 2.0) == {FORMAT}
    assert known.suspects(OPUS, frozenset({FORMAT}), 2.0) == {FORMAT}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), asyncio.CancelledError()])
def test_an_interrupted_question_is_not_asked_again(error):
    flow = cascade(MODEL_TIERS, threshold=0.8, base_threshold=0.8, refusals=AlwaysSuspicious())
    assert next(flow) == Ask(tier=MODEL_TIERS[0], kind="triage", without=frozenset({EFFORT}))
    second = flow.throw(ValueError())
    assert (second.without, second.is_second) == ({FORMAT, EFFORT}, True)
    with pytest.raises(StopIteration) as stop:
        flow.throw(error)
    assert stop.value.value.error is error


class AlwaysSuspicious:
    def known(self, _model):
        return frozenset({EFFORT})

    def suspected(self, _ask, _error):
        return frozenset({FORMAT})

    def proven(self, model, parts):
        raise AssertionError("nothing was answered")
