"""A deep tier that is down, slow to be asked again, or refuses what it is sent."""

import email.utils
import json
import time
from dataclasses import asdict

import anthropic
import httpx2
import pytest

from cheapdeep_ops import Reason, decision_of
from cheapdeep_ops.claude.retry_wait import BoundedRetryWait, attempt_limit_s, retry_wait_limit
from cheapdeep_ops.telemetry import names
from cheapdeep_ops.testing import Reply

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
QUESTION = {"max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
UNSURE = Reply.triage(0.4, "Perhaps.")
LATER = {"request-id": "req_of_the_deep_call"}


@pytest.fixture
def shell(open_shell, ledger, watched):
    return open_shell(router={"recorder": ledger, "telemetry": watched.telemetry})


class TestTheErrorOfADeepTier:
    def test_has_the_decision_with_it_and_is_otherwise_the_sdks(self, api, bare, shell, ledger):
        api.enqueue(UNSURE, model=HAIKU)
        api.always(Reply.error(529, headers=LATER), model=OPUS)
        with pytest.raises(anthropic.OverloadedError) as expected:
            bare.messages.create(model=OPUS, **QUESTION)
        with pytest.raises(anthropic.OverloadedError) as failure:
            shell.route(**QUESTION)
        told = decision_of(failure.value)
        assert (told.call_id, told.reason) == (ledger.decisions[0].call_id, Reason.LOW_CONFIDENCE)
        assert told.cost_usd == ledger.decisions[0].cost_usd
        assert "Perhaps." in json.dumps(asdict(ledger.decisions[0]))
        assert "Perhaps." not in json.dumps(asdict(told))  # who writes errors down knows nothing of content
        assert failure.value.request_id == expected.value.request_id == "req_of_the_deep_call"
        assert failure.value.body["error"] == expected.value.body["error"]
        assert decision_of(expected.value) is None

    def test_has_it_in_a_stream_too_before_and_after_it_has_begun(self, api, shell, ledger):
        api.enqueue(UNSURE, model=HAIKU)
        api.enqueue(Reply.error(529), model=OPUS)
        with pytest.raises(anthropic.OverloadedError) as before:
            shell.streamed_events(**QUESTION)
        api.enqueue(UNSURE, model=HAIKU)
        api.enqueue(Reply.text("A deep answer. " * 300).cut(2_000), model=OPUS)
        with pytest.raises(httpx2.TransportError) as midway:
            shell.streamed_events(**QUESTION)
        told = [decision_of(each.value).call_id for each in (before, midway)]
        assert told == [decision.call_id for decision in ledger.decisions]

    def test_that_takes_no_attribute_is_raised_all_the_same(self, api, open_shell, monkeypatch):
        class Bare(anthropic.APIConnectionError):
            def __setattr__(self, name, value):
                if name.startswith("cheapdeep"):
                    raise AttributeError(name)
                super().__setattr__(name, value)

        error = Bare(request=httpx2.Request("POST", "http://localhost"))
        shell = open_shell()

        def fails(*_arguments, **_options):
            raise error

        monkeypatch.setattr(shell.router._originals.messages, "create", fails)
        api.enqueue(UNSURE, model=HAIKU)
        with pytest.raises(Bare) as failure:
            shell.route(**QUESTION)
        assert failure.value is error
        assert decision_of(error) is None


class TestARefusedReplay:
    def test_is_counted_and_its_error_is_unchanged(self, api, shell, ledger, watched):
        api.enqueue(UNSURE, model=HAIKU)
        api.enqueue(Reply.error(400, message="effort: not supported by this model"), model=OPUS)
        with pytest.raises(anthropic.BadRequestError, match="not supported by this model"):
            shell.route(**QUESTION)
        assert ledger.decisions[0].is_replay_rejected
        (route,) = watched.named("cheapdeep.route")
        assert route.attributes[names.REPLAY_REJECTED] is True
        ((_, point),) = watched.points(names.REPLAYS_REJECTED).items()
        assert point.value == 1

    @pytest.mark.parametrize("params", [{"stop_sequences": ["END"]}, {}], ids=["bypassed", "overloaded"])
    def test_is_no_other_failure(self, api, shell, ledger, watched, params):
        api.enqueue(UNSURE, model=HAIKU)
        api.enqueue(Reply.error(400 if params else 529), model=OPUS)
        with pytest.raises(anthropic.APIStatusError):
            shell.route(**QUESTION, **params)
        assert not ledger.decisions[0].is_replay_rejected
        assert watched.points(names.REPLAYS_REJECTED) == {}


class TestAFailedTriage:
    @pytest.mark.parametrize("failure", [(529, "OverloadedError"), (429, "RateLimitError"), (400, "BadRequestError")])
    def test_is_told_with_its_cause(self, api, shell, ledger, watched, failure):
        status, error = failure
        api.enqueue(Reply.error(status, retry_after=3600), model=HAIKU)
        api.enqueue(Reply.text("Deep."), model=OPUS)
        assert shell.ask().text == "Deep."
        assert (ledger.decisions[0].reason, ledger.decisions[0].triage_error) == (Reason.TRIAGE_ERROR, error)
        (route,) = watched.named("cheapdeep.route")
        assert route.attributes[names.TRIAGE_ERROR] == error

    def test_that_took_too_long_is_too(self, api, open_shell, ledger):
        shell = open_shell(router={"recorder": ledger}, triage_timeout_s=0.2)
        api.enqueue(Reply.triage(0.9, "Late.").slow(30), model=HAIKU)
        api.enqueue(Reply.text("Deep."), model=OPUS)
        assert shell.ask().text == "Deep."
        assert ledger.decisions[0].triage_error in ("APITimeoutError", "TimeoutError")


class TestACheapAnswerForADeepError:
    @pytest.fixture
    def lenient(self, open_shell, ledger, watched):
        given = {"recorder": ledger, "telemetry": watched.telemetry}
        return open_shell(router=given, ship_cheap_when_deep_fails=True)

    @pytest.mark.parametrize("status", [429, 500, 503, 529])
    def test_goes_out_marked_and_counted(self, api, lenient, ledger, watched, status):
        api.enqueue(UNSURE, model=HAIKU)
        api.enqueue(Reply.error(status), model=OPUS)
        routed = lenient.ask()
        assert (routed.text, routed.decision.model) == ("Perhaps.", HAIKU)
        assert routed.message.model.startswith(HAIKU)
        (decision,) = ledger.decisions
        assert (decision.is_fallback, decision.error, decision.shipped) == (True, "", False)
        assert (decision.tier, decision.escalated, decision.reason) == (0, True, Reason.LOW_CONFIDENCE)
        assert [hop.error == "" for hop in decision.hops] == [True, False]
        assert decision.cost_usd == decision.triage_cost_usd > 0
        (route,) = watched.named("cheapdeep.route")
        assert route.attributes[names.FALLBACK] is True
        ((labels, point),) = watched.points(names.FALLBACKS).items()
        assert (dict(labels), watched.metrics()[names.FALLBACKS].unit) == (
            {"route": "default", "input_class": ""},
            "{call}",
        )
        assert point.value == 1

    @pytest.mark.parametrize(
        "cheap",
        [Reply.triage(0.2, None), Reply.text("no JSON"), Reply.refusal(), Reply.error(529),
         Reply.triage(0.9, "Cut", stop_reason="max_tokens")],
        ids=["null", "malformed", "refusal", "failed", "truncated"],
    )  # fmt: skip
    def test_needs_an_answer(self, api, lenient, ledger, cheap):
        api.enqueue(cheap, model=HAIKU)
        api.enqueue(Reply.error(529), model=OPUS)
        with pytest.raises(anthropic.OverloadedError) as failure:
            lenient.ask()
        assert not ledger.decisions[0].is_fallback
        assert decision_of(failure.value).call_id == ledger.decisions[0].call_id

    @pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
    def test_hides_no_mistake_of_the_callers(self, api, lenient, status):
        api.enqueue(UNSURE, model=HAIKU)
        api.enqueue(Reply.error(status), model=OPUS)
        with pytest.raises(anthropic.APIStatusError):
            lenient.ask()

    def test_does_not_hide_the_callers_own_timeout(self, api, lenient, monkeypatch):
        def interrupted(*_arguments, **_options):
            raise TimeoutError("from a signal's handler")

        monkeypatch.setattr(lenient.router._originals.messages, "create", interrupted)
        api.enqueue(UNSURE, model=HAIKU)
        with pytest.raises(TimeoutError, match="handler"):
            lenient.ask()

    def test_comes_again_and_again_in_a_conversation(self, api, open_shell, ledger):
        shell = open_shell(router={"recorder": ledger}, ship_cheap_when_deep_fails=True, sticky_turns=3)
        api.always(UNSURE, model=HAIKU)
        api.always(Reply.error(529), model=OPUS)
        assert [shell.ask(conversation="c1").text for _ in range(3)] == ["Perhaps."] * 3
        api.always(Reply.text("Deep."), model=OPUS)
        assert shell.ask(conversation="c1").decision.reason is Reason.LOW_CONFIDENCE
        assert shell.ask(conversation="c1").decision.reason is Reason.STICKY

    @pytest.mark.parametrize(("first", "second", "shipped"), [(0.4, 0.6, "Second."), (0.79, 0.05, "First.")])
    def test_is_that_of_the_surest_tier(self, api, open_shell, first, second, shipped):
        shell = open_shell(ship_cheap_when_deep_fails=True, tiers=(HAIKU, "claude-sonnet-4-6", OPUS))
        api.enqueue(Reply.triage(first, "First."), model=HAIKU)
        api.enqueue(Reply.triage(second, "Second."), model="claude-sonnet-4-6")
        api.enqueue(Reply.error(529), model=OPUS)
        assert shell.ask().text == shipped

    def test_tells_which_tier_it_is_of(self, api, open_shell, ledger):
        tiers = (HAIKU, "claude-sonnet-4-6", OPUS)
        shell = open_shell(router={"recorder": ledger}, ship_cheap_when_deep_fails=True, tiers=tiers)
        api.enqueue(UNSURE, model=HAIKU)
        api.enqueue(Reply.triage(0.6, "Rather."), model="claude-sonnet-4-6")
        api.enqueue(Reply.error(529), model=OPUS)
        assert shell.ask().text == "Rather."
        assert ledger.decisions[0].tier == 1

    def test_is_no_stream(self, api, lenient):
        api.enqueue(UNSURE, model=HAIKU)
        api.enqueue(Reply.error(529), model=OPUS)
        with pytest.raises(anthropic.OverloadedError):
            lenient.streamed_events(**QUESTION)

    def test_does_not_go_out_by_default(self, api, shell):
        api.enqueue(UNSURE, model=HAIKU)
        api.enqueue(Reply.error(529), model=OPUS)
        with pytest.raises(anthropic.OverloadedError):
            shell.ask()


class TestAServerThatAsksForTime:
    @pytest.fixture
    def patient(self, open_shell):
        return open_shell(client={"max_retries": 3})

    @pytest.mark.parametrize("streamed", [False, True])
    @pytest.mark.parametrize(
        "header",
        [{"retry-after": "3600"}, {"retry-after-ms": "3600000"}, {"retry-after": email.utils.formatdate(4e9)},
         {"retry-after": "3600", "x-should-retry": "true"}],
        ids=["seconds", "milliseconds", "date", "and-insists"],
    )  # fmt: skip
    def test_gets_no_more_of_it_than_the_caller_has(self, api, patient, header, streamed):
        api.always(Reply.error(429, headers=header), model=OPUS)
        began = time.monotonic()
        with pytest.raises(anthropic.RateLimitError) as failure:
            (patient.streamed_events if streamed else patient.route)(**QUESTION, stop_sequences=["END"], timeout=60)
        assert time.monotonic() - began < 30
        assert len(api.requests) == 1
        headers = failure.value.response.headers
        assert {name: headers[name] for name in header} == header
        assert ("x-should-retry" in headers) == ("x-should-retry" in header)

    @pytest.mark.parametrize("header", [{"retry-after": "0.01"}, {"retry-after-ms": "10"}, {"retry-after": "soon"}])
    def test_gets_it_where_the_caller_has_it(self, api, patient, header):
        api.enqueue(Reply.error(429, headers=header), Reply.text("Deep."), model=OPUS)
        assert patient.route(**QUESTION, stop_sequences=["END"], timeout=60).text == "Deep."
        assert len(api.requests) == 2

    @pytest.mark.thorough
    def test_gets_it_however_long_triage_took(self, api, patient):
        api.enqueue(UNSURE.slow(0.9), model=HAIKU)
        api.enqueue(Reply.error(429, headers={"retry-after": "0.3"}), Reply.text("Deep."), model=OPUS)
        assert patient.route(**QUESTION, timeout=1.0).text == "Deep."

    def test_is_bounded_by_the_clients_timeout_where_the_call_has_none(self, api, open_shell):
        shell = open_shell(client={"max_retries": 3, "timeout": httpx2.Timeout(20, connect=2)})
        api.always(Reply.error(529, retry_after=21), model=OPUS)
        with pytest.raises(anthropic.OverloadedError):
            shell.route(**QUESTION, stop_sequences=["END"])
        assert len(api.requests) == 1

    @pytest.mark.parametrize("date", ["Wed, 21 Oct 99999 07:28:00 GMT", "Wed, 21 Oct 999999999999 07:28:00 GMT"])
    def test_for_a_date_that_there_is_not_changes_no_error(self, api, open_shell, date):
        shell = open_shell(client={"max_retries": 0})
        api.always(Reply.error(529, headers={"retry-after": date}), model=OPUS)
        with pytest.raises(anthropic.OverloadedError):
            shell.route(**QUESTION, stop_sequences=["END"])

    def test_leaves_the_callers_own_middleware_and_retries_alone(self, api, open_shell):
        seen = []

        class Noting(anthropic.Middleware):
            def handle(self, request, call_next):
                response = call_next(request)
                seen.append(response.http_response.headers.get("x-should-retry"))
                return response

            async def handle_async(self, request, call_next):
                response = await call_next(request)
                seen.append(response.http_response.headers.get("x-should-retry"))
                return response

        shell = open_shell(client={"max_retries": 3, "middleware": [Noting()]})
        api.enqueue(Reply.error(529, retry_after=0.01), Reply.error(529, retry_after=3600))
        with pytest.raises(anthropic.OverloadedError):
            shell.route(**QUESTION, stop_sequences=["END"], timeout=60)
        assert seen == [None, None]

    def test_may_be_answered_by_the_callers_middleware_with_anything(self, open_shell):
        class Short(anthropic.Middleware):
            def handle(self, _request, _call_next):
                return "cached"

            async def handle_async(self, _request, _call_next):
                return "cached"

        shell = open_shell(client={"middleware": [Short()]})
        assert shell.create(**QUESTION, stop_sequences=["END"]) == "cached"


class TestPatience:
    @pytest.mark.parametrize(
        ("timeout", "seconds"),
        [
            (5, 5.0),
            (0.5, 0.5),
            (None, None),
            (httpx2.Timeout(7.0, read=1.0), 7.0),
            (httpx2.Timeout(None), None),
            (httpx2.Timeout(7.0, pool=None), None),
            (10**400, None),
        ],
    )
    def test_is_the_time_for_an_answer(self, timeout, seconds):
        assert attempt_limit_s(timeout) == seconds

    def test_without_an_end_bounds_nothing(self, api, bare):
        api.enqueue(Reply.error(429, retry_after=0.01), Reply.text("Deep."))
        client = bare.with_options(max_retries=1).with_middleware(BoundedRetryWait())
        with retry_wait_limit(None):
            assert client.messages.create(model=OPUS, **QUESTION).content[0].text == "Deep."
