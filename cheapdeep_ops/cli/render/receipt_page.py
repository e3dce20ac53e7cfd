"""The receipt as Markdown, and as a page of HTML that needs nothing but itself."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any, Final

from markdown_it import MarkdownIt

from cheapdeep_ops.cli.output import moment
from cheapdeep_ops.cli.render.figures import change_words, figures
from cheapdeep_ops.cli.render.reliability import COLUMNS, confidence_rows, worth_lines
from cheapdeep_ops.cli.render.terminal import reach_lines, receipt_facts

_PAGE: Final = Path(__file__).with_name("receipt.html")
_MARKUP: Final = re.compile(r"([\\`*_\[\]<>|&~#]|:(?=//)|(?<=www)\.)", re.IGNORECASE)
"""What Markdown reads as markup; GitHub's also links addresses that stand alone.

Source: https://github.github.com/gfm/#autolinks-extension-
"""


def markdown_receipt(found: Mapping[str, Any], trends: Mapping[str, Any]) -> str:
    """The receipt as Markdown with tables; names that callers chose stay names."""
    return f"# {_title(found)}\n\n{_figures(found)}{_tables(found, trends)}"


def html_receipt(found: Mapping[str, Any], trends: Mapping[str, Any]) -> str:
    """The same as one page with plots, readable in light, dark and print; it loads nothing."""
    rendered = MarkdownIt("commonmark", {"html": False}).enable("table").render
    parts = (
        rendered(f"# {_title(found)}\n\n{_figures(found)}"),
        figures(found, trends),
        rendered(_tables(found, trends)),
    )
    return Template(_PAGE.read_text(encoding="utf-8")).substitute(title=_title(found), body="\n".join(parts))


def _title(found: Mapping[str, Any]) -> str:
    return f"Receipt, {moment(found['since'])} to {moment(found['until'])}"


def _figures(found: Mapping[str, Any]) -> str:
    return _table(("", ""), receipt_facts(found).items())


def _tables(found: Mapping[str, Any], trends: Mapping[str, Any]) -> str:
    return f"{_changes(found, trends)}{_worth(found)}{_reach(found)}"


def _changes(found: Mapping[str, Any], trends: Mapping[str, Any]) -> str:
    lines = [change_words(each) for each in trends["changes"]]
    if not lines:
        return ""
    if older := found["policy_changes"] - len(lines):
        lines.insert(0, f"{older:,} older ones are not listed")
    return f"\n## Changes of policy\n\n{_list(lines)}"


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
