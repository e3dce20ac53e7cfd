"""Compares the rates of two groups of one stream, after every observation if wanted. Pure.

The stream is cut into blocks: one or more observations of one group, then one of the other. If the groups have one
rate, each observation of a block is equally likely to be a hit, given the number of hits. So a bet on which of them is
the hit is fair at any rate, even if it changes from block to block. The mean gain of fixed bets is a test martingale.
The probability that it ever exceeds 1 / alpha is at most alpha.

Sources: Ville (1939), Etude critique de la notion de collectif; Breslow, Day (1980), Statistical methods in cancer
research I, 7.2, for the conditional likelihood of a matched set; Ramdas et al. (2023), Statistical Science 38, 576.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

_ODDS: Final = (1.5, 2.5, 5.0, 12.0)
"""The ratios of the odds of a hit that bets are on, in both directions."""

_RATIOS: Final = (*_ODDS, *(1 / odds for odds in _ODDS))


@dataclass(slots=True)
class _Block:
    """Observations of one group, which wait for one of the other."""

    is_first: bool
    n: int = 0
    hits: int = 0


@dataclass(slots=True)
class TwoGroups:
    """The evidence that hits are more or less frequent in the first of two groups; `add` takes one observation more."""

    _gains: list[float] = field(default_factory=lambda: [0.0] * len(_RATIOS))
    """The logarithm of each bet's gain."""
    _blocks: dict[Hashable, _Block] = field(default_factory=dict)

    def add(self, stratum: Hashable, *, is_first: bool, is_hit: bool) -> bool:
        """Take one observation of a stratum; returns whether the evidence may have changed.

        Groups are compared inside a stratum only. The order of its observations must not depend on hits.
        """
        block = self._blocks.get(stratum)
        if block is None or block.is_first is is_first:
            block = self._blocks.setdefault(stratum, _Block(is_first))
            block.n, block.hits = block.n + 1, block.hits + is_hit
            return False
        del self._blocks[stratum]
        n, hits = block.n + 1, block.hits + is_hit
        # Without hits, and with hits only, a block tells nothing about the groups.
        if not 0 < hits < n:
            return False
        for number, ratio in enumerate(_RATIOS):
            self._gains[number] += _gain(n, hits, ratio if is_first else 1 / ratio, is_hit=is_hit)
        return True

    @property
    def evidence(self) -> float:
        """The natural logarithm of the mean gain: at most -log(alpha) with 1 - alpha, if there is no difference."""
        highest = max(self._gains)
        return highest + math.log(math.fsum(math.exp(each - highest) for each in self._gains) / len(_RATIOS))

    @property
    def is_higher(self) -> bool:
        """Whether the evidence is for more hits in the first group, and not for fewer."""
        return max(self._gains[: len(_ODDS)]) > max(self._gains[len(_ODDS) :])


def _gain(n: int, hits: int, ratio: float, *, is_hit: bool) -> float:
    """The log-likelihood ratio of the last member of a block with `hits` among `n`, at odds of `ratio` to the rest."""
    hit, miss = ratio * hits, n - hits
    return math.log((ratio if is_hit else 1.0) * n / (hit + miss))
