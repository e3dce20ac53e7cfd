"""The receipt as Markdown, and as an HTML page in one file."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Final

from markdown_it import MarkdownIt

from cheapdeep_ops.cli.render.courses import courses_of
from cheapdeep_ops.cli.render.figures import change_words, figures, key_cards
from cheapdeep_ops.cli.render.reliability import COLUMNS, confidence_rows, worth_lines
from cheapdeep_ops.cli.render.terminal import reach_lines, receipt_facts
from cheapdeep_ops.guard.formatting import timestamp
from cheapdeep_ops.guard.notify.receipt_figures import (
    KeyFigure,
    basis_lines,
    compared_with,
    incident_lines,
    incidents_title,
    key_figures,
    saving_line,
    saving_words,
)
from cheapdeep_ops.guard.report_types.figures import Receipt
from cheapdeep_ops.guard.report_types.steps import Trends

_PAGE: Final = Path(__file__).with_name("receipt.html")
_MARKUP: Final = re.compile(r"([\\`*_\[\]<>|&~#]|:(?=//)|(?<=www)\.)", re.IGNORECASE)
"""Characters that Markdown reads as markup, and the parts of bare addresses, which GitHub turns into links.

Source: https://github.github.com/gfm/#autolinks-extension-
"""


_MOST_INCIDENTS: Final = 5
"""How many incidents stand before the plots."""

_ROWS: Final = ("figure", "now", "change", "before", "course", "")


def markdown_receipt(receipt: Receipt, trends: Trends) -> str:
    """The receipt as Markdown with tables; markup in names that callers chose is escaped."""
    courses = courses_of(trends)
    rows = [
        (each.name, each.value, each.change, each.before, courses.get(each.name, ""), each.beside)
        for each in _figures(receipt)
    ]
    head = f"# {_literal(saving_line(receipt))}\n\n{_literal(_about(receipt))}\n\n"
    return f"{head}{_table(_ROWS, rows)}{_incidents(receipt)}{_tables(receipt, trends)}"


def html_receipt(receipt: Receipt, trends: Trends) -> str:
    """The receipt as an HTML page with plots; it loads nothing, and suits light, dark and print."""
    # The Markdown is rendered without HTML, because names that callers chose are in it.
    rendered = MarkdownIt("commonmark", {"html": False}).enable("table").render
    what, basis = saving_words(receipt)
    parts = (
        f'<h1>{escape(what)} <span class="basis">{escape(basis)}</span></h1>',
        f'<p class="about">{escape(_about(receipt))}</p>',
        key_cards(_figures(receipt)),
        rendered(_incidents(receipt)),
        figures(receipt, trends),
        f"<details><summary>All figures</summary>{rendered(_tables(receipt, trends))}</details>",
    )
    title = f"{what}, {_period(receipt)}"
    return Template(_PAGE.read_text(encoding="utf-8")).substitute(title=escape(title), body="\n".join(parts))


def _about(receipt: Receipt) -> str:
    """The period, what it is compared with, and what the saving rests on."""
    compared = f", compared with {compared_with(receipt)}" if receipt["before"] else ""
    return " ".join([f"{_period(receipt)}{compared}.", *basis_lines(receipt)])


def _period(receipt: Receipt) -> str:
    return f"{timestamp(receipt['since'])} to {timestamp(receipt['until'])}"


def _figures(receipt: Receipt) -> list[KeyFigure]:
    return key_figures(receipt) if receipt["calls"] else []


def _incidents(receipt: Receipt) -> str:
    if not receipt["calls"] and not receipt["incident_list"]:
        return ""
    return f"\n## {incidents_title(receipt)}\n\n{_list(incident_lines(receipt, _MOST_INCIDENTS))}"


def _facts(receipt: Receipt) -> str:
    return f"\n## All figures\n\n{_table(('', ''), receipt_facts(receipt).items())}"


def _tables(receipt: Receipt, trends: Trends) -> str:
    return f"{_facts(receipt)}{_changes(receipt, trends)}{_worth(receipt)}{_reach(receipt)}"


def _changes(receipt: Receipt, trends: Trends) -> str:
    lines = [change_words(each) for each in trends["changes"]]
    if not lines:
        return ""
    if older := receipt["policy_changes"] - len(lines):
        # The trends list only the newest changes.
        lines.insert(0, f"{older:,} older ones are not listed")
    return f"\n## Changes of policy\n\n{_list(lines)}"


def _worth(receipt: Receipt) -> str:
    rows = confidence_rows(receipt["confidence"])
    lines = _list(worth_lines(receipt["confidence"]))
    return f"\n## What confidence is worth\n\n{_table(COLUMNS, rows)}\n{lines}" if rows else ""


def _reach(receipt: Receipt) -> str:
    lines = reach_lines(receipt["reach"])
    return f"\n## Mean time to detect a climb of false confidence\n\n{_list(lines)}" if lines else ""


def _list(lines: Iterable[str]) -> str:
    return "".join(f"- {_literal(line)}\n" for line in lines)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rows = list(rows)
    if not rows:
        return ""
    lines = (columns, ["---"] * len(columns), *(list(map(_literal, row)) for row in rows))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _literal(text: str) -> str:
    """`text` on one line, with Markdown's markup escaped."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))
