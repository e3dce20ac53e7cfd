"""The course of a figure over a period, in one line of characters."""

from collections.abc import Sequence
from typing import Final

from cheapdeep_ops.guard.report_types.steps import Trends
from cheapdeep_ops.values import ALL_ROUTES

_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_WIDTH: Final = 20


def courses_of(trends: Trends) -> dict[str, str]:
    """The courses of the receipt's figures, by the name of the figure; without those that have no data."""
    points = trends["points"]
    if len(points) < 2:  # noqa: PLR2004 - one point is no course
        return {}
    quality = trends["quality"].get(ALL_ROUTES) or next(iter(trends["quality"].values()), None)
    graded = quality["points"] if quality else []
    drawn: dict[str, Sequence[float | None]] = {
        "saving": [each["baseline_cost_usd"] - each["cost_usd"] for each in points],
        "calls": [float(each["calls"]) for each in points],
        "cost of a call": [each["cost_per_call_usd"] for each in points],
        "escalation": [each["escalation_rate"] for each in points],
        "escalation at base": [each["base_escalation_rate"] for each in points],
        "false confidence": [each["false_confident_rate"] for each in graded],
    }
    return {name: course(values) for name, values in drawn.items() if any(each is not None for each in values)}


def course(values: Sequence[float | None], width: int = _WIDTH) -> str:
    """Each value as a block between 0 and the largest one; neighbours are averaged, unknown values are spaces."""
    parts = [_mean(values[len(values) * n // width : len(values) * (n + 1) // width]) for n in range(width)]
    # With fewer values than characters, some parts are empty.
    kept = parts if len(values) >= width else [*values]
    top = max((each for each in kept if each is not None), default=0.0)
    return "".join(_block(each, top) for each in kept)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [each for each in values if each is not None]
    return sum(known) / len(known) if known else None


def _block(value: float | None, top: float) -> str:
    if value is None:
        return " "
    share = max(value, 0.0) / top if top > 0 else 0.0
    return _BLOCKS[min(int(share * len(_BLOCKS)), len(_BLOCKS) - 1)]
