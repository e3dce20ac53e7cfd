"""Reading what turns are made of: plain strings, or blocks that are mappings or the SDK's own objects."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

_UNSHOWN: Final = {"image": "[image]", "document": "[document]"}
"""What stands for a block that text cannot hold; graders take square brackets for data that was removed."""


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


def shown(content: object) -> str:
    """The same for a reader, with a word in brackets for each block that has no text to show."""
    return content if isinstance(content, str) else "\n".join(_shown(block) for block in blocks_of(content))


def _shown(block: object) -> str:
    text, kind = text_of([block]), kind_of(block)
    is_whole = kind == "document" and field(field(block, "source"), "type") in ("text", "content")
    return text if is_whole or kind not in _UNSHOWN else f"{text}\n{_UNSHOWN[kind]}".strip()
