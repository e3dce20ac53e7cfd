"""The SDK's types that callers of the router see; modules outside this package import them from here."""

from anthropic import (
    Anthropic,
    AnthropicError,
    AsyncAnthropic,
    AsyncMessageStreamManager,
    AsyncStream,
    MessageStreamManager,
    Omit,
    Stream,
    omit,
)
from anthropic.resources.messages import AsyncMessages as SdkAsyncMessages
from anthropic.resources.messages import Messages as SdkMessages
from anthropic.types import Message, MessageParam, ModelParam, ParsedMessage, RawMessageStreamEvent

__all__ = [
    "Anthropic",
    "AnthropicError",
    "AsyncAnthropic",
    "AsyncMessageStreamManager",
    "AsyncStream",
    "Message",
    "MessageParam",
    "MessageStreamManager",
    "ModelParam",
    "Omit",
    "ParsedMessage",
    "RawMessageStreamEvent",
    "SdkAsyncMessages",
    "SdkMessages",
    "Stream",
    "omit",
]
