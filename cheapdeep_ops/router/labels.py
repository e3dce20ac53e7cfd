"""Keeping the number of distinct routes and input classes bounded."""

from typing import Final

OTHER: Final = "other"
_LENGTH: Final = 100


class Labels:
    """The first `limit` distinct labels as they are; later ones become `other`.

    A label that callers build from ids would otherwise grow tables and metrics without end.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: dict[str, str] = {"": "", OTHER: OTHER}

    def bounded(self, label: str) -> str:
        """`label`, or what stands for it; at most 100 characters."""
        known = self._known.get(label)
        if known is not None:
            return known
        if len(self._known) >= self._limit + 2:
            return OTHER
        return self._known.setdefault(label, label[:_LENGTH])
