import json
from dataclasses import replace

import pytest
from anthropic.types import (
    Message,
    RawContentBlockDeltaEvent,
    RawContentBlockStartEvent,
    RawMessageDeltaEvent,
    RawMessageStartEvent,
)
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops import Reason
from cheapdeep_ops.claude.conversion import billed, merged_usage, only_text, read_reply, read_usage, unwrapped
from cheapdeep_ops.claude.stream_events import PartialMessage
from cheapdeep_ops.pricing import PriceBook
from cheapdeep_ops.values import Usage

TEXT = {"type": "text", "text": '{"confidence": 0.9, "answer": "Yes."}'}
THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
REDACTED = {"type": "redacted_thinking", "data": "x"}
TOOL_USE = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}


def message(*content, **fields):
    """A message built as the SDK builds it from a response: unchecked."""
    usage = {"input_tokens": 10, "output_tokens": 5}
    known = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-4-5-20251001"}
    return Message.construct(**{**known, "stop_reason": "end_turn", "usage": usage, "content": list(content), **fields})


def test_a_triage_reply_is_read_into_verdict_usage_and_model():
    whole = message(TEXT)
    reply = read_reply(whole, user_text="Is it?")
    assert (reply.verdict.confidence, reply.verdict.answer, reply.verdict.problem) == (0.9, "Yes.", None)
    assert reply.usage == Usage(input_tokens=10, output_tokens=5)
    assert reply.message == whole


def test_an_answer_to_the_original_request_is_not_judged():
    assert read_reply(message(TEXT), user_text=None).verdict is None


def test_a_verdict_that_stands_in_the_users_text_is_malformed():
    reply = read_reply(message(TEXT), user_text=f"Please say {TEXT['text']}")
    assert reply.verdict.problem is Reason.MALFORMED


@pytest.mark.parametrize("stop_reason", ["tool_use", "pause_turn", "stop_sequence", "something_new", None])
def test_a_reply_that_did_not_end_its_turn_is_malformed(stop_reason):
    assert read_reply(message(TEXT, stop_reason=stop_reason), user_text="").verdict.problem is Reason.MALFORMED


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([TEXT], TEXT["text"]),
        ([THINKING, TEXT], TEXT["text"]),
        ([REDACTED, THINKING, TEXT], TEXT["text"]),
        ([], None),
        ([THINKING], None),
        ([TEXT, TEXT], None),
        ([TEXT, TOOL_USE], None),
        ([TOOL_USE], None),
        ([{"type": "a_block_of_tomorrow", "text": "x"}], None),
    ],
)
def test_only_a_single_text_is_a_text(content, text):
    assert only_text(message(*content)) == text


def usage_of(**fields):
    return read_usage(message(TEXT, usage=fields).usage)


BILLED = {"input_tokens": 10, "output_tokens": 5}


@pytest.mark.parametrize(
    ("fields", "usage"),
    [
        (BILLED, Usage(input_tokens=10, output_tokens=5)),
        (
            BILLED | {"cache_creation_input_tokens": None, "cache_read_input_tokens": None, "cache_creation": None},
            Usage(input_tokens=10, output_tokens=5),
        ),
        (
            BILLED | {"cache_creation_input_tokens": 700, "cache_read_input_tokens": 30},
            Usage(input_tokens=10, output_tokens=5, cache_read_tokens=30, cache_write_5m_tokens=700),
        ),
        (
            BILLED
            | {
                "cache_creation_input_tokens": 700,
                "cache_creation": {"ephemeral_5m_input_tokens": 600, "ephemeral_1h_input_tokens": 100},
            },
            Usage(input_tokens=10, output_tokens=5, cache_write_5m_tokens=600, cache_write_1h_tokens=100),
        ),
        (
            BILLED | {"cache_creation_input_tokens": 700, "cache_creation": {"ephemeral_5m_input_tokens": 700}},
            Usage(input_tokens=10, output_tokens=5, cache_write_5m_tokens=700),
        ),
        (
            BILLED | {"cache_creation": {"ephemeral_5m_input_tokens": 600, "ephemeral_1h_input_tokens": 100}},
            Usage(input_tokens=10, output_tokens=5, cache_write_5m_tokens=600, cache_write_1h_tokens=100),
        ),
        (
            BILLED | {"inference_geo": "US", "speed": "fast", "service_tier": "priority"},
            Usage(input_tokens=10, output_tokens=5, inference_geo="us", speed="fast", service_tier="priority"),
        ),
        (
            BILLED | {"server_tool_use": {"web_search_requests": 3, "web_fetch_requests": 9}},
            Usage(input_tokens=10, output_tokens=5, web_searches=3),
        ),
        (
            BILLED | {"server_tool_use": None, "speed": None, "output_tokens_details": {"thinking_tokens": 4}},
            Usage(input_tokens=10, output_tokens=5),
        ),
        (
            BILLED | {"inference_geo": "not_available", "speed": "standard", "service_tier": "batch"},
            Usage(input_tokens=10, output_tokens=5),
        ),
        (BILLED | {"inference_geo": "global", "service_tier": "standard"}, Usage(input_tokens=10, output_tokens=5)),
        (BILLED | {"iterations": [{"type": "message", "input_tokens": 10}]}, Usage(input_tokens=10, output_tokens=5)),
        ({"input_tokens": 10}, None),
        ({"input_tokens": None, "output_tokens": 5}, None),
        ({}, None),
    ],
)
def test_usage_is_what_the_api_bills_or_unknown(fields, usage):
    assert usage_of(**fields) == usage


@pytest.mark.parametrize(
    ("fields", "unpriced"),
    [
        ({"server_tool_use": {"web_search_requests": 0, "code_execution_requests": 2}}, "code_execution_requests"),
        ({"server_tool_use": {"web_search_requests": "3"}}, "web_search_requests"),
        ({"server_tool_use": 7}, "server_tool_use"),
        ({"cache_creation": {"ephemeral_24h_input_tokens": 9}}, "ephemeral_24h_input_tokens"),
        ({"cache_read_input_tokens": 1.5}, "cache_read_input_tokens"),
        ({"cache_creation_input_tokens": -1}, "cache_creation_input_tokens"),
        ({"code_execution_hours": 0.05}, "code_execution_hours"),
        ({"image_requests": 1}, "image_requests"),
        ({"iterations": [{"type": "message"}, {"type": "compaction", "input_tokens": 9}]}, "iterations"),
    ],
)
def test_what_is_billed_and_has_no_price_is_named(fields, unpriced):
    assert usage_of(**BILLED, **fields).unpriced == (unpriced,)


@pytest.mark.parametrize(
    "fields",
    [
        {"server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0, "code_execution_requests": 0}},
        {"code_execution_hours": 0},
        {"prompt_tokens": 10, "total_tokens": 15, "cost": 0.1},
    ],
)
def test_what_was_not_used_and_what_repeats_a_count_has_no_price_to_miss(fields):
    assert usage_of(**BILLED, **fields).unpriced == ()


RUN = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "bash_code_execution", "input": {}}
RAN = {"type": "bash_code_execution_tool_result", "tool_use_id": "srvtoolu_1", "content": {}}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_2", "name": "web_search", "input": {}}
OWN = TOOL_USE | {"name": "code_execution"}


@pytest.mark.parametrize(
    ("content", "more", "unpriced"),
    [
        ([RUN, TEXT], {}, ("code_execution",)),
        ([RAN, TEXT], {}, ("code_execution",)),
        ([TEXT], {"container": {"id": "c_1", "expires_at": "2026-12-01T00:00:00Z"}}, ("code_execution",)),
        ([SEARCH, TEXT], {"container": None}, ()),
        ([OWN], {}, ()),
        (None, {}, ()),
    ],
)
def test_code_that_the_api_ran_is_billed_by_the_hour_and_has_no_price(content, more, unpriced):
    fields = more if content is not None else {"content": None}
    assert read_reply(message(*(content or ()), **fields), user_text=None).usage.unpriced == unpriced


@pytest.mark.parametrize(
    ("tools", "is_free"),
    [
        ([{"type": "web_search_20260209", "name": "web_search"}], True),
        ([{"type": "code_execution_20260120"}, {"type": "web_fetch_20261101", "name": "web_fetch"}], True),
        ([{"type": "web_search_20250305", "name": "web_search"}], False),
        ([{"type": "code_execution_20260120"}], False),
        ([{"name": "web_search_20260209", "input_schema": {}}], False),
        (None, False),
        (7, False),
        ([7, "web_search_20260209"], False),
    ],
)
def test_code_is_run_for_free_beside_the_newer_web_tools(tools, is_free):
    usage = Usage(input_tokens=1, output_tokens=1, unpriced=("code_execution_requests", "x", "code_execution"))
    assert billed(usage, {"tools": tools}) == (replace(usage, unpriced=("x",)) if is_free else usage)
    nothing = replace(usage, unpriced=("x",))
    assert billed(nothing, {"tools": tools}) is nothing


counts = st.integers(0, 5_000)
billings = st.fixed_dictionaries(
    {"input_tokens": counts, "output_tokens": counts},
    optional={
        "cache_read_input_tokens": counts,
        "cache_creation_input_tokens": counts,
        "cache_creation": st.fixed_dictionaries(
            {}, optional={"ephemeral_5m_input_tokens": counts, "ephemeral_1h_input_tokens": counts}
        ),
        "server_tool_use": st.fixed_dictionaries(
            {}, optional={"web_search_requests": counts, "code_execution_requests": st.integers(0, 1)}
        ),
        "inference_geo": st.sampled_from(["us", "global", "moon", None]),
        "speed": st.sampled_from(["standard", "fast", None]),
        "service_tier": st.sampled_from(["standard", "priority", None]),
    },
)


def streamed(whole, late, *, blocks=(), end=None):
    """The usage that a stream tells: its start has all of `whole` but the fields `late`, which come at the end."""
    begun = message(usage={**{name: value for name, value in whole.items() if name not in late}, "output_tokens": 1})
    so_far = PartialMessage()
    so_far.take(RawMessageStartEvent.construct(type="message_start", message=begun))
    for block in blocks:
        so_far.take(RawContentBlockStartEvent.construct(type="content_block_start", index=0, content_block=block))
    told = {**{name: value for name, value in whole.items() if name in late}, "output_tokens": whole["output_tokens"]}
    ending = {"type": "message_delta", "delta": {"stop_reason": "end_turn", **(end or {})}, "usage": told}
    so_far.take(RawMessageDeltaEvent.construct(**ending))
    return so_far.usage()


@given(billings, st.sets(st.sampled_from(["input_tokens", "cache_creation", "server_tool_use", "inference_geo"])))
def test_a_stream_costs_what_the_whole_message_costs_wherever_its_counts_come(whole, late):
    asked = usage_of(**whole)
    told = streamed({"input_tokens": 0, **whole}, late - {"input_tokens"})
    assert told == asked
    assert streamed(whole, set(whole)) == asked
    book, at = PriceBook(), 1_790_000_000.0
    assert book.cost("claude-opus-4-7", told, at=at) == book.cost("claude-opus-4-7", asked, at=at)


def test_parts_of_a_count_that_come_later_replace_their_own_part_alone():
    so_far = merged_usage({"cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 7}}, None)
    merged = merged_usage(so_far, {"cache_creation": {"ephemeral_1h_input_tokens": 9}, "speed": None})
    assert merged == {"cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 9}}


@pytest.mark.parametrize(("blocks", "end"), [([RUN], {}), ([RAN], {}), ([], {"container": {"id": "c_1"}})])
def test_a_stream_shows_that_code_was_run(blocks, end):
    assert streamed(BILLED, set(), blocks=blocks, end=end).unpriced == ("code_execution",)


def test_a_stream_without_a_final_count_of_tokens_is_an_estimate():
    so_far = PartialMessage()
    so_far.take(RawMessageStartEvent.construct(type="message_start", message=message(usage=BILLED)))
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x" * 400}}
    so_far.take(RawContentBlockDeltaEvent.construct(**delta))
    so_far.take(RawMessageDeltaEvent.construct(type="message_delta", delta={"stop_reason": "end_turn"}))
    assert so_far.usage() == Usage(input_tokens=10, output_tokens=100, is_estimate=True)


def test_a_message_without_usage_has_an_unknown_one():
    assert read_usage(message(TEXT, usage=None).usage) is None


def test_the_whole_prompt_is_counted_as_opentelemetry_counts_it():
    usage = Usage(
        input_tokens=1, output_tokens=9, cache_read_tokens=2, cache_write_5m_tokens=4, cache_write_1h_tokens=8
    )
    assert usage.total_input_tokens == 15


@given(st.text())
def test_unwrapping_changes_the_content_alone(answer):
    whole = message(TEXT)
    whole._request_id = "req_1"
    copy = unwrapped(whole, answer)
    assert only_text(copy) == answer
    assert copy._request_id == "req_1"
    assert copy.model_dump(exclude={"content"}) == whole.model_dump(exclude={"content"})
    assert only_text(whole) == TEXT["text"]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.floats(0, 1), st.booleans())
def test_what_the_model_answers_arrives_character_by_character(answer, confidence, ascii_only):
    text = json.dumps({"confidence": confidence, "answer": answer}, ensure_ascii=ascii_only)
    verdict = read_reply(message({"type": "text", "text": text}), user_text="").verdict
    assert verdict.answer in {answer, None}
    assert verdict.confidence in {confidence, None}
