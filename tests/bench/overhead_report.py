"""What `overhead.py` compares, and how its figures are shown: as a table, as Markdown, and as a picture."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from xml.etree.ElementTree import Element, SubElement, indent, tostring

CONCURRENCIES = (1, 32)
BEGIN, END = "<!-- overhead -->", "<!-- /overhead -->"
"""Between these lines of a README stand the figures."""

PICTURE = "overhead.svg"


@dataclass(frozen=True)
class Row:
    """A variant, what it is compared with, and the largest ratio that is wanted, if one is.

    A variant with two model calls is compared with the sum of two bare ones.
    """

    variant: str
    against: tuple[str, ...]
    most: tuple[float, float] | None = None

    @property
    def variants(self) -> tuple[str, ...]:
        """All variants that are needed for this row."""
        return (self.variant, *self.against)

    @property
    def base(self) -> str:
        """What it is compared with, in words."""
        count = len(self.against)
        return self.against[0] if count == 1 else f"{count} x {self.against[0]}"


DEFAULT = ("bare/default",)
SECTIONS: dict[str, tuple[Row, ...]] = {
    "Same transport": (
        Row("shipped/aiohttp", ("bare/aiohttp",), (1.15, 1.15)),
        Row("shipped/default", DEFAULT, (1.10, 1.10)),
        Row("shipped/sync", ("bare/sync",), (1.10, 1.10)),
        Row("escalated/aiohttp", ("bare/aiohttp",) * 2, (1.10, 1.10)),
        Row("escalated/default", DEFAULT * 2, (1.10, 1.10)),
        Row("escalated/sync", ("bare/sync",) * 2, (1.10, 1.10)),
        Row("bypassed/aiohttp", ("bare/aiohttp",), (1.08, 1.08)),
        Row("bypassed/default", DEFAULT, (1.08, 1.08)),
        Row("bypassed/sync", ("bare/sync",), (1.08, 1.08)),
        Row("streamed/aiohttp", ("helper/aiohttp",)),
        Row("streamed/default", ("helper/default",), (1.00, 1.00)),
        Row("streamed/sync", ("helper/sync",)),
        Row("streamed-events/aiohttp", ("events/aiohttp",)),
        Row("streamed-events/default", ("events/default",)),
        Row("streamed-events/sync", ("events/sync",)),
        Row("floor/aiohttp", ("bare/aiohttp",)),
        Row("floor/default", DEFAULT),
        Row("shipped/aiohttp", ("floor/aiohttp",)),
        Row("shipped/default", ("floor/default",)),
        Row("bare/aiohttp/traced", ("bare/aiohttp",)),
    ),
    "The SDK's default transport": (
        Row("shipped/aiohttp", DEFAULT, (0.70, 0.60)),
        Row("streamed/aiohttp", ("helper/default",), (0.80, 0.80)),
        Row("bare/aiohttp", DEFAULT),
        Row("bare/sync", DEFAULT),
        Row("bare/default/traced", DEFAULT),
        Row("bare/default/add-on", DEFAULT),
        Row("bare/default/add-on-genai", DEFAULT),
    ),
    "Parts": (
        Row("shipped/aiohttp/no-telemetry", ("bare/aiohttp",)),
        Row("shipped/aiohttp/no-recording", ("bare/aiohttp",)),
        Row("shipped/default/no-telemetry", DEFAULT),
        Row("shipped/default/no-recording", DEFAULT),
        Row("shipped/sync/no-telemetry", ("bare/sync",)),
        Row("shipped/sync/no-recording", ("bare/sync",)),
    ),
    "Peers": (
        Row("litellm/aiohttp", DEFAULT),
        Row("litellm-router/aiohttp", DEFAULT),
        Row("litellm/aiohttp", ("bare/aiohttp",)),
        Row("litellm-router/aiohttp", ("bare/aiohttp",)),
    ),
}
PEERS = "Peers"


@dataclass(kw_only=True)
class Results:
    """One run. `figures` are CPU microseconds for each call, a number for each round, by variant and concurrency."""

    date: str
    machine: str
    load: float
    rounds: int
    seconds: float
    seed: int
    environments: list[str] = field(default_factory=list)
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    """What could not be measured, and why."""

    def write(self, path: Path) -> None:
        """Write everything as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def read(path: Path) -> "Results":
        """What `write` wrote."""
        return Results(**json.loads(path.read_text(encoding="utf-8")))

    def us(self, variant: str, concurrency: int) -> float:
        """CPU microseconds for each call, the median of the rounds."""
        return median(self.figures[variant][str(concurrency)])

    def ratios(self, row: Row, concurrency: int) -> list[float]:
        """The row's ratio in each round."""
        own, *others = (self.figures[name][str(concurrency)] for name in row.variants)
        return [one / sum(parts) for one, *parts in zip(own, *others, strict=True)]

    def about(self) -> list[str]:
        """How, when and where it was measured."""
        how = f"{self.rounds} rounds of {self.seconds:g} s for each variant, seed {self.seed}"
        return [f"{self.date}, {how}", f"{self.machine}, load {self.load:.2f} at the beginning", *self.environments]


def sections(results: Results) -> Iterator[tuple[str, list[Row]]]:
    """The sections with their rows that were measured, or that were wanted and are missing."""
    known = results.figures.keys() | results.missing.keys()
    for title, all_rows in SECTIONS.items():
        wanted = [row for row in all_rows if known.issuperset(row.variants)]
        if wanted:
            yield title, wanted


HEADINGS = ("variant", "against", "us c=1", "us c=32", "ratio c=1", "ratio c=32", "wanted")


def cells(results: Results, row: Row) -> tuple[str, ...]:
    """One line of the table. A ratio is the median of the rounds, with the least and the greatest."""
    lacks = [results.missing[name] for name in row.variants if name in results.missing]
    if lacks:
        return (row.variant, row.base, lacks[0], "", "", "", "")
    us = (f"{results.us(row.variant, concurrency):.0f}" for concurrency in CONCURRENCIES)
    spread = (spread_of(results.ratios(row, concurrency)) for concurrency in CONCURRENCIES)
    wanted = " / ".join(f"{most:.2f}" for most in row.most) if row.most else ""
    return (row.variant, row.base, *us, *spread, wanted)


def spread_of(ratios: Sequence[float]) -> str:
    """The median, and from where to where it goes."""
    return f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def table(results: Results) -> Iterator[str]:
    """The lines of the table for a terminal."""
    yield from results.about()
    layout = "{:<30}{:<20}{:>8}{:>8}{:>18}{:>18}  {}"
    for title, rows in sections(results):
        yield ""
        yield layout.format(title, *HEADINGS[1:]).rstrip()
        for row in rows:
            yield layout.format(*cells(results, row)).rstrip()


def markdown(results: Results) -> Iterator[str]:
    """The lines of the table for a README, after the picture."""
    yield f"![CPU time of a call, as a ratio]({PICTURE})"
    yield ""
    yield "; ".join(results.about()) + "."
    for title, rows in sections(results):
        yield ""
        yield _line((title, *HEADINGS[1:]))
        yield _line(("---", "---", *["---:"] * (len(HEADINGS) - 2)))
        yield from (_line(cells(results, row)) for row in rows)


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def put_between(text: str, lines: Iterator[str]) -> str:
    """`text` with these lines between its markers. Raises ValueError if it has none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"no {BEGIN} and {END}")
    return "\n\n".join((before + BEGIN, "\n".join(lines), END + after))


# The picture

_STYLE = """
text { font: 12px sans-serif; fill: #1f2328 }
.head { font-weight: bold }
.c1 { fill: #54aeff } .c32 { fill: #0969da }
.one { stroke: #cf222e; stroke-dasharray: 3 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .c1 { fill: #79c0ff } .c32 { fill: #388bfd }
  .one { stroke: #ff7b72 }
}
"""
_LEFT, _WIDTH, _RIGHT, _ROW = 330, 420, 50, 30


def plot(results: Results) -> str:
    """A bar for each ratio, in SVG that follows the reader's light or dark colours; parts are left to the table."""
    shown = [(title, [row for row in rows if not results.missing.keys() & set(row.variants)])
             for title, rows in sections(results) if title != "Parts"]  # fmt: skip
    most = max(
        (median(results.ratios(row, each)) for _, rows in shown for row in rows for each in CONCURRENCIES), default=1
    )
    scale = _WIDTH / max(most, 1.0)
    height = _ROW * (1 + sum(1 + len(rows) for _, rows in shown)) + 10
    root = Element(
        "svg", xmlns="http://www.w3.org/2000/svg", role="img", viewBox=f"0 0 {_LEFT + _WIDTH + _RIGHT} {height}"
    )
    SubElement(root, "title").text = "CPU time of a call, as a ratio; shorter is better"
    SubElement(root, "style").text = _STYLE
    _legend(root)
    y = _ROW
    for title, rows in shown:
        _text(root, title, 10, y + 20, kind="head")
        y += _ROW
        for row in rows:
            _text(root, f"{row.variant} against {row.base}", _LEFT - 8, y + 17, anchor="end")
            for number, concurrency in enumerate(CONCURRENCIES):
                ratio, top = median(results.ratios(row, concurrency)), y + 3 + 12 * number
                bar = {"x": _LEFT, "y": top, "width": round(ratio * scale, 1), "height": 11, "class": f"c{concurrency}"}
                SubElement(root, "rect", {name: str(value) for name, value in bar.items()})
                # A figure stands right of the dashed line, so that this does not cross it.
                _text(root, f"{ratio:.2f}", round(_LEFT + max(ratio, 1.0) * scale + 4, 1), top + 10)
            y += _ROW
    across = str(round(_LEFT + scale, 1))
    SubElement(root, "line", {"class": "one", "x1": across, "x2": across, "y1": str(_ROW), "y2": str(y)})
    indent(root)
    return tostring(root, encoding="unicode") + "\n"


def _legend(root: Element) -> None:
    for x, concurrency, words in ((_LEFT, 1, "one caller"), (_LEFT + 110, 32, "32 callers")):
        SubElement(root, "rect", {"class": f"c{concurrency}", "x": str(x), "y": "9", "width": "11", "height": "11"})
        _text(root, words, x + 16, 19)
    _text(root, "dashed: no difference", _LEFT + 220, 19)


def _text(root: Element, words: str, x: float, y: float, *, anchor: str = "start", kind: str = "") -> None:
    given = {"x": str(x), "y": str(y), "text-anchor": anchor}
    SubElement(root, "text", {**given, "class": kind} if kind else given).text = words
