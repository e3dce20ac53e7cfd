"""Build a tier's request from the caller's: the triage question, or the original request.

Pure functions over the keyword arguments of `messages.create`; no function changes its arguments.
"""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final, cast

import httpx2

from cheapdeep_ops.claude.content import blocks_of, field, is_text, kind_of, pieces_of_request, text_of
from cheapdeep_ops.claude.features import is_longer_than
from cheapdeep_ops.claude.params import Params, Request
from cheapdeep_ops.claude.profiles import ModelProfile, profile_of, thinking_allowance
from cheapdeep_ops.claude.prompt import SCHEMA, USER_INPUT, TriagePrompt
from cheapdeep_ops.claude.translation import (
    accepted_effort,
    accepted_thinking,
    changes,
    is_thinking_off,
    mapping,
    shown_value,
    translate,
)
from cheapdeep_ops.values import NO_PARTS, TextTurn, TriagePart, TriageParts

ENVELOPE_ALLOWANCE: Final = 64
"""Tokens added to the caller's max_tokens for the JSON around the answer and its escapes."""

LARGEST_UNTIMED: Final = 21_333
"""The largest max_tokens that the SDK sends without streaming (anthropic 2.12, `_base_client.py`)."""

_THINKING: Final = frozenset({"thinking", "redacted_thinking"})
_FORMAT: Final[TriageParts] = frozenset({TriagePart.FORMAT})
_EFFORT: Final[TriageParts] = frozenset({TriagePart.EFFORT})


def conversation_key(params: Params) -> str:
    """A key that stays constant during a conversation: a hash of its system prompt and its first turn."""
    first: Params = next(iter(params["messages"]), {})
    opening = (text_of(params.get("system")), text_of(first.get("content")))
    return blake2b(repr(opening).encode(), digest_size=16).hexdigest()


def texts(params: Params) -> str:
    """All text that the caller sent: the system prompt, and every turn with its documents."""
    return "\n".join(pieces_of_request(params))


def turns(params: Params) -> tuple[TextTurn, ...]:
    """The caller's conversation as text: every turn, after the system prompt if there is one."""
    system = text_of(params.get("system"))
    messages = [_turn(str(message.get("role")), message.get("content")) for message in params["messages"]]
    return (TextTurn(role="system", text=system), *messages) if system else tuple(messages)


def _turn(role: str, content: object) -> TextTurn:
    return TextTurn(role=role, text=text_of(content), is_whole=is_text(content))


def is_too_long(params: Params, *, model: str, prompt: TriagePrompt, max_input_tokens: int | None) -> bool:
    """Whether a triage question would exceed the context window of `model`, or `max_input_tokens`.

    An estimate at four bytes of text a token; images and files are not counted.
    """
    # A request that is longer than estimated gets an error from the API, and escalates.
    profile = profile_of(model)
    limits = [] if max_input_tokens is None else [max_input_tokens]
    if profile.context_tokens is not None:
        limits.append(profile.context_tokens - _limit(params, profile))
    return bool(limits) and is_longer_than(min(limits) - prompt.tokens, params)


def triage_parts(params: Params, *, model: str) -> TriageParts:
    """The optional parts of a triage question that `model` accepts on the Claude API."""
    profile = profile_of(model)
    effort = NO_PARTS if _effort(params, profile) is None else _EFFORT
    return effort | _FORMAT if profile.structured_outputs else effort


def triage_request(
    params: Params, *, model: str, prompt: TriagePrompt, timeout_s: float, parts: TriageParts | None = None
) -> Request:
    """The triage question for `model`, and the changes of parameters as text.

    The question is the caller's conversation with the triage contract. It has the optional `parts`; None means all that
    the model accepts.
    """
    profile = profile_of(model)
    parts = triage_parts(params, model=model) if parts is None else parts
    request = {name: value for name, value in params.items() if name not in ("thinking", "extra_body")}
    request |= {"model": model, "max_tokens": _limit(params, profile), **_no_thinking(params, profile)}
    if "timeout" in params and not params.get("stream"):
        request["timeout"] = _at_most_limit(params["timeout"], timeout_s)
    has_thinking = _has_thinking(params["messages"])
    request["messages"] = _without_thinking(params["messages"]) if has_thinking else params["messages"]
    if prompt.replaces_user_turn:
        request["messages"] = _wrapped(request["messages"], prompt.text)
    else:
        # A constant text after the caller's system prompt keeps the caller's cache breakpoints valid.
        # It gets no breakpoint of its own: the API takes four, and the caller may use all of them.
        request["system"] = [*_system_blocks(params.get("system")), {"type": "text", "text": prompt.text}]
    request["output_config"] = _output_config(params, profile, parts)
    if not request["output_config"]:
        del request["output_config"]
    has_lost_format = profile.structured_outputs and TriagePart.FORMAT not in parts
    lost = ("format: json_schema -> dropped",) if has_lost_format else ()
    return request, (*changes(params, request), *_reductions(params, request, has_thinking=has_thinking), *lost)


def has_schema(request: Params) -> bool:
    """Whether the API itself holds the reply to this triage request to the schema of a verdict."""
    return "format" in mapping(request, "output_config")


def _no_thinking(params: Params, profile: ModelProfile) -> dict[str, Any]:
    """What switches thinking off as the caller has it, if the model would think without it and accepts that."""
    if not profile.thinks_unasked or not is_thinking_off(thinking := mapping(params, "thinking")):
        return {}
    accepted = accepted_thinking(thinking, profile)
    return {} if accepted is None else {"thinking": accepted}


def _reductions(params: Params, request: Params, *, has_thinking: bool) -> tuple[str, ...]:
    """The smaller limit and the dropped thinking blocks, in the format of `changes`."""
    before, after = params["max_tokens"], request["max_tokens"]
    reduced_limit = (f"max_tokens: {shown_value(before)} -> {after}",) if after < before else ()
    if not has_thinking:
        return reduced_limit
    blocks = (block for message in params["messages"] for block in blocks_of(message.get("content")))
    return (*reduced_limit, f"thinking_blocks: {sum(kind_of(block) in _THINKING for block in blocks)} -> dropped")


def _limit(params: Params, profile: ModelProfile) -> int:
    """The triage reply's `max_tokens`: the caller's plus the JSON and the thinking, at most what the model accepts."""
    allowance = ENVELOPE_ALLOWANCE
    if profile.thinks_unasked:
        allowance += thinking_allowance(profile, is_off=bool(_no_thinking(params, profile)))
    limit = _with_allowance(params["max_tokens"], allowance, is_streamed=bool(params.get("stream")))
    return limit if profile.output_tokens is None else min(limit, profile.output_tokens)


def _with_allowance(max_tokens: int, allowance: int, *, is_streamed: bool) -> int:
    if is_streamed:  # the SDK streams replies of any length
        return max_tokens + allowance if max_tokens < LARGEST_UNTIMED else max_tokens
    return min(max_tokens + allowance, LARGEST_UNTIMED)


def _at_most_limit(timeout: object, limit_s: float) -> object:
    """The caller's timeout with each of its parts at most `limit_s` seconds."""
    if isinstance(timeout, httpx2.Timeout):
        return httpx2.Timeout(**{name: _shorter(value, limit_s) for name, value in timeout.as_dict().items()})
    return _shorter(timeout, limit_s) if timeout is None or isinstance(timeout, int | float) else timeout


def _shorter(seconds: float | None, limit_s: float) -> float:
    return limit_s if seconds is None else min(seconds, limit_s)


def _output_config(params: Params, profile: ModelProfile, parts: TriageParts) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if TriagePart.EFFORT in parts:
        config["effort"] = _effort(params, profile)
    if TriagePart.FORMAT in parts:
        config["format"] = {"type": "json_schema", "schema": SCHEMA}
    return config


def _effort(params: Params, profile: ModelProfile) -> object:
    """The effort that the caller asked for, or the nearest one that the model accepts; None if there is none."""
    asked = mapping(params, "output_config").get("effort")
    if not asked:
        return None
    return accepted_effort(asked, profile, thinking=mapping(_no_thinking(params, profile), "thinking"))


def _system_blocks(system: object) -> list[Any]:
    if not system:
        return []
    return [{"type": "text", "text": system}] if isinstance(system, str) else list(cast("Iterable[Any]", system))


def _without_thinking(messages: list[Params]) -> list[Params]:
    """The turns without the deep tier's thinking."""
    *earlier, last = [_turn_without_thinking(message) for message in messages]
    return [*(message for message in earlier if message.get("content")), last]  # the API takes no empty turn


def _has_thinking(messages: list[Params]) -> bool:
    for message in messages:
        if message.get("role") != "user" and not _THINKING.isdisjoint(map(kind_of, blocks_of(message.get("content")))):
            return True
    return False


def _turn_without_thinking(message: Params) -> Params:
    content = message.get("content")
    if isinstance(content, str):
        return message
    return {**message, "content": [block for block in blocks_of(content) if kind_of(block) not in _THINKING]}


def _wrapped(messages: list[Params], template: str) -> list[Params]:
    *earlier, last = messages
    content = last["content"]
    filled = template.replace(USER_INPUT, content) if isinstance(content, str) else _around(content, template)
    return [*earlier, {**last, "content": filled}]


def _around(blocks: Iterable[object], template: str) -> list[Any]:
    """The template as blocks, with the caller's `blocks` as the user's input."""
    before, *parts = template.split(USER_INPUT)
    input_blocks = list(blocks)
    filled = [*_text_blocks(before), *input_blocks]
    # Only the first copy of the input keeps its breakpoints: the API takes four.
    for index, part in enumerate(parts):
        filled += _text_blocks(part) if not index else [*map(_without_breakpoint, input_blocks), *_text_blocks(part)]
    return filled


def _text_blocks(text: str) -> list[Any]:
    """One text block; none for blank text, which the API refuses."""
    return [{"type": "text", "text": text}] if text.strip() else []


def _without_breakpoint(block: Any) -> Any:
    """A block without its cache breakpoint."""
    if not field(block, "cache_control"):
        return block
    fields = block if isinstance(block, Mapping) else block.model_dump(exclude_unset=True)
    return {name: value for name, value in fields.items() if name != "cache_control"}


def original_request(params: Params, *, model: str) -> Request:
    """The caller's own request for `model`, and the translations of parameters that the model refuses."""
    request = {**params, "model": model}
    translate(request, profile_of(model))
    return request, changes(params, request)
