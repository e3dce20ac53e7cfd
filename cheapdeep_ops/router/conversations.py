"""Sticky conversations: those that stay with the deep tier for some turns, because it had to answer one of them."""

import threading
from collections import OrderedDict
from typing import Final

MOST: Final = 10_000
"""How many conversations are remembered; above that, the oldest escalations are forgotten."""


class Conversations:
    """Remembers each conversation that escalated, by its key, for `turns` more turns and at most `lasts_s` seconds.

    Time is an argument. Threads may share it; each process remembers its own conversations. 0 turns: none is
    remembered.
    """

    def __init__(self, *, turns: int, lasts_s: float) -> None:
        self._turns, self._lasts_s = turns, lasts_s
        self._lock = threading.Lock()
        self._deep: OrderedDict[str, tuple[int, float]] = OrderedDict()

    @property
    def are_remembered(self) -> bool:
        """Whether conversations are remembered at all."""
        return self._turns > 0

    def went_deep(self, key: str, now: float) -> None:
        """Remember a conversation, because a turn of it escalated."""
        with self._lock:
            self._deep[key] = (self._turns, now + self._lasts_s)
            self._deep.move_to_end(key)
            while len(self._deep) > MOST:
                self._deep.popitem(last=False)

    def stays_deep(self, key: str, now: float) -> bool:
        """Whether the next turn of this conversation goes to the deep tier at once; uses up one of its turns."""
        with self._lock:
            left, until = self._deep.get(key, (0, now))
            if left <= 0 or now >= until:
                self._deep.pop(key, None)
                return False
            self._deep[key] = (left - 1, until)
            return True
