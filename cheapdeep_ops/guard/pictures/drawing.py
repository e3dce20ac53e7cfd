"""Draws a chart of an incident as PNG; pure. Only this module imports Pillow, and only once it draws.

A chart is small where people see it, so its letters are large and it says little.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Final

from cheapdeep_ops.guard.formatting import minute_of_day, short_percent
from cheapdeep_ops.guard.pictures.colours import BASE, INCIDENT, pale
from cheapdeep_ops.units import DAY_S, HOUR_S, MINUTE_S

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

_WIDTH, _HEIGHT = 1_000, 460
_SCALE: Final = 2
"""It is drawn twice as large and made smaller, so that sloping lines are smooth."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 92, 20, 108, 48
_LETTERS: Final = 24
_PAPER, _INK, _FAINT, _GRID = "#ffffff", "#1d2329", "#5b6670", "#e3e7eb"
_RED, _GREEN, _PURPLE = "#c62828", "#2e7d32", "#6a3fa0"
_DURING: Final = pale(INCIDENT, 0.15)
_BAND_SHARE: Final = 0.3
_TICKS_S: Final = (5 * MINUTE_S, 10 * MINUTE_S, 15 * MINUTE_S, 30 * MINUTE_S, HOUR_S, 2 * HOUR_S, 3 * HOUR_S,
                   6 * HOUR_S, 12 * HOUR_S, DAY_S)  # fmt: skip
_MOST_TICKS: Final = 7
_HEIGHTS: Final = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
"""The possible upper ends of the axis; the lowest one that shows everything is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """A rate with its 95% interval, at the middle of its step (Unix time)."""

    at: float
    rate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that happened: a change of the threshold, in a few ASCII characters."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """The course of a rate around an incident. Times are Unix seconds, rates are from 0 to 1."""

    title: str
    since: float
    until: float
    colour: str = BASE
    runs: Sequence[Sequence[Dot]]
    """The dots in order, in runs without a gap."""
    limit: float
    limit_name: str = "limit"
    normal: float | None = None
    began: float
    ended: float | None = None
    marks: Sequence[Mark] = ()


def drawn(chart: Chart) -> bytes:
    """The chart as PNG, 1,000 by 460 pixels and some 25 kB. Raises ImportError without Pillow."""
    from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415 - a guard without pictures does without it

    image = Image.new("RGB", (_WIDTH * _SCALE, _HEIGHT * _SCALE), _PAPER)
    font = ImageFont.load_default(_LETTERS * _SCALE)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise ImportError(  # noqa: TRY004 - what is missing is a part of the library
            "Pillow was built without FreeType, so it cannot draw large letters"
        )
    _Sheet(ImageDraw.Draw(image), font, chart).draw()
    small = image.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS)
    # Few colours make a small file. This way of choosing them keeps those of thin lines.
    out = BytesIO()
    small.quantize(128, Image.Quantize.MAXCOVERAGE).save(out, "PNG", optimize=True)
    return out.getvalue()


def top_of(chart: Chart) -> float:
    """The upper end of the axis."""
    highest = max(
        [chart.limit * 1.25, chart.normal or 0.0, *(dot.rate * 1.1 for run in chart.runs for dot in run)], default=0.0
    )
    return next((each for each in _HEIGHTS if each >= highest), 1.0)


def ticks_of(since: float, until: float) -> list[float]:
    """Round moments between two, at most seven of them."""
    step = next((each for each in _TICKS_S if (until - since) / each <= _MOST_TICKS), _TICKS_S[-1])
    step *= max(math.ceil((until - since) / step / _MOST_TICKS), 1)
    first = math.ceil(since / step) * step
    return [first + step * number for number in range(int((until - first) // step) + 1)] if first <= until else []


class _Sheet:
    """The paper on which one chart is drawn."""

    def __init__(self, draw: "ImageDraw", font: "FreeTypeFont", chart: Chart) -> None:
        self._draw, self._font, self._chart = draw, font, chart
        self._top = top_of(chart)
        self._pale = pale(chart.colour, _BAND_SHARE)

    def draw(self) -> None:
        """Draw everything, what covers other things last."""
        chart = self._chart
        self._rectangle(chart.began, chart.until if chart.ended is None else chart.ended, _DURING)
        self._axes()
        for run in chart.runs:
            self._band(run)
        levels = [(chart.limit, chart.limit_name, _RED)]
        if chart.normal is not None:
            levels.append((chart.normal, "normal", _GREEN))
        for rate, _, colour in levels:
            self._line([(_LEFT, self._y(rate)), (_WIDTH - _RIGHT, self._y(rate))], colour, 2)
        for run in chart.runs:
            self._curve(run)
        for rate, name, colour in levels:
            text = f"{name} {short_percent(rate)}"
            self._text(_LEFT + 8, self._y(rate) - 5, text, colour, anchor="ls", halo=4)
        self._text(_LEFT, 10, chart.title, _INK)
        self._text(_WIDTH - _RIGHT, 10, "times in UTC", _FAINT, anchor="ra")
        self._events()

    def _events(self) -> None:
        chart = self._chart
        events = [
            (chart.began, f"began {minute_of_day(chart.began)}", _RED),
            *((mark.at, mark.text, _PURPLE) for mark in chart.marks),
        ]
        if chart.ended is not None:
            events.append((chart.ended, f"over {minute_of_day(chart.ended)}", _GREEN))
        ends = [float(_LEFT - 20)] * 2
        for at, text, colour in sorted(events):
            if not chart.since <= at <= chart.until:
                continue
            x, width = self._x(at), self._font.getlength(text) / _SCALE
            left = min(max(x - width / 2, _LEFT), _WIDTH - _RIGHT - width)
            # A label that would cover its neighbour goes into the upper row; a third one is left out.
            row = next((number for number, end in enumerate(ends) if left >= end + 14), None)
            y = _TOP - 34 if row is None else _TOP - 34 - 30 * row
            self._dashes(x, _TOP, _HEIGHT - _BOTTOM, colour)
            if row is not None:
                ends[row] = left + width
                self._text(left, y, text, colour)

    def _axes(self) -> None:
        for number in range(5):
            rate = self._top * number / 4
            self._line([(_LEFT, self._y(rate)), (_WIDTH - _RIGHT, self._y(rate))], _GRID, 1)
            self._text(_LEFT - 12, self._y(rate), short_percent(rate), _FAINT, anchor="rm")
        for at in ticks_of(self._chart.since, self._chart.until):
            x = self._x(at)
            self._line([(x, _HEIGHT - _BOTTOM), (x, _HEIGHT - _BOTTOM + 6)], _FAINT, 1)
            if x > _LEFT + 24:
                # The label of the newest moment stays on the sheet.
                anchor = "ma" if x < _WIDTH - _RIGHT - 24 else "ra"
                self._text(x, _HEIGHT - _BOTTOM + 10, minute_of_day(at), _FAINT, anchor=anchor)

    def _band(self, run: Sequence[Dot]) -> None:
        if len(run) > 1:
            upper = [(self._x(dot.at), self._y(dot.high)) for dot in run]
            lower = [(self._x(dot.at), self._y(dot.low)) for dot in reversed(run)]
            self._draw.polygon([_scaled(each) for each in (*upper, *lower)], fill=self._pale)
        else:
            for dot in run:
                self._line([(self._x(dot.at), self._y(dot.low)), (self._x(dot.at), self._y(dot.high))], self._pale, 12)

    def _curve(self, run: Sequence[Dot]) -> None:
        places = [(self._x(dot.at), self._y(dot.rate)) for dot in run]
        if len(places) > 1:
            self._line(places, self._chart.colour, 4)
        else:
            for x, y in places:
                self._draw.ellipse([*_scaled((x - 5, y - 5)), *_scaled((x + 5, y + 5))], fill=self._chart.colour)

    def _dashes(self, x: float, top: float, bottom: float, colour: str) -> None:
        y = top
        while y < bottom:
            self._line([(x, y), (x, min(y + 8, bottom))], colour, 2)
            y += 14

    def _rectangle(self, since: float, until: float, colour: str) -> None:
        left, right = (self._x(min(max(at, self._chart.since), self._chart.until)) for at in (since, until))
        self._draw.rectangle([*_scaled((left, _TOP)), *_scaled((right, _HEIGHT - _BOTTOM))], fill=colour)

    def _line(self, places: Sequence[tuple[float, float]], colour: str, width: int) -> None:
        self._draw.line([_scaled(each) for each in places], fill=colour, width=width * _SCALE, joint="curve")

    def _text(self, x: float, y: float, text: str, colour: str, *, anchor: str = "la", halo: int = 0) -> None:
        """Write `text` at a place, with so many pixels of paper around its letters."""
        border = halo * _SCALE
        self._draw.text(_scaled((x, y)), text, colour, self._font, anchor, stroke_width=border, stroke_fill=_PAPER)

    def _x(self, at: float) -> float:
        chart = self._chart
        return _LEFT + (at - chart.since) / (chart.until - chart.since) * (_WIDTH - _LEFT - _RIGHT)

    def _y(self, rate: float) -> float:
        return _HEIGHT - _BOTTOM - min(rate / self._top, 1.0) * (_HEIGHT - _BOTTOM - _TOP)


def _scaled(place: tuple[float, float]) -> tuple[float, float]:
    return place[0] * _SCALE, place[1] * _SCALE
