"""Events that are read as plain data become what the SDK makes of them."""

import pytest
from anthropic._models import construct_type
from anthropic.types import RawMessageStreamEvent

from cheapdeep_ops.claude.received_events import Piece, received, text_event

USAGE = {"input_tokens": 9, "output_tokens": 1, "cache_creation": {"ephemeral_5m_input_tokens": 1}, "new": {"a": [1]}}
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-4-5", "content": [], "usage": USAGE,
    "stop_reason": None, "stop_sequence": None,
}  # fmt: skip
WELL = [
    {"type": "message_start", "message": MESSAGE},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "So"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{"}},
    {"type": "content_block_stop", "index": 3},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 240}, "new": True},
    {"type": "message_stop"},
]
ODD = [
    {"type": "message_start", "message": {"id": 7, "usage": {"input_tokens": "nine"}}},
    {"type": "message_start"},
    {"type": "content_block_start", "index": "0", "content_block": {"type": "tomorrow", "text": "x"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": None}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "tomorrow"}},
    {"type": "content_block_delta"},
    {"type": "message_delta", "delta": {"stop_reason": "tomorrow"}},
]


def sdks(data):
    return construct_type(type_=RawMessageStreamEvent, value=data)


def shown(event):
    return type(event), event.model_dump(warnings=False), event.model_fields_set


@pytest.mark.parametrize("data", [*WELL, *ODD])
def test_an_event_is_the_one_that_the_sdk_makes(data):
    assert shown(received(data)) == shown(sdks(data))
    event = sdks(data)
    assert received(event) is event


@pytest.mark.parametrize("kind", ["text_delta", "tomorrow"])
@pytest.mark.parametrize("read", [dict, sdks])
def test_a_delta_with_text_is_a_piece_of_its_block(kind, read):
    data = {"type": "content_block_delta", "index": 2, "delta": {"type": kind, "text": "Fine."}}
    assert received(read(data)) == Piece(2, "Fine.")


@pytest.mark.parametrize("data", [{"type": "tomorrow"}, {}])
def test_an_event_of_an_unknown_type_is_none(data):
    assert received(data) is None


def test_the_event_of_a_text_is_the_sdks():
    data = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Fine."}}
    assert shown(text_event("Fine.")) == shown(sdks(data))
