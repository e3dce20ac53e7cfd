"""The arguments of clients and calls as types, so that a type checker reports mistakes as it does for the SDK."""

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

Params = Mapping[str, Any]
"""The keyword arguments of `messages.create`."""

Request = tuple[dict[str, Any], tuple[str, ...]]
"""The keyword arguments for one tier, and in words what had to change in them, such as `effort: high -> dropped`."""


class CallParams(TypedDict, total=False):
    """The arguments of the SDK's `messages.create` in anthropic 2.12, all optional, and `conversation`.

    Arguments that a later SDK adds work at run time; a type checker needs `extra_body` or an ignore for them.
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
    """The arguments of `anthropic.Anthropic` in anthropic 2.12, all optional."""

    credentials: AccessTokenProvider | None
    http_client: httpx2.Client | None


class AsyncClientOptions(_AnyClientOptions, total=False):
    """The arguments of `anthropic.AsyncAnthropic` in anthropic 2.12, all optional."""

    credentials: AccessTokenProvider | AsyncAccessTokenProvider | None
    http_client: httpx2.AsyncClient | None
