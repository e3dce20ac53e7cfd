"""How much more counts vary than independent calls would: the dispersion. Pure."""

import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist
from typing import Final

_SIGNIFICANT: Final = 0.99
"""The confidence at which variance beyond the binomial one is taken to be real."""


def dispersion(blocks: Iterable[Sequence[tuple[int, int]]]) -> float:
    """The variance of counts as a multiple of the binomial one; 1 where it is not significantly more.

    A count is (hits, n). Each block has a rate of its own, so a slow change of the rate is no dispersion. It is
    Pearson's chi-square by its degrees of freedom. Source: McCullagh, Nelder (1989), Generalized Linear Models, 4.5.2.
    """
    squares, freedom = 0.0, 0
    for block in blocks:
        counts = [(hits, n) for hits, n in block if n]
        rate = sum(hits for hits, _ in counts) / max(sum(n for _, n in counts), 1)
        # Without a hit, or with hits only, a block has no variance to compare with.
        if 0 < rate < 1:
            squares += sum((hits - n * rate) ** 2 / (n * rate * (1 - rate)) for hits, n in counts)
            freedom += len(counts) - 1
    if freedom < 1 or squares <= _quantile(freedom):
        return 1.0
    return squares / freedom


def _quantile(freedom: int) -> float:
    """The chi-square quantile at `_SIGNIFICANT` (Wilson, Hilferty 1931, PNAS 17, 684: within 1%)."""
    part = 2 / (9 * freedom)
    return freedom * (1 - part + NormalDist().inv_cdf(_SIGNIFICANT) * math.sqrt(part)) ** 3
