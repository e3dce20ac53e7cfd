"""Keeping the number of distinct routes and input classes bounded, and each of them fit for any table or page."""

from typing import Final

OTHER: Final = "other"
_LENGTH: Final = 100


class LabelLimiter:
    """The first `limit` distinct labels as they are; later ones become `other`.

    A label that callers build from ids would otherwise grow tables and metrics without end.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: dict[str, str] = {"": "", OTHER: OTHER}

    def bounded(self, label: object) -> str:
        """What stands for `label`: printable text of at most 100 characters; a label is not worth failing a call."""
        text = "" if label is None else str(label)
        known = self._known.get(text)
        if known is not None:
            return known
        if len(self._known) >= self._limit + 2:
            return OTHER
        return self._known.setdefault(text, _printable(text[:_LENGTH]))


def _printable(text: str) -> str:
    """`text` without what no database, page or message could carry: control characters, lone surrogates."""
    encodable = text.encode("utf-8", "replace").decode()
    return "".join(char if char.isprintable() else " " for char in encodable)
