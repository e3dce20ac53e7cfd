"""What a model refuses of a caller's parameters, translated or dropped, and what that has changed in words."""

from collections.abc import Mapping
from typing import Any, Final

from cheapdeep_ops.claude.features import SAMPLING
from cheapdeep_ops.claude.profiles import THINKING_TYPES, ModelProfile

Params = Mapping[str, Any]

_OPENED: Final = ("thinking", "output_config", "extra_body")
_LARGEST_SHOWN: Final = 10**12
_WORDS: Final = THINKING_TYPES | {"between_tools", "summarized", "omitted", "low", "medium", "high", "xhigh", "max"}
"""The only strings that a change shows: any other one may be content."""


def translate(request: dict[str, Any], profile: ModelProfile) -> None:
    """Change in `request` what the model answers with an error, and nothing else; values are replaced, not changed."""
    body, thinking, config = (mapping(request, name) for name in ("extra_body", "thinking", "output_config"))
    if not profile.sampling and body.keys() & SAMPLING:
        request["extra_body"] = {name: value for name, value in body.items() if name not in SAMPLING} or None
    if str(thinking.get("type")) in THINKING_TYPES - profile.thinking:
        _translate_thinking(request, profile)
    if "effort" in config and not profile.effort:
        request["output_config"] = {name: value for name, value in config.items() if name != "effort"}
        if not request["output_config"]:
            del request["output_config"]


def _translate_thinking(request: dict[str, Any], profile: ModelProfile) -> None:
    """A fixed budget becomes adaptive thinking where that is the only mode; what cannot be asked for is dropped."""
    if "adaptive" in profile.thinking and request["thinking"]["type"] == "enabled":
        kept = {name: value for name, value in request["thinking"].items() if name != "budget_tokens"}
        request["thinking"] = {**kept, "type": "adaptive"}
    else:
        del request["thinking"]


def mapping(params: Params, name: str) -> Mapping[str, Any]:
    """A parameter that is looked into; empty where it is not given, or is no mapping."""
    value = params.get(name)
    return value if isinstance(value, Mapping) else {}


def changes(params: Params, request: Params) -> tuple[str, ...]:
    """What a request says otherwise than the caller did, such as `effort: high -> dropped`; never content."""
    if not any(params.get(name) for name in _OPENED):
        return ()
    before, after = _named(params), _named(request)
    return tuple(
        f"{name}: {in_a_word(value)} -> {in_a_word(after[name]) if name in after else 'dropped'}"
        for name, value in before.items()
        if name not in after or after[name] is not value
    )


def _named(params: Params) -> dict[str, Any]:
    """The parameters that are translated, by the names that people know."""
    thinking, body = mapping(params, "thinking"), mapping(params, "extra_body")
    named = {"thinking": thinking["type"]} if "type" in thinking else {}
    named |= {name: thinking[name] for name in ("budget_tokens", "display") if name in thinking}
    named |= {name: value for name, value in mapping(params, "output_config").items() if name == "effort"}
    return named | {name: body[name] for name in sorted(body.keys() & SAMPLING)}


def in_a_word(value: object) -> str:
    """A number or a known word as it is, all else by its type: content is never told."""
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < _LARGEST_SHOWN):
        return str(value)
    return value if isinstance(value, str) and value in _WORDS else type(value).__name__[:40]
