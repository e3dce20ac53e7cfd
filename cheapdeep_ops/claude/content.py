"""Reading what turns are made of: plain strings, or blocks that are mappings or the SDK's own objects."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

_READ_BY_NOBODY: Final = frozenset({"thinking", "redacted_thinking"})
"""Types of blocks that are the model's own notes, and no part of what is said."""


def is_content(value: object) -> bool:
    """Whether a turn can have `value` as its content: a string, or blocks."""
    return isinstance(value, str | list) or (isinstance(value, Iterable) and not isinstance(value, bytes | Mapping))


def blocks_of(content: Any) -> Iterable[Any]:
    """The blocks of a turn; none where its content is a plain string, or nothing."""
    return content if isinstance(content, list) or (is_content(content) and not isinstance(content, str)) else ()


def field(block: object, name: str) -> Any:
    """A field of a block or of what is in one, which may be a mapping or one of the SDK's own objects."""
    if isinstance(block, dict):  # first, because nearly all are, and asking for a Mapping takes long
        return block.get(name)
    return block.get(name) if isinstance(block, Mapping) else getattr(block, name, None)


def kind_of(block: object) -> str:
    """The type that a block says it has."""
    return str(field(block, "type"))


def pieces(content: object) -> Iterator[str]:
    """All text in a turn's content: its own, and that of documents and search results; empty pieces are left out."""
    if isinstance(content, str):
        yield from (content,) if content else ()
        return
    for block in blocks_of(content):
        if isinstance(text := field(block, "text"), str):
            yield from (text,) if text else ()
        elif (kind := kind_of(block)) in ("document", "search_result"):
            yield from _attached(block, kind)


def _attached(block: object, kind: str) -> Iterator[str]:
    """A document's title, context and plain text; a search result's title, address and text."""
    labels = ("title", "context") if kind == "document" else ("title", "source")
    yield from (label for name in labels if isinstance(label := field(block, name), str) and label)
    source = field(block, "source") if kind == "document" else block
    if field(source, "type") == "text":
        yield from pieces(field(source, "data"))
    yield from pieces(field(source, "content"))


def text_of(content: object) -> str:
    """All text in a turn's content, a line for each piece."""
    return "\n".join(pieces(content))


def is_text(content: object) -> bool:
    """Whether text is all that a turn's content holds, so that whoever reads only that has read it all."""
    return all(map(_is_text, blocks_of(content)))


def _is_text(block: object) -> bool:
    kind = kind_of(block)
    if kind == "document":
        source = field(block, "source")
        return field(source, "type") == "text" or (
            field(source, "type") == "content" and is_text(field(source, "content"))
        )
    return kind in _READ_BY_NOBODY or kind == "text" or (kind == "search_result" and is_text(field(block, "content")))
