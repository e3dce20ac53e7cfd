"""Read the content of turns: plain strings, or blocks that are mappings or objects of the SDK."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from typing_extensions import TypeIs  # in the standard library since Python 3.13

from cheapdeep_ops.claude.params import Params

_THINKING: Final = frozenset({"thinking", "redacted_thinking"})
"""The types of blocks that hold the model's reasoning; they are not part of the text."""


def is_mapping(value: object) -> TypeIs[Mapping[str, Any]]:
    """Whether `value` is a mapping."""
    # Nearly all are dicts, and a check for the abstract type takes ten times as long.
    return isinstance(value, dict) or isinstance(value, Mapping)  # noqa: SIM101


def is_content(value: object) -> bool:
    """Whether `value` can be a turn's content: a string, or an iterable of blocks."""
    return isinstance(value, str | list) or (isinstance(value, Iterable) and not isinstance(value, bytes | Mapping))


def blocks_of(content: Any) -> Iterable[Any]:
    """The blocks of a turn; empty if its content is a plain string or missing."""
    return content if isinstance(content, list) or (is_content(content) and not isinstance(content, str)) else ()


def field(block: object, name: str) -> Any:
    """A field of a block, or of a part of one; each may be a mapping or an object of the SDK. None if missing."""
    return block.get(name) if isinstance(block, dict) or is_mapping(block) else getattr(block, name, None)


def kind_of(block: object) -> str:
    """The block's `type` field as text."""
    return str(field(block, "type"))


def pieces(content: object) -> Iterator[str]:
    """The texts in a turn's content, with those of its documents and search results; empty ones are left out."""
    if isinstance(content, str):
        yield from (content,) if content else ()
        return
    for block in blocks_of(content):
        if isinstance(text := field(block, "text"), str):
            yield from (text,) if text else ()
        elif (kind := kind_of(block)) in ("document", "search_result"):
            yield from _attachment_pieces(block, kind)


def _attachment_pieces(block: object, kind: str) -> Iterator[str]:
    """A document's title, context and plain text, or a search result's title, source and text."""
    labels = ("title", "context") if kind == "document" else ("title", "source")
    yield from (label for name in labels if isinstance(label := field(block, name), str) and label)
    source = field(block, "source") if kind == "document" else block
    if field(source, "type") == "text":
        yield from pieces(field(source, "data"))
    yield from pieces(field(source, "content"))


def pieces_of_request(params: Params) -> list[str]:
    """All texts that the caller sent: of the system prompt, and of every turn with its documents."""
    found: list[str] = []
    for part in ({"content": params.get("system")}, *params["messages"]):
        content = part.get("content")
        # Nearly all are plain strings, which need no generator.
        found += pieces(content) if not isinstance(content, str) else (content,) if content else ()
    return found


def text_of(content: object) -> str:
    """All text in a turn's content, its pieces joined by line breaks."""
    return "\n".join(pieces(content))


def is_text(content: object) -> bool:
    """Whether a turn's content is text only, so that `text_of` loses nothing."""
    return all(map(_is_text, blocks_of(content)))


def _is_text(block: object) -> bool:
    kind = kind_of(block)
    if kind == "document":
        source = field(block, "source")
        return field(source, "type") == "text" or (
            field(source, "type") == "content" and is_text(field(source, "content"))
        )
    return kind in _THINKING or kind == "text" or (kind == "search_result" and is_text(field(block, "content")))
