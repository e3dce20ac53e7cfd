"""A bound on the number of distinct routes and input classes, and text that any table or page can show."""

from typing import Final

OTHER: Final = "other"
_LENGTH: Final = 100


class LabelLimiter:
    """Keeps the first `limit` distinct labels; later ones become `other`."""

    # Labels that callers build from ids would make tables and metrics grow without end.

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: dict[str, str] = {"": "", OTHER: OTHER}

    def bounded(self, label: object) -> str:
        """The label to record: printable text of at most 100 characters. Takes any object."""
        text = "" if label is None else str(label)
        known = self._known.get(text)
        if known is not None:
            return known
        if len(self._known) >= self._limit + 2:
            return OTHER
        return self._known.setdefault(text, _printable(text[:_LENGTH]))


def _printable(text: str) -> str:
    """`text` with control characters as spaces and lone surrogates as `?`, which databases and pages refuse."""
    encodable = text.encode("utf-8", "replace").decode()
    return "".join(char if char.isprintable() else " " for char in encodable)
