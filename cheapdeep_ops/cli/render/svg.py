"""Small plots as SVG without a script: numbers in, one element out; the page's style sheet has the colours.

ElementTree escapes all text. An unknown value is None and becomes a gap.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from math import ceil, floor, log10
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from cheapdeep_ops.units import DAY_S

Pair = tuple[float, float]
Spot = tuple[float, float | None]
"""The position of a value on the x axis, and the value; None if it is unknown."""

WIDTH: Final = 420
HEIGHT: Final = 210
TALL: Final = 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 10, 8, 26
_HALF_LABEL: Final = 24
"""The width that half a label may need on the right."""

_TICKS_S: Final = (1, 5, 15, 30, 60, 300, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, DAY_S)
_MOST_TICKS: Final = 5
_HANDY: Final = (1, 2, 3, 4, 5, 6, 8)


class SvgPlot:
    """One plot, drawn mark by mark; `x` and `y` are the ranges of its axes.

    `title` and `description` are for screen readers. `kind` is always the CSS class of a mark.
    """

    def __init__(self, title: str, description: str, *, x: Pair, y: Pair, height: int = HEIGHT) -> None:
        self._x, self._y = x, y
        self._height = height
        box = f"0 0 {WIDTH} {height}"
        self._root = Element("svg", {"role": "img", "viewBox": box})
        SubElement(self._root, "title").text = title
        SubElement(self._root, "desc").text = description

    def __str__(self) -> str:
        return tostring(self._root, encoding="unicode")

    def y_axis(self, ticks: Iterable[tuple[float, str]]) -> None:
        """Draw a horizontal line and a label for each tick."""
        for value, label in ticks:
            self._path("grid", [(self._x[0], value), (self._x[1], value)])
            self._text(label, _LEFT - 6, self._down(value) + 4, "end")

    def x_axis(self, ticks: Iterable[tuple[float, str]]) -> None:
        """Draw a label for each tick."""
        for value, label in ticks:
            across = self._across(value)
            # The last label ends at its tick, because the picture would cut it.
            anchor = "end" if across > WIDTH - _HALF_LABEL else "middle"
            self._text(label, across, self._height - 8, anchor)

    def line(self, kind: str, spots: Iterable[Spot]) -> None:
        """Draw a line through the known values; a value between two gaps becomes a dot."""
        for run in _runs(spots):
            if len(run) > 1:
                self._path(kind, run)
            else:
                self.dot(kind, *run[0])

    def band(self, kind: str, bounds: Iterable[tuple[float, Pair | None]]) -> None:
        """Draw the area between known bounds; bounds between two gaps become a whisker."""
        for is_known, group in groupby(bounds, key=lambda each: each[1] is not None):
            run = [(at, *pair) for at, pair in group if pair is not None]
            if not is_known:
                continue
            if len(run) == 1:
                self.whisker(kind, run[0][0], run[0][1:])
                continue
            back = [(at, low) for at, low, _ in reversed(run)]
            self._path(f"{kind} area", [*((at, high) for at, _, high in run), *back], closed=True)

    def whisker(self, kind: str, at: float, bounds: Pair) -> None:
        """Draw a vertical line from the lower to the upper bound."""
        self._path(f"{kind} whisker", [(at, bounds[0]), (at, bounds[1])])

    def dot(self, kind: str, at: float, value: float, radius: float = 3.0) -> None:
        """Draw a dot; `radius` is in the units of the picture."""
        place = {"cx": f"{self._across(at):.1f}", "cy": f"{self._down(value):.1f}", "r": f"{radius:.1f}"}
        SubElement(self._root, "circle", {"class": kind, **place})

    def bar(self, kind: str, across: Pair, up: Pair) -> None:
        """Draw a bar; `across` are its sides, `up` its lower and upper end. Draws nothing if the height is 0."""
        left, right = map(self._across, across)
        bottom, top = map(self._down, up)
        if bottom - top <= 0:
            return
        # Half a unit of space between bars, but never a bar without width.
        size = {"width": f"{max(right - left - 0.5, 0.5):.1f}", "height": f"{bottom - top:.1f}"}
        SubElement(self._root, "rect", {"class": kind, "x": f"{left:.1f}", "y": f"{top:.1f}", **size})

    def across(self, kind: str, value: float) -> None:
        """Draw a horizontal line over the whole width."""
        self._path(kind, [(self._x[0], value), (self._x[1], value)])

    def upright(self, kind: str, at: float, text: str) -> None:
        """Draw a vertical line over the whole height, with `text` as its tooltip."""
        line = self._path(kind, [(at, self._y[0]), (at, self._y[1])])
        SubElement(line, "title").text = text

    def diagonal(self, kind: str) -> None:
        """Draw a line from the lower left to the upper right corner."""
        self._path(kind, [(self._x[0], self._y[0]), (self._x[1], self._y[1])])

    def _path(self, kind: str, points: Sequence[Pair], *, closed: bool = False) -> Element:
        way = "L".join(f"{self._across(x):.1f} {self._down(y):.1f}" for x, y in points)
        return SubElement(self._root, "path", {"class": kind, "d": f"M{way}{'Z' if closed else ''}"})

    def _text(self, text: str, x: float, y: float, anchor: str) -> None:
        place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
        SubElement(self._root, "text", place).text = text

    def _across(self, value: float) -> float:
        return _LEFT + _share(value, self._x) * (WIDTH - _LEFT - _RIGHT)

    def _down(self, value: float) -> float:
        return _TOP + (1 - _share(value, self._y)) * (self._height - _TOP - _BOTTOM)


def nice_top(most: float) -> float:
    """The smallest round number that is at least `most`, which must be above 0; half of it is round too."""
    power = 10.0 ** floor(log10(most))
    # The tolerance absorbs the rounding of the power.
    return next((power * part for part in _HANDY if power * part >= most * (1 - 1e-9)), power * 10)


def time_ticks(since: float, until: float) -> list[tuple[float, str]]:
    """At most five round moments of a period, with their labels in UTC."""
    least = (until - since) / _MOST_TICKS
    step = next((each for each in _TICKS_S if each >= least), ceil(least / DAY_S) * DAY_S)
    first = -(-ceil(since) // step) * step  # whole numbers, because a quotient of floats may round down
    return [(at, _time_label(at, step)) for at in range(first, floor(until) + 1, step)]


def _time_label(at: int, step: int) -> str:
    moment = datetime.fromtimestamp(at, UTC)
    if at % DAY_S == 0:
        return f"{moment:%d %b}" if step < 100 * DAY_S else f"{moment:%b %Y}"
    return f"{moment:%H:%M}" if step >= 60 else f"{moment:%H:%M:%S}"  # noqa: PLR2004 - a minute


def _share(value: float, bounds: Pair) -> float:
    """The position of a value on its axis, from 0 to 1; values outside are moved to the ends."""
    low, high = bounds
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _runs(spots: Iterable[Spot]) -> Iterator[list[Pair]]:
    """The runs of values without a gap."""
    run: list[Pair] = []
    for at, value in spots:
        if value is not None:
            run.append((at, value))
        elif run:
            yield run
            run = []
    if run:
        yield run
