"""Recorded event streams, served byte for byte in pieces of odd sizes: a router gives what the SDK's client gives."""

import json
import re
import threading
from dataclasses import dataclass, field, replace
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate, pairwise
from pathlib import Path
from random import Random

import anthropic
import httpx2
import pytest

from cheapdeep_ops import BypassCause, Reason
from cheapdeep_ops.claude.cut_answer import CutAnswerError
from tests.pairs import OPUS, TRANSPORTS, WAYS, paired

RECORDED = Path(__file__).parents[2] / "shared" / "data" / "anthropic_fixtures"
HAIKU = "claude-haiku-4-5"
STREAMED = WAYS[1:]
SIZES = (1, 2, 3, 5, 17, 64, 257)
QUESTION = {"max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
BYPASSED = {**QUESTION, "stop_sequences": ["END"]}
ANSWER = 'None of the "Settings" \\ Füße 🙂, then\nSecurity, and there it is: wait for the mail that comes.'
DEEP = b"The deep answer."
# US dollars per million tokens: input, output, cache read, cache written for 5 minutes and for an hour.
RATES = {OPUS: (5, 25, 0.5, 6.25, 10), HAIKU: (1, 5, 0.1, 1.25, 2)}


def event(data):
    return b"event: %b\ndata: %b\n\n" % (data["type"].encode(), json.dumps(data, ensure_ascii=False).encode())


def data_of(raw):
    return json.loads(next(line[5:] for line in raw.splitlines() if line.startswith(b"data:")))


@dataclass(frozen=True)
class Recording:
    """A stream as it came over the wire."""

    events: tuple[bytes, ...]
    content_type: str = "text/event-stream; charset=utf-8"

    @cached_property
    def data(self):
        return [data_of(each) for each in self.events]

    @cached_property
    def usage(self):
        """The figures that hold at its end: those of its start, but for what the last event says anew."""
        (start,) = (each["message"]["usage"] for each in self.data if each["type"] == "message_start")
        (end,) = (each["usage"] for each in self.data if each["type"] == "message_delta")
        return {**start, **end}

    @property
    def blocks(self):
        return [each["content_block"]["type"] for each in self.data if each["type"] == "content_block_start"]

    @property
    def runs_code(self):
        return any("code_execution" in kind for kind in self.blocks)

    @property
    def is_one_text(self):
        return [kind for kind in self.blocks if "thinking" not in kind] == ["text"]

    def changed(self, change):
        """The same stream with other data in some events; `change` gives None where it leaves one as it is."""
        changes = [change(json.loads(json.dumps(each))) for each in self.data]
        kept = (raw if new is None else event(new) for raw, new in zip(self.events, changes, strict=True))
        return replace(self, events=tuple(kept))

    def saying(self, text):
        """The same stream with `text` in the place of what it says, cut where that was cut."""
        lengths = [len(each["delta"]["text"]) for each in self.data if is_text(each)]
        marks = [round(len(text) * at / sum(lengths)) for at in accumulate(lengths, initial=0)]
        pieces = iter([text[start:end] for start, end in pairwise(marks)])
        return self.changed(lambda each: said(each, next(pieces)) if is_text(each) else None)

    def cached(self):
        """The same stream of a call that has read from the prompt cache, and written to it."""
        return self.changed(with_cache)

    def cut(self, after, more=b""):
        return replace(self, events=(*self.events[:after], more))


def is_text(data):
    return data.get("delta", {}).get("type") == "text_delta"


def said(data, text):
    return {**data, "delta": {**data["delta"], "text": text}}


def with_cache(data):
    counts = {"cache_read_input_tokens": 1_234, "cache_creation_input_tokens": 700}
    if data["type"] == "message_start":
        split = {"cache_creation": {"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 400}}
        data["message"]["usage"] |= counts | split
    elif data["type"] == "message_delta":
        data["usage"] |= {name: count for name, count in counts.items() if name in data["usage"]}
    else:
        return None
    return data


def made_up():
    """A stream of the form of the recorded ones, for where those are not at hand: thoughts, then a text."""
    first = {"input_tokens": 15, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 1}
    start = {
        "model": "claude-made-up", "id": "msg_made_up", "type": "message", "role": "assistant", "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": first,
    }  # fmt: skip
    thinking, text = {"type": "thinking", "thinking": "", "signature": ""}, {"type": "text", "text": ""}
    thoughts = [{"type": "thinking_delta", "thinking": "Hm."}, {"type": "signature_delta", "signature": "c2ln"}]
    words = [{"type": "text_delta", "text": word} for word in ("Sie", "ben ", "Füße", ", plainly", " said.")]
    ending = {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {**first, "output_tokens": 9}}
    return Recording(
        tuple(
            event(each)
            for each in (
                {"type": "message_start", "message": start},
                *block(0, thinking, thoughts),
                {"type": "ping"},
                *block(1, text, words),
                {"type": "message_delta", **ending},
                {"type": "message_stop"},
            )
        )
    )


def block(index, begun, deltas):
    yield {"type": "content_block_start", "index": index, "content_block": begun}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def recordings():
    yield pytest.param(made_up(), id="made up")
    if not RECORDED.is_dir():
        missing = pytest.mark.skip(reason="the recorded streams are not part of this repository")
        yield pytest.param(None, marks=[pytest.mark.shared, pytest.mark.thorough, missing], id="recorded")
        return
    for entry in json.loads((RECORDED / "INDEX.json").read_text("utf-8")):
        path = RECORDED / entry["file"]
        if path.suffix == ".sse":
            body = path.read_bytes()
            events = tuple(re.findall(rb".+?(?:\n\n|$)", body, re.DOTALL))
            assert b"".join(events) == body
            found = Recording(events, entry["content_type"])
            yield pytest.param(found, marks=[pytest.mark.shared, pytest.mark.thorough], id=path.stem.split(".")[0])


each_recording = pytest.mark.parametrize("recording", list(recordings()))
each_way = pytest.mark.parametrize("way", STREAMED)


@dataclass
class Served:
    """What each model answers; `breaks` are those whose connection breaks off behind it."""

    streams: dict[str, Recording] = field(default_factory=dict)
    breaks: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    random: Random = field(default_factory=lambda: Random(7))

    def pieces(self, body):
        """`body` in pieces of odd sizes, others each time."""
        while body:
            size = self.random.choice(SIZES)
            yield body[:size]
            body = body[size:]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        served = self.server.served
        model = json.loads(self.rfile.read(int(self.headers["content-length"])))["model"]
        served.asked.append(model)
        stream = served.streams[model]
        self.send_response(200)
        for name, value in (
            ("content-type", stream.content_type),
            ("request-id", f"req_{model}"),
            ("transfer-encoding", "chunked"),
            ("connection", "close"),
        ):
            self.send_header(name, value)
        self.end_headers()
        for piece in served.pieces(b"".join(stream.events)):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if model not in served.breaks:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """A server that sends the bytes it is given, and nothing else."""

    served: Served

    def handle_error(self, *_):
        """A client that leaves early is none."""


@pytest.fixture(scope="module")
def server():
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(60)


@pytest.fixture
def served(server):
    server.served = Served(streams={HAIKU: made_up(), OPUS: made_up().saying(DEEP.decode())})
    return server.served


@pytest.fixture(params=TRANSPORTS)
def pair(request, server, served, ledger):
    with paired(request.param, f"http://127.0.0.1:{server.server_port}", ledger, keeps_ids=True) as found:
        yield found


def has_the_figures_of(hop, model, recording):
    """The tokens and the cost of a model call are those that the stream has told, by arithmetic of this test's own."""
    told, usage = recording.usage, hop.usage
    read, written = (told.get(f"cache_{name}_input_tokens") or 0 for name in ("read", "creation"))
    hour = (told.get("cache_creation") or {}).get("ephemeral_1h_input_tokens") or 0
    counts = (told["input_tokens"], told["output_tokens"], read, written - hour, hour)
    found = (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens)
    assert (*found, usage.cache_write_5m_tokens, usage.cache_write_1h_tokens) == counts
    assert not usage.is_estimate
    cost = sum(count * rate / 1e6 for count, rate in zip(counts, RATES[model], strict=True))
    # Code execution is billed by the hour, which the API does not tell.
    assert hop.cost_usd == (None if recording.runs_code else pytest.approx(cost))


def is_cut(given):
    """Whether a stream told its caller that the rest of its answer is lost."""
    return given.error is not None and given.error[0] is CutAnswerError


class TestAsTheDeepAnswer:
    @each_recording
    @each_way
    def test_it_comes_as_without_a_router(self, served, pair, ledger, recording, way):
        served.streams[OPUS] = recording
        assert pair.same(way, **BYPASSED).things
        assert pair.same(way, **QUESTION).things
        assert served.asked == [OPUS, OPUS, HAIKU, OPUS, OPUS]
        for decision in ledger.decisions:
            has_the_figures_of(decision.hops[-1], OPUS, recording)
            assert (decision.model, decision.error) == (OPUS, "")
            assert decision.baseline_cost_usd == decision.hops[-1].cost_usd
        bypassed, escalated = ledger.decisions
        assert (bypassed.bypass_cause, bypassed.cost_usd) == (BypassCause.STOP_SEQUENCES, bypassed.baseline_cost_usd)
        assert escalated.reason is Reason.MALFORMED
        costs = [hop.cost_usd for hop in escalated.hops]
        assert escalated.cost_usd == (None if recording.runs_code else pytest.approx(sum(costs)))

    @each_recording
    def test_its_cache_tokens_are_counted(self, served, pair, ledger, recording):
        served.streams[OPUS] = recording.cached()
        pair.same("streamed", **QUESTION)
        (decision,) = ledger.decisions
        has_the_figures_of(decision.hops[-1], OPUS, served.streams[OPUS])
        assert decision.hops[-1].usage.cache_write_1h_tokens == 400


class TestAsTheTriageReply:
    @each_recording
    @each_way
    def test_prose_goes_to_the_deep_tier(self, served, pair, ledger, recording, way):
        served.streams[HAIKU] = recording
        assert pair.same(way, **QUESTION).text == DEEP.decode()
        assert served.asked == [HAIKU, OPUS, OPUS]
        (decision,) = ledger.decisions
        assert (decision.reason, decision.model, decision.confidence) == (Reason.MALFORMED, OPUS, None)
        has_the_figures_of(decision.hops[0], HAIKU, recording)

    @each_recording
    @each_way
    def test_a_verdict_that_comes_the_same_way_ships(self, served, pair, ledger, recording, way):
        for is_ascii in (False, True):
            served.streams[HAIKU] = recording.saying(verdict(is_ascii=is_ascii)).cached()
            given = pair.routed.given(way, **QUESTION)
            decision = ledger.decisions[-1]
            has_the_figures_of(decision.hops[0], HAIKU, served.streams[HAIKU])
            assert is_one_answer(given, decision)
            assert given.error is None or (is_cut(given) and not recording.is_one_text)
            if recording.is_one_text:
                assert given.text == ANSWER
                assert (decision.shipped, decision.reason, decision.confidence) == (True, None, 0.93)

    @each_recording
    def test_what_ships_is_a_message_with_the_envelope_of_the_reply(self, served, pair, recording):
        """All but its content: the id, the model, the stop reason, the usage."""
        reply = recording.saying(verdict(is_ascii=False)) if recording.is_one_text else made_up().saying(verdict())
        served.streams[HAIKU] = reply
        (_, routed), (_, bare) = (
            side.given("helped", model=model, **QUESTION).things[-1]
            for side, model in ((pair.routed, OPUS), (pair.bare, HAIKU))
        )
        (text,) = routed.pop("content")
        assert (text["type"], text["text"]) == ("text", ANSWER)
        assert json.loads(bare.pop("content")[-1]["text"])["answer"] == ANSWER
        assert routed == bare


def verdict(*, is_ascii=True):
    return json.dumps({"confidence": 0.93, "answer": ANSWER}, ensure_ascii=is_ascii)


def is_one_answer(given, decision):
    """Whether it is the deep tier's whole answer, or what has come of the triage tier's: never some of both."""
    text = given.text if given.things else ""
    return text == DEEP.decode() if decision.model == OPUS else ANSWER.startswith(text)


ENDINGS = ("an end", "a break", "an error")


def overloaded():
    """The error inside a stream that was collected, or one of its form."""
    error = {"type": "overloaded_error", "message": "Overloaded"}
    body = {"type": "error", "error": error, "request_id": "req_made_up"}
    if RECORDED.is_dir():
        lines = (RECORDED / "errors_collected.jsonl").read_text("utf-8").splitlines()
        (body,) = (each["body"] for each in map(json.loads, lines) if each["kind"].startswith("mid-stream"))
    return body


def cut_short(served, model, recording, ending):
    """Each stream that `recording` becomes where it ends early, at places that are drawn: served, then its place."""
    last = len(recording.events)
    places = {0, last - 2, last - 1, last, *Random(5).sample(range(last), 2)}
    served.breaks = {model} if ending == "a break" else set()
    for after in sorted(places):
        served.streams[model] = recording.cut(after, event(overloaded()) if ending == "an error" else b"")
        yield after


class TestThatEndsEarly:
    @each_recording
    @pytest.mark.parametrize("ending", ENDINGS)
    def test_as_the_deep_answer_it_fails_as_without_a_router(self, served, pair, ledger, recording, ending):
        for after in cut_short(served, OPUS, recording, ending):
            way, params = STREAMED[after % 3], (BYPASSED, QUESTION)[after % 2]
            given = pair.same(way, **params)
            kind = given.error and given.error[0]
            if ending == "an error":
                assert issubclass(kind, anthropic.APIStatusError)
                assert given.error[3:5] == (overloaded(), f"req_{OPUS}")
            elif ending == "a break":
                assert issubclass(kind, httpx2.TransportError)
            else:  # no error to the SDK, but for its helper where nothing has come
                assert kind in (None, AssertionError)
            assert ledger.decisions[-1].error == ("" if ending == "an end" else kind.__name__)

    @each_recording
    @pytest.mark.parametrize("ending", ENDINGS)
    def test_as_prose_of_the_triage_tier_it_goes_to_the_deep_tier(self, served, pair, ledger, recording, ending):
        for after in cut_short(served, HAIKU, recording, ending):
            given = pair.routed.given(STREAMED[after % 3], **QUESTION)
            assert (given.text, given.error) == (DEEP.decode(), None)
            decision = ledger.decisions[-1]
            assert (decision.model, decision.error) == (OPUS, "")
            assert decision.reason in (Reason.MALFORMED, Reason.TRIAGE_ERROR, Reason.TRUNCATED)

    @each_recording
    @pytest.mark.parametrize("ending", ENDINGS)
    def test_as_a_verdict_it_goes_deep_or_fails_with_what_was_shown(self, served, pair, ledger, recording, ending):
        reply = recording.saying(verdict(is_ascii=False))
        for after in cut_short(served, HAIKU, reply, ending):
            way = STREAMED[after % 3]
            given, bare = pair.routed.given(way, **QUESTION), pair.bare.given(way, model=HAIKU, **QUESTION)
            decision = ledger.decisions[-1]
            assert is_one_answer(given, decision)
            if decision.model == OPUS:
                assert (given.error, decision.error) == (None, "")
            else:
                # A reply that is no whole verdict is a cut answer, also where the SDK sees no fault in its end.
                assert given.error == bare.error or (
                    is_cut(given) and (ending == "an end" or not recording.is_one_text)
                )
                assert given.things
                assert decision.error == ("" if given.error is None else given.error[0].__name__)
                is_whole = any(each["type"] == "message_delta" for each in reply.data[:after])
                assert (decision.reason is None) is (is_whole and recording.is_one_text and given.error is None)
