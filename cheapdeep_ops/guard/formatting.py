"""Numbers and names in words: the only place that formats figures for messages, pages and terminals."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from cheapdeep_ops.guard.report_types.units import ShareFacts
from cheapdeep_ops.units import DAY_S, HOUR_S
from cheapdeep_ops.values import ALL_ROUTES

LONGEST_LABEL: Final = 80
_LONGEST_FOREIGN: Final = 240
_DIME: Final = 0.0995
_SMALLEST: Final = 0.0001
_THOUSAND: Final = 1_000
_MOMENT: Final = "%Y-%m-%d %H:%M:%S"
_MARKING_UNDERSCORE: Final = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
"""An underscore that does not stand between two letters or digits."""


class LabelStyle(Protocol):
    """How a sender formats text that a user chose: a route, an input class or a reason."""

    def __call__(self, label: str, longest: int = LONGEST_LABEL, /) -> str:
        """`label` on one line, cut to `longest` characters, with the receiver's markup escaped."""


def plain(label: str, longest: int = LONGEST_LABEL) -> str:
    """`label` on one line, cut to `longest` characters, without control characters; `?` if nothing is left."""
    # Control characters could add a false line, or reverse the direction of the text.
    visible = "".join(each if each.isprintable() else " " for each in label)
    return " ".join(visible.split())[:longest] or "?"


def cut(text: str, longest: int) -> str:
    """`text`, with `…` in place of its end if it has more than `longest` characters."""
    return text if len(text) <= longest else f"{text[: max(longest - 1, 0)].rstrip()}…"


def without_markup(text: str) -> str:
    """A text from the API on one line, without the markup of Slack and Markdown; at most 240 characters."""
    # Inside a word an underscore is no markup, and people search for codes such as channel_not_found.
    text = _MARKING_UNDERSCORE.sub(" ", text)
    return plain(text.replace("*", "").replace("`", "'").replace("~", ""), _LONGEST_FOREIGN)


def scope_text(scope: str, label: LabelStyle = plain) -> str:
    """A scope in words: all routes, or one."""
    return "all routes" if scope == ALL_ROUTES else f"route {label(scope)}"


def percent(value: float | None) -> str:
    """A share as a percentage; `unknown` for None."""
    return "unknown" if value is None else f"{value * 100:.1f}%"


def short_percent(value: float) -> str:
    """A share with at most three digits, for the ticks of an axis."""
    return f"{value * 100:.3g}%"


def signal_interval(signal: Mapping[str, Any], prefix: str = "") -> str:
    """The interval in a signal whose keys begin with `prefix`, in words."""
    return bounds((signal[f"{prefix}low"], signal[f"{prefix}high"]))


def bounds(interval: Sequence[float]) -> str:
    """An interval of shares as percentages."""
    return f"{percent(interval[0])} to {percent(interval[1])}"


def bounded(value: float | None, interval: Sequence[float] | None, say: Callable[[float], str] = percent) -> str:
    """A figure with its interval, `2.1% (1.2% to 3.4%)`; `say` puts one number into words."""
    if value is None or interval is None:
        return "unknown"
    return f"{say(value)} ({say(interval[0])} to {say(interval[1])})"


def rate(value: float | None, interval: Sequence[float], n: int) -> str:
    """A share with its 95% interval and n, `2.1% (1.2% to 3.4%, n 1,412)`."""
    return f"unknown: n {n:,}" if value is None else f"{percent(value)} ({bounds(interval)}, n {n:,})"


def two_digits(value: float) -> str:
    """A figure that is no share, such as kappa or an area."""
    return f"{value:.2f}"


def money(amount: float | None) -> str:
    """US dollars for people: from ten cents on with cents, below with two digits; `unknown` for None."""
    if amount is None:
        return "unknown"
    sign, size = "-" if amount < 0 else "", abs(amount)
    if size >= _DIME or not size:
        return f"{sign}${size:,.2f}"
    return f"{sign}${size:.2g}" if size >= _SMALLEST else f"less than ${_SMALLEST:g}"


def exact_money(amount: float | None, unknown: str = "unknown") -> str:
    """US dollars for tables: below a dollar, as many digits as the price of one call needs."""
    if amount is None:
        return unknown
    return f"${amount:,.2f}" if abs(amount) >= 1 else f"${amount:.6f}"


def coverage(unpriced: int, of: int) -> str:
    """How many calls a cost covers, ` over 4,791 of 4,792 calls`; empty if it covers all of them."""
    return f" over {of - unpriced:,} of {of:,} calls" if unpriced else ""


def whole_dollars(amount: float) -> str:
    """US dollars without cents, for the cost of a month."""
    return f"${amount:,.0f}"


def moment(at: float) -> str:
    """A Unix time in words (UTC)."""
    return f"{datetime.fromtimestamp(at, UTC):{_MOMENT}} UTC"


def timestamp(at: float | None) -> str:
    """A Unix time for tables (UTC), or `never`."""
    return "never" if at is None else f"{datetime.fromtimestamp(at, UTC):{_MOMENT}}Z"


def time_of_day(at: float) -> str:
    """The time of day of a Unix time (UTC)."""
    return f"{datetime.fromtimestamp(at, UTC):%H:%M:%S}"


def minute_of_day(at: float, *, with_day: bool = False) -> str:
    """The hour and minute of a Unix time (UTC), after its day if that is asked for: `14:30`, `2 Mar 14:30`."""
    when = datetime.fromtimestamp(at, UTC)
    return f"{when.day} {when:%b} {when:%H:%M}" if with_day else f"{when:%H:%M}"


def period(since: float, until: float) -> str:
    """A period in words: its first and last day if it consists of whole days (UTC), else its two moments."""
    if since % DAY_S or until % DAY_S:
        return f"{moment(since)} to {moment(until)}"
    first, last = (datetime.fromtimestamp(at, UTC).date() for at in (since, until - DAY_S))
    return f"{first}" if first == last else f"{first} to {last}"


_MOST_HOSTS: Final = 3


def duration(seconds: float) -> str:
    """Seconds in a suitable unit, with at most three digits below a thousand: 90 -> `1.5 min`, 172,800 -> `2 days`."""
    for unit, name in ((DAY_S, "day"), (HOUR_S, "h"), (60, "min")):
        # By the rounded figure, so that 59.99 min is an hour.
        if float(f"{seconds / unit:.3g}") >= 1:
            number = _three_digits(seconds / unit)
            return f"{number} {name}{'s' if name == 'day' and number != '1' else ''}"
    return f"{seconds:.3g} s"


def waiting_time(seconds: float) -> str:
    """How long something has waited, in whole minutes, so that the text does not change at each evaluation."""
    return duration(seconds // 60 * 60) if seconds >= 60 else "less than a minute"  # noqa: PLR2004 - a minute


def skew_text(ahead_s: Mapping[str, float]) -> str:
    """Hosts by the seconds that the clock of each is ahead, in whole minutes: `web-1 is 5 min ahead`."""
    texts = [
        f"{host} is {duration(max(round(abs(seconds) / 60), 1) * 60)} {'ahead' if seconds > 0 else 'behind'}"
        for host, seconds in sorted(ahead_s.items())
    ]
    more = f" and {len(texts) - _MOST_HOSTS} more" if len(texts) > _MOST_HOSTS else ""
    return ", ".join(texts[:_MOST_HOSTS]) + more


def _three_digits(number: float) -> str:
    # From a thousand on, the format `g` would write a power of ten.
    return f"{number:,.0f}" if number >= _THOUSAND - 0.5 else f"{number:.3g}"


def counts(values: Mapping[str, int]) -> str:
    """Counts by name, largest first."""
    ordered = sorted(values.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count}" for name, count in ordered) or "none"


def share(side: ShareFacts) -> str:
    """A share with its interval and n."""
    return f"{percent(side['rate'])} ({bounds((side['low'], side['high']))}, n {side['n']})"
