"""The API's bytes: messages, event streams and errors, shaped like recorded ones."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cheapdeep_ops.testing.messages_api.replies import Reply

CHARS_PER_TOKEN = 4
DELTA_CHARS = 16

ServiceTier = Literal["standard", "batch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTokens:
    """The tokens of one prompt, each of them counted once: as it came, read from the cache, or written into it."""

    uncached: int
    read: int = 0
    written_5m: int = 0
    written_1h: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.uncached + self.read + self.written_5m + self.written_1h

    def times(self, ratio: float) -> "PromptTokens":
        """As many tokens as a model counts that makes `ratio` tokens of each."""
        return PromptTokens(
            uncached=round(self.uncached * ratio),
            read=round(self.read * ratio),
            written_5m=round(self.written_5m * ratio),
            written_1h=round(self.written_1h * ratio),
        )


def encoded(value: Mapping[str, Any]) -> bytes:
    """Return compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def tokens_in(text: str) -> int:
    """Estimate the tokens of `text`, at four characters each, rounded up."""
    return -(-len(text) // CHARS_PER_TOKEN)


def error_body(reply: Reply, *, request_id: str) -> bytes:
    """Return the API's error object for `reply` as JSON."""
    return encoded(error_object(reply, request_id=request_id))


def error_object(reply: Reply, *, request_id: str | None) -> dict[str, Any]:
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
) -> dict[str, Any]:
    """Return the message object for `reply`, with estimated usage where the reply names none.

    The estimate has `tokens_ratio` tokens for each four characters of the answer; `prompt` is taken as it is.
    """
    return {
        "model": model,
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "content": [] if reply.content is None else [{"type": "text", "text": reply.content}],
        "stop_reason": reply.stop_reason,
        "stop_sequence": None,
        "stop_details": reply.stop_details,
        "usage": _usage(reply, prompt, tokens_ratio, service_tier),
    }


_OF_PROMPTS = frozenset({"input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "cache_creation"})
"""Usage fields that tell of a prompt."""


def _usage(reply: Reply, prompt: PromptTokens, tokens_ratio: float, service_tier: ServiceTier) -> dict[str, Any]:
    if _OF_PROMPTS & (reply.usage or {}).keys():  # what a test scripts of the prompt is all that is said of it
        prompt = PromptTokens(uncached=prompt.total)
    return {
        "input_tokens": prompt.uncached,
        "cache_creation_input_tokens": prompt.written_5m + prompt.written_1h,
        "cache_read_input_tokens": prompt.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": prompt.written_5m,
            "ephemeral_1h_input_tokens": prompt.written_1h,
        },
        "output_tokens": max(1, round(tokens_in(reply.content or "") * tokens_ratio)),
        "service_tier": service_tier,
        "inference_geo": "not_available",
        **(reply.usage or {}),
    }


def event_stream(whole: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the server-sent events that add up to the message `whole`."""
    begun: dict[str, Any] = {"content": [], "stop_reason": None, "stop_details": None}
    yield _event({"type": "message_start", "message": {**whole, **begun, "usage": _first_usage(whole["usage"])}})
    for index, block in enumerate(whole["content"]):
        yield from _block_events(index, block["text"])
    ending = {name: whole[name] for name in ("stop_reason", "stop_sequence", "stop_details")}
    yield _event({"type": "message_delta", "delta": ending, "usage": _last_usage(whole["usage"])})
    yield _event({"type": "message_stop"})


def _block_events(index: int, text: str) -> Iterator[bytes]:
    start = {"type": "text", "text": ""}
    yield _event({"type": "content_block_start", "index": index, "content_block": start})
    yield _event({"type": "ping"})
    for at in range(0, len(text), DELTA_CHARS):
        delta = {"type": "text_delta", "text": text[at : at + DELTA_CHARS]}
        yield _event({"type": "content_block_delta", "index": index, "delta": delta})
    yield _event({"type": "content_block_stop", "index": index})


def _first_usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    return {**usage, "output_tokens": min(1, usage["output_tokens"])}


def _last_usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    cumulative = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
    return {name: usage[name] for name in cumulative}


def _event(data: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (data["type"].encode(), encoded(data))
