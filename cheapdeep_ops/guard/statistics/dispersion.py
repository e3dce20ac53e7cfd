"""How much more counts vary than independent calls would: the dispersion. Pure."""

import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist
from typing import Final

_SIGNIFICANT: Final = NormalDist().inv_cdf(0.99)
"""Standard errors: at a confidence of 99%, variance beyond the binomial one counts as real."""


def dispersion(blocks: Iterable[Sequence[tuple[int, int]]]) -> float:
    """The variance of counts as a multiple of the binomial one; 1 if it is not significantly more.

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
    return significant_ratio(squares, freedom, standard_errors=_SIGNIFICANT)


def significant_ratio(squares: float, freedom: int, *, standard_errors: float) -> float:
    """A chi-square statistic by its degrees of freedom; 1 if it is less than `standard_errors` above its mean.

    Its cube root is nearly normal (Wilson, Hilferty 1931, PNAS 17, 684: quantiles within 1%).
    """
    if freedom < 1:
        return 1.0
    ratio, variance = squares / freedom, 2 / (9 * freedom)
    excess = (ratio ** (1 / 3) - (1 - variance)) / math.sqrt(variance)
    return ratio if excess > standard_errors else 1.0
