import json
import logging
import os
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from cheapdeep_ops import redaction
from cheapdeep_ops.errors import StoreBusyError, StoreError
from cheapdeep_ops.recorder import Recorder, candidate_rows
from cheapdeep_ops.recorder.candidate_rows import LONGEST_CHARACTERS, KeptCall, candidate_row, is_kept
from cheapdeep_ops.sampling import position
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.testing import FrozenClock
from cheapdeep_ops.values import BypassCause, Decision, Exchange, Hop, Outcome, Reason, TextTurn, Tier, Trace, Usage

steady = hypothesis_settings(derandomize=True, deadline=None, max_examples=200, database=None)

NOW = 1_800_000_000.0
CHEAP = Hop(tier=Tier(model="claude-haiku-4-5", index=0, is_deep=False), usage=Usage(), cost_usd=0.0004)
DEEP = Hop(tier=Tier(model="claude-opus-4-7", index=1, is_deep=True), usage=Usage(), cost_usd=0.004)

SHIPPED = Decision(
    call_id="call-1", route="support", input_class="returns", tier=0, model="claude-haiku-4-5", confidence=0.93,
    threshold=0.8, policy_version=4, escalated=False, reason=None, bypass_cause=None, base_outcome=Outcome.SHIP,
    base_reason=None, cost_usd=0.0004, triage_cost_usd=0.0004, baseline_cost_usd=0.004, baseline_basis="",
    started_at=NOW, duration_s=0.0, triage_duration_s=0.0, hops=(CHEAP,),
)  # fmt: skip
DEEPER = {"escalated": True, "tier": 1, "model": "claude-opus-4-7", "hops": (CHEAP, DEEP)}
WITHHELD = replace(SHIPPED, **DEEPER, threshold=0.9, confidence=0.85, reason=Reason.RAISED_THRESHOLD)
ESCALATED = replace(
    SHIPPED,
    **DEEPER,
    confidence=0.5,
    reason=Reason.LOW_CONFIDENCE,
    base_outcome=Outcome.ESCALATE,
    base_reason=Reason.LOW_CONFIDENCE,
)
BYPASSED = replace(
    SHIPPED,
    **{**DEEPER, "hops": (DEEP,)},
    confidence=None,
    reason=Reason.BYPASS,
    bypass_cause=BypassCause.TOOLS,
    base_outcome=None,
)

TURNS = (
    TextTurn(role="system", text="You help ann@example.com."),
    TextTurn(role="user", text="Where is my parcel?"),
    TextTurn(role="assistant", text="On its way to ann@example.com."),
    TextTurn(role="user", text="When will it come?"),
)
PARCEL = Exchange(turns=TURNS, answer="Tomorrow at noon.", response_id="msg_1", prompt_version="p7")


def without_ann(text):
    return text.replace("ann@example.com", "[customer]")


def as_it_is(text):
    return text


def row_of(exchange=PARCEL, decision=SHIPPED, *, share=1.0, redact=without_ann):
    return candidate_row(KeptCall(decision=decision, exchange=exchange, share=share), redact=redact)


def named(call_id, decision=SHIPPED):
    return replace(decision, call_id=call_id)


class TestACandidate:
    @pytest.mark.parametrize(
        ("decision", "kept"),
        [(SHIPPED, True), (WITHHELD, True), (replace(WITHHELD, error="APITimeoutError"), True), (ESCALATED, False),
         (BYPASSED, False)],
    )  # fmt: skip
    def test_is_an_answer_that_ships_at_base(self, decision, kept):
        assert is_kept(decision, 1.0) is kept
        assert is_kept(decision, 0.0) is False

    def test_is_chosen_by_the_hash_of_its_call_alone(self):
        calls = [named(f"call-{number}") for number in range(2_000)]
        for share in (0.01, 0.05, 0.5):
            kept = [call.call_id for call in calls if is_kept(call, share)]
            assert kept == [call.call_id for call in calls if position(call.call_id) < share]
            assert kept == [call.call_id for call in calls if is_kept(replace(WITHHELD, call_id=call.call_id), share)]
            assert kept

    def test_holds_what_a_grade_needs_to_know_of_its_call(self):
        trace = Trace(trace_id="a" * 32, span_id="b" * 16, sampled=True)
        assert row_of(replace(PARCEL, trace=trace), share=0.05) == {
            "call_id": "call-1",
            "position": position("call-1"),
            "kept_share": 0.05,
            "route": "support",
            "input_class": "returns",
            "at": NOW,
            "shipped": True,
            "confidence": 0.93,
            "threshold": 0.8,
            "policy_version": 4,
            "model": "claude-haiku-4-5",
            "tier": 0,
            "prompt_version": "p7",
            "response_id": "msg_1",
            "trace_id": "a" * 32,
            "span_id": "b" * 16,
            "trace_sampled": True,
            "turns": [
                {"role": "system", "text": "You help [customer]."},
                {"role": "user", "text": "Where is my parcel?"},
                {"role": "assistant", "text": "On its way to [customer]."},
                {"role": "user", "text": "When will it come?"},
            ],
            "answer": "Tomorrow at noon.",
            "state": "kept",
            "why": "",
        }

    def test_without_a_trace_says_so(self):
        row = row_of()
        assert (row["trace_id"], row["span_id"], row["trace_sampled"]) == ("", "", False)

    @pytest.mark.parametrize("sampled", [True, False])
    def test_carries_the_flag_that_its_trace_really_has(self, sampled):
        trace = Trace(trace_id="a" * 32, span_id="b" * 16, sampled=sampled)
        assert row_of(replace(PARCEL, trace=trace))["trace_sampled"] is sampled

    def test_that_was_withheld_is_that_of_the_first_tier_and_has_not_shipped(self):
        row = row_of(decision=WITHHELD)
        assert (row["shipped"], row["model"], row["confidence"]) == (False, "claude-haiku-4-5", 0.85)
        assert (row["state"], row["answer"]) == ("kept", "Tomorrow at noon.")

    def test_that_was_withheld_has_not_shipped_although_a_tier_in_between_answered(self):
        middle = replace(DEEP, tier=Tier(model="claude-sonnet-4-6", index=1, is_deep=False))
        decision = replace(WITHHELD, model="claude-sonnet-4-6", hops=(CHEAP, middle))
        assert decision.shipped
        assert row_of(decision=decision)["shipped"] is False


def content_of(row):
    return row["state"], row["why"], row["turns"], row["answer"]


class TestRedaction:
    def test_sees_every_text_once_and_decides_what_is_kept_of_it(self):
        seen = []

        def hook(text):
            seen.append(text)
            return text if text == PARCEL.answer else f"text {len(seen)}"

        row = row_of(redact=hook)
        assert seen == [*(turn.text for turn in TURNS), PARCEL.answer]
        assert [turn["text"] for turn in row["turns"]] == ["text 1", "text 2", "text 3", "text 4"]
        assert [turn["role"] for turn in row["turns"]] == ["system", "user", "assistant", "user"]

    def test_is_done_once_for_a_system_prompt_that_comes_again(self, monkeypatch):
        seen = []

        def counted(text):
            seen.append(text)
            return redaction.redact(text)

        monkeypatch.setattr(candidate_rows, "_redacted_prompts", {})
        # The default hook under another name, so that the rows see that it is the default.
        monkeypatch.setattr(candidate_rows, "redaction", SimpleNamespace(redact=counted))
        rows = [candidate_row(KeptCall(decision=SHIPPED, exchange=PARCEL, share=1.0), redact=counted) for _ in range(3)]
        assert rows[0]["turns"][0] == {"role": "system", "text": "You help [email]."}
        assert rows[0] == rows[1] == rows[2]
        assert [seen.count(turn.text) for turn in TURNS] == [1, 3, 3, 3]

    def test_remembers_few_system_prompts_and_none_unredacted(self, monkeypatch):
        remembered = {}
        monkeypatch.setattr(candidate_rows, "_redacted_prompts", remembered)
        for number in range(100):
            prompt = TextTurn(role="system", text=f"Call {number} for ann@example.com.")
            row = candidate_row(
                KeptCall(decision=SHIPPED, exchange=replace(PARCEL, turns=(prompt,)), share=1.0),
                redact=redaction.redact,
            )
            assert row["turns"] == [{"role": "system", "text": f"Call {number} for [email]."}]
        assert 0 < len(remembered) <= 8
        assert "ann@" not in repr(remembered)

    def test_leaves_nothing_of_what_it_took_out_in_the_row(self):
        assert "ann@example.com" in json.dumps(row_of(redact=as_it_is))
        assert "ann@example.com" not in json.dumps(row_of())

    def test_of_a_question_keeps_it_for_grading(self):
        row = row_of()
        assert (row["state"], row["why"]) == ("kept", "")
        assert row["turns"][0]["text"] == "You help [customer]."

    def test_of_an_answer_leaves_it_out_because_it_cannot_be_graded_as_it_was(self):
        row = row_of(replace(PARCEL, answer="Ask ann@example.com."))
        assert content_of(row) == ("skipped", "redacted", None, None)
        assert "ann" not in json.dumps(row)
        assert "parcel" not in json.dumps(row)

    @pytest.mark.parametrize("fails_at", ["Where is my parcel?", "Tomorrow at noon."])
    @pytest.mark.parametrize("error", [RuntimeError, UnicodeError, RecursionError])
    def test_that_fails_keeps_no_content(self, fails_at, error):
        def hook(text):
            if text == fails_at:
                raise error(f"cannot read {text}")
            return text

        row = row_of(redact=hook)
        assert content_of(row) == ("skipped", "redaction_failed", None, None)
        assert "parcel" not in json.dumps(row)
        assert row["call_id"] == "call-1"

    @pytest.mark.parametrize(("more", "why"), [(0, ""), (1, "too_long")])
    @pytest.mark.parametrize("where", ["question", "answer"])
    def test_is_spared_exchanges_that_are_too_long(self, more, why, where):
        short, long = "x", "y" * (LONGEST_CHARACTERS - 1 + more)
        question, answer = (long, short) if where == "question" else (short, long)
        seen = []

        def hook(text):
            seen.append(text)
            return text

        row = row_of(Exchange(turns=(TextTurn(role="user", text=question),), answer=answer), redact=hook)
        assert row["why"] == why
        assert (row["turns"] is None, row["answer"] is None) == (bool(why), bool(why))
        assert len(seen) == (0 if why else 2)

    @pytest.mark.parametrize(
        ("said", "stored"),
        [("a\0b", "a\ufffdb"), ("\ud800", "?"), ("half \udfff of it", "half ? of it"), ("\U0001f600", "\U0001f600")],
    )
    def test_is_preceded_by_taking_out_what_no_store_holds(self, said, stored):
        seen = []
        row = row_of(
            Exchange(turns=(TextTurn(role="user", text=said),), answer="fine"),
            redact=lambda text: seen.append(text) or text,
        )
        assert seen == [stored, "fine"]
        assert (row["state"], row["turns"]) == ("kept", [{"role": "user", "text": stored}])

    @pytest.mark.parametrize("answer", ["a\0b", "\ud800"])
    def test_skips_an_answer_that_cannot_be_stored_as_it_was(self, answer):
        assert content_of(row_of(replace(PARCEL, answer=answer))) == ("skipped", "unstorable", None, None)

    @pytest.mark.parametrize("given", [None, b"bytes", 7, ["text"]])
    def test_believes_no_hook_that_gives_something_else_than_text(self, given):
        row = row_of(PARCEL, redact=lambda text: text if text == PARCEL.answer else given)
        assert content_of(row) == ("skipped", "redaction_failed", None, None)

    @steady
    @given(st.lists(st.text(st.characters(exclude_categories=[]), max_size=20), max_size=3), st.text(max_size=20))
    def test_leaves_a_row_that_any_store_takes(self, texts, answer):
        turns = tuple(TextTurn(role="user", text=text) for text in texts)
        row = row_of(Exchange(turns=turns, answer=answer), redact=as_it_is)
        kept = [turn["text"] for turn in row["turns"] or ()] + [row["answer"] or ""]
        assert all("\0" not in text and text.encode() for text in kept if text)
        assert [len(text) for text in kept[:-1]] == ([len(text) for text in texts] if row["turns"] is not None else [])
        assert row["answer"] in (answer, None)


def test_neither_exchanges_nor_what_is_kept_of_them_show_content_in_logs():
    shown = repr(KeptCall(decision=SHIPPED, exchange=PARCEL, share=1.0))
    assert "call-1" in shown
    assert "parcel" not in shown
    assert "noon" not in shown


# Through the recorder into a store


@pytest.fixture
def clock():
    return FrozenClock(NOW)


@pytest.fixture
def make_recorder(sqlite_url, clock):
    made = []

    def make(redact=without_ann, **changes):
        settings = Settings(store_url=sqlite_url, **{"sample_rate": 1.0, **changes})
        made.append(Recorder(settings, clock=clock, background=False, redact=redact))
        return made[-1]

    yield make
    for recorder in made:
        recorder.close()


@pytest.fixture
def recorder(make_recorder):
    return make_recorder()


def tell():
    return PARCEL


def must_not_tell():
    pytest.fail("asked what a call was about that is not kept")


def selected(url, statement):
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    connection.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in connection.execute(statement)]
    finally:
        connection.close()


def stored(url):
    return selected(url, "SELECT * FROM candidate ORDER BY rowid")


def calls(url):
    (counted,) = selected(url, "SELECT coalesce(sum(calls), 0) AS calls FROM bucket")
    return counted["calls"]


def test_what_was_kept_is_stored_redacted_and_not_chosen_yet(recorder, sqlite_url):
    recorder.put(SHIPPED, tell)
    recorder.drain(NOW)
    (row,) = stored(sqlite_url)
    found = {**row, "turns": json.loads(row["turns"])}
    expected = row_of()
    assert {name: found[name] for name in expected} == expected
    assert (row["inclusion"], row["chosen_at"], row["attempts"], row["batch_id"]) == (None, None, 0, "")
    files = Path(sqlite_url.removeprefix("sqlite:///")).parent.glob("store.db*")
    written = b"".join(file.read_bytes() for file in files)
    assert b"[customer]" in written
    assert b"ann@example.com" not in written


def test_the_default_redaction_takes_addresses_out(sqlite_url, clock):
    recorder = Recorder(Settings(store_url=sqlite_url, sample_rate=1.0), clock=clock, background=False)
    recorder.put(SHIPPED, tell)
    recorder.put(named("call-2"), lambda: replace(PARCEL, answer="Ask ann@example.com."))
    recorder.close()
    one, two = stored(sqlite_url)
    assert json.loads(one["turns"])[0]["text"] == "You help [email]."
    assert (two["state"], two["why"], two["turns"], two["answer"]) == ("skipped", "redacted", None, None)


def test_texts_that_no_store_holds_are_stored_without_what_is_wrong_with_them(recorder, sqlite_url):
    odd = Exchange(turns=(TextTurn(role="user", text="nul \0 and half \ud83d"),), answer="fine")
    recorder.put(SHIPPED, lambda: odd)
    recorder.drain(NOW)
    (row,) = stored(sqlite_url)
    assert json.loads(row["turns"]) == [{"role": "user", "text": "nul \ufffd and half ?"}]
    assert calls(sqlite_url) == 1


def test_a_redaction_that_fails_leaves_its_reason_and_no_content(make_recorder, sqlite_url):
    def broken(text):
        raise RuntimeError(text)

    recorder = make_recorder(redact=broken)
    recorder.put(SHIPPED, tell)
    recorder.drain(NOW)
    (row,) = stored(sqlite_url)
    assert (row["state"], row["why"], row["turns"], row["answer"]) == ("skipped", "redaction_failed", None, None)
    assert calls(sqlite_url) == 1


def test_shipped_and_withheld_answers_are_kept_and_no_others(recorder, sqlite_url):
    recorder.put(named("shipped"), tell)
    recorder.put(named("withheld", WITHHELD), tell)
    recorder.put(named("escalated", ESCALATED), must_not_tell)
    recorder.put(named("bypassed", BYPASSED), must_not_tell)
    recorder.put(named("untold"))
    recorder.drain(NOW)
    assert [(row["call_id"], row["shipped"]) for row in stored(sqlite_url)] == [("shipped", 1), ("withheld", 0)]
    assert calls(sqlite_url) == 5


def test_thirty_times_the_sample_is_kept_and_only_that_is_asked_for(make_recorder, sqlite_url):
    recorder, asked = make_recorder(sample_rate=0.01), []
    names = [f"call-{number}" for number in range(1_400)]
    for name in names:
        recorder.put(named(name), lambda name=name: asked.append(name) or PARCEL)
        if name == "call-700":
            recorder.drain(NOW)
    recorder.drain(NOW)
    kept = [name for name in names if position(name) < 0.3]
    assert asked == kept
    assert [row["call_id"] for row in stored(sqlite_url)] == kept
    assert {row["kept_share"] for row in stored(sqlite_url)} == {0.3}
    assert calls(sqlite_url) == 1_400


@pytest.mark.parametrize("variable", ["CHEAPDEEP_RETAIN_CONTENT_DAYS", "CHEAPDEEP_SAMPLE_RATE"])
def test_a_zero_keeps_nothing_and_counts_on(variable, monkeypatch, sqlite_url, clock):
    monkeypatch.setenv("CHEAPDEEP_STORE_URL", sqlite_url)
    monkeypatch.setenv("CHEAPDEEP_SAMPLE_RATE", "1")
    monkeypatch.setenv(variable, "0")
    recorder = Recorder(Settings(), clock=clock, background=False)
    for number in range(50):
        recorder.put(named(f"call-{number}"), must_not_tell)
    recorder.close()
    assert stored(sqlite_url) == []
    assert calls(sqlite_url) == 50


def test_content_that_waits_is_bounded_and_each_row_says_how_likely_it_was_kept(recorder, sqlite_url, clock, caplog):
    with caplog.at_level(logging.WARNING):
        for number in range(150):
            recorder.put(named(f"call-{number}"), tell)
        recorder.fold(clock())  # rows that wait for the store take room like content that waits for its redaction
        for number in range(150, 250):
            recorder.put(named(f"call-{number}"), tell)
        assert "left out" not in caplog.text
        for number in range(250, 4_000):
            recorder.put(named(f"call-{number}"), tell)
    assert caplog.text.count("some of the further ones are left out of the sample") == 1
    recorder.drain(clock())
    rows = stored(sqlite_url)
    assert (calls(sqlite_url), recorder.dropped) == (4_000, 0)
    assert 350 < len(rows) < 500
    assert all(row["position"] < row["kept_share"] for row in rows)
    shares = [row["kept_share"] for row in rows]
    assert shares == sorted(shares, reverse=True)
    assert {0.5**halves for halves in range(5)} < set(shares)
    # Each stored answer stands for 1 / share of the answers, the left out ones included.
    assert sum(1 / share for share in shares) == pytest.approx(4_000, rel=0.25)
    recorder.put(named("later"), tell)  # there is room again
    recorder.drain(clock())
    assert stored(sqlite_url)[-1]["kept_share"] == 1.0


def test_the_queue_never_holds_more_than_its_capacity(sqlite_url, clock):
    recorder = Recorder(Settings(store_url=sqlite_url, sample_rate=1.0), clock=clock, background=False)
    unlikely = [name for number in range(200_000) if position(name := f"call-{number}") < 0.5**10 * 0.9]
    for name in (*(f"first-{number}" for number in range(2_000)), *unlikely):
        recorder.put(named(name), tell)
    assert recorder._samples.waiting <= 500
    recorder.close()


def test_a_call_that_is_dropped_from_the_queue_is_not_kept_either(sqlite_url, clock):
    settings = Settings(store_url=sqlite_url, sample_rate=1.0)
    recorder = Recorder(settings, clock=clock, background=False, queue_size=1)
    recorder.put(named("first"), tell)
    recorder.put(named("second"), must_not_tell)
    recorder.close()
    recorder.put(named("third"), must_not_tell)
    assert [row["call_id"] for row in stored(sqlite_url)] == ["first"]
    assert recorder.dropped == 2


def test_a_tell_that_fails_costs_its_sample_alone(recorder, sqlite_url, caplog):
    def broken():
        raise RuntimeError("no span")

    with caplog.at_level(logging.WARNING):
        recorder.put(named("before"), tell)
        recorder.put(named("broken"), broken)
        recorder.put(named("broken again"), broken)
        recorder.put(named("after"), tell)
    recorder.drain(NOW)
    assert [row["call_id"] for row in stored(sqlite_url)] == ["before", "after"]
    assert (calls(sqlite_url), recorder.dropped) == (4, 0)
    assert caplog.text.count("no span") == 1


def test_a_tell_with_nothing_to_say_keeps_nothing(recorder, sqlite_url):
    recorder.put(SHIPPED, lambda: None)
    recorder.drain(NOW)
    assert (stored(sqlite_url), calls(sqlite_url)) == ([], 1)


def test_content_survives_a_store_out_of_reach_and_is_written_once(tmp_path, clock):
    folder = tmp_path / "later"
    url = f"sqlite:///{folder}/store.db"
    recorder = Recorder(Settings(store_url=url, sample_rate=1.0), clock=clock, background=False, redact=without_ann)
    recorder.put(named("one"), tell)
    for _ in range(3):
        with pytest.raises(StoreError):
            recorder.drain(clock())
    recorder.put(named("two"), tell)
    folder.mkdir()
    for _ in range(3):
        clock.advance(1)
        recorder.drain(clock())
    assert [(row["call_id"], row["answer"]) for row in stored(url)] == [
        ("one", PARCEL.answer),
        ("two", PARCEL.answer),
    ]
    assert calls(url) == 2
    recorder.close()
    assert len(stored(url)) == 2


@pytest.mark.thorough
def test_content_waits_while_the_store_is_locked_and_is_not_left_out(recorder, sqlite_url, clock, caplog):
    recorder.drain(clock())
    blocker = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    for number in range(10):
        recorder.put(named(f"call-{number}"), tell)
        with pytest.raises(StoreBusyError):
            recorder.drain(clock())
    blocker.close()
    recorder.drain(clock())
    assert [row["call_id"] for row in stored(sqlite_url)] == [f"call-{number}" for number in range(10)]
    assert calls(sqlite_url) == 10
    assert "left out" not in caplog.text


def test_closing_writes_content_that_still_waits(recorder, sqlite_url, clock):
    recorder.put(named("folded"), tell)
    recorder.fold(clock())
    recorder.put(named("queued"), tell)
    recorder.close()
    assert [row["call_id"] for row in stored(sqlite_url)] == ["folded", "queued"]


def test_a_call_that_is_kept_already_stays_as_it_is(make_recorder, sqlite_url):
    for redact in (without_ann, as_it_is):  # as of two processes
        recorder = make_recorder(redact=redact)
        recorder.put(SHIPPED, tell)
        recorder.drain(NOW)
    (row,) = stored(sqlite_url)
    assert "[customer]" in row["turns"]


def test_a_clock_that_is_set_back_loses_no_content(recorder, sqlite_url):
    recorder.put(named("one"), tell)
    recorder.drain(NOW + 100)
    recorder.put(named("two"), tell)
    recorder.fold(NOW + 100)
    recorder.drain(NOW)
    assert [row["call_id"] for row in stored(sqlite_url)] == ["one", "two"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_after_a_fork_each_process_writes_its_own_content(recorder, sqlite_url):
    recorder.put(named("stored before"), tell)
    recorder.drain(NOW)
    recorder.put(named("of the parent, queued"), tell)
    recorder.fold(NOW)
    recorder.put(named("of the parent"), tell)
    child = os.fork()
    if child == 0:
        recorder.put(named("of the child"), tell)
        recorder.close()
        os._exit(0 if recorder.dropped == 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [row["call_id"] for row in stored(sqlite_url)] == ["stored before", "of the child"]
    recorder.close()
    assert [row["call_id"] for row in stored(sqlite_url)][2:] == ["of the parent, queued", "of the parent"]
    assert calls(sqlite_url) == 4


class TestHooksThatMisbehave:
    @pytest.mark.thorough
    def test_one_that_hangs_holds_up_neither_counters_nor_policies_nor_closing(self, tmp_path):
        settings = Settings(store_url=f"sqlite:///{tmp_path}/store.db", sample_rate=1.0, flush_every_s=0.05)
        go_on, called = threading.Event(), threading.Event()

        def hangs(text):
            called.set()
            go_on.wait(60)
            return text

        recorder = Recorder(settings, redact=hangs)
        recorder.put(SHIPPED, lambda: PARCEL)
        assert called.wait(60)
        recorder.put(replace(SHIPPED, call_id="another"), lambda: PARCEL)
        recorder.close()
        go_on.set()
        store = Store(settings.store_url)
        with store.reading() as connection:
            counted = connection.exec_driver_sql("SELECT sum(calls) FROM bucket").scalar()
        store.close()
        assert counted == 2

    def test_a_row_that_the_store_refuses_keeps_no_counter_and_no_other_row_out(self, tmp_path, caplog):
        settings = Settings(store_url=f"sqlite:///{tmp_path}/store.db", sample_rate=1.0)
        recorder = Recorder(settings, background=False, clock=lambda: SHIPPED.started_at + 1)
        for number in range(5):
            unfit = {"confidence": None} if number == 2 else {}
            recorder.put(replace(SHIPPED, call_id=str(number), **unfit), lambda: PARCEL)
        recorder.drain(SHIPPED.started_at + 1)
        store = Store(settings.store_url)
        with store.reading() as connection:
            counted = connection.exec_driver_sql("SELECT sum(calls) FROM bucket").scalar()
            kept = connection.exec_driver_sql("SELECT count(*) FROM candidate").scalar()
        store.close()
        recorder.close()
        assert (counted, kept) == (5, 4)
        assert "1 answers were left out" in caplog.text
