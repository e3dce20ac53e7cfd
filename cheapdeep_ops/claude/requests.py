"""From the caller's request to the two requests that a tier may get: the triage question, or the original.

Pure functions over the keyword arguments of `messages.create`; nothing here changes what it is given.
"""

from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final, cast

import httpx2
from anthropic import NotGiven, Omit

from cheapdeep_ops.claude.profiles import ModelProfile, profile_of
from cheapdeep_ops.claude.prompt import SCHEMA, USER_INPUT, TriagePrompt
from cheapdeep_ops.values import BypassCause, Turn

Params = Mapping[str, Any]

ENVELOPE_ALLOWANCE: Final = 64
"""Tokens granted on top of the caller's max_tokens for the JSON around the answer and its escapes."""

LARGEST_UNTIMED: Final = 21_333
"""The largest max_tokens that the SDK sends without streaming (anthropic 2.12, `_base_client.py`)."""

_MAPPINGS: Final = ("thinking", "output_config", "extra_body")
"""Parameters that are looked into; one that is no mapping (an object of the SDK's, say) is passed on unopened."""

_SAMPLING: Final = frozenset({"temperature", "top_p", "top_k"})
_CARRIED: Final = frozenset(
    {
        "cache_control", "extra_body", "extra_headers", "extra_query", "inference_geo", "max_tokens", "messages",
        "metadata", "output_config", "service_tier", "stream", "system", "thinking", "timeout", "user_profile_id",
        "workspace_id",
    }
)  # fmt: skip
"""Parameters that mean the same to the triage question; a call with any other one is not triaged."""

_CAUSES: Final = {
    "tools": BypassCause.TOOLS,
    "tool_choice": BypassCause.TOOLS,
    "container": BypassCause.TOOLS,
    "stop_sequences": BypassCause.STOP_SEQUENCES,
    "output_format": BypassCause.STRUCTURED_OUTPUT,
}
_BLOCK_CAUSES: Final = {
    "image": BypassCause.IMAGES,
    "document": BypassCause.DOCUMENTS,
    "search_result": BypassCause.DOCUMENTS,
    "thinking": BypassCause.THINKING,
    "redacted_thinking": BypassCause.THINKING,
}


def given(params: Params) -> dict[str, Any]:
    """`params` without the SDK's marks for "not given", and with iterables made repeatable."""
    kept = {name: value for name, value in params.items() if not isinstance(value, Omit | NotGiven)}
    for name in ("messages", "system"):
        if name in kept:
            kept[name] = _repeatable(kept[name])
    if isinstance(kept.get("messages"), list):
        kept["messages"] = [_repeatable_turn(message) for message in kept["messages"]]
    return kept


def _repeatable(value: object) -> object:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        return value
    return list(value)


def _repeatable_turn(message: object) -> object:
    if not isinstance(message, Mapping) or isinstance(message.get("content"), str | bytes | list | tuple):
        return message
    return {**message, "content": _repeatable(message.get("content"))}


def bypass_cause(params: Params) -> BypassCause | None:
    """Why a request cannot be triaged without degrading it, or None where it can."""
    for name, cause in _CAUSES.items():
        if params.get(name):
            return cause
    if not params.keys() <= _CARRIED | _CAUSES.keys():
        return BypassCause.PARAMETERS
    return _content_cause(params) or _option_cause(params)


def _option_cause(params: Params) -> BypassCause | None:
    if params.get("max_tokens") == 0:  # warms the deep tier's cache and wants no answer
        return BypassCause.PARAMETERS
    if not all(isinstance(params.get(name) or {}, Mapping) for name in _MAPPINGS):
        return BypassCause.PARAMETERS
    thinking = params.get("thinking")
    if thinking and thinking.get("type") != "disabled":
        return BypassCause.THINKING
    if (params.get("output_config") or {}).keys() - {"effort"}:
        return BypassCause.STRUCTURED_OUTPUT
    if (params.get("extra_body") or {}).keys() - _SAMPLING:
        return BypassCause.PARAMETERS
    return None


def _content_cause(params: Params) -> BypassCause | None:
    messages = params.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(each, Mapping) for each in messages):
        return BypassCause.MALFORMED_REQUEST
    if messages[-1].get("role") != "user":
        return BypassCause.PREFILL
    kinds = [kind for message in messages for kind in _block_types(message.get("content"))]
    return next((_BLOCK_CAUSES.get(kind, BypassCause.TOOLS) for kind in kinds if kind != "text"), None)


def _block_types(content: object) -> Iterator[str]:
    if not isinstance(content, str) and isinstance(content, Iterable):
        yield from (str(_field(block, "type")) for block in content)


def _field(block: object, name: str) -> Any:
    """A field of a content block, which may be a mapping or one of the SDK's own objects."""
    return block.get(name) if isinstance(block, Mapping) else getattr(block, name, None)


def conversation_key(params: Params) -> str:
    """What tells a conversation from others while it goes on: a hash of its system prompt and its first turn."""
    first: Params = next(iter(params["messages"]), {})
    begun = (_text(params.get("system")), _text(first.get("content")))
    return blake2b(repr(begun).encode(), digest_size=16).hexdigest()


def texts(params: Params) -> str:
    """All text that the caller sent: system, and every turn."""
    return "\n".join(turn.text for turn in turns(params) if turn.text)


def turns(params: Params) -> tuple[Turn, ...]:
    """The conversation that the caller sent, as text: the system prompt where there is one, and every turn."""
    system = _text(params.get("system"))
    said = [Turn(role=str(each.get("role")), text=_text(each.get("content"))) for each in params["messages"]]
    return (Turn(role="system", text=system), *said) if system else tuple(said)


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, Iterable):
        return ""
    return "\n".join(str(_field(block, "text") or "") for block in content)


def triage_request(params: Params, *, model: str, prompt: TriagePrompt, timeout_s: float) -> dict[str, Any]:
    """The triage question for `model`: the caller's conversation under the triage contract.

    The caller's system prompt stays in front, so that its cache breakpoints stay valid; those in turns do not.
    """
    profile = profile_of(model)
    request = {name: value for name, value in params.items() if name not in ("thinking", "extra_body")}
    limit = _with_envelope(params["max_tokens"], is_streamed=bool(params.get("stream")))
    request |= {"model": model, "max_tokens": limit}
    if "timeout" in params and not params.get("stream"):
        request["timeout"] = _sooner(params["timeout"], timeout_s)
    if prompt.replaces_user_turn:
        request["messages"] = _wrapped(params["messages"], prompt.text)
    else:
        request["system"] = [*_system_blocks(params.get("system")), {"type": "text", "text": prompt.text}]
    request["output_config"] = _output_config(params, profile)
    if not request["output_config"]:
        del request["output_config"]
    return request


def _with_envelope(max_tokens: int, *, is_streamed: bool) -> int:
    if is_streamed:  # of any length; a model's own limit is the caller's business, who has asked for a stream
        return max_tokens + ENVELOPE_ALLOWANCE if max_tokens < LARGEST_UNTIMED else max_tokens
    return max(min(max_tokens + ENVELOPE_ALLOWANCE, LARGEST_UNTIMED), min(max_tokens, LARGEST_UNTIMED))


def _sooner(timeout: object, limit_s: float) -> object:
    """The caller's timeout, but none of its parts longer than the limit."""
    if isinstance(timeout, httpx2.Timeout):
        return httpx2.Timeout(**{name: _at_most(value, limit_s) for name, value in timeout.as_dict().items()})
    return _at_most(timeout, limit_s) if timeout is None or isinstance(timeout, int | float) else timeout


def _at_most(seconds: float | None, limit_s: float) -> float:
    return limit_s if seconds is None else min(seconds, limit_s)


def _output_config(params: Params, profile: ModelProfile) -> dict[str, Any]:
    effort = (params.get("output_config") or {}).get("effort")
    config: dict[str, Any] = {"effort": effort} if effort and profile.effort else {}
    if profile.structured_outputs:
        config["format"] = {"type": "json_schema", "schema": SCHEMA}
    return config


def _system_blocks(system: object) -> list[Any]:
    if not system:
        return []
    return [{"type": "text", "text": system}] if isinstance(system, str) else list(cast("Iterable[Any]", system))


def _wrapped(messages: Iterable[Params], template: str) -> list[Params]:
    *earlier, last = messages
    return [*earlier, {**last, "content": template.replace(USER_INPUT, _text(last["content"]))}]


def original_request(params: Params, *, model: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The caller's own request for `model`, and the names of what had to be translated because it refuses it."""
    profile, request, translated = profile_of(model), {**params, "model": model}, list[str]()
    body, thinking, config = (_mapping(params, name) for name in ("extra_body", "thinking", "output_config"))
    if not profile.sampling and body.keys() & _SAMPLING:
        request["extra_body"] = {name: value for name, value in body.items() if name not in _SAMPLING} or None
        translated += sorted(body.keys() & _SAMPLING)
    if thinking and thinking.get("type") not in profile.thinking:
        _translate_thinking(request, profile)
        translated.append("thinking")
    if "effort" in config and not profile.effort:
        request["output_config"] = {name: value for name, value in config.items() if name != "effort"}
        if not request["output_config"]:
            del request["output_config"]
        translated.append("effort")
    return request, tuple(translated)


def _mapping(params: Params, name: str) -> Mapping[str, Any]:
    value = params.get(name)
    return value if isinstance(value, Mapping) else {}


def _translate_thinking(request: dict[str, Any], profile: ModelProfile) -> None:
    """A fixed budget becomes adaptive thinking where that is the only mode; what cannot be asked for is dropped."""
    if "adaptive" in profile.thinking and request["thinking"]["type"] == "enabled":
        kept = {name: value for name, value in request["thinking"].items() if name != "budget_tokens"}
        request["thinking"] = {**kept, "type": "adaptive"}
    else:
        del request["thinking"]
