"""Bounds how much observations that depend on each other may add to a sequential test. Pure.

A test counts each observation as new evidence. But a question that is asked a hundred times may give one wrong answer a
hundred times. A fault of a minute concerns all answers of that minute. So the evidence that is needed for an alarm,
log(1 / alpha), must come from many places. Of it

- one question gives at most a tenth, or more if it is a usual one;
- one second gives at most a third;
- each run of six neighbouring observations gives at most a third.

If the rate has varied more between blocks of observations than chance explains, all growth is divided by the dispersion
(McCullagh, Nelder 1989, Generalized Linear Models, 4.5).

A usual question gives at most its usual share and three standard errors of it. A service that always sends one text has
only one question, and a climb of its rate is a climb. In a climb of all questions alike, each gives its usual share.
Where a tenth is the most for one, an alarm rests on ten wrong answers or more. Of ten, the number of one question has
the standard error of Poisson's distribution, and three of them leave climbs undisturbed. A question with two fifths of
all answers or more is not bounded. Where growth is divided by a dispersion, an alarm needs so many times the wrong
answers, and the share of a usual question grows with it. A question that is not usual keeps its tenth.

A new question cannot soon raise its own bound, because 50 observations of other questions are assumed. An observation
counts in full for a share only in times without evidence, else a tenth. So a route that always sends one text, and was
never calm, is bounded for some 300 observations only.

Why the promise of the e-detector holds: a bet's factor for one observation has a mean of at most 1, given the past. Its
growth is bounded from above by a number that is known before the answer is graded. That can only make the factor
smaller. Then it is divided by a number of at least 1. By Jensen's inequality, the mean of the factor's root is at most
1 too. So each bet stays a supermartingale, and false alarms come no sooner. Losses are never bounded.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from cheapdeep_ops.guard.statistics.dispersion import significant_ratio
from cheapdeep_ops.guard.statistics.sequential import Observed

QUESTION_SHARE: Final = 0.1
"""The share of the needed evidence that a question gives at most if it is not a usual one."""

SECOND_SHARE: Final = 1 / 3
"""The share that one second gives at most, so that evidence comes from three seconds at least."""

RUN_SHARE: Final = 1 / 3
"""The share that neighbouring observations give at most."""

RUN: Final = 6
"""The number of observations that count as neighbours."""

USUAL_EVIDENCE: Final = 1.0
"""The most evidence in times that show what is usual. With 0, a route with a target a little too low would have none.

`false_confidence.calm` has a limit of its own for what is normal.
"""

_STANDARD_ERRORS: Final = 3.0
"""How far above its usual share a question may give."""

_DOUBTFUL: Final = 0.1
"""How much an observation counts for the usual shares while there is evidence."""

_ASSUMED: Final = 50
"""The number of observations of other questions that are assumed, so that a few calm ones prove nothing."""

_MEMORY: Final = 1_000
"""At so many observations, all counts are halved: shares are those of recent times."""

_MOST_COUNTED: Final = 32
_MOST_KEPT: Final = 32
"""The number of questions, and of seconds, whose evidence is kept; the oldest are forgotten."""

_DECIMALS: Final = 6
"""Of kept evidence: a guard stores it for each route at each grade."""

BLOCK: Final = 50
"""The number of observations in a block."""

_MOST_BLOCKS: Final = 200
_JOINED: Final = (1, 2, 4, 8)
"""How many blocks in a row are joined before they are compared: slow changes are seen only in long blocks."""

_FEWEST_BLOCKS: Final = 10
_SIGNIFICANT: Final = 2.6
"""Standard errors: 0.5% for each length of blocks."""

Growth = tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What is usual for a stream of observations: the questions that it repeats, and how much its rate varies.

    `questions` counts the most frequent ones among `total` observations. `blocks` are the hits of past blocks, oldest
    first; those of `waiting` count once the evidence has gone. `open` is (observations, hits) of the present block.
    """

    questions: Mapping[str, float] = field(default_factory=dict)
    total: float = 0.0
    blocks: tuple[int, ...] = ()
    waiting: tuple[int, ...] = ()
    open: tuple[int, int] = (0, 0)
    dispersion: float = 1.0

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The traffic from its JSON, see `row`."""
        lists = {name: tuple(row[name]) for name in ("blocks", "waiting", "open")}
        return cls(questions=row["questions"], total=row["total"], dispersion=row["dispersion"], **lists)

    def row(self) -> dict[str, object]:
        """The traffic as JSON."""
        lists = {name: list(getattr(self, name)) for name in ("blocks", "waiting", "open")}
        return {"questions": dict(self.questions), "total": self.total, "dispersion": self.dispersion, **lists}

    def without_evidence(self) -> "Traffic":
        """The traffic without the blocks since evidence began to grow: an incident is no example of calm times."""
        return Traffic(questions=self.questions, total=self.total, blocks=self.blocks, dispersion=self.dispersion)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The evidence that each question, second and latest observation has given to a run of a test.

    Each value has one number for each bet.
    """

    questions: Mapping[str, Growth] = field(default_factory=dict)
    seconds: Mapping[int, Growth] = field(default_factory=dict)
    latest: tuple[Growth, ...] = ()

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """What was given, from its JSON, see `row`."""
        return cls(
            questions={name: tuple(grown) for name, grown in row["questions"].items()},
            # Keys of JSON are text.
            seconds={int(second): tuple(grown) for second, grown in row["seconds"].items()},
            latest=tuple(tuple(grown) for grown in row["latest"]),
        )

    def row(self) -> dict[str, object]:
        """What was given, as JSON."""
        return {
            "questions": {name: list(grown) for name, grown in self.questions.items()},
            "seconds": {str(second): list(grown) for second, grown in self.seconds.items()},
            "latest": [list(grown) for grown in self.latest],
        }


class GrowthLimiter:
    """Bounds the growth of one test's bets, observation by observation; `needed` is the evidence for its alarm.

    `given` is what the present run of the test was given so far, and `traffic` knows what is usual.
    """

    def __init__(self, given: Given, needed: float, traffic: "TrafficLearner") -> None:
        self._traffic = traffic
        self._questions, self._seconds = dict(given.questions), dict(given.seconds)
        self._latest = deque(given.latest, RUN - 1)
        self._needed = needed
        self._of_second, self._of_run = needed * SECOND_SHARE, needed * RUN_SHARE

    @property
    def given(self) -> Given:
        """What the present run was given."""
        return Given(questions=self._questions, seconds=self._seconds, latest=tuple(self._latest))

    def limited(self, observed: Observed, run: float) -> Growth:
        """How much an observation may add to each bet; `run` is the evidence before it, 0 if there is none."""
        if run <= 0 and self._latest:
            # What was given before is lost again, so that all may give as much anew.
            self._questions.clear()
            self._seconds.clear()
            self._latest.clear()
        growth, question, second = observed.growth, observed.question, int(observed.at)
        widened = self._traffic.dispersion
        by_question, by_second = self._questions.get(question), self._seconds.get(second)
        if max(growth) > 0:
            growth = self._bounded(growth, question, by_question, by_second, widened)
        if by_second is not None or max(growth) > 0:
            _add(self._seconds, second, by_second, growth)
        if question and (by_question is not None or max(growth) > 0):
            _add(self._questions, question, by_question, growth)
        self._latest.append(growth)
        # Bounded first: else a bounded gain would stay as it is, and only the losses that outweigh it would shrink.
        return tuple(grown / widened for grown in growth) if widened > 1 else growth

    def _bounded(
        self, growth: Growth, question: str, by_question: Growth | None, by_second: Growth | None, widened: float
    ) -> Growth:
        """The growth that is left for an observation of a question in a second that have given so much."""
        limit = self._needed * evidence_share(self._traffic.usual_share(question), widened)
        zeros = (0.0,) * len(growth)
        given = zip(growth, by_question or zeros, by_second or zeros, self._of_neighbours(zeros), strict=True)
        # A limit may be lower than it was, which leaves less than nothing.
        return tuple(
            max(min(grown, limit - asked, self._of_second - then, self._of_run - lately), 0.0) if grown > 0 else grown
            for grown, asked, then, lately in given
        )

    def _of_neighbours(self, zeros: Growth) -> Growth:
        """The most that a run of observations up to the latest one has given, for each bet."""
        most = sums = zeros
        for grown in reversed(self._latest):
            sums = tuple(map(float.__add__, sums, grown))
            most = tuple(map(max, most, sums))
        return most


class TrafficLearner:
    """Learns what is usual, observation by observation, from times without evidence."""

    def __init__(self, traffic: Traffic) -> None:
        self._questions, self._total = dict(traffic.questions), traffic.total
        self._blocks, self._waiting, self._open = list(traffic.blocks), list(traffic.waiting), traffic.open
        self.dispersion = traffic.dispersion
        """How many times the variance between calm blocks is that of chance; 1 if the difference is not significant."""

    @property
    def traffic(self) -> Traffic:
        """What is known so far."""
        return Traffic(
            questions=self._questions, total=self._total, blocks=tuple(self._blocks), waiting=tuple(self._waiting),
            open=self._open, dispersion=self.dispersion,
        )  # fmt: skip

    def usual_share(self, question: str) -> float:
        """The share of a question among all observations, in [0, 1); 0 if it is not known."""
        return self._questions.get(question, 0.0) / (self._total + _ASSUMED)

    def learn(self, observed: Observed, run: float) -> None:
        """Take in one more observation; `run` is the evidence before it, infinite during an incident."""
        is_calm = run <= USUAL_EVIDENCE
        if is_calm:
            self._settle()
        # A hit may begin a run of evidence.
        self._count(observed.question, 1.0 if is_calm and not observed.hits else _DOUBTFUL)
        n, hits = self._open[0] + observed.n, self._open[1] + observed.hits
        self._open = (n, hits)
        if n >= BLOCK:
            self._waiting = [*self._waiting, hits][-_MOST_BLOCKS:]
            self._open = (0, 0)

    def _settle(self) -> None:
        """Compare the blocks again, with those that ended while there was evidence: it has gone."""
        if self._waiting:
            self._blocks = [*self._blocks, *self._waiting][-_MOST_BLOCKS:]
            self._waiting.clear()
            self.dispersion = dispersion_of_blocks(self._blocks)

    def _count(self, question: str, weight: float) -> None:
        """Count a question among the most frequent ones, never too high (Misra, Gries 1982)."""
        self._total += weight
        if question in self._questions or (question and len(self._questions) < _MOST_COUNTED):
            self._questions[question] = self._questions.get(question, 0.0) + weight
        elif question:
            self._questions = {name: count - weight for name, count in self._questions.items() if count > weight}
        if self._total >= _MEMORY:
            self._total /= 2
            self._questions = {name: count / 2 for name, count in self._questions.items()}


def evidence_share(usual: float, dispersion: float = 1.0) -> float:
    """The share of the needed evidence that a question with a usual share gives at most; infinite if not bounded.

    It is the share before the division by the `dispersion`, which makes an alarm need so many times the evidence.
    """
    # Of that evidence too a question may give its usual share: else a few questions alone could never give enough.
    expected = usual * dispersion
    share = max(expected + _STANDARD_ERRORS * math.sqrt(expected * QUESTION_SHARE), QUESTION_SHARE)
    return share if share < dispersion else math.inf


def dispersion_of_blocks(blocks: Sequence[int], *, size: int = BLOCK) -> float:
    """How many times the variance between blocks of `size` observations is that of a constant rate, at least 1.

    `blocks` are their hits. It is 1 unless Pearson's statistic is significant. The largest value among several lengths
    of blocks counts.
    """
    found = 1.0
    for joined in _JOINED:
        count = len(blocks) // joined
        if count < _FEWEST_BLOCKS:
            break
        latest = blocks[len(blocks) - count * joined :]
        hits = [sum(latest[start : start + joined]) for start in range(0, len(latest), joined)]
        mean = sum(hits) / count
        chance = mean * (1 - mean / (size * joined))
        if chance > 0:
            squares = sum((each - mean) ** 2 for each in hits) / chance
            found = max(found, significant_ratio(squares, count - 1, standard_errors=_SIGNIFICANT))
    return found


def _add(given: dict[Any, Growth], key: Any, before: Growth | None, growth: Growth) -> None:
    """Add growth to what a key has given. It never falls below 0: evidence that was lost may be given again."""
    after = tuple(
        round(max(gave + grown, 0.0), _DECIMALS)
        for gave, grown in zip(before or (0.0,) * len(growth), growth, strict=True)
    )
    given.pop(key, None)
    if any(after):
        given[key] = after
        if len(given) > _MOST_KEPT:
            del given[next(iter(given))]
