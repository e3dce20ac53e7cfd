"""The SDK's own types that callers of the router meet; all other modules take them from here."""

from anthropic import (
    Anthropic,
    AnthropicError,
    AsyncAnthropic,
    AsyncMessageStreamManager,
    AsyncStream,
    MessageStreamManager,
    NotGiven,
    Omit,
    Stream,
)
from anthropic.resources.messages import (
    AsyncBatches,
    AsyncMessagesWithRawResponse,
    AsyncMessagesWithStreamingResponse,
    Batches,
    MessagesWithRawResponse,
    MessagesWithStreamingResponse,
)
from anthropic.resources.messages import AsyncMessages as SdkAsyncMessages
from anthropic.resources.messages import Messages as SdkMessages
from anthropic.types import Message, MessageParam, MessageTokensCount, RawMessageStreamEvent

__all__ = [
    "Anthropic",
    "AnthropicError",
    "AsyncAnthropic",
    "AsyncBatches",
    "AsyncMessageStreamManager",
    "AsyncMessagesWithRawResponse",
    "AsyncMessagesWithStreamingResponse",
    "AsyncStream",
    "Batches",
    "Message",
    "MessageParam",
    "MessageStreamManager",
    "MessageTokensCount",
    "MessagesWithRawResponse",
    "MessagesWithStreamingResponse",
    "NotGiven",
    "Omit",
    "RawMessageStreamEvent",
    "SdkAsyncMessages",
    "SdkMessages",
    "Stream",
]
