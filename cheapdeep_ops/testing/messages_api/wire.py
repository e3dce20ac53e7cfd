"""The API's response bodies: messages, event streams and errors, in the format of recorded ones."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cheapdeep_ops.testing.messages_api.replies import JsonObject, Reply

CHARS_PER_TOKEN = 4
DELTA_CHARS = 16

ServiceTier = Literal["standard", "batch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTokens:
    """The tokens of one prompt; each counts once: as uncached, read from the cache, or written to it."""

    uncached: int
    read: int = 0
    written_5m: int = 0
    written_1h: int = 0

    @property
    def total(self) -> int:
        """The sum of all tokens."""
        return self.uncached + self.read + self.written_5m + self.written_1h

    def times(self, ratio: float) -> "PromptTokens":
        """The tokens of a model whose tokenizer makes `ratio` tokens of each."""
        return PromptTokens(
            uncached=round(self.uncached * ratio),
            read=round(self.read * ratio),
            written_5m=round(self.written_5m * ratio),
            written_1h=round(self.written_1h * ratio),
        )


def encoded(value: Mapping[str, object]) -> bytes:
    """Return compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def tokens_in(text: str) -> int:
    """Estimate the tokens of `text`, at four characters each, rounded up."""
    return -(-len(text) // CHARS_PER_TOKEN)


def error_body(reply: Reply, *, request_id: str) -> bytes:
    """Return the API's error object for `reply` as JSON."""
    return encoded(error_object(reply, request_id=request_id))


def error_object(reply: Reply, *, request_id: str | None) -> JsonObject:
    """Return the API's error object for `reply`."""
    error = {"type": reply.error_type, "message": reply.error_message}
    return {"type": "error", "error": error, "request_id": request_id}


def message(
    reply: Reply,
    *,
    message_id: str,
    model: str,
    prompt: PromptTokens,
    tokens_ratio: float = 1.0,
    service_tier: ServiceTier = "standard",
) -> JsonObject:
    """Return the message object for `reply`; usage that the reply does not name is estimated.

    The estimate has `tokens_ratio` tokens for each four characters of the answer, and the tokens of `prompt`.
    """
    return {
        "model": model,
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "content": content_of(reply),
        "stop_reason": reply.stop_reason,
        "stop_sequence": None,
        "stop_details": reply.stop_details,
        "usage": _usage(reply, prompt, tokens_ratio, service_tier),
    }


def content_of(reply: Reply) -> list[JsonObject]:
    """Return the content blocks of a message."""
    if reply.blocks is not None:
        return list(reply.blocks)
    return [] if reply.content is None else [{"type": "text", "text": reply.content}]


_PROMPT_FIELDS = frozenset({"input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "cache_creation"})
"""The usage fields that count a prompt's tokens."""


def _usage(reply: Reply, prompt: PromptTokens, tokens_ratio: float, service_tier: ServiceTier) -> JsonObject:
    # If a test scripts any count of the prompt, the simulated cache must not contradict it.
    if _PROMPT_FIELDS & (reply.usage or {}).keys():
        prompt = PromptTokens(uncached=prompt.total)
    return {
        "input_tokens": prompt.uncached,
        "cache_creation_input_tokens": prompt.written_5m + prompt.written_1h,
        "cache_read_input_tokens": prompt.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": prompt.written_5m,
            "ephemeral_1h_input_tokens": prompt.written_1h,
        },
        "output_tokens": max(1, round(sum(map(_tokens_of_block, content_of(reply))) * tokens_ratio)),
        "service_tier": service_tier,
        "inference_geo": "not_available",
        **(reply.usage or {}),
    }


def _tokens_of_block(block: JsonObject) -> int:
    return tokens_in(block["text"] if block["type"] == "text" else json.dumps(block, ensure_ascii=False))


def event_stream(whole: JsonObject) -> Iterator[bytes]:
    """Yield the server-sent events of the message `whole`."""
    initial: dict[str, Any] = {"content": [], "stop_reason": None, "stop_details": None}
    yield _event({"type": "message_start", "message": {**whole, **initial, "usage": _first_usage(whole["usage"])}})
    for index, block in enumerate(whole["content"]):
        yield from _block_events(index, block)
    ending = {name: whole[name] for name in ("stop_reason", "stop_sequence", "stop_details")}
    yield _event({"type": "message_delta", "delta": ending, "usage": _last_usage(whole["usage"])})
    yield _event({"type": "message_stop"})


def _block_events(index: int, block: JsonObject) -> Iterator[bytes]:
    start, deltas = _in_pieces(block)
    yield _event({"type": "content_block_start", "index": index, "content_block": start})
    yield _event({"type": "ping"})
    for delta in deltas:
        yield _event({"type": "content_block_delta", "index": index, "delta": delta})
    yield _event({"type": "content_block_stop", "index": index})


def _in_pieces(block: JsonObject) -> tuple[JsonObject, list[JsonObject]]:
    """A block as its stream begins it, and the deltas that follow; kinds unknown here come whole at the beginning."""
    if block["type"] == "text":
        return {**block, "text": ""}, [{"type": "text_delta", "text": text} for text in _pieces(block["text"])]
    if block["type"] == "thinking":
        thoughts = [{"type": "thinking_delta", "thinking": text} for text in _pieces(block["thinking"])]
        signature = {"type": "signature_delta", "signature": block["signature"]}
        return {**block, "thinking": "", "signature": ""}, [*thoughts, signature]
    if block["type"] == "tool_use":
        # The API begins the input with an empty piece.
        pieces = ["", *_pieces(json.dumps(block["input"], ensure_ascii=False))]
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": text} for text in pieces]
    return block, []


def _pieces(text: str) -> list[str]:
    return [text[at : at + DELTA_CHARS] for at in range(0, len(text), DELTA_CHARS)]


def _first_usage(usage: JsonObject) -> JsonObject:
    return {**usage, "output_tokens": min(1, usage["output_tokens"])}


def _last_usage(usage: JsonObject) -> JsonObject:
    cumulative = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
    return {name: usage[name] for name in cumulative}


def _event(data: JsonObject) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (data["type"].encode(), encoded(data))
