"""A sequential test for a change of a histogram: does a stream of counts differ from those before it? Pure.

Counts come in blocks. A block is compared with the blocks before it by a two-sample chi-square statistic. Real traffic
varies more than independent calls would, so its quantiles are not used. Only its rank among the scores of past blocks
counts. That is a conformal p-value, valid for any distribution if blocks without a change are exchangeable (Vovk,
Gammerman, Shafer 2022, Algorithmic Learning in a Random World, 8.2). Traffic has a rhythm. So each score is divided by
the value that the dispersion of past blocks lets expect for so many calls. Bets on small p-values are summed over all
times at which a change may have begun, as in `sequential`. So a false alarm comes after 1 / alpha blocks at least, on
average.

The histogram to compare with forgets, so that a slow rhythm is no change. It stands still while evidence grows, so that
a change does not hide itself. After an alarm it is learned anew: each change alarms once.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Self

_POWERS: Final = (0.1, 0.3, 0.5)
"""Each bet gains by power * p ** (power - 1), whose mean over uniform p is 1."""

_KEPT: Final = 288
"""How many scores of past blocks are kept: those of a day."""

_LEAST: Final = 0.04
"""A smaller total variation distance is no change that is worth grades: a slow rhythm has as much."""

_ENOUGH: Final = 36
"""With fewer scores there is no bet: a rank among few is never small."""

_FORGETS: Final = 1 / 24
"""The share of the histogram that each block replaces."""

_LEARNED: Final = 6
"""The fewest blocks in the histogram to compare with."""

_FROZEN: Final = math.log(20)
"""The histogram does not change while there is so much evidence."""

ALPHA: Final = 1 / 4_000
"""Of blocks of five minutes: a false alarm in two weeks at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeDetector:
    """The state of the test of one stream."""

    histogram: Mapping[str, float] = field(default_factory=dict)
    """The counts of the blocks before, by bin, of which older ones weigh less."""
    blocks: int = 0
    """How many blocks the histogram was learned from."""
    scores: tuple[tuple[float, int], ...] = ()
    """The statistic and the number of calls of past blocks."""
    held: tuple[tuple[float, int], ...] = ()
    """Those of the blocks since evidence began to grow."""
    log: float = -math.inf
    """The natural logarithm of the value of all bets."""
    has_changed: bool = False
    """Whether the last block raised the alarm."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The detector from its JSON, see `row`."""
        log = -math.inf if row["log"] is None else row["log"]
        scores, held = (tuple(map(tuple, row[name])) for name in ("scores", "held"))
        return cls(histogram=row["histogram"], blocks=row["blocks"], scores=scores, held=held, log=log)

    def row(self) -> dict[str, object]:
        """The detector as JSON."""
        kept = {
            **asdict(self),
            "scores": list(self.scores),
            "held": list(self.held),
            "log": self.log if self.log > -math.inf else None,
        }
        del kept["has_changed"]
        return kept

    def after(self, block: Mapping[str, int], *, alpha: float = ALPHA) -> "ChangeDetector":
        """The detector after one more block; `block` has the counts by bin."""
        if self.blocks < _LEARNED:
            return self.learned(block)
        score = (round(distance(self.histogram, block), 2), sum(block.values()))
        log = self.log
        if len(self.scores) >= _ENOUGH:
            # Each block begins a new bet at 1.
            p = self._rank(score) if variation(self.histogram, block) >= _LEAST else 1.0
            log = math.log1p(math.exp(min(log, _LARGEST))) + math.log(_gain(p))
        # After a day of doubt, what came then is what is usual; else `held` would grow without end.
        if _FROZEN <= log < -math.log(alpha) and len(self.held) < _KEPT:
            return replace(self, held=(*self.held, score), log=log, has_changed=False)
        # Every score is kept in the end: without those of blocks with evidence, later ones would rank too high.
        scores = (*self.scores, *self.held, score)[-_KEPT:]
        if log >= -math.log(alpha):
            return ChangeDetector(scores=scores).learned(block, has_changed=True)
        return replace(self, scores=scores, held=(), log=log, has_changed=False).learned(block)

    def _rank(self, score: tuple[float, int]) -> float:
        """The conformal p-value of a score."""
        # The statistic of blocks that vary grows with their calls; of independent calls, its mean is 1.
        excess = sum(each - 1 for each, _ in self.scores)
        slope = max(excess, 0.0) / max(sum(n for _, n in self.scores), 1)
        own, *past = (each / (1 + slope * n) for each, n in (score, *self.scores))
        return (1 + sum(each >= own for each in past)) / (1 + len(past))

    def learned(self, block: Mapping[str, int], *, has_changed: bool = False) -> "ChangeDetector":
        """The detector whose histogram has one more block, whatever its score."""
        old, count = self.histogram, self.blocks
        keeps = 1.0 if count < 1 / _FORGETS else 1 - _FORGETS
        sums = {name: round(old.get(name, 0.0) * keeps + block.get(name, 0), 1) for name in old.keys() | block.keys()}
        return ChangeDetector(
            histogram=sums, blocks=count + 1, scores=self.scores, log=self.log, has_changed=has_changed
        )


_LARGEST: Final = 700.0
"""Far above any alarm; it keeps the exponential from overflowing."""


def distance(before: Mapping[str, float], block: Mapping[str, int]) -> float:
    """The two-sample chi-square statistic of two histograms, by its degrees of freedom; 0 where one is empty.

    Source: Press et al. (2007), Numerical Recipes, 14.3.
    """
    old, new = sum(before.values()), sum(block.values())
    if not old or not new:
        return 0.0
    one, other = math.sqrt(new / old), math.sqrt(old / new)
    bins = [(before.get(name, 0.0), block.get(name, 0)) for name in before.keys() | block.keys()]
    squares = sum((one * r - other * s) ** 2 / (r + s) for r, s in bins if r + s > 0)
    return squares / max(sum(r + s > 0 for r, s in bins) - 1, 1)


def variation(before: Mapping[str, float], block: Mapping[str, int]) -> float:
    """The total variation distance of two histograms, from 0 to 1; 0 where one is empty."""
    old, new = sum(before.values()), sum(block.values())
    if not old or not new:
        return 0.0
    return sum(abs(before.get(name, 0.0) / old - block.get(name, 0) / new) for name in before.keys() | block.keys()) / 2


def _gain(p: float) -> float:
    return math.fsum(power * p ** (power - 1) for power in _POWERS) / len(_POWERS)
