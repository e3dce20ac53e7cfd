"""Whether what people see is of now: when a guard last evaluated the rules, and from when on that is too long ago.

A heartbeat shows that a guard runs, and not that its evaluations succeed. So nothing here rests on heartbeats.
"""

from typing import Final

_MISSED: Final = 3
_MARGIN_S: Final = 5.0


def stale_after_s(evaluate_every_s: float) -> float:
    """How old the last evaluation may be, in seconds, before it counts as late: three intervals and 5 s."""
    return _MISSED * evaluate_every_s + _MARGIN_S


def is_stale(evaluated_at: float | None, now: float, *, evaluate_every_s: float) -> bool:
    """Whether the last evaluation is too old at `now`, both Unix seconds; None: there was none."""
    return evaluated_at is None or now - evaluated_at > stale_after_s(evaluate_every_s)
