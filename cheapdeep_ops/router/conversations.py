"""Conversations that stay with the deep tier for a while, because one of their turns went there."""

import threading
from collections import OrderedDict
from typing import Final

MOST: Final = 10_000
"""How many conversations are remembered; then those that went deep longest ago are forgotten."""


class Conversations:
    """Remembers by its key each conversation that went deep: for `turns` more turns, and `lasts_s` seconds at most.

    Time is an argument. Safe to share between threads; each process remembers its own. With 0 turns none is remembered.
    """

    def __init__(self, *, turns: int, lasts_s: float) -> None:
        self._turns, self._lasts_s = turns, lasts_s
        self._lock = threading.Lock()
        self._deep: OrderedDict[str, tuple[int, float]] = OrderedDict()

    @property
    def are_remembered(self) -> bool:
        """Whether it is worth telling."""
        return self._turns > 0

    def went_deep(self, key: str, now: float) -> None:
        """A turn of this conversation was escalated."""
        with self._lock:
            self._deep[key] = (self._turns, now + self._lasts_s)
            self._deep.move_to_end(key)
            while len(self._deep) > MOST:
                self._deep.popitem(last=False)

    def stays_deep(self, key: str, now: float) -> bool:
        """Whether the next turn of this conversation goes deep at once; takes one of its turns."""
        with self._lock:
            left, until = self._deep.get(key, (0, now))
            if left <= 0 or now >= until:
                self._deep.pop(key, None)
                return False
            self._deep[key] = (left - 1, until)
            return True
