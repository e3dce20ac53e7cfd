"""Convert the SDK's `Message` to a `TierReply`, and a shipped answer back to a `Message`."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, TypeGuard

from anthropic.types import Message, TextBlock
from pydantic import BaseModel

from cheapdeep_ops.claude.content import field, kind_of
from cheapdeep_ops.claude.raw_message import RawMessage
from cheapdeep_ops.values import TierReply, Usage
from cheapdeep_ops.verdict import read_verdict

_TOO_MANY: Final = 2**31
"""A count from here on is invalid: no call has as many tokens, and the store has no column for it."""


AnyMessage = Message | RawMessage


def read_reply(message: AnyMessage, *, user_text: str | None, max_tokens: int | None = None) -> TierReply:
    """The reply of a model call; with `user_text` it is a triage reply, and its verdict is parsed.

    `max_tokens` is the caller's limit for the answer.
    """
    verdict = None
    if user_text is not None:
        verdict = read_verdict(
            only_text(message), stop_reason=message.stop_reason, user_text=user_text, max_tokens=max_tokens
        )
    has_run_code = has_container(message) or any(map(is_code_run, _list(getattr(message, "content", None))))
    return TierReply(verdict=verdict, usage=read_usage(message.usage, has_run_code=has_run_code), message=message)


def only_text(message: AnyMessage) -> str | None:
    """The text of a message that has exactly one text block, thinking blocks not counted; else None."""
    blocks = [block for block in message.content if field(block, "type") not in ("thinking", "redacted_thinking")]
    return field(blocks[0], "text") if len(blocks) == 1 and field(blocks[0], "type") == "text" else None


def has_container(part: object) -> bool:
    """Whether a message or the end of a stream names the container in which the API ran code; it bills the hours."""
    return getattr(part, "container", None) is not None


def is_code_run(block: object) -> bool:
    """Whether a content block shows that the API ran code."""
    # A tool of the caller may have such a name too; a model's call of it has the type `tool_use`.
    kind = kind_of(block)
    return _CODE in (str(field(block, "name")) if kind == "server_tool_use" else kind)


_CODE: Final = "code_execution"
_FREE_CODE: Final = re.compile(r"web_(?:search|fetch)_(\d{8})")
_FREE_SINCE: Final = "20260209"
"""The first version of the web tools beside which the API runs code for free.

Source: https://platform.claude.com/docs/en/about-claude/pricing
"""


def billed(usage: Usage, params: Mapping[str, Any]) -> Usage:
    """The usage without the code that the API ran for free, as it does beside the newer web tools."""
    if not usage.unpriced:
        return usage
    others = tuple(name for name in usage.unpriced if not name.startswith(_CODE))
    if len(others) == len(usage.unpriced):
        return usage
    tools = params.get("tools")
    matches = [_FREE_CODE.fullmatch(kind_of(tool)) for tool in (tools if isinstance(tools, list | tuple) else ())]
    is_free = any(match and match[1] >= _FREE_SINCE for match in matches)
    return replace(usage, unpriced=others) if is_free else usage


_PLAIN: Final = frozenset({int, str})
"""The types of nearly all fields. They are looked up first, because this is done for every reply."""


def usage_fields(usage: object) -> dict[str, Any]:
    """The fields of a usage as plain values, nested ones too, without those that are null."""
    # The SDK makes objects of the fields that it knows. The others stay as the server sent them.
    if isinstance(usage, BaseModel):
        usage = {**vars(usage), **usage.model_extra} if usage.model_extra else vars(usage)
    elif not isinstance(usage, dict):
        return {}
    return {
        name: value if type(value) in _PLAIN or not isinstance(value, _NESTED) else usage_fields(value)
        for name, value in usage.items()
        if value is not None
    }


_NESTED: Final = (dict, BaseModel)


def merged_usage(usage: Mapping[str, Any], later: object) -> dict[str, Any]:
    """The fields of a usage, replaced by those of a `later` one of the stream, whose counts are totals."""
    merged = dict(usage)
    for name, value in usage_fields(later).items():
        merged[name] = {**_group(usage, name), **value} if isinstance(value, dict) else value
    return merged


def read_usage(usage: object, *, has_run_code: bool = False) -> Usage | None:
    """What the API bills for a reply; None if the reply has no valid counts."""
    fields = usage_fields(usage)
    input_tokens, output_tokens = _count(fields, "input_tokens"), _count(fields, "output_tokens")
    if input_tokens is None or output_tokens is None:
        return None
    lifetimes = _group(fields, "cache_creation")
    written_1h = _count(lifetimes, "ephemeral_1h_input_tokens") or 0
    # Older replies lack the cache fields, or their split by lifetime.
    written = _count(fields, "cache_creation_input_tokens") or 0
    written_5m = _count(lifetimes, "ephemeral_5m_input_tokens") or 0
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=_count(fields, "cache_read_input_tokens") or 0,
        cache_write_5m_tokens=max(written - written_1h, written_5m),
        cache_write_1h_tokens=written_1h,
        web_searches=_count(_group(fields, "server_tool_use"), "web_search_requests") or 0,
        inference_geo=_label(fields, "inference_geo"),
        speed=_label(fields, "speed"),
        service_tier=_label(fields, "service_tier"),
        unpriced=(*_unpriced(fields), *((_CODE,) if has_run_code else ())),
    )


def inference_geo(params: Mapping[str, Any]) -> str:
    """The region that a request asks for, as in `Usage`."""
    return _label(params, "inference_geo")


_COUNTS: Final = frozenset({"cache_creation_input_tokens", "cache_read_input_tokens"})
_GROUPS: Final[Mapping[str, frozenset[str]]] = {
    "cache_creation": frozenset({"ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"}),
    # A web fetch costs nothing but its tokens.
    "server_tool_use": frozenset({"web_search_requests", "web_fetch_requests"}),
}
"""The fields of a usage that hold counts of their own, with the names that can be priced."""

_OTHER_UNITS: Final = ("_requests", "_hours", "_seconds")
"""The ends of names whose values are no tokens: the API would bill them besides."""


def _unpriced(fields: Mapping[str, Any]) -> Iterator[str]:
    """The names of what was billed and cannot be priced: unknown units, unknown parts, and counts that are invalid."""
    for name, value in fields.items():
        if name in _GROUPS:
            yield from _unpriced_parts(name, value)
        elif name in _COUNTS:
            yield from () if _is_count(value) else (name,)
        elif name == "iterations":
            # The totals leave out the tokens of a compaction, and of another model that was asked.
            yield from () if all(kind_of(each) == "message" for each in _list(value)) else (name,)
        elif value and name.endswith(_OTHER_UNITS):
            yield name


def _unpriced_parts(group: str, counts: object) -> Iterator[str]:
    if not isinstance(counts, dict):
        yield from (group,) if counts else ()
        return
    known = _GROUPS[group]
    yield from (name for name, value in counts.items() if value and (name not in known or not _is_count(value)))


def _group(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    group = fields.get(name)
    return group if isinstance(group, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


_AS_LISTED: Final = frozenset({"standard", "global", "not_available", "batch"})
"""Values that leave the list price as it is. Older models report `not_available`, because they have one region.

`batch` is here too, because `PriceBook.cost` is told by its caller that a call is part of a batch.
"""


def _label(fields: Mapping[str, Any], name: str) -> str:
    """What changes the price, in lower case; empty if the API stated nothing that does."""
    value = fields.get(name)
    if not value or (isinstance(value, str) and value in _AS_LISTED):
        return ""
    label = str(value).lower()
    return "" if label in _AS_LISTED else label


def _count(counts: Mapping[str, Any], name: str) -> int | None:
    """The count in the field `name`; None if the field is missing or invalid."""
    value = counts.get(name)
    # Nearly all are plain numbers, and each reply has seven.
    return value if (type(value) is int and 0 <= value < _TOO_MANY) or _is_count(value) else None


def _is_count(value: object) -> TypeGuard[int]:
    # The SDK does not validate replies, so a field may hold anything.
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _TOO_MANY


def unwrapped(message: AnyMessage, answer: str) -> Message:
    """A copy of the triage reply with `answer` as its content; all other fields stay."""
    if isinstance(message, RawMessage):
        return message.with_answer(answer)
    return message.model_copy(update={"content": [TextBlock(type="text", text=answer, citations=None)]})
