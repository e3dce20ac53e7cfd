"""The simulated prompt cache: which beginning of a request is known, what is written, and how long it stays."""

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from cheapdeep_ops.testing.messages_api.cached_blocks import LIFETIMES_S, Block, blocks_of
from cheapdeep_ops.testing.messages_api.models import SimulatedModel
from cheapdeep_ops.testing.messages_api.received import input_tokens
from cheapdeep_ops.testing.messages_api.wire import CHARS_PER_TOKEN, PromptTokens

LOOKS_BACK: Final = 20
"""Blocks, that of the breakpoint included, among which the API looks for a beginning that it knows."""


@dataclass(frozen=True, slots=True)
class _CachedPrefix:
    """A prompt up to the end of one block."""

    key: bytes
    tokens: int
    lifetime: str | None
    """That of the breakpoint at its end; None where there is none, or none that counts."""


@dataclass(slots=True)
class _Entry:
    lifetime_s: float
    expires_at: float


class PromptCache:
    """Prefixes that were written at a breakpoint, by model; the `limit` used last.

    A prefix is read where it is known byte for byte, from its tools over the system prompt to the turns, and lives on
    from each use. Prefixes below a model's smallest are neither written nor read, and nothing says so: the usage does.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._entries.clear()

    def use(self, body: Mapping[str, Any], model: SimulatedModel, *, now: float) -> PromptTokens:
        """Read what is known of the request, write what its breakpoints ask for, and return its tokens by kind.

        `now` is in seconds. A request without breakpoints costs nothing but its count.
        """
        total = input_tokens(body)
        blocks = blocks_of(body)
        if all(block.mark is None for block in blocks):
            return PromptTokens(uncached=total)
        prefixes = _prefixes(body, blocks, model)
        with self._lock:
            read = self._found(prefixes, now)
            self._keep(prefixes, read, now)
        known = prefixes[read].tokens if read is not None else 0
        for_1h, for_5m = _reach(prefixes, "1h", known), _reach(prefixes, None, known)
        for_5m = max(for_5m, for_1h)
        return PromptTokens(uncached=total - for_5m, read=known, written_1h=for_1h - known, written_5m=for_5m - for_1h)

    def _found(self, prefixes: Sequence[_CachedPrefix], now: float) -> int | None:
        """The longest known prefix within reach of a breakpoint, as its place; its life begins anew."""
        asked = [place for place, prefix in enumerate(prefixes) if prefix.lifetime is not None]
        for place in reversed(asked):
            for back in range(place, max(place - LOOKS_BACK, -1), -1):
                if (entry := self._alive(prefixes[back].key, now)) is not None:
                    entry.expires_at = now + entry.lifetime_s
                    return back
        return None

    def _keep(self, prefixes: Sequence[_CachedPrefix], read: int | None, now: float) -> None:
        """Write the prefixes at breakpoints; those within what was read are used, and live on."""
        for place, prefix in enumerate(prefixes):
            if prefix.lifetime is None:
                continue
            known = self._alive(prefix.key, now) if read is not None and place <= read else None
            lifetime_s = max(LIFETIMES_S[prefix.lifetime], known.lifetime_s if known else 0.0)
            self._entries[prefix.key] = _Entry(lifetime_s, now + lifetime_s)
            self._entries.move_to_end(prefix.key)
        while len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def _alive(self, key: bytes, now: float) -> _Entry | None:
        entry = self._entries.get(key)
        return entry if entry is not None and now < entry.expires_at else None


def _prefixes(body: Mapping[str, Any], blocks: Sequence[Block], model: SimulatedModel) -> list[_CachedPrefix]:
    """The prompt up to each of its blocks.

    Another output schema changes what stands before the prompt; other thinking or another choice of tools what stands
    before its turns.
    """
    key = _digest(b"", [model.reply_id, (body.get("output_config") or {}).get("format")])
    chars, is_in_turns, prefixes = 0, False, []
    for block in blocks:
        if not is_in_turns and block.part not in ("tools", "system"):
            is_in_turns, key = True, _digest(key, [body.get("tool_choice"), body.get("thinking")])
        chars += block.chars
        key, tokens = _digest(key, [block.part, block.content]), -(-chars // CHARS_PER_TOKEN)
        counts = block.mark is not None and tokens >= model.smallest_cached
        prefixes.append(_CachedPrefix(key, tokens, block.lifetime if counts else None))
    return prefixes


def _digest(before: bytes, value: object) -> bytes:
    return blake2b(before + json.dumps(value).encode(), digest_size=16).digest()


def _reach(prefixes: Sequence[_CachedPrefix], lifetime: str | None, least: int) -> int:
    """How many tokens lie before the last breakpoint of that lifetime, or of any; `least` where it lies before that."""
    reached = [each.tokens for each in prefixes if each.lifetime is not None and lifetime in (None, each.lifetime)]
    return max(reached[-1] if reached else 0, least)
