"""Format numbers, times and labels as text for messages and terminals."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

LONGEST_LABEL: Final = 80
_DIME: Final = 0.0995
_SMALLEST: Final = 0.0001


class LabelStyle(Protocol):
    """How a sender formats text that a user chose: a route, an input class, a reason."""

    def __call__(self, label: str, longest: int = LONGEST_LABEL, /) -> str:
        """`label` on one line, cut to `longest` characters, with the receiver's markup escaped."""


def plain(label: str, longest: int = LONGEST_LABEL) -> str:
    """`label` on one line, cut to `longest` characters, without control characters; `?` if nothing is left."""
    # Control characters could add a forged line, or reverse the direction of the text.
    visible = "".join(each if each.isprintable() else " " for each in label)
    return " ".join(visible.split())[:longest] or "?"


def percent(value: float | None) -> str:
    """A share as a percentage; `unknown` for None."""
    return "unknown" if value is None else f"{value * 100:.1f}%"


def bounds(interval: Sequence[float]) -> str:
    """An interval of shares as percentages."""
    return f"{percent(interval[0])} to {percent(interval[1])}"


def money(usd: float) -> str:
    """US dollars: with cents from a dime on, smaller amounts with two significant digits."""
    sign, amount = "-" if usd < 0 else "", abs(usd)
    if amount >= _DIME or not amount:
        return f"{sign}${amount:,.2f}"
    return f"{sign}${amount:.2g}" if amount >= _SMALLEST else f"less than ${_SMALLEST:g}"


def moment(at: float) -> str:
    """A Unix time as text (UTC)."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def duration(seconds: float) -> str:
    """Seconds in a suitable unit: 90 -> `1.5 min`."""
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} s"


def share(side: Mapping[str, Any]) -> str:
    """A share with its interval and n."""
    return f"{percent(side['rate'])} ({percent(side['low'])} to {percent(side['high'])}, n {side['n']})"
