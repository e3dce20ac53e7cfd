"""The simulated prompt cache: which prefix of a request it reads, which it writes, and for how long."""

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from cheapdeep_ops.testing.messages_api.cached_blocks import LIFETIMES_S, Block, blocks_of
from cheapdeep_ops.testing.messages_api.models import SimulatedModel
from cheapdeep_ops.testing.messages_api.received import input_tokens
from cheapdeep_ops.testing.messages_api.replies import JsonObject
from cheapdeep_ops.testing.messages_api.wire import CHARS_PER_TOKEN, PromptTokens

LOOKS_BACK: Final = 20
"""The number of blocks, up to the breakpoint's own, at which the API looks for a cached prefix."""


@dataclass(frozen=True, slots=True)
class _CachedPrefix:
    """A prompt up to the end of one block."""

    key: bytes
    tokens: int
    lifetime: str | None
    """The lifetime of the breakpoint at its end; None without a breakpoint, or for too small a prompt."""


@dataclass(slots=True)
class _Entry:
    lifetime_s: float
    expires_at: float


class PromptCache:
    """Prefixes of prompts that were written at breakpoints, by model; it holds the `limit` last used.

    A prefix is read only if tools, system prompt and turns match byte for byte; each use renews its lifetime. As with
    the API, a prefix below the model's smallest is silently ignored: only the usage shows it.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def clear(self) -> None:
        """Remove all prefixes."""
        with self._lock:
            self._entries.clear()

    def use(self, body: JsonObject, model: SimulatedModel, *, now: float) -> PromptTokens:
        """Read and write the prefixes of a request, and return its tokens by kind; `now` is in seconds."""
        total = input_tokens(body)
        blocks = blocks_of(body)
        # Most requests have no breakpoint, so they skip the hashing.
        if all(block.mark is None for block in blocks):
            return PromptTokens(uncached=total)
        prefixes = _prefixes(body, blocks, model)
        with self._lock:
            read = self._read(prefixes, now)
            self._write(prefixes, read, now)
        cached = prefixes[read].tokens if read is not None else 0
        until_1h, until_5m = _tokens_until(prefixes, "1h", cached), _tokens_until(prefixes, None, cached)
        until_5m = max(until_5m, until_1h)
        return PromptTokens(
            uncached=total - until_5m, read=cached, written_1h=until_1h - cached, written_5m=until_5m - until_1h
        )

    def _read(self, prefixes: Sequence[_CachedPrefix], now: float) -> int | None:
        """Renew the longest cached prefix near a breakpoint and return its index; None if there is none."""
        breakpoints = [index for index, prefix in enumerate(prefixes) if prefix.lifetime is not None]
        for index in reversed(breakpoints):
            for back in range(index, max(index - LOOKS_BACK, -1), -1):
                if (entry := self._unexpired(prefixes[back].key, now)) is not None:
                    entry.expires_at = now + entry.lifetime_s
                    return back
        return None

    def _write(self, prefixes: Sequence[_CachedPrefix], read: int | None, now: float) -> None:
        """Write the prefixes at breakpoints; those inside the prefix that was read are renewed."""
        for index, prefix in enumerate(prefixes):
            if prefix.lifetime is None:
                continue
            entry = self._unexpired(prefix.key, now) if read is not None and index <= read else None
            # A breakpoint of 5 minutes must not shorten an entry of 1 hour.
            lifetime_s = max(LIFETIMES_S[prefix.lifetime], entry.lifetime_s if entry else 0.0)
            self._entries[prefix.key] = _Entry(lifetime_s, now + lifetime_s)
            self._entries.move_to_end(prefix.key)
        while len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def _unexpired(self, key: bytes, now: float) -> _Entry | None:
        entry = self._entries.get(key)
        return entry if entry is not None and now < entry.expires_at else None


def _prefixes(body: JsonObject, blocks: Sequence[Block], model: SimulatedModel) -> list[_CachedPrefix]:
    """The prefixes of the prompt, one up to each of its blocks."""
    # The API puts the output schema before the prompt, and thinking and tool choice before the turns.
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


def _tokens_until(prefixes: Sequence[_CachedPrefix], lifetime: str | None, at_least: int) -> int:
    """The tokens up to the last breakpoint of `lifetime` (None: of any), but `at_least` as many as that."""
    tokens = [each.tokens for each in prefixes if each.lifetime is not None and lifetime in (None, each.lifetime)]
    return max(tokens[-1] if tokens else 0, at_least)
