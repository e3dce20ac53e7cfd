"""A request as a sequence of blocks with cache breakpoints, in the order of the prompt cache."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from cheapdeep_ops.testing.messages_api.received import chars_in, turns_of
from cheapdeep_ops.testing.messages_api.replies import JsonObject

MOST_BREAKPOINTS: Final = 4
LIFETIMES_S: Final[Mapping[str, float]] = {"5m": 300.0, "1h": 3_600.0}
"""Lifetimes in seconds by the API's names; a breakpoint without a `ttl` has the first."""

_MARK: Final = "cache_control"
_ORDER: Final = (
    "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. "
    "Note that blocks are processed in the following order: `tools`, `system`, `messages`."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block of a prompt."""

    place: str
    """Its position as the API's errors write it: `messages.0.content.1`."""
    part: str
    """`tools`, `system`, or the role of a turn with its number."""
    content: JsonObject
    """The block without its breakpoint, because moving a breakpoint leaves the cache valid."""
    chars: int
    mark: JsonObject | None = None

    @property
    def lifetime(self) -> str:
        """The lifetime of its breakpoint, by the API's name."""
        return str((self.mark or {}).get("ttl") or "5m")


def blocks_of(body: Mapping[str, object]) -> list[Block]:
    """Return all blocks in the order of the cache: tools, system prompt, turns.

    A breakpoint on the request itself applies to the last block, unless that block has its own.
    """
    blocks = [
        *_blocks("tools", "tools", body.get("tools")),
        *_blocks("system", "system", body.get("system")),
        *_turns(body),
    ]
    mark = body.get(_MARK)
    if blocks and isinstance(mark, dict) and blocks[-1].mark is None:
        blocks[-1] = replace(blocks[-1], mark=mark)
    return blocks


def breakpoint_fault(body: Mapping[str, object]) -> str | None:
    """Return the API's error message for wrong breakpoints; None if they are right."""
    marked = [block for block in blocks_of(body) if block.mark is not None]
    if len(marked) > MOST_BREAKPOINTS:
        return f"A maximum of {MOST_BREAKPOINTS} blocks with cache_control may be provided. Found {len(marked)}."
    return next(filter(None, map(_wrong_mark, marked)), None) or _wrong_order(marked)


def _wrong_mark(block: Block) -> str | None:
    mark = block.mark or {}
    if mark.get("type") != "ephemeral":
        return f"{block.place}.cache_control.type: Input should be 'ephemeral'"
    if block.lifetime not in LIFETIMES_S:
        return f"{block.place}.cache_control.ttl: Input should be '5m' or '1h'"
    if block.content.get("type") == "text" and not block.content.get("text"):
        return f"{block.place}: cache_control cannot be set for empty text blocks"
    return None


def _wrong_order(marked: Sequence[Block]) -> str | None:
    """Return the error for the first block with a longer lifetime than an earlier one."""
    is_short = False
    for block in marked:
        if is_short and block.lifetime == "1h":
            return f"{block.place}.cache_control.ttl: {_ORDER}"
        is_short = is_short or block.lifetime == "5m"
    return None


def _turns(body: Mapping[str, object]) -> Iterator[Block]:
    for index, turn in enumerate(turns_of(body)):
        yield from _blocks(f"messages.{index}.content", f"{turn.get('role')} {index}", turn.get("content"))


def _blocks(place: str, part: str, content: object) -> Iterator[Block]:
    """Yield the blocks of one content; a string counts as one block of text."""
    raw_blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    for index, block in enumerate(raw_blocks if isinstance(raw_blocks, list) else []):
        if isinstance(block, dict):
            mark = block.get(_MARK)
            bare = {name: value for name, value in block.items() if name != _MARK}
            yield Block(
                place=f"{place}.{index}",
                part=part,
                content=bare,
                chars=chars_in(bare),
                mark=mark if isinstance(mark, dict) else None,
            )
