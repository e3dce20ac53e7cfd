"""The caller's arguments made fit to be read and sent more than once, as the SDK would send them once."""

import io
from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import Any, Final

from anthropic import NotGiven, Omit
from pydantic import BaseModel

Params = Mapping[str, Any]

_ATTACHED: Final = frozenset({"image", "document", "search_result"})
"""Types of blocks that may have iterators or open files in them."""


def given(params: Params) -> dict[str, Any]:
    """`params` without the SDK's marks for "not given", with iterators and open files made repeatable."""
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
    content = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(message, Mapping) or isinstance(content, str | bytes):
        return message
    blocks = content if isinstance(content, list | tuple) else _repeatable(content)
    if isinstance(blocks, list | tuple) and any(map(_is_attached, blocks)):
        blocks = [_held(block) if _is_attached(block) else block for block in blocks]
    return message if blocks is content else {**message, "content": blocks}


def _is_attached(block: object) -> bool:
    return isinstance(block, Mapping) and str(block.get("type")) in _ATTACHED


def _held(value: object) -> object:
    """A copy without anything that can be read only once."""
    if isinstance(value, Mapping):
        is_base64 = value.get("type") == "base64"
        return {name: _read(each) if is_base64 and name == "data" else _held(each) for name, each in value.items()}
    if isinstance(value, str | bytes | io.IOBase | BaseModel) or not isinstance(value, Iterable):
        return value
    return [_held(each) for each in value]


def _read(data: Any) -> object:
    """An open file's content in Base64, as the SDK sends it; all else as it is."""
    if not isinstance(data, io.IOBase):
        return data
    content = data.read()
    return b64encode(content.encode() if isinstance(content, str) else content).decode("ascii")
