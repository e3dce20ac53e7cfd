"""Normalize the caller's arguments, so that they can be read and sent more than once."""

import io
from base64 import b64encode
from collections.abc import Iterable
from typing import Any, Final

from anthropic import NotGiven, Omit
from pydantic import BaseModel

from cheapdeep_ops.claude.content import is_mapping
from cheapdeep_ops.claude.params import Params

_NOT_GIVEN: Final = (Omit, NotGiven)
_ATTACHMENTS: Final = frozenset({"image", "document", "search_result"})
"""The types of blocks that may contain iterators or open files."""


def normalize_params(params: Params) -> dict[str, Any]:
    """`params` without the SDK's `omit` and `NOT_GIVEN`; iterators become lists and open files become Base64."""
    # A call may be sent twice, to triage and to the deep tier, and an iterator can be read only once.
    normalized = {name: value for name, value in params.items() if not isinstance(value, _NOT_GIVEN)}
    for name in ("messages", "system"):
        if name in normalized:
            normalized[name] = _repeatable(normalized[name])
    if isinstance(normalized.get("messages"), list):
        normalized["messages"] = [_repeatable_turn(message) for message in normalized["messages"]]
    return normalized


def _repeatable(value: object) -> object:
    if isinstance(value, str | bytes) or is_mapping(value) or not isinstance(value, Iterable):
        return value
    return list(value)


def _repeatable_turn(message: object) -> object:
    if not is_mapping(message):
        return message
    content = message.get("content")
    if isinstance(content, str | bytes):
        return message
    blocks = content if isinstance(content, list | tuple) else _repeatable(content)
    # Text blocks hold no iterators, so most turns need no copy.
    if isinstance(blocks, list | tuple) and any(map(_is_attachment, blocks)):
        blocks = [_repeatable_copy(block) if _is_attachment(block) else block for block in blocks]
    return message if blocks is content else {**message, "content": blocks}


def _is_attachment(block: object) -> bool:
    return is_mapping(block) and str(block.get("type")) in _ATTACHMENTS


def _repeatable_copy(value: object) -> object:
    """A copy that holds only values that can be read again."""
    if is_mapping(value):
        is_base64 = value.get("type") == "base64"
        return {
            name: _as_base64(field) if is_base64 and name == "data" else _repeatable_copy(field)
            for name, field in value.items()
        }
    if isinstance(value, str | bytes | io.IOBase | BaseModel) or not isinstance(value, Iterable):
        return value
    return [_repeatable_copy(item) for item in value]


def _as_base64(data: Any) -> object:
    """An open file's content in Base64, as the SDK sends it; any other value unchanged."""
    if not isinstance(data, io.IOBase):
        return data
    content = data.read()
    return b64encode(content.encode() if isinstance(content, str) else content).decode("ascii")
