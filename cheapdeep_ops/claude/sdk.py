"""The SDK's own types that callers of the router meet; all other modules take them from here."""

from anthropic import (
    Anthropic,
    AnthropicError,
    AsyncAnthropic,
    AsyncMessageStreamManager,
    MessageStreamManager,
)
from anthropic.types import Message, MessageParam

__all__ = [
    "Anthropic",
    "AnthropicError",
    "AsyncAnthropic",
    "AsyncMessageStreamManager",
    "Message",
    "MessageParam",
    "MessageStreamManager",
]
