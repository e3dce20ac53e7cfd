"""Routers against llmock, a Messages API that we did not write: they give what the SDK's own clients give."""

import json
import os
import selectors
import subprocess
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener

import anthropic
import pytest

from cheapdeep_ops import BypassCause, Reason
from cheapdeep_ops.claude.clients import make_client_for
from cheapdeep_ops.claude.cut_answer import CutAnswerError
from cheapdeep_ops.claude.grade_request import GraderApi
from cheapdeep_ops.errors import GraderError
from cheapdeep_ops.values import Grade, GradeFailure
from tests.pairs import KINDS, OPUS, WAYS, paired
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.thorough

HAIKU = "claude-haiku-4-5"
LONG = 'An answer with "quotes", a \\ and ünïcödé 🙂, of several words.'
QUESTION = {"max_tokens": 200, "messages": [{"role": "user", "content": "Is this clause valid in Paris?"}]}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
}
TOOLS = {"tools": [{"name": "get_weather", "description": "The weather of a city", "input_schema": SCHEMA}]}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
PICTURED = {
    "max_tokens": 200,
    "messages": [{"role": "user", "content": [IMAGE, {"type": "text", "text": "What is this?"}]}],
}
BREAKS = ("disconnect", "truncate", "malformed")
TOKENS = ("input_tokens", "output_tokens")
each_way = pytest.mark.parametrize("way", WAYS)


class Mock:
    """llmock while it runs, told what to do over its own API."""

    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}"
        self._open = build_opener(ProxyHandler({})).open

    def tell(self, method, path, body=None):
        request = Request(f"{self.url}/_llmock/{path}", json.dumps(body).encode(), method=method)
        with self._open(request, timeout=60) as answer:
            return json.load(answer)

    def queue(self, kind, /, *, model="*", times=1, **behavior):
        queued = {"type": kind, "times": times, "match": {"model": model}, **behavior}
        self.tell("POST", "scenario", {"behaviors": [queued]})

    def says(self, text, *, model=OPUS, **behavior):
        self.queue("reply", text=text, model=model, times=None, **behavior)

    def triages(self, confidence, answer):
        self.says(json.dumps({"confidence": confidence, "answer": answer}, ensure_ascii=False), model=HAIKU)

    def requests(self):
        return self.tell("GET", "requests")["requests"]

    def models(self):
        return [each["model"] for each in self.requests()]


@contextmanager
def running(python):
    """llmock in a process of its own, until it is not wanted any more."""
    command = [python, str(Path(__file__).with_name("llmock_on_loopback.py"))]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LLMOCK_")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                assert selector.select(PATIENCE_S), "llmock does not listen"
            yield Mock(int(process.stdout.readline()))
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def served_mock():
    python = os.environ.get("LLMOCK_PYTHON")
    if python is None:
        pytest.skip("llmock is not installed: LLMOCK_PYTHON names the Python of an environment that has it")
    with running(python) as found:
        yield found


@pytest.fixture
def mock(served_mock):
    served_mock.tell("POST", "reset")
    return served_mock


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def pair(mock, kind, ledger):
    with paired(kind, mock.url, ledger) as found:
        yield found


def same_bodies(mock, model=OPUS):
    """Whether all requests to `model` were the same."""
    bodies = [each["body"] for each in mock.requests() if each["model"] == model]
    return len(bodies) > 1 and all(body == bodies[0] for body in bodies)


class TestWhatTheDeepTierAnswers:
    @each_way
    @pytest.mark.parametrize("triage", ["Prose is no verdict.", '{"confidence": 0.3, "answer": "Perhaps."}', "{}"])
    def test_comes_after_a_triage_as_it_comes_to_the_client(self, mock, pair, ledger, way, triage):
        mock.says(triage, model=HAIKU)
        mock.says(LONG)
        assert pair.same(way, **QUESTION).text == LONG
        assert mock.models() == [HAIKU, OPUS, OPUS]
        assert same_bodies(mock)
        (decision,) = ledger.decisions
        assert (decision.model, decision.escalated, decision.error) == (OPUS, True, "")
        assert decision.baseline_cost_usd == decision.hops[-1].cost_usd > 0

    @each_way
    def test_is_what_the_mock_says_of_itself_where_nothing_is_scripted(self, mock, pair, ledger, way):
        mock.says("No verdict.", model=HAIKU)
        pair.same(way, **QUESTION)
        assert ledger.decisions[0].reason is Reason.MALFORMED

    @each_way
    def test_may_be_a_call_of_a_tool(self, mock, pair, ledger, way):
        calls = [{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}]
        mock.says("Let me look.", tool_calls=calls)
        given = pair.same(way, **QUESTION, **TOOLS)
        assert given.text == "Let me look."
        if way in ("created", "helped"):
            _, used = given.things[-1][1]["content"]
            assert (used["name"], used["input"]) == ("get_weather", {"city": "Paris", "days": 3})
            assert given.things[-1][1]["stop_reason"] == "tool_use"
        assert mock.models() == [OPUS, OPUS]
        assert same_bodies(mock)
        assert ledger.decisions[0].bypass_cause is BypassCause.TOOLS

    def test_goes_on_with_the_result_of_a_tool(self, mock, pair, ledger):
        first = pair.same("created", **QUESTION, **TOOLS, tool_choice={"type": "any"}).things[0][1]
        (used,) = first["content"]
        result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Rain."}
        asked = {"type": "tool_use", "id": "toolu_1", "name": used["name"], "input": used["input"]}
        turns = [
            *QUESTION["messages"],
            {"role": "assistant", "content": [asked]},
            {"role": "user", "content": [result]},
        ]
        second = pair.same("created", max_tokens=200, messages=turns, **TOOLS)
        assert second.things[0][1]["stop_reason"] == "end_turn"
        assert [each.bypass_cause for each in ledger.decisions] == [BypassCause.TOOLS] * 2

    @each_way
    def test_may_be_about_a_picture(self, mock, pair, ledger, way):
        mock.says("A pixel.")
        assert pair.same(way, **PICTURED).text == "A pixel."
        assert same_bodies(mock)
        assert ledger.decisions[0].bypass_cause is BypassCause.IMAGES

    @each_way
    def test_is_the_cheap_models_where_that_is_asked_for(self, mock, pair, ledger, way):
        mock.says("Cheap.", model=HAIKU)
        assert pair.same(way, model=HAIKU, **QUESTION).text == "Cheap."
        assert mock.models() == [HAIKU, HAIKU]
        assert ledger.decisions[0].bypass_cause is BypassCause.CHEAP_REQUESTED


class TestAnAnswerThatShips:
    @each_way
    def test_is_the_whole_message(self, mock, pair, ledger, way):
        mock.triages(0.95, LONG)
        given = pair.routed.given(way, **QUESTION)
        assert given.error is None
        assert given.text == LONG
        assert mock.models() == [HAIKU]
        (decision,) = ledger.decisions
        assert (decision.confidence, decision.escalated, decision.shipped) == (0.95, False, True)

    @each_way
    def test_is_of_the_same_types_as_the_clients(self, mock, pair, way):
        mock.triages(0.95, LONG)
        mock.says(LONG)
        given, bare = pair.routed.given(way, **QUESTION), pair.bare.given(way, model=OPUS, **QUESTION)
        assert {kind for kind, _ in given.things} == {kind for kind, _ in bare.things}
        assert given.text == bare.text

    def test_has_the_tokens_that_the_mock_counted(self, mock, pair, ledger):
        mock.triages(0.95, LONG)
        for way in WAYS:
            pair.routed.given(way, **QUESTION)
        ((_, message),) = pair.routed.given("created", **QUESTION).things
        for decision in ledger.decisions:
            (hop,) = decision.hops
            assert (hop.usage.input_tokens, hop.usage.output_tokens) == tuple(message["usage"][name] for name in TOKENS)
            assert not hop.usage.is_estimate


class TestErrors:
    @each_way
    @pytest.mark.parametrize("status", [400, 401, 404, 413, 429, 529])
    def test_of_the_deep_tier_are_those_of_the_client(self, mock, pair, ledger, way, status):
        mock.says("No verdict.", model=HAIKU)
        mock.queue("fail", status=status, message="As scripted.", retry_after=7, model=OPUS, times=None)
        kind, _, told, body, _, waits = pair.same(way, **QUESTION).error
        assert issubclass(kind, anthropic.APIStatusError)
        assert (told, body["error"]["message"], waits) == (status, "As scripted.", "7")
        assert pair.same(way, **QUESTION, **TOOLS).error[0] is kind
        assert [(each.error, each.escalated) for each in ledger.decisions] == [(kind.__name__, True)] * 2

    @each_way
    @pytest.mark.parametrize("status", [400, 404, 429, 529])
    def test_of_the_triage_tier_are_not_the_callers(self, mock, pair, ledger, way, status):
        mock.queue("fail", status=status, retry_after=60, model=HAIKU, times=None)
        mock.says(LONG)
        assert pair.same(way, **QUESTION).text == LONG
        # A request that is called invalid is made once more, without what the model may refuse.
        assert mock.models() == [*[HAIKU] * (2 if status == 400 else 1), OPUS, OPUS]
        assert ledger.decisions[0].reason is Reason.TRIAGE_ERROR

    def test_that_the_mock_finds_itself_are_the_same(self, pair, ledger):
        refused = {"max_tokens": 1, "messages": [{"role": "nobody", "content": "x"}, *QUESTION["messages"]]}
        assert pair.same("created", **refused).error[0] is anthropic.UnprocessableEntityError
        (decision,) = ledger.decisions
        assert (decision.reason, decision.error) == (Reason.TRIAGE_ERROR, "UnprocessableEntityError")


class TestRetries:
    @pytest.mark.parametrize("way", ["created", "helped"])
    @pytest.mark.parametrize("trouble", list(product([429, 529], [0, 1, 2])), ids=str)
    def test_are_as_many_as_the_client_allows(self, mock, kind, ledger, way, trouble):
        status, allowed = trouble
        with paired(kind, mock.url, ledger, max_retries=allowed) as pair:
            given, attempts = self.tried(mock, pair.routed, way, status)
            assert (given, attempts) == self.tried(mock, pair.bare, way, status)
        assert attempts == list(range(allowed + 1))
        assert (given.error is None) is (allowed == 2)

    @staticmethod
    def tried(mock, side, way, status):
        """What a call gives that fails twice, and the count that each attempt stated."""
        mock.tell("POST", "reset")
        mock.says("Deep.")
        mock.queue("fail", status=status, retry_after=0.05, times=2)
        given = side.given(way, model=OPUS, **QUESTION, **TOOLS)
        assert mock.tell("GET", "verdict")["errors"] == 0, "such as a Retry-After that was not waited for"
        return given, [each["sdk_retry_count"] for each in mock.requests()]

    @pytest.mark.parametrize("way", ["created", "streamed"])
    @pytest.mark.parametrize("wait_s", [0.01, 60])
    def test_of_a_triage_are_none_however_long_it_is_told_to_wait(self, mock, kind, ledger, way, wait_s):
        mock.queue("fail", status=429, retry_after=wait_s, model=HAIKU)
        mock.says("Deep.")
        with paired(kind, mock.url, ledger, max_retries=2) as pair:
            assert pair.routed.given(way, **QUESTION).text == "Deep."
        assert [(each["model"], each["status"]) for each in mock.requests()] == [(HAIKU, 429), (OPUS, 200)]
        assert mock.tell("GET", "verdict")["errors"] == 0


class TestStreamsThatBreak:
    @pytest.mark.parametrize("way", WAYS[1:])
    @pytest.mark.parametrize("fault", list(product(BREAKS, [0, 1, 5])), ids=str)
    def test_break_as_without_a_router(self, mock, pair, ledger, way, fault):
        kind, after = fault
        mock.says("No verdict.", model=HAIKU)
        mock.says(LONG)
        mock.queue("stream_fault", kind=kind, after_chunks=after, model=OPUS, times=None)
        given = pair.same(way, **QUESTION)
        (decision,) = ledger.decisions
        # A stream that only ends too early is no error to the SDK.
        assert decision.error == ("" if kind == "truncate" else given.error[0].__name__)
        assert decision.model == OPUS

    @pytest.mark.parametrize("way", WAYS[1:])
    @pytest.mark.parametrize("fault", BREAKS)
    def test_after_an_answer_has_begun_break_as_the_clients_do(self, mock, pair, ledger, way, fault):
        mock.triages(0.95, LONG)
        mock.says(LONG)
        mock.queue("stream_fault", kind=fault, after_chunks=10, times=None)
        given, bare = pair.routed.given(way, **QUESTION), pair.bare.given(way, model=OPUS, **QUESTION)
        # A stream that only ends too early is no error to the SDK; here the answer is lost.
        kind = CutAnswerError if fault == "truncate" else bare.error[0]
        assert given.error[0] is kind
        assert given.things
        (decision,) = ledger.decisions
        assert (decision.escalated, decision.model) == (False, HAIKU)
        assert decision.reason in (Reason.TRIAGE_ERROR, Reason.MALFORMED, Reason.TRUNCATED)

    @pytest.mark.parametrize("way", WAYS[1:])
    @pytest.mark.parametrize("fault", list(product(BREAKS, [0, 1, 3])), ids=str)
    def test_before_they_are_decided_go_deep(self, mock, pair, ledger, way, fault):
        kind, after = fault
        mock.triages(0.95, LONG)
        mock.says("Deep.")
        mock.queue("stream_fault", kind=kind, after_chunks=after, model=HAIKU)
        assert pair.same(way, **QUESTION).text == "Deep."
        (decision,) = ledger.decisions
        assert (decision.model, decision.error) == (OPUS, "")
        assert decision.reason in (Reason.TRIAGE_ERROR, Reason.MALFORMED)

    @pytest.mark.parametrize("way", WAYS[1:])
    def test_that_stall_before_they_are_decided_are_left_in_time(self, mock, kind, ledger, way):
        mock.triages(0.95, LONG)
        mock.says("Deep.")
        mock.queue("stream_fault", kind="stall", after_chunks=1, stall_seconds=30, model=HAIKU)
        with paired(kind, mock.url, ledger, triage_timeout_s=1.5) as pair:
            assert pair.same(way, **QUESTION).text == "Deep."
        assert ledger.decisions[0].reason is Reason.TRIAGE_ERROR
        (stalled,) = [each for each in mock.requests() if each["model"] == HAIKU]
        assert stalled["stall_waited"] < 25, "the connection is closed, and not left to its end"


class TestWhatIsNotRouted:
    def test_are_batches(self, pair):
        asked = [{"custom_id": f"n{n}", "params": {"model": OPUS, **QUESTION}} for n in range(3)]
        routed, bare = (self.lines(side, asked) for side in (pair.routed, pair.bare))
        assert routed == bare
        assert [each["custom_id"] for each in routed] == ["n0", "n1", "n2"]

    @staticmethod
    def lines(side, asked):
        batches = side.client.messages.batches
        name = side.value(batches.create(requests=asked)).id
        assert side.value(batches.retrieve(name)).processing_status == "ended"
        return side.values(batches.results(name))

    def test_are_models_and_counts_of_tokens(self, pair):
        routed, bare = (side.value(side.client.models.list()).data for side in (pair.routed, pair.bare))
        assert routed == bare != []
        for side in (pair.routed, pair.bare):
            with pytest.raises(anthropic.NotFoundError):  # llmock has none
                side.value(side.client.messages.count_tokens(model=OPUS, messages=QUESTION["messages"]))


def test_grades_are_read_from_its_batches_and_replies(mock):
    with make_client_for(mock.url, api_key="any") as client:
        grader, request = GraderApi(client), {"model": OPUS, **QUESTION}
        found = grader.results(grader.submit({"a": request, "b": request}))
        assert {name: each.failure for name, each in found.items()} == dict.fromkeys("ab", GradeFailure.MALFORMED)
        assert all(each.usage.output_tokens > 0 for each in found.values())
        mock.says('{"reason": "It is.", "verdict": "correct"}')
        assert grader.grade(request).grade is Grade.CORRECT
        mock.queue("fail", status=529, retry_after=0.01, times=None)
        with pytest.raises(GraderError):
            grader.grade(request)
