"""Find the features of a request that can make it bypass triage."""

from collections.abc import Iterator, Mapping
from typing import Final

from cheapdeep_ops.claude.content import blocks_of, field, is_content, is_mapping, kind_of, pieces_of_request
from cheapdeep_ops.claude.params import Params
from cheapdeep_ops.claude.profiles import THINKING_OFF
from cheapdeep_ops.treatment import BY_NAME, DEFAULTS, Treatment
from cheapdeep_ops.values import BypassCause

SAMPLING: Final = frozenset({"temperature", "top_p", "top_k"})

_MAPPINGS: Final = ("thinking", "output_config", "extra_body")
"""Parameters whose fields are examined; a value that is no mapping counts as an unknown parameter."""

CARRIED: Final = frozenset(
    {
        "extra_headers", "extra_query", "inference_geo", "metadata", "service_tier", "stream", "timeout",
        "user_profile_id", "workspace_id",
    }
)  # fmt: skip
"""Parameters that every tier understands alike, so they are passed on unchanged."""

_EXAMINED: Final = frozenset({"cache_control", "max_tokens", "messages", "system", *_MAPPINGS})

_BY_PARAMETER: Final = {
    "tools": "tools",
    "tool_choice": "tool_choice",
    "container": "server_tools",
    "stop_sequences": "stop_sequences",
    "output_format": "structured_output",
}
_KNOWN: Final = CARRIED | _EXAMINED | _BY_PARAMETER.keys()

_BY_BLOCK: Final = {
    "image": "images",
    "document": "documents",
    "search_result": "search_results",
    "thinking": "thinking_blocks",
    "redacted_thinking": "thinking_blocks",
    "tool_use": "tools",
    "tool_result": "tools",
    "server_tool_use": "server_tools",
    "web_search_tool_result": "server_tools",
    "web_fetch_tool_result": "server_tools",
    "code_execution_tool_result": "server_tools",
    "bash_code_execution_tool_result": "server_tools",
    "text_editor_code_execution_tool_result": "server_tools",
    "tool_search_tool_result": "server_tools",
    "container_upload": "server_tools",
}


def bypass_cause(params: Params, treatments: Mapping[str, Treatment] = DEFAULTS) -> BypassCause | None:
    """Why a request bypasses triage, its length not considered; None if it is triaged."""
    for name in features(params):
        if treatments[name] is Treatment.BYPASS:
            return BY_NAME[name].cause
    return None


def features(params: Params) -> Iterator[str]:
    """The names of the request's features, some of them more than once."""
    for parameter, name in _BY_PARAMETER.items():
        if params.get(parameter):
            yield name
    if not params.keys() <= _KNOWN:
        yield "unknown_parameters"
    yield from _features_of_turns(params)
    yield from _features_of_options(params)


def _features_of_turns(params: Params) -> Iterator[str]:
    messages = params.get("messages")
    if not isinstance(messages, list) or not messages or not all(map(is_mapping, messages)):
        yield "malformed_request"
        return
    if messages[-1].get("role") != "user":
        yield "prefill"
    if len(messages) > 1:
        yield "conversation"
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            continue
        if not is_content(content):
            yield "malformed_request"
        for block in blocks_of(content):
            yield from _features_of_block(block)


def _features_of_block(block: object) -> Iterator[str]:
    kind = kind_of(block)
    # A text block holds citations of its own; any other block has a switch that asks for them.
    if (citations := field(block, "citations")) and (kind == "text" or field(citations, "enabled")):
        yield "citations"
    if kind != "text":
        yield _BY_BLOCK.get(kind, "unknown_blocks")


def _features_of_options(params: Params) -> Iterator[str]:
    # A call with max_tokens of 0 only warms the deep model's cache: there is no answer to triage.
    max_tokens = params.get("max_tokens")
    if not isinstance(max_tokens, int) or max_tokens < 0:
        yield "malformed_request"
    elif max_tokens == 0:
        yield "cache_warming"
    opened = [params.get(name) or {} for name in _MAPPINGS]
    if not any(opened):
        return
    if not all(map(is_mapping, opened)):
        yield "unknown_parameters"
        return
    thinking, config, body = opened
    if thinking:
        yield "thinking_off" if str(thinking.get("type")) in THINKING_OFF else "thinking"
    if config.keys() - {"effort"}:
        yield "structured_output"
    if config.get("effort"):
        yield "effort"
    if body.keys() - SAMPLING:
        yield "unknown_parameters"
    if body.keys() & SAMPLING:
        yield "sampling"


def is_longer_than(tokens: int, params: Params) -> bool:
    """Whether the text of a request is longer than `tokens`, at four bytes of UTF-8 a token."""
    texts = pieces_of_request(params)
    characters = sum(map(len, texts))
    # A character has one to four bytes, so counting characters settles most cases without encoding.
    if characters <= tokens or characters > 4 * tokens:
        return characters > tokens
    return sum(len(text.encode(errors="surrogatepass")) for text in texts) > 4 * tokens
