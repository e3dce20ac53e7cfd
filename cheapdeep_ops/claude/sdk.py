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
    "AsyncMessageStream",
    "AsyncMessageStreamManager",
    "AsyncMessagesWithRawResponse",
    "AsyncMessagesWithStreamingResponse",
    "AsyncStream",
    "Batches",
    "Message",
    "MessageParam",
    "MessageStream",
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
