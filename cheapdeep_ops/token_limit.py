"""The fewest tokens that a text can have, in any script and with any tokenizer of today.

A token does not reach over a space between words, and has at most 32 bytes. So the bound is low: English has a third
more tokens than words, and Chinese about ten times as many as this bound.
"""

import re
from typing import Final

_LONGEST_TOKEN: Final = 32
_SPACES: Final = re.compile(rb"\s+")


class TokenLimit:
    """Passes a text on as it arrives, until it surely has more than `most` tokens; None: no limit."""

    def __init__(self, most: int | None) -> None:
        self.is_over = False
        self._most = most
        self._uncounted: list[str] = []
        """The texts that passed without a count, because a text has at most as many tokens as characters."""
        self._at_most = 0
        """An upper bound of the tokens that have passed."""
        self._ended = 0
        """The tokens of the counted words that have ended."""
        self._open = 0
        """The bytes of the counted word at the end."""

    def feed(self, text: str) -> str:
        """The part of `text` that is within the limit."""
        if self._most is None or self.is_over:
            return "" if self.is_over else text
        self._at_most += len(text)
        if self._at_most <= self._most:
            self._uncounted.append(text)
            return text
        self._ended, self._open = self._with("".join(self._uncounted))
        self._uncounted.clear()
        ended, begun = self._with(text)
        if ended + _tokens(begun) <= self._most:
            self._ended, self._open, self._at_most = ended, begun, ended + _tokens(begun)
            return text
        self.is_over = True
        return text[: self._fitting(text, self._most)]

    def _with(self, text: str) -> tuple[int, int]:
        """The tokens of all words but the last with `text` at the end, and the bytes of the last."""
        words = [len(word) for word in _SPACES.split(text.encode())]
        words[0] += self._open
        return self._ended + sum(map(_tokens, words[:-1])), words[-1]

    def _fitting(self, text: str, most: int) -> int:
        """How many characters of `text` are within the limit."""
        fits, exceeds = 0, len(text)
        while exceeds - fits > 1:
            middle = (fits + exceeds) // 2
            ended, begun = self._with(text[:middle])
            fits, exceeds = (middle, exceeds) if ended + _tokens(begun) <= most else (fits, middle)
        return fits


def is_surely_longer(text: str, most: int | None) -> bool:
    """Whether `text` surely has more than `most` tokens."""
    # A text has at most as many of these tokens as characters.
    if most is None or len(text) <= most or _at_most(text) <= most:
        return False
    limit = TokenLimit(most)
    limit.feed(text)
    return limit.is_over


def _at_most(text: str) -> int:
    """An upper bound of what `TokenLimit` counts, in a tenth of the time: most answers are far below their limit."""
    return 1 + sum(map(text.count, " \t\n\r\v\f")) + len(text.encode()) // _LONGEST_TOKEN


def _tokens(size: int) -> int:
    return -(-size // _LONGEST_TOKEN)
