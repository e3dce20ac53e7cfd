"""What the router needs of a provider of models; the only module of the router that imports `cheapdeep_ops.claude`.

`Provider` is for type checkers alone. `claude` is a plain module, so a call goes straight to its functions.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

import httpx2

from cheapdeep_ops.claude import provider as claude_functions
from cheapdeep_ops.claude.answer_streams import AsyncRoutedStreamManager, RoutedStreamManager
from cheapdeep_ops.claude.assembled import as_whole
from cheapdeep_ops.claude.caller_clients import client_for_caller
from cheapdeep_ops.claude.clients import (
    RESOURCES,
    AnyClient,
    CallClients,
    Views,
    client_arguments,
    make_async_client,
    make_client,
    max_connections_of,
    refuses_unstreamed,
    request_method,
    resource_of,
    unrouted_way,
    wants_raw_response,
)
from cheapdeep_ops.claude.conversion import AnyMessage
from cheapdeep_ops.claude.forwarded import (
    PassedStream,
    answer_json,
    raise_for_status,
    streamed_error,
    whole_reply,
)
from cheapdeep_ops.claude.helper_streams import AsyncHelpedStream, HelpedStream, raw_async_stream, raw_stream
from cheapdeep_ops.claude.instrumentation import Method, is_plain, is_traced
from cheapdeep_ops.claude.params import AsyncClientOptions, CallParams, ClientOptions, Params, Request
from cheapdeep_ops.claude.prompt import TriagePrompt
from cheapdeep_ops.claude.received_events import Event, plain_async_stream, plain_stream
from cheapdeep_ops.claude.sdk import (
    Anthropic,
    AsyncAnthropic,
    AsyncMessageStreamManager,
    AsyncStream,
    Message,
    MessageParam,
    MessageStreamManager,
    ModelParam,
    Omit,
    ParsedMessage,
    RawMessageStreamEvent,
    SdkAsyncMessages,
    SdkMessages,
    Stream,
    omit,
)
from cheapdeep_ops.claude.stream_events import Shown
from cheapdeep_ops.partial import Early, PartialReply
from cheapdeep_ops.pricing import ContractPlace
from cheapdeep_ops.treatment import Treatment
from cheapdeep_ops.values import BypassCause, TextTurn, TierReply, TriageParts, Usage


class StreamProgress(Protocol):
    """What is known of a model's stream while it is read."""

    @property
    def decision(self) -> Early:
        """Whether the answer ships; for an original request it always does."""

    @property
    def is_withheld(self) -> bool:
        """Whether the answer would ship at the base threshold, and its stream has not ended."""

    @property
    def is_cut(self) -> bool:
        """Whether the caller has a part of the answer, and the rest is lost because the reply is malformed."""

    @property
    def gives_texts(self) -> bool:
        """Whether the caller gets a text for each delta, within a message that has begun."""

    def take(self, event: Event) -> Shown:
        """Take the next event; returns what the caller gets for it."""

    def end(self) -> Shown:
        """The stream has ended; returns what the caller still gets."""

    def reply(self) -> TierReply:
        """The reply so far; after `end` the whole of it."""


class Provider(Protocol):
    """The requests, replies, streams and errors of one provider. Its message and client types are the SDK's."""

    @property
    def name(self) -> str:
        """What spans and metrics call it: a value of `gen_ai.provider.name` in the GenAI conventions."""

    # From the caller's arguments

    def normalize_params(self, params: Params) -> dict[str, Any]:
        """The arguments without marks for "not given", and with iterators and files that can be read again."""

    def bypass_cause(self, params: Params, treatments: Mapping[str, Treatment]) -> BypassCause | None:
        """Why the request cannot be triaged; None if it can."""

    def is_too_long(self, params: Params, *, model: str, prompt: TriagePrompt, max_input_tokens: int | None) -> bool:
        """Whether a triage request would exceed the context of `model`, or the limit of the settings."""

    def conversation_key(self, params: Params) -> str:
        """A key that stays the same for all turns of a conversation."""

    def texts(self, params: Params) -> str:
        """All text that the caller sent."""

    def inference_geo(self, params: Params) -> str:
        """The region that the request asks for, as in `Usage`; empty if it costs no more than any other."""

    def turns(self, params: Params) -> tuple[TextTurn, ...]:
        """The conversation as text, for grading."""

    # To a tier

    def triage_prompt(self, template: str | None) -> TriagePrompt:
        """The triage contract; None gives the default one."""

    def triage_parts(self, params: Params, *, model: str) -> TriageParts:
        """The optional parts that a triage request to `model` has, by what is known of the model."""

    def triage_request(
        self, params: Params, *, model: str, prompt: TriagePrompt, timeout_s: float, parts: TriageParts | None = None
    ) -> Request:
        """The request that asks `model` for a confidence and an answer, with these optional parts."""

    def has_schema(self, request: Params) -> bool:
        """Whether the API itself holds the reply to this triage request to the schema of a verdict."""

    def original_request(self, params: Params, *, model: str) -> Request:
        """The caller's own request, for `model`."""

    def contract_place(self, params: Params, prompt: TriagePrompt) -> ContractPlace:
        """Where the API counts the contract's tokens of a triage request."""

    def retry_wait_limit(self, timeout: object) -> AbstractContextManager[None]:
        """Inside, the SDK waits no longer before a retry than an attempt with this timeout may take."""

    # From a tier

    def read_reply(self, message: AnyMessage, *, user_text: str | None, max_tokens: int | None = None) -> TierReply:
        """What a model replied. With `user_text` it is the reply to a triage request, and has a verdict.

        `max_tokens` is the caller's limit for the answer.
        """

    def billed(self, usage: Usage, params: Params) -> Usage:
        """The usage without what is free in a request with these arguments."""

    def unwrapped(self, message: AnyMessage, answer: str) -> Message:
        """A copy of a triage reply whose content is the answer."""

    def original_progress(self) -> StreamProgress:
        """The progress of a stream that answers the caller's own request."""

    def triage_progress(self, partial: PartialReply, *, threshold: float) -> StreamProgress:
        """The progress of a stream that answers a triage request."""

    def text_event(self, text: str) -> Event:
        """The event of a delta with a part of the answer."""

    def abort_response(self, response: httpx2.Response) -> None:
        """End a response whose body another thread is reading."""

    def cut_answer_error(self, response: httpx2.Response) -> Exception:
        """The error with which the caller's stream ends where an answer is cut."""

    # From an error

    def is_timeout(self, error: BaseException) -> bool:
        """Whether the model took longer than the request allows."""

    def interruption(self, error: Exception) -> BaseException | None:
        """The exception that others raised into a request; None if the request itself failed."""

    def is_bad_request(self, error: BaseException) -> bool:
        """Whether the API calls the request invalid."""

    def is_outage(self, error: BaseException) -> bool:
        """Whether the model cannot answer any caller for now."""

    def is_tier_failure(self, error: BaseException) -> bool:
        """Whether the error counts against the model's service, and not against the request or its caller."""


claude: Final[Provider] = claude_functions

__all__ = [
    "RESOURCES",
    "Anthropic",
    "AnyClient",
    "AnyMessage",
    "AsyncAnthropic",
    "AsyncClientOptions",
    "AsyncHelpedStream",
    "AsyncMessageStreamManager",
    "AsyncRoutedStreamManager",
    "AsyncStream",
    "CallClients",
    "CallParams",
    "ClientOptions",
    "Event",
    "HelpedStream",
    "Message",
    "MessageParam",
    "MessageStreamManager",
    "Method",
    "ModelParam",
    "Omit",
    "Params",
    "ParsedMessage",
    "PassedStream",
    "Provider",
    "RawMessageStreamEvent",
    "Request",
    "RoutedStreamManager",
    "SdkAsyncMessages",
    "SdkMessages",
    "Shown",
    "Stream",
    "StreamProgress",
    "TriagePrompt",
    "Views",
    "answer_json",
    "as_whole",
    "claude",
    "client_arguments",
    "client_for_caller",
    "is_plain",
    "is_traced",
    "make_async_client",
    "make_client",
    "max_connections_of",
    "omit",
    "plain_async_stream",
    "plain_stream",
    "raise_for_status",
    "raw_async_stream",
    "raw_stream",
    "refuses_unstreamed",
    "request_method",
    "resource_of",
    "streamed_error",
    "unrouted_way",
    "wants_raw_response",
    "whole_reply",
]
