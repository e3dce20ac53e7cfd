"""Budgets: US dollars for a day of UTC, of which each process holds a slice. Pure functions and values.

The store grants slices, each a share of what is left of a budget. A process starts calls until it has spent its slice,
and asks for the next one in the background. So a call's path compares two numbers in memory. The ceilings that the
processes hold never add up to more than the budget, so what is spent beyond it is what was in flight.

`recorder.spending.Spending` has the numbers of one process. A gateway tells it the budgets of its keys. Calls inside
`charged_to(name)` are charged to the key of that name. A call that a budget refuses raises `errors.BudgetError`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Literal, NamedTuple, Self

from cheapdeep_ops.units import DAY_S, NUSD_PER_USD

Kind = Literal["all", "deep"]
"""What a budget counts: all spend, or what the deep tier costs."""

AtBudget = Literal["alert", "ship", "refuse"]
"""What happens to calls when a budget is used up."""

_SHARES: Final = 8
"""A slice is at most this part of what is left."""

_SMALLEST: Final = 1000
"""A slice is at least this part of the budget, so that the last dollars are not asked for in ever smaller ones."""

_AT_REST: Final = 20
"""The smallest slices of all processes together are at most this part of the budget: a twentieth."""

_ALL_HELD: Final = 0.9
"""From this share on, a budget of which processes hold all the rest counts as used up: none gets another slice."""

LASTS_S: Final = 600.0
"""How long after its last answer a process may spend its slice, in seconds."""

FREED_AFTER_S: Final = LASTS_S + 60.0
"""How long after a process last asked the store grants its slice to others: longer, because clocks differ."""

charged_key: Final[ContextVar[str]] = ContextVar("charged_key", default="")
"""The name of the gateway's key that pays for calls in this context; empty: none."""


@contextmanager
def charged_to(key: str) -> Iterator[None]:
    """Inside, calls are charged to the budgets of the gateway's key with this name."""
    token = charged_key.set(key)
    try:
        yield
    finally:
        charged_key.reset(token)


class BudgetName(NamedTuple):
    """Which spend a budget is for: of all calls, of one route, or of one key; as text `deep` or `all route support`."""

    kind: Kind
    of: Literal["", "route", "key"] = ""
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.of} {self.name}" if self.of else self.kind

    @property
    def label(self) -> str:
        """The budget in words, such as `deep tier` or `support: all spend`."""
        words = "deep tier" if self.kind == "deep" else "all spend"
        if not self.of:
            return words
        return f"{self.name}: {words}" if self.of == "route" else f"key {self.name}: {words}"

    @classmethod
    def read(cls, text: str) -> Self:
        """The name that `str` gave as `text`. Raises ValueError for any other text."""
        kind, _, rest = text.partition(" ")
        of, _, name = rest.partition(" ")
        if kind not in {"all", "deep"} or of not in {"", "route", "key"} or bool(of) != bool(name):
            raise ValueError(f"{text!r} is no name of a budget")
        return cls(kind, of, name)  # type: ignore[arg-type]  # checked above


class Spend(NamedTuple):
    """What all processes have spent of a budget on a day, in billionths of a dollar.

    `held` is what they may still spend of their slices. `unpriced` counts calls whose cost is not known, which is not
    in `spent`. `processes` spend it now. `as_of` (Unix time) is when the last of them reported; None: none has.
    """

    name: BudgetName
    day: int
    limit: int
    spent: int = 0
    held: int = 0
    unpriced: int = 0
    processes: int = 0
    as_of: float | None = None

    @property
    def left_out(self) -> str:
        """What is not in `spent`, as the end of a sentence; empty if nothing is."""
        calls = f"{self.unpriced:,} call{'' if self.unpriced == 1 else 's'}"
        return f", without {calls} of unknown cost" if self.unpriced else ""

    @property
    def share(self) -> float:
        """The share that is spent: 1 from the moment that no process gets another slice, and above if more is spent."""
        share = self.spent / self.limit
        is_all_held = self.spent + self.held >= self.limit
        return max(share, 1.0) if is_all_held and share >= _ALL_HELD else share


def day_of(now: float) -> int:
    """The day of UTC at `now` (Unix time), counted from 1970-01-01."""
    return int(now // DAY_S)


def end_of(day: int) -> float:
    """The Unix time at which a day of UTC ends."""
    return float((day + 1) * DAY_S)


def nusd(usd: float) -> int:
    """US dollars as whole billionths of a dollar."""
    return round(usd * NUSD_PER_USD)


def slice_of(left: int, *, limit: int, processes: int) -> int:
    """How much a process gets when `left` of a budget is left and so many processes spend it, itself included.

    In billionths of a dollar. It gets a share of what is left, so slices are smaller near the end.
    """
    share = left // max(processes + processes // 2, _SHARES)
    # Smaller for a large fleet, so that those at rest do not hold all of it.
    return min(left, max(share, limit // max(_SMALLEST, _AT_REST * processes)))


class Grant(NamedTuple):
    """The answer to a process that asks for its next slice, in billionths of a dollar since the day began.

    `ceiling` is how much it may spend. `kept` is the ceiling that the store notes for it, and is never lower: a process
    that is to hold less has agreed only when it asks again.
    """

    ceiling: int
    kept: int


def granted(limit: int, *, spent: int, ceiling: int, taken: int, processes: int) -> Grant:
    """The next slice of a process that has spent `spent` and holds `ceiling`, while others have taken `taken`.

    `processes` is how many spend the budget, itself included.
    """
    left = max(limit - taken - spent, 0)
    new = spent + slice_of(left, limit=limit, processes=processes)
    return Grant(new, max(new, ceiling))


class SliceRequest(NamedTuple):
    """One process's part in a budget on a day, in billionths of a dollar.

    It has spent `spent`, of which nothing is known of `unpriced` calls, and holds `ceiling`. `limit` is its own limit;
    None: only the guard's counts. `is_last` gives back what is left of the slice.
    """

    day: int
    budget: str
    spent: int
    ceiling: int
    unpriced: int = 0
    limit: int | None = None
    is_last: bool = False


class Slice(NamedTuple):
    """How much a process may spend of a budget since the day began, and the limit for all processes."""

    day: int
    budget: str
    ceiling: int
    limit: int


class Slices(NamedTuple):
    """The answer to a request: what is granted, and the limits that the guard has set, by budget.

    A budget without a limit, and one of which the store knows a newer request, has no entry in `granted`.
    """

    granted: Sequence[Slice]
    limits: Mapping[str, int]


def smaller_limit(*limits: int | None) -> int | None:
    """The smallest of the limits that are set; None if none is."""
    return min((each for each in limits if each is not None), default=None)


def is_low(*, spent: int, ceiling: int, slice_nusd: int) -> bool:
    """Whether a process has used a quarter of its last slice, so that it should ask for the next one."""
    # Early, because calls are refused while a process has no slice: the rest must last until the answer comes.
    return 4 * (ceiling - spent) <= 3 * slice_nusd


def limits_of(
    *, usd_per_day: float | None, deep_usd_per_day: float | None, of: Literal["", "route", "key"] = "", name: str = ""
) -> Mapping[str, int]:
    """The limits of one owner by the budget's name, in billionths of a dollar; without those that are not set."""
    pairs: tuple[tuple[Kind, float | None], ...] = (("all", usd_per_day), ("deep", deep_usd_per_day))
    # At least the smallest amount, because shares are of the limit.
    return {str(BudgetName(kind, of, name)): max(nusd(usd), 1) for kind, usd in pairs if usd is not None}
