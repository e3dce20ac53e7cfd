"""Which rows of counters answer for a period: the coarsest that fit. Pure.

One rule decides at the edges: a row counts in the period in which it begins. So periods that follow each other share no
call and lose none, and a period is exact where its edges lie between rows. Where seconds are deleted, an edge inside of
a minute counts as the end of that minute. Where minutes are deleted it is the end of the hour, then of the day.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from cheapdeep_ops.units import DAY_S, HOUR_S, MINUTE_S

WIDTHS: Final = (1, MINUTE_S, HOUR_S, DAY_S)
"""The widths of folded rows in seconds, the finest first; each is a multiple of those before."""

AFTER_ALL_ROWS: Final = 10**12 * DAY_S
"""A time after all rows (Unix time); a multiple of all widths."""

_ALWAYS: Final = 2**62


class Span(NamedTuple):
    """The folded rows of `width_s` seconds that begin in `[begin, end)`; both are multiples of the width."""

    width_s: int
    begin: int
    end: int


def spans_of(since: float, until: float, horizons: Mapping[int, int], *, step_s: int | None = None) -> list[Span]:
    """The folded rows that cover `[since, until)`, oldest first; no two of them overlap.

    `horizons` has the time (Unix seconds) since when the rows of a width are stored; a width without one is complete.
    It is a multiple of the next width. With `step_s`, no row is wider than a step or lies in two steps, where the store
    has such rows.
    """
    ages = list(_ages(horizons))
    begin, end = (_aligned(edge, ages) for edge in (since, until))
    fit = [width for width in WIDTHS if step_s is None or step_s % width == 0]
    spans: list[Span] = []
    for age_begins, age_ends, widths in ages:
        if widths[0] <= fit[-1]:
            # From here on, all that is needed is stored: few spans make a short statement.
            return [*spans, *_cover(max(begin, age_begins), end, fit)]
        spans += _cover(max(begin, age_begins), min(end, age_ends), widths[:1])
    return spans


def finest(since: float, until: float, horizons: Mapping[int, int]) -> list[Span]:
    """The folded rows that begin in `[since, until)`, of the finest width that is stored for each age."""
    ages = list(_ages(horizons))
    begin, end = (_aligned(edge, ages) for edge in (since, until))
    cut = [Span(widths[0], max(begin, age_begins), min(end, age_ends)) for age_begins, age_ends, widths in ages]
    return [span for span in cut if span.begin < span.end]


def _ages(horizons: Mapping[int, int]) -> Iterator[tuple[int, int, Sequence[int]]]:
    """Begin and end of each age, oldest first, with the widths of the rows that are stored for it."""
    begins = [-_ALWAYS, *(horizons.get(width, -_ALWAYS) for width in reversed(WIDTHS[:-1]))]
    ends = [*begins[1:], _ALWAYS]
    for number, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        if begin < end:
            yield begin, end, WIDTHS[len(WIDTHS) - 1 - number :]


def _aligned(edge: float, ages: Sequence[tuple[int, int, Sequence[int]]]) -> int:
    """The end of the finest stored row in which an edge lies; the edge itself if it lies between two."""
    widths = next((widths for begin, end, widths in ages if begin <= edge < end), WIDTHS)
    return _next(edge, widths[0])


def _next(at: float, width_s: int) -> int:
    """The first multiple of `width_s` at `at` or after it."""
    return int(-(-at // width_s)) * width_s


def _cover(begin: int, end: int, widths: Sequence[int]) -> list[Span]:
    """`[begin, end)` in the widest rows that fit; `widths` has the finest first."""
    if begin >= end or not widths:
        return []
    *finer, widest = widths
    low, high = _next(begin, widest), end // widest * widest
    if low >= high:
        return _cover(begin, end, finer)
    return [*_cover(begin, low, finer), Span(widest, low, high), *_cover(high, end, finer)]
