"""A reliability diagram in characters: what confidence claims, and how many answers are right."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console

from cheapdeep_ops.cli.output import table
from cheapdeep_ops.guard.formatting import bounds, percent, plain
from cheapdeep_ops.values import ALL_ROUTES

_WIDTH: Final = 40
_FROM: Final = 0.5
"""Where the axis begins; what lies below is drawn at its edge."""


COLUMNS: Final = ("confidence", "graded", "claims", "is right", "95% interval")
SHIPPED: Final = "answers that ship at base"


def show_confidence(out: Console, found: Mapping[str, Mapping[str, Any]], *, covers: str = SHIPPED) -> None:
    """The reliability table and diagram of all routes, and in a line each what confidence is worth in them.

    `covers` says which answers the grades are of, where these are not all.
    """
    if not confidence_rows(found):
        return
    drawn = [bar(each["claims"], each["is_right"], each["is_right_interval"]) for each in found[ALL_ROUTES]["bins"]]
    rows = [(*row, line) for row, line in zip(confidence_rows(found), drawn, strict=True)]
    axis = f"{percent(_FROM)} {'.' * (_WIDTH - 11)} 100%"
    out.print()
    out.print(table("Is confidence worth anything? (o claimed, # right)", (*COLUMNS, axis), rows))
    for line in worth_lines(found, covers=covers):
        out.print(line, markup=False)


def confidence_rows(found: Mapping[str, Mapping[str, Any]]) -> list[Sequence[str]]:
    """The reliability table of all routes, with COLUMNS; empty where nothing was graded."""
    bins = found.get(ALL_ROUTES, {}).get("bins", ())
    return [
        (
            f"{each['low']:g} to {each['high']:g}",
            f"{each['graded']:,}",
            percent(each["claims"]),
            percent(each["is_right"]),
            bounds(each["is_right_interval"]),
        )
        for each in bins
    ]


def worth_lines(found: Mapping[str, Mapping[str, Any]], *, covers: str = SHIPPED) -> list[str]:
    """What confidence is worth in all routes and in each, a line for each."""
    return [
        f"{'all routes' if scope == ALL_ROUTES else f'route {plain(scope)}'}: {_worth(facts, covers)}"
        for scope, facts in found.items()
    ]


def bar(claims: float, is_right: float, bounds: Sequence[float]) -> str:
    """One line of the diagram: the interval as dashes, `#` where it is, `o` where it was said to be, `@` for both."""
    line = [" "] * _WIDTH
    low, high, said, so = (_place(each) for each in (*bounds, claims, is_right))
    line[low : high + 1] = "-" * (high + 1 - low)
    line[said] = "o"
    line[so] = "@" if so == said else "#"
    return "".join(line)


def _place(rate: float) -> int:
    share = (rate - _FROM) / (1 - _FROM)
    return round(min(max(share, 0.0), 1.0) * (_WIDTH - 1))


def _worth(facts: Mapping[str, Any], covers: str) -> str:
    known = f"n {facts['graded']:,}, {facts['wrong']:,} wrong{f'; {covers}' if covers else ''}"
    error = _figure(facts, "expected_calibration_error", percent)
    apart = _figure(facts, "auroc", "{:.2f}".format)
    claims = f"claims {percent(facts['claims'])}, {percent(facts['is_right'])} are right"
    return f"{claims}; calibration error {error}; AUROC {apart}, 0.5 is chance ({known})"


def _figure(facts: Mapping[str, Any], name: str, said: Any) -> str:
    if facts[name] is None:
        return "unknown"
    low, high = facts[f"{name}_interval"]
    return f"{said(facts[name])} ({said(low)} to {said(high)})"
