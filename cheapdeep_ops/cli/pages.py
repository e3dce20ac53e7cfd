"""The receipt as Markdown, and as a page of HTML that needs nothing but itself."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any, Final

from markdown_it import MarkdownIt

from cheapdeep_ops.cli.diagram import COLUMNS, confidence_rows, worth_lines
from cheapdeep_ops.cli.output import moment
from cheapdeep_ops.cli.texts import reach_lines, receipt_facts
from cheapdeep_ops.values import ALL_ROUTES

_PAGE: Final = Path(__file__).with_name("receipt.html")
_MARKUP: Final = re.compile(r"([\\`*_\[\]<>|&~#])")


def markdown_receipt(found: Mapping[str, Any]) -> str:
    """The receipt as Markdown with tables; names that callers chose stay names."""
    return f"# {_title(found)}\n\n{_figures(found)}{_worth(found)}{_reach(found)}"


def html_receipt(found: Mapping[str, Any]) -> str:
    """The same as one page with a reliability diagram, readable in light and dark; it loads nothing."""
    rendered = MarkdownIt("commonmark", {"html": False}).enable("table").render
    plot = reliability_plot(found["confidence"].get(ALL_ROUTES, {}).get("bins", ()))
    parts = (rendered(f"# {_title(found)}\n\n{_figures(found)}{_worth(found)}"), plot, rendered(_reach(found)))
    return Template(_PAGE.read_text(encoding="utf-8")).substitute(title=_title(found), body="\n".join(parts))


def _title(found: Mapping[str, Any]) -> str:
    return f"Receipt, {moment(found['since'])} to {moment(found['until'])}"


def _figures(found: Mapping[str, Any]) -> str:
    return _table(("", ""), receipt_facts(found).items())


def _worth(found: Mapping[str, Any]) -> str:
    rows = confidence_rows(found["confidence"])
    lines = _list(worth_lines(found["confidence"]))
    return f"\n## What confidence is worth\n\n{_table(COLUMNS, rows)}\n{lines}" if rows else ""


def _reach(found: Mapping[str, Any]) -> str:
    lines = reach_lines(found["reach"])
    return f"\n## How soon a climb of false confidence is seen, on average\n\n{_list(lines)}" if lines else ""


def _list(lines: Iterable[str]) -> str:
    return "".join(f"- {_literal(line)}\n" for line in lines)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (columns, ["---"] * len(columns), *(list(map(_literal, row)) for row in rows))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _literal(text: str) -> str:
    """`text` on one line, with what Markdown would take for markup escaped."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


_SIDE: Final = 320
"""Of the diagram, in pixels."""


def reliability_plot(bins: Sequence[Mapping[str, Any]]) -> str:
    """A reliability diagram as SVG: what is claimed to the right, what is right upwards, with 95% intervals.

    Nothing without bins. Both axes go from 0 to 1; the larger a dot, the more answers it is of.
    """
    if not bins:
        return ""
    axes = f'<rect width="{_SIDE}" height="{_SIDE}"/><path d="M0 {_SIDE} L{_SIDE} 0"/>'
    label = "Claimed confidence, to the right, against the share of right answers, upwards; both from 0% to 100%"
    drawn = f'<svg role="img" aria-label="{label}" viewBox="-8 -8 {_SIDE + 16} {_SIDE + 16}">'
    return f"<figure>{drawn}{axes}{''.join(map(_dot, bins))}</svg><figcaption>{label}.</figcaption></figure>"


def _dot(found: Mapping[str, Any]) -> str:
    x, (low, high) = _SIDE * found["claims"], found["is_right_interval"]
    y = _SIDE * (1 - found["is_right"])
    line = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_SIDE * (1 - low):.1f}" y2="{_SIDE * (1 - high):.1f}"/>'
    return f'{line}<circle cx="{x:.1f}" cy="{y:.1f}" r="{3 + 6 * found["share"] ** 0.5:.1f}"/>'
