"""Translate or drop the parameters that a model refuses, and describe the changes."""

from collections.abc import Mapping
from typing import Any, Final

from cheapdeep_ops.claude.content import is_mapping
from cheapdeep_ops.claude.features import SAMPLING
from cheapdeep_ops.claude.params import Params
from cheapdeep_ops.claude.profiles import EFFORTS, THINKING_OFF, THINKING_TYPES, ModelProfile

_TRANSLATED: Final = ("thinking", "output_config", "extra_body")
_LARGEST_SHOWN: Final = 10**12
_KNOWN_VALUES: Final = THINKING_TYPES | {"summarized", "omitted", *EFFORTS}
"""The only strings that a change shows: any other string may be content."""

_NEAREST: Final = {"enabled": "adaptive", "disabled": "between_tools", "between_tools": "disabled"}
"""The type of thinking that comes nearest to a refused one."""


def translate(request: dict[str, Any], profile: ModelProfile) -> None:
    """Change in `request` only the parameters for which the model returns an error."""
    # Values are replaced by new ones, because they belong to the caller.
    body, config = mapping(request, "extra_body"), mapping(request, "output_config")
    if not profile.sampling and body.keys() & SAMPLING:
        request["extra_body"] = {name: value for name, value in body.items() if name not in SAMPLING} or None
    thinking = accepted_thinking(mapping(request, "thinking"), profile)
    if thinking is not None:
        request["thinking"] = thinking
    elif mapping(request, "thinking"):
        del request["thinking"]
    effort = accepted_effort(config.get("effort"), profile, thinking=mapping(request, "thinking"))
    if effort is not config.get("effort"):
        accepted = {name: value for name, value in config.items() if name != "effort"}
        request["output_config"] = accepted | ({} if effort is None else {"effort": effort})
        if not request["output_config"]:
            del request["output_config"]


def accepted_thinking(thinking: Params, profile: ModelProfile) -> Params | None:
    """The nearest `thinking` parameter that the model accepts; None if there is none."""
    kind = str(thinking.get("type"))
    if kind not in THINKING_TYPES - profile.thinking:
        return thinking or None
    nearest = _NEAREST.get(kind)
    if nearest not in profile.thinking:
        return None
    return {**{name: value for name, value in thinking.items() if name != "budget_tokens"}, "type": nearest}


def is_thinking_off(thinking: Params) -> bool:
    """Whether the `thinking` parameter of a request without tools switches thinking off."""
    return str(thinking.get("type")) in THINKING_OFF


def accepted_effort(effort: object, profile: ModelProfile, *, thinking: Params) -> object:
    """The highest accepted level up to `effort`, in a request with this `thinking`; None if there is none."""
    if effort not in EFFORTS or not profile.efforts:
        return effort if profile.efforts else None
    most = profile.most_effort_unthinking if is_thinking_off(thinking) else EFFORTS[-1]
    levels = EFFORTS[: min(EFFORTS.index(str(effort)), EFFORTS.index(most)) + 1]
    accepted = next((level for level in reversed(levels) if level in profile.efforts), None)
    return effort if accepted == effort else accepted  # the caller's own object shows that nothing has changed


def mapping(params: Params, name: str) -> Mapping[str, Any]:
    """The parameter `name` if it is a mapping; else an empty one."""
    value = params.get(name)
    return value if is_mapping(value) else {}


def changes(params: Params, request: Params) -> tuple[str, ...]:
    """How `request` differs from the caller's parameters, such as `effort: high -> dropped`; never content."""
    if not any(map(params.get, _TRANSLATED)):
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
