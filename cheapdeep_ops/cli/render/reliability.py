"""A reliability diagram in characters: the stated confidence, and the share of right answers."""

from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Console

from cheapdeep_ops.cli.output import table
from cheapdeep_ops.guard.formatting import bounded, bounds, percent, scope_text, two_digits
from cheapdeep_ops.guard.report_types.figures import Bin, Confidence
from cheapdeep_ops.values import ALL_ROUTES

_WIDTH: Final = 40
_FROM: Final = 0.5
"""Where the axis begins; a lower value is drawn at the edge."""


COLUMNS: Final = ("confidence", "graded", "claims", "is right", "95% interval")
SHIPPED: Final = "answers that ship at base"


def show_confidence(out: Console, by_scope: Mapping[str, Confidence], *, covers: str = SHIPPED) -> None:
    """Print the reliability table and diagram of all routes, and a line for each route.

    `covers` names the answers that were graded; empty for all answers.
    """
    if not confidence_rows(by_scope):
        return
    drawn = [bar(each["claims"], each["is_right"], each["is_right_interval"]) for each in bins_of(by_scope)]
    rows = [(*row, line) for row, line in zip(confidence_rows(by_scope), drawn, strict=True)]
    axis = f"{percent(_FROM)} {'.' * (_WIDTH - 11)} 100%"
    out.print()
    out.print(table("Is confidence worth anything? (o claimed, # right)", (*COLUMNS, axis), rows))
    for line in worth_lines(by_scope, covers=covers):
        out.print(line, markup=False)


def bins_of(by_scope: Mapping[str, Confidence]) -> Sequence[Bin]:
    """The bins of all routes together; empty if no answer was graded."""
    return by_scope[ALL_ROUTES]["bins"] if ALL_ROUTES in by_scope else ()


def confidence_rows(by_scope: Mapping[str, Confidence]) -> list[Sequence[str]]:
    """The rows of the reliability table of all routes; empty if no answer was graded."""
    return [
        (
            f"{each['low']:g} to {each['high']:g}",
            f"{each['graded']:,}",
            percent(each["claims"]),
            percent(each["is_right"]),
            bounds(each["is_right_interval"]),
        )
        for each in bins_of(by_scope)
    ]


def worth_lines(by_scope: Mapping[str, Confidence], *, covers: str = SHIPPED) -> list[str]:
    """The worth of confidence, a line for all routes and one for each route."""
    return [f"{scope_text(scope)}: {_worth(confidence, covers)}" for scope, confidence in by_scope.items()]


def bar(claims: float, is_right: float, interval: Sequence[float]) -> str:
    """One line of the diagram: dashes for the interval, `o` at the claim, `#` at the rate, `@` if both coincide."""
    line = [" "] * _WIDTH
    low, high, claimed, actual = (_place(each) for each in (*interval, claims, is_right))
    line[low : high + 1] = "-" * (high + 1 - low)
    # The marks come after the dashes, so that a narrow interval does not cover them.
    line[claimed] = "o"
    line[actual] = "@" if actual == claimed else "#"
    return "".join(line)


def _place(rate: float) -> int:
    share = (rate - _FROM) / (1 - _FROM)
    return round(min(max(share, 0.0), 1.0) * (_WIDTH - 1))


def _worth(confidence: Confidence, covers: str) -> str:
    known = f"n {confidence['graded']:,}, {confidence['wrong']:,} wrong{f'; {covers}' if covers else ''}"
    error = bounded(confidence["expected_calibration_error"], confidence["expected_calibration_error_interval"])
    auroc = bounded(confidence["auroc"], confidence["auroc_interval"], two_digits)
    claims = f"claims {percent(confidence['claims'])}, {percent(confidence['is_right'])} are right"
    return f"{claims}; calibration error {error}; AUROC {auroc}, 0.5 is chance ({known})"
