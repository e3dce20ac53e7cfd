"""Tables of the guard's state in words, which the console and the terminal share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cheapdeep_ops.guard.formatting import LabelStyle, duration, moment, percent, plain, rate, timestamp
from cheapdeep_ops.guard.report_types.outcomes import Outcomes, RouteOutcomes
from cheapdeep_ops.guard.report_types.state import Normal, ScopePolicy, Silence

_LONGEST_WHY: Final = 240
_SHOWN_ROUTES: Final = 5


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


def threshold_cause(scope: ScopePolicy, label: LabelStyle = plain) -> str:
    """Who or what sets the threshold of a scope: a person's pin with its end, or rules; empty at the base threshold."""
    if scope["pin"] is not None:
        until = "" if scope["pinned_until"] is None else f" until {moment(scope['pinned_until'])}"
        return f"pinned by {label(scope['pinned_by'])}{until}"
    return f"held by {', '.join(label(cause) for cause in scope['causes'])}" if scope["causes"] else ""


def silence_end(silence: Silence) -> str:
    """When a silence ends: at a time (UTC), or with an incident."""
    if silence["incident_id"] is not None:
        return f"incident {silence['incident_id']} is over"
    return timestamp(silence["until"])


def outcomes_words(outcomes: Outcomes) -> str:
    """What users say about answers, with n."""
    if not outcomes["n"]:
        return "none reported"
    whole = f"{outcomes['wrong']:,} of {outcomes['n']:,} reports say wrong ({percent(outcomes['wrong_share'])})"
    unknown = f"; {outcomes['unknown']:,} of calls that are not stored, unverified" if outcomes["unknown"] else ""
    by_route = ", ".join(f"{plain(name)} {each['wrong']:,} of {each['n']:,}" for name, each in _busiest(outcomes))
    return f"{whole}{unknown}; by route: {by_route}; no random sample"


def _busiest(outcomes: Outcomes) -> Sequence[tuple[str, RouteOutcomes]]:
    """The routes with most outcomes."""
    return sorted(outcomes["by_route"].items(), key=lambda item: (-item[1]["n"], item[0]))[:_SHOWN_ROUTES]


def blindness_text(needed: int, blind_s: float | None) -> str:
    """What it means to have a normal learned again, as a question.

    The route needs so many grades, which takes `blind_s` seconds at the last day's pace; None: unknown.
    """
    # A pace of no grades tells no time.
    lasts = (
        "for an unknown time, because the last day has no grades"
        if blind_s is None
        else f"about {duration(blind_s)} at the last day's pace"
    )
    return (
        f"The route is blind until {needed} of its answers are graded again: {lasts}. "
        "Until then, no alert says that its answers get worse. Is this not a problem?"
    )
