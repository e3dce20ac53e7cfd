"""What a client and a call take, so that a type checker says of a slip what it says for the SDK."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypedDict

import httpx2
from anthropic import MiddlewareInput, NotGiven, Omit, OpenTelemetryClientOption, Timeout
from anthropic.lib.credentials import AccessTokenProvider, AsyncAccessTokenProvider
from anthropic.types import (
    CacheControlEphemeralParam,
    DiagnosticsParam,
    MessageCreateParamsContainerParam,
    MetadataParam,
    ModelParam,
    OutputConfigParam,
    TextBlockParam,
    ThinkingConfigParam,
    ToolChoiceParam,
    ToolUnionParam,
)


class CallParams(TypedDict, total=False):
    """The arguments of the SDK's `messages.create` in anthropic 2.12, none of them needed, and `conversation`.

    What a later SDK takes as well passes at run time, and goes by a type checker as `extra_body` or with an ignore.
    """

    model: ModelParam
    conversation: str | None
    cache_control: CacheControlEphemeralParam | Omit | None
    container: MessageCreateParamsContainerParam | Omit | None
    diagnostics: DiagnosticsParam | Omit | None
    inference_geo: str | Omit | None
    metadata: MetadataParam | Omit
    output_config: OutputConfigParam | Omit
    service_tier: Literal["auto", "standard_only"] | Omit
    speed: Literal["standard", "fast"] | Omit | None
    stop_sequences: Iterable[str] | Omit
    system: str | Iterable[TextBlockParam] | Omit
    thinking: ThinkingConfigParam | Omit
    tool_choice: ToolChoiceParam | Omit
    tools: Iterable[ToolUnionParam] | Omit
    user_profile_id: str | Omit
    workspace_id: str | Omit
    extra_headers: Mapping[str, str | Omit] | None
    extra_query: Mapping[str, object] | None
    extra_body: object
    timeout: float | Timeout | NotGiven | None


class _AnyClientOptions(TypedDict, total=False):
    api_key: str | None
    auth_token: str | None
    config: Mapping[str, Any] | None
    profile: str | None
    webhook_key: str | None
    base_url: str | httpx2.URL | None
    timeout: float | Timeout | NotGiven | None
    max_retries: int
    default_headers: Mapping[str, str] | None
    default_query: Mapping[str, object] | None
    open_telemetry: OpenTelemetryClientOption
    middleware: Sequence[MiddlewareInput] | None


class ClientOptions(_AnyClientOptions, total=False):
    """The arguments of `anthropic.Anthropic` in anthropic 2.12, none of them needed."""

    credentials: AccessTokenProvider | None
    http_client: httpx2.Client | None


class AsyncClientOptions(_AnyClientOptions, total=False):
    """The same of `anthropic.AsyncAnthropic`."""

    credentials: AccessTokenProvider | AsyncAccessTokenProvider | None
    http_client: httpx2.AsyncClient | None
