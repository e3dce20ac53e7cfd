import json

import pytest
from anthropic.types import Message
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops import Reason
from cheapdeep_ops.claude.conversion import only_text, read_reply, read_usage, unwrapped
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
        ({"input_tokens": 10}, None),
        ({"input_tokens": None, "output_tokens": 5}, None),
        ({}, None),
    ],
)
def test_usage_is_what_the_api_bills_or_unknown(fields, usage):
    assert usage_of(**fields) == usage


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
