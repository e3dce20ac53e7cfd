"""Tables of the guard's state in words, which the console and the terminal share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cheapdeep_ops.guard.formatting import percent, plain, rate, timestamp
from cheapdeep_ops.guard.report_types.state import Normal

_LONGEST_WHY: Final = 240


def _normal(normal: Normal) -> str:
    if normal["rate"] is None:
        return f"being learned: {normal['grades']:,} grades"
    known = rate(normal["rate"], (normal["low"], normal["high"]), normal["grades"])
    return f"{known}; still learning fast" if normal["stage"] == "first" else known


_NORMAL_COLUMNS: Final[Mapping[str, Callable[[str, Normal], str]]] = {
    "route": lambda route, _: plain(route),
    "normal": lambda _, normal: _normal(normal),
    "climbed above": lambda _, normal: percent(normal["target"]),
    "alarm level": lambda _, normal: percent(normal["alarm_level"]),
    "learned": lambda _, normal: timestamp(normal["learned_at"]),
    # `plain` gives `?` for an empty text, which would look like an unknown author.
    "who": lambda _, normal: plain(normal["author"]) if normal["author"] else "",
    "why": lambda _, normal: plain(normal["why"], _LONGEST_WHY) if normal["why"] else "",
}
"""By title; takes the route and its normal."""

NORMAL_TITLES: Final = tuple(_NORMAL_COLUMNS)


def normal_rows(normals: Mapping[str, Normal]) -> Sequence[Sequence[str]]:
    """What is normal for each route, in the order of `NORMAL_TITLES`."""
    return [tuple(text(route, normal) for text in _NORMAL_COLUMNS.values()) for route, normal in normals.items()]
