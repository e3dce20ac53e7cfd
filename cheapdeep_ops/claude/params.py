"""What a call takes beside its messages, so that a type checker says of a slip what it says for the SDK."""

from collections.abc import Iterable, Mapping
from typing import Literal, TypedDict

from anthropic import NotGiven, Omit, Timeout
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
