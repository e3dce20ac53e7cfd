"""The bounds of `statistics.dependence` for thousands of routes at once, in numpy; a test compares the two."""

import numpy as np
from numpy.typing import NDArray

from cheapdeep_ops.guard.statistics import dependence
from cheapdeep_ops.guard.statistics.sequential import CLIMBS

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]


class Limits:
    """The bounds for many routes, each of which may repeat one question; each grade has its own second.

    `needed` is the evidence for an alarm.
    """

    def __init__(self, runs: int, needed: float) -> None:
        bets, blocks = len(CLIMBS), dependence._MOST_BLOCKS
        self.needed = needed
        self.asked = np.zeros((runs, bets))
        """What the repeated question has given."""
        self.question = np.zeros(runs, dtype=int)
        """The number of that question; another number is another question."""
        self.share = np.zeros(runs)
        """The usual share of the repeated question."""
        # What the latest observations gave, where the next is written, and how many belong to the present run.
        self.latest = np.zeros((runs, dependence.RUN - 1, bets))
        self.place, self.fresh = np.zeros(runs, dtype=int), np.zeros(runs, dtype=int)
        self.dispersion = np.ones(runs)
        # The newest block is in the last column.
        self.blocks, self.held = np.zeros((runs, blocks)), np.zeros((runs, blocks))
        self.settled, self.waiting = np.zeros(runs, dtype=int), np.zeros(runs, dtype=int)
        self.n, self.hits = np.zeros(runs, dtype=int), np.zeros(runs, dtype=int)

    def keep(self, chosen: Bools) -> None:
        """Go on with these routes only."""
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                setattr(self, name, value[chosen])

    def limited(self, growth: Floats, run: Floats, question: Ints, counts: Bools) -> Floats:
        """How much one more grade of each route may add; `question` is the number of the repeated one, else 0.

        Only routes that have such a grade count.
        """
        repeats = question > 0
        self.fresh[run <= 0] = 0
        self.asked[(run <= 0) | (repeats & counts & (question != self.question))] = 0
        self.question = np.where(repeats & counts, question, self.question)
        gains = np.nonzero(counts & (growth.max(axis=1) > 0))[0]
        if gains.size:
            growth[gains] = self._bounded(growth[gains], gains, repeats[gains])
        asked = np.nonzero(repeats & counts)[0]
        if asked.size:
            self.asked[asked] = np.round(np.maximum(self.asked[asked] + growth[asked], 0), dependence._DECIMALS)
        rows = np.nonzero(counts)[0]
        self.latest[rows, self.place[rows]] = growth[rows]
        self.place[rows] = (self.place[rows] + 1) % (dependence.RUN - 1)
        self.fresh[rows] += 1
        return growth / self.dispersion[:, None]

    def _bounded(self, growth: Floats, rows: Ints, repeats: Bools) -> Floats:
        usual = np.full(len(rows), dependence.QUESTION_SHARE)
        if self.share.any():
            both = zip(self.share[rows], self.dispersion[rows], strict=True)
            usual = np.where(repeats, [dependence.evidence_share(*each) for each in both], usual)
        room = (self.needed * usual)[:, None] - np.where(repeats[:, None], self.asked[rows], 0)
        sums = most = np.zeros_like(growth)
        for back in range(1, dependence.RUN):
            grown = self.latest[rows, (self.place[rows] - back) % (dependence.RUN - 1)]
            sums = sums + np.where((self.fresh[rows] >= back)[:, None], grown, 0)
            most = np.maximum(most, sums)
        room = np.minimum(room, self.needed * dependence.RUN_SHARE - most)
        return np.where(growth > 0, np.maximum(np.minimum(growth, room), 0), growth)

    def learn(self, wrong: Bools, run: Floats, counts: Bools) -> None:
        """Take in the grades, after `limited`; the usual share is not learned."""
        calm = counts & (run <= dependence.USUAL_EVIDENCE) & (self.waiting > 0)
        if calm.any():
            self._settle(np.nonzero(calm)[0])
        self.n += counts
        self.hits += wrong & counts
        done = np.nonzero(self.n == dependence.BLOCK)[0]
        if done.size:
            self.held[done, :-1] = self.held[done, 1:]
            self.held[done, -1] = self.hits[done]
            self.waiting[done] = np.minimum(self.waiting[done] + 1, dependence._MOST_BLOCKS)
            self.n[done] = self.hits[done] = 0

    def _settle(self, rows: Ints) -> None:
        for number in np.unique(self.waiting[rows]):
            some = rows[self.waiting[rows] == number]
            self.blocks[some] = np.concatenate([self.blocks[some, number:], self.held[some, -number:]], axis=1)
        self.settled[rows] = np.minimum(self.settled[rows] + self.waiting[rows], dependence._MOST_BLOCKS)
        self.waiting[rows] = 0
        self.dispersion[rows] = dispersions(self.blocks[rows], self.settled[rows])

    def forget(self, chosen: Bools) -> None:
        """After an alarm: the test begins anew."""
        self.asked[chosen] = 0
        self.fresh[chosen] = self.waiting[chosen] = self.n[chosen] = self.hits[chosen] = 0


def dispersions(blocks: Floats, counts: Ints) -> Floats:
    """`dependence.dispersion_of_blocks` of the last so many in each row."""
    found, width = np.ones(len(blocks)), blocks.shape[1]
    for joined in dependence._JOINED:
        count = counts // joined
        enough = np.nonzero(count >= dependence._FEWEST_BLOCKS)[0]
        if not enough.size:
            break
        columns = width // joined
        hits = blocks[enough, width - columns * joined :].reshape(len(enough), columns, joined).sum(axis=2)
        number = count[enough]
        is_there = np.arange(columns) >= columns - number[:, None]
        average, free = (hits * is_there).sum(axis=1) / number, number - 1
        chance = average * (1 - average / (dependence.BLOCK * joined))
        squares, spread = (is_there * (hits - average[:, None]) ** 2).sum(axis=1), 2 / (9 * free)
        ratio = np.divide(squares, chance * free, out=np.ones(len(enough)), where=chance > 0)
        is_so = (np.cbrt(ratio) - (1 - spread)) / np.sqrt(spread) > dependence._SIGNIFICANT
        found[enough] = np.where(is_so & (chance > 0), np.maximum(found[enough], ratio), found[enough])
    return found
