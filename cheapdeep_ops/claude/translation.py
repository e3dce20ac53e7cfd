"""Translate or drop the parameters that a model refuses, and describe the changes."""

from collections.abc import Mapping
from typing import Any, Final

from cheapdeep_ops.claude.features import SAMPLING
from cheapdeep_ops.claude.params import Params
from cheapdeep_ops.claude.profiles import THINKING_TYPES, ModelProfile

_TRANSLATED: Final = ("thinking", "output_config", "extra_body")
_LARGEST_SHOWN: Final = 10**12
_KNOWN_VALUES: Final = THINKING_TYPES | {
    "between_tools", "summarized", "omitted", "low", "medium", "high", "xhigh", "max",
}  # fmt: skip
"""The only strings that a change shows: any other string may be content."""


def translate(request: dict[str, Any], profile: ModelProfile) -> None:
    """Change in `request` only the parameters for which the model returns an error."""
    # Values are replaced by new ones, because they belong to the caller.
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
    """Turn a fixed budget into adaptive thinking if the model accepts that; else drop the parameter."""
    if "adaptive" in profile.thinking and request["thinking"]["type"] == "enabled":
        other_fields = {name: value for name, value in request["thinking"].items() if name != "budget_tokens"}
        request["thinking"] = {**other_fields, "type": "adaptive"}
    else:
        del request["thinking"]


def mapping(params: Params, name: str) -> Mapping[str, Any]:
    """The parameter `name` if it is a mapping; else an empty one."""
    value = params.get(name)
    return value if isinstance(value, Mapping) else {}


def changes(params: Params, request: Params) -> tuple[str, ...]:
    """How `request` differs from the caller's parameters, such as `effort: high -> dropped`; never content."""
    if not any(params.get(name) for name in _TRANSLATED):
        return ()
    before, after = _flattened(params), _flattened(request)
    return tuple(
        f"{name}: {shown_value(value)} -> {shown_value(after[name]) if name in after else 'dropped'}"
        for name, value in before.items()
        if name not in after or after[name] is not value
    )


def _flattened(params: Params) -> dict[str, object]:
    """The translated parameters by the names of the API's documentation, nested ones included."""
    thinking, body = mapping(params, "thinking"), mapping(params, "extra_body")
    named = {"thinking": thinking["type"]} if "type" in thinking else {}
    named |= {name: thinking[name] for name in ("budget_tokens", "display") if name in thinking}
    named |= {name: value for name, value in mapping(params, "output_config").items() if name == "effort"}
    return named | {name: body[name] for name in sorted(body.keys() & SAMPLING)}


def shown_value(value: object) -> str:
    """A parameter value for telemetry: numbers and known strings literally, all else as its type name."""
    # A huge number would make a huge attribute, so it too is shown as its type.
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < _LARGEST_SHOWN):
        return str(value)
    return value if isinstance(value, str) and value in _KNOWN_VALUES else type(value).__name__[:40]
