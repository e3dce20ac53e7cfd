"""The SDK's own types that callers of the router meet; all other modules take them from here."""

from anthropic import (
    Anthropic,
    AnthropicError,
    AsyncAnthropic,
    AsyncMessageStream,
    AsyncMessageStreamManager,
    AsyncStream,
    MessageStream,
    MessageStreamManager,
    NotGiven,
    Stream,
)
from anthropic.types import Message, MessageParam, RawMessageStreamEvent

__all__ = [
    "Anthropic",
    "AnthropicError",
    "AsyncAnthropic",
    "AsyncMessageStream",
    "AsyncMessageStreamManager",
    "AsyncStream",
    "Message",
    "MessageParam",
    "MessageStream",
    "MessageStreamManager",
    "NotGiven",
    "RawMessageStreamEvent",
    "Stream",
]
