"""From the caller's request to the two requests that a tier may get: the triage question, or the original.

Pure functions over the keyword arguments of `messages.create`; nothing here changes what it is given.
"""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final, cast

import httpx2

from cheapdeep_ops.claude.content import blocks_of, field, is_text, kind_of, text_of
from cheapdeep_ops.claude.features import is_longer_than
from cheapdeep_ops.claude.profiles import ModelProfile, profile_of
from cheapdeep_ops.claude.prompt import SCHEMA, USER_INPUT, TriagePrompt
from cheapdeep_ops.claude.translation import changes, in_a_word, mapping, translate
from cheapdeep_ops.values import TextTurn

Params = Mapping[str, Any]

ENVELOPE_ALLOWANCE: Final = 64
"""Tokens granted on top of the caller's max_tokens for the JSON around the answer and its escapes."""

LARGEST_UNTIMED: Final = 21_333
"""The largest max_tokens that the SDK sends without streaming (anthropic 2.12, `_base_client.py`)."""

_THINKING: Final = frozenset({"thinking", "redacted_thinking"})


def conversation_key(params: Params) -> str:
    """What tells a conversation from others while it goes on: a hash of its system prompt and its first turn."""
    first: Params = next(iter(params["messages"]), {})
    begun = (text_of(params.get("system")), text_of(first.get("content")))
    return blake2b(repr(begun).encode(), digest_size=16).hexdigest()


def texts(params: Params) -> str:
    """All text that the caller sent: system, and every turn with the documents in it."""
    contents = (params.get("system"), *(message.get("content") for message in params["messages"]))
    return "\n".join(filter(None, map(text_of, contents)))


def turns(params: Params) -> tuple[TextTurn, ...]:
    """The conversation that the caller sent, as text: the system prompt where there is one, and every turn."""
    system = text_of(params.get("system"))
    said = [_turn(str(message.get("role")), message.get("content")) for message in params["messages"]]
    return (TextTurn(role="system", text=system), *said) if system else tuple(said)


def _turn(role: str, content: object) -> TextTurn:
    return TextTurn(role=role, text=text_of(content), is_whole=is_text(content))


def is_too_long(params: Params, *, model: str, prompt: TriagePrompt, max_input_tokens: int | None) -> bool:
    """Whether a triage question would be more than `model` can hold, or than the setting lets it be.

    Rough: four bytes of text a token, images and files as nothing. What is longer after all, the API refuses.
    """
    profile = profile_of(model)
    limits = [] if max_input_tokens is None else [max_input_tokens]
    if profile.context_tokens is not None:
        limits.append(profile.context_tokens - _limit(params, profile))
    return bool(limits) and is_longer_than(min(limits) - prompt.tokens, params)


def triage_request(
    params: Params, *, model: str, prompt: TriagePrompt, timeout_s: float
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The triage question for `model`, the caller's conversation under the triage contract, and what was translated.

    The contract is the same for all calls and follows the caller's system prompt, so that cache breakpoints there and
    in turns hold from one triage question to the next; a template of one's own around the last turn leaves those of
    earlier turns alone. None is added: the API takes four.
    """
    profile = profile_of(model)
    request = {name: value for name, value in params.items() if name not in ("thinking", "extra_body")}
    request |= {"model": model, "max_tokens": _limit(params, profile), **_no_thinking(params, profile)}
    if "timeout" in params and not params.get("stream"):
        request["timeout"] = _sooner(params["timeout"], timeout_s)
    request["messages"] = _without_thinking(params["messages"])
    if prompt.replaces_user_turn:
        request["messages"] = _wrapped(request["messages"], prompt.text)
    else:
        request["system"] = [*_system_blocks(params.get("system")), {"type": "text", "text": prompt.text}]
    request["output_config"] = _output_config(params, profile)
    if not request["output_config"]:
        del request["output_config"]
    return request, (*changes(params, request), *_shortened(params, request))


def _no_thinking(params: Params, profile: ModelProfile) -> dict[str, Any]:
    """The caller's wish for no thinking, for a model that would think without it."""
    is_off = mapping(params, "thinking").get("type") == "disabled"
    is_needed = profile.thinks_unasked and "disabled" in profile.thinking
    return {"thinking": params["thinking"]} if is_off and is_needed else {}


def _shortened(params: Params, request: Params) -> tuple[str, ...]:
    """What the question lacks in length, in the words of `changes`."""
    asked, granted = params["max_tokens"], request["max_tokens"]
    cut = (f"max_tokens: {in_a_word(asked)} -> {granted}",) if granted < asked else ()
    if not _has_thoughts(params["messages"]):
        return cut
    blocks = (block for message in params["messages"] for block in blocks_of(message.get("content")))
    return (*cut, f"thinking_blocks: {sum(kind_of(block) in _THINKING for block in blocks)} -> dropped")


def _limit(params: Params, profile: ModelProfile) -> int:
    """How long a triage reply may be: the caller's answer and the JSON around it, as far as the model goes."""
    limit = _with_envelope(params["max_tokens"], is_streamed=bool(params.get("stream")))
    return limit if profile.output_tokens is None else min(limit, profile.output_tokens)


def _with_envelope(max_tokens: int, *, is_streamed: bool) -> int:
    if is_streamed:  # of any length
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
    effort = mapping(params, "output_config").get("effort")
    config: dict[str, Any] = {"effort": effort} if effort and profile.effort else {}
    if profile.structured_outputs:
        config["format"] = {"type": "json_schema", "schema": SCHEMA}
    return config


def _system_blocks(system: object) -> list[Any]:
    if not system:
        return []
    return [{"type": "text", "text": system}] if isinstance(system, str) else list(cast("Iterable[Any]", system))


def _without_thinking(messages: list[Params]) -> list[Params]:
    """The turns without the deep tier's thinking; the same list where there is none."""
    if not _has_thoughts(messages):
        return messages
    *earlier, last = [_thoughtless(message) for message in messages]
    return [*(message for message in earlier if message.get("content")), last]  # the API takes no empty turn


def _has_thoughts(messages: list[Params]) -> bool:
    thoughtful = (message.get("content") for message in messages if message.get("role") != "user")
    return any(kind_of(block) in _THINKING for content in thoughtful for block in blocks_of(content))


def _thoughtless(message: Params) -> Params:
    content = message.get("content")
    if isinstance(content, str):
        return message
    return {**message, "content": [block for block in blocks_of(content) if kind_of(block) not in _THINKING]}


def _wrapped(messages: list[Params], template: str) -> list[Params]:
    *earlier, last = messages
    content = last["content"]
    filled = template.replace(USER_INPUT, content) if isinstance(content, str) else _around(content, template)
    return [*earlier, {**last, "content": filled}]


def _around(blocks: Iterable[Any], template: str) -> list[Any]:
    """The template as blocks, with the caller's own as the user's input: with their breakpoints only once."""
    before, *parts = template.split(USER_INPUT)
    given_blocks = list(blocks)
    filled = [*_said(before), *given_blocks]
    for index, part in enumerate(parts):
        filled += _said(part) if not index else [*map(_unmarked, given_blocks), *_said(part)]
    return filled


def _said(text: str) -> list[Any]:
    """A block of text; none where the API would refuse it as empty."""
    return [{"type": "text", "text": text}] if text.strip() else []


def _unmarked(block: Any) -> Any:
    """A block without its cache breakpoint."""
    if not field(block, "cache_control"):
        return block
    fields = block if isinstance(block, Mapping) else block.model_dump(exclude_unset=True)
    return {name: value for name, value in fields.items() if name != "cache_control"}


def original_request(params: Params, *, model: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The caller's own request for `model`, and what had to be translated because it refuses it."""
    request = {**params, "model": model}
    translate(request, profile_of(model))
    return request, changes(params, request)
