"""Convert the SDK's `Message` to a `TierReply`, and a shipped answer back to a `Message`."""

from typing import Final

from anthropic.types import Message, TextBlock
from anthropic.types import Usage as ApiUsage

from cheapdeep_ops.values import TierReply, Usage
from cheapdeep_ops.verdict import read_verdict

_TOO_MANY: Final = 2**31
"""A count from here on is invalid: no call has as many tokens, and the store has no column for it."""


def read_reply(message: Message, *, user_text: str | None, max_tokens: int | None = None) -> TierReply:
    """The reply of a model call; with `user_text` it is a triage reply, and its verdict is parsed.

    `max_tokens` is the caller's limit for the answer.
    """
    verdict = None
    if user_text is not None:
        verdict = read_verdict(
            only_text(message), stop_reason=message.stop_reason, user_text=user_text, max_tokens=max_tokens
        )
    return TierReply(verdict=verdict, usage=read_usage(message.usage), message=message)


def only_text(message: Message) -> str | None:
    """The text of a message that has exactly one text block, thinking blocks not counted; else None."""
    blocks = [block for block in message.content if block.type not in ("thinking", "redacted_thinking")]
    return blocks[0].text if len(blocks) == 1 and blocks[0].type == "text" else None


def read_usage(usage: ApiUsage | None) -> Usage | None:
    """The tokens that the API bills; None if the reply has no valid counts."""
    input_tokens, output_tokens = _count(usage, "input_tokens"), _count(usage, "output_tokens")
    if input_tokens is None or output_tokens is None:
        return None
    # Older replies lack the cache fields, or their split by lifetime.
    written = _count(usage, "cache_creation_input_tokens") or 0
    written_1h = _count(getattr(usage, "cache_creation", None), "ephemeral_1h_input_tokens") or 0
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=_count(usage, "cache_read_input_tokens") or 0,
        cache_write_5m_tokens=max(written - written_1h, 0),
        cache_write_1h_tokens=written_1h,
    )


def _count(counts: object, name: str) -> int | None:
    """The number of tokens in the field `name`; None if the field is missing or invalid."""
    # The SDK does not validate replies, so a field may hold anything.
    value = getattr(counts, name, None)
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _TOO_MANY
    return value if is_count else None


def unwrapped(message: Message, answer: str) -> Message:
    """A copy of the triage reply with `answer` as its content; all other fields stay."""
    return message.model_copy(update={"content": [TextBlock(type="text", text=answer, citations=None)]})
