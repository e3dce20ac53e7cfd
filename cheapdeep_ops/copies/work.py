"""How much work the search for copies may do for one text, counted in units and not in time.

So one text always gets one decision, on every machine. A unit is about 25 ns.
"""

from typing import Final

_LEAST: Final = 8_000
_CHARACTERS_A_UNIT: Final = 5
"""A longer text may cost more, so that the time stays linear: at most some 5 ns a character."""


class TooMuchWorkError(Exception):
    """A text cannot be cleared within its bound."""


class Work:
    """The units of work that are left for one text."""

    def __init__(self, text: str) -> None:
        self.left = _LEAST + len(text) // _CHARACTERS_A_UNIT

    def spend(self, units: int) -> None:
        """Take `units`. Raises TooMuchWorkError if fewer are left."""
        self.left -= units
        if self.left < 0:
            raise TooMuchWorkError
