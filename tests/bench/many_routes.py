"""Many routes at once: the package's learning, steering and detection of false confidence, in numpy.

`Routes` holds some thousand independent routes as arrays. One `step` reads one grade of each of them. So ten million
grades take some ten seconds, and rare false alarms can be counted. The arithmetic is that of the package; a test in
`test_many_routes.py` compares both after every grade. Only confident answers are counted, and time passes in answers:
`per_day` of them make a day.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from statistics import NormalDist

import numpy as np
from many_limits import Limits
from numpy.typing import NDArray

from cheapdeep_ops.guard.grading.adaptive import (
    CALM,
    CLIMB_FACTOR,
    CONVINCING,
    LARGEST_ROUND,
    LEARNED,
    LEARNING,
    MAX_RETROSPECTIVE,
    MAX_WAITING,
    SUSPICIOUS,
    WRONG_PER_ROUND,
    most_per_day,
)
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.guard.rules.false_confidence.baseline import MORE
from cheapdeep_ops.guard.rules.false_confidence.calm import CALM_EVIDENCE
from cheapdeep_ops.guard.rules.false_confidence.detection import (
    CEILING_CONFIDENCE,
    FIRST_CONFIDENCE,
    TARGET_CONFIDENCE,
)
from cheapdeep_ops.guard.rules.false_confidence.rule import QualityRule
from cheapdeep_ops.guard.statistics.sequential import CLIMBS, FALLS, HIGHEST
from cheapdeep_ops.sampling import kept_share

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]
Ask = Callable[[Floats, np.random.Generator], Ints]
"""The number of the repeated question that an answer is to, else 0; by the number of answers before it."""
Rate = Callable[[Floats], Floats]
"""The share of wrong answers, by the number of answers before it; one row of the argument for each route."""

(RULE,) = [each for each in read_rulebook().rules if isinstance(each, QualityRule) and each.limit == "normal"]
HOURS = 24
STRETCHES = 32
"""How many stretches of kept answers each route remembers: older ones are not reached."""
WAITING = 2_048
"""The most grades that a route waits for."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """How much traffic each route has, and how it is sampled and judged."""

    per_day: float = 33_000.0
    budget: float = 0.01
    alpha: float = RULE.alpha
    release_alpha: float = RULE.release_alpha
    late: int = 0
    """Answers until the grade of an evenly chosen answer is known: batches are late, those in hindsight are not."""
    normal_grades: int = RULE.normal_grades
    first_grades: int = RULE.first_grades
    is_bounded: bool = True
    """Whether dependent answers give bounded evidence, as in the package."""

    @property
    def kept(self) -> float:
        return kept_share(self.budget)

    @property
    def calm(self) -> float:
        return self.budget * CALM

    @property
    def most(self) -> float:
        return most_per_day(self.budget, self.per_day)


def upper(hits: Floats, n: Floats, confidence: float) -> Floats:
    """Wilson's upper bound."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate, square = hits / n, z * z
    half = z * np.sqrt(rate * (1 - rate) / n + square / (4 * n * n))
    return np.minimum((rate + square / (2 * n) + half) / (1 + square / n), 1.0)


class Routes:
    """Independent routes; `target` is given where normal is known, else it is learned."""

    def __init__(
        self,
        runs: int,
        rate: Rate,
        way: Way,
        rng: np.random.Generator,
        *,
        target: Floats | float | None = None,
        asks: Ask | None = None,
        span: float = 0.0,
    ) -> None:
        self.way, self.rate, self._rng, self._asks = way, rate, rng, asks
        self.start = rng.random(runs) * span
        """Where each route begins, so that routes are at different times of day."""
        self.limits = Limits(runs, -math.log(way.alpha))
        zeros = np.zeros
        self.answer = zeros(runs)
        self.number = np.arange(runs)
        # Learning
        self.learns = np.full(runs, target is None)
        self.n, self.hits = zeros(runs), zeros(runs)
        self.calm_n, self.calm_hits, self.open_n, self.open_hits = (zeros(runs) for _ in range(4))
        self.ceiling = np.full(runs, np.inf)
        self.first_share = np.ones(runs)
        self.target = np.ones(runs) if target is None else np.broadcast_to(target, runs).astype(float)
        self.is_awake = np.full(runs, target is not None)
        # The detector, and the suspicion
        bets = len(CLIMBS)
        self.up, self.down = zeros((runs, bets)), zeros((runs, bets))
        self.values, self.runs = zeros((runs, bets)), zeros((runs, bets))
        self.run = zeros(runs)
        self.suspicion, self.hindsight = np.ones(runs), zeros(runs, dtype=int)
        self.bet, self.miss = np.full(runs, 0.5), np.full(runs, 0.5)
        self.left = zeros(runs, dtype=int)
        self.round = zeros(runs, dtype=int)
        # Kept answers that may be graded in hindsight
        self.begin, self.end = zeros((runs, STRETCHES)), zeros((runs, STRETCHES))
        self.top, self.depth = zeros(runs, dtype=int), zeros(runs, dtype=int)
        self.graded = zeros((runs, HOURS))
        self.hour = zeros(runs, dtype=int)
        self.oldest = zeros(runs)
        # Grades that are known later
        self.waiting, self.head = zeros(runs, dtype=int), zeros(runs, dtype=int)
        self.asked = zeros((runs, WAITING if way.late else 1))
        self.asked_share = np.ones_like(self.asked)
        # Counts of what happened
        self.grades = zeros(runs)
        self.alarm = np.zeros(runs, dtype=bool)
        if target is not None:
            self._bet_on(np.arange(runs))

    def keep(self, chosen: Bools) -> None:
        """Go on with these routes only."""
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                setattr(self, name, value[chosen])
            elif isinstance(value, tuple):
                setattr(self, name, tuple(each[chosen] for each in value))
            elif isinstance(value, Limits):
                value.keep(chosen)

    def __len__(self) -> int:
        return len(self.answer)

    @property
    def is_hot(self) -> Bools:
        raised = (self.suspicion > SUSPICIOUS) & (self.hindsight >= CONVINCING)
        if raised.any():
            raised &= self.graded.sum(axis=1) + self.waiting < self.way.most
            raised &= self.waiting < MAX_WAITING
        return raised

    def step(self) -> Bools:
        """One grade more for each route; returns which had one (a round in hindsight may find no answer)."""
        way, rng, size = self.way, self._rng, len(self)
        retro = self.left > 0
        at, is_graded = self.answer.copy(), np.ones(size, dtype=bool)
        if retro.any():
            chosen = np.nonzero(retro)[0]
            taken = self._take(chosen)
            at[chosen] = taken
            is_graded[chosen] = taken >= 0
            self.left[chosen] = np.where(taken >= 0, self.left[chosen] - 1, 0)
        hot = self.is_hot
        share = self._shares(hot)
        gap = np.floor(np.log1p(-rng.random(size)) / np.log1p(-share)) + 1
        before, moves = self.answer, ~retro
        self.answer = np.where(moves, before + gap, before)
        if way.late:
            moves, share = self._wait(before, moves, share, at)
            is_graded &= retro | ~moves
        else:
            at[moves] = self.answer[moves]
        self._push(before, ~retro & ~hot)
        self._pass_hours()
        place = at + self.start
        question = self._asks(place, rng) if self._asks else np.zeros(size, dtype=int)
        wrong = ((rng.random(size) < self.rate(place)) | (question > 0)) & is_graded
        self.at, self.wrong, self.steered, self.share, self.is_graded = at, wrong, retro, share, is_graded
        self.grades += is_graded
        self.graded[np.arange(size), self.hour % HOURS] += is_graded
        self._suspect(wrong, retro, is_graded)
        self._detect(wrong, is_graded, question)
        return is_graded

    def _shares(self, hot: Bools) -> Floats:
        """The share of the answers to come that is chosen."""
        way = self.way
        share = np.where(self.learns & (self.n < LEARNED), way.budget, way.calm)
        share = np.where(self.learns & np.isinf(self.ceiling), LEARNING * way.budget, share)
        return np.where(hot, way.kept, share)

    def _wait(self, before: Floats, moves: Bools, share: Floats, at: Floats) -> tuple[Bools, Floats]:
        """Read the grade that is known before the next answer is chosen, if there is one; else choose that answer.

        Returns which routes choose, and the shares with which the answers were chosen that are read. Writes into `at`.
        """
        every = np.arange(len(self))
        due = np.where(self.waiting > 0, self.asked[every, self.head] + self.way.late, np.inf)
        reads = moves & (due <= self.answer)
        chooses = moves & ~reads
        self.answer = np.where(reads, np.maximum(due, before), self.answer)
        read = np.nonzero(reads)[0]
        at[read] = self.asked[read, self.head[read]]
        share[read] = self.asked_share[read, self.head[read]]
        self.head[read] = (self.head[read] + 1) % WAITING
        chosen = np.nonzero(chooses)[0]
        place = (self.head[chosen] + self.waiting[chosen]) % WAITING
        self.asked[chosen, place], self.asked_share[chosen, place] = self.answer[chosen], share[chosen]
        self.waiting += chooses
        self.waiting -= reads
        return chooses, share

    def _pass_hours(self) -> None:
        hour = (self.answer / (self.way.per_day / HOURS)).astype(int)
        passed = hour - self.hour
        while (late := passed > 0).any():
            chosen = np.nonzero(late)[0]
            self.hour[chosen] += 1
            self.graded[chosen, self.hour[chosen] % HOURS] = 0
            passed = np.minimum(passed - 1, HOURS) * late
        self.hour = hour

    def _push(self, before: Floats, chosen: Bools) -> None:
        """Keep the answers since `before`."""
        index = np.nonzero(chosen)[0]
        top = self.top[index]
        joins = (self.depth[index] > 0) & (self.end[index, top] == before[index])
        new = index[~joins]
        self.top[new] = (self.top[new] + 1) % STRETCHES
        self.depth[new] = np.minimum(self.depth[new] + 1, STRETCHES)
        self.begin[new, self.top[new]] = before[new]
        self.end[index, self.top[index]] = self.answer[index]

    def _take(self, index: Ints) -> Floats:
        """The newest kept answer of each of these routes; -1 where there is none."""
        found = np.full(len(index), -1.0)
        places = np.arange(len(index))
        oldest = np.maximum(self.oldest, self.answer - self.way.per_day)
        scale = np.log1p(-(self.way.kept - self.way.calm))
        while places.size:
            places = places[self.depth[index[places]] > 0]
            routes = index[places]
            top = self.top[routes]
            answer = self.end[routes, top] - np.floor(np.log1p(-self._rng.random(len(routes))) / scale) - 1
            fits = answer >= np.maximum(self.begin[routes, top], oldest[routes])
            self.end[routes[fits], top[fits]] = answer[fits]
            found[places[fits]] = answer[fits]
            places, routes = places[~fits], routes[~fits]
            self.depth[routes] -= 1
            self.top[routes] = (self.top[routes] - 1) % STRETCHES
        return found

    def _suspect(self, wrong: Bools, retro: Bools, is_graded: Bools) -> None:
        counts = self.is_awake & is_graded
        miss, bet = self.miss, self.bet
        resting = miss / (1 - miss)
        value = (self.suspicion * resting + 1) * np.where(wrong, bet / self.target, miss) / resting
        value = np.where(counts, np.minimum(value, 1e9), self.suspicion)
        is_raised = value > SUSPICIOUS
        hindsight = self.hindsight + (retro & is_graded)
        self.suspicion, self.hindsight = value, np.where(is_raised, hindsight, 0)
        ends = is_raised & (self.left == 0) & ~(retro & ~is_graded)
        wanted = np.minimum(self.round, np.maximum(MAX_RETROSPECTIVE - self.hindsight, 0))
        self.left = np.where(ends, wanted, self.left)

    def _detect(self, wrong: Bools, is_graded: Bools, question: Ints) -> None:
        counts = self.is_awake & is_graded
        awake = counts[:, None]
        grown = np.where(wrong[:, None], self.up, self.down)
        if self.way.is_bounded:
            grown = self.limits.limited(grown, self.run, question, counts)
            self.limits.learn(wrong, self.run, counts)
        self.values = np.where(awake, (self.values + 1) * np.exp(grown), self.values)
        self.runs = np.where(awake, np.where(self.runs > 0, self.runs + grown, grown), self.runs)
        self.run = np.maximum(self.runs.max(axis=1), 0.0)
        self.alarm = counts & (self.values.sum(axis=1) >= len(CLIMBS) / self.way.alpha)
        weight = np.minimum(self.first_share / self.share, 1.0)
        taught = np.where(self.is_awake, weight, 1.0) * (is_graded & ~self.steered & self.learns)
        self.open_n += taught
        self.open_hits += taught * wrong
        calm = is_graded & (self.run <= CALM_EVIDENCE)
        self._settle(calm & (self.open_n > 0))
        wanted = np.where(self.is_awake, MORE * self.n, self.way.normal_grades)
        due = self.learns & is_graded & (self.n + self.calm_n >= wanted)
        if due.any():
            self._learn(np.nonzero(due)[0])

    def _settle(self, chosen: Bools) -> None:
        for calm, waiting in ((self.calm_n, self.open_n), (self.calm_hits, self.open_hits)):
            calm[chosen] += waiting[chosen]
            waiting[chosen] = 0

    def _learn(self, index: Ints) -> None:
        way = self.way
        self.n[index] += self.calm_n[index]
        self.hits[index] += self.calm_hits[index]
        self.calm_n[index] = self.calm_hits[index] = 0
        n, hits = self.n[index], self.hits[index]
        ceiling = np.where(n >= way.first_grades, upper(hits, n, CEILING_CONFIDENCE), np.inf)
        self.ceiling[index] = np.where(np.isinf(self.ceiling[index]), ceiling, self.ceiling[index])
        first, known = upper(hits, n, FIRST_CONFIDENCE), upper(hits, n, TARGET_CONFIDENCE)
        self.target[index] = np.where(n < way.first_grades, first, np.minimum(known, self.ceiling[index]))
        asleep = index[~self.is_awake[index]]
        self.oldest[asleep], self.first_share[asleep] = self.answer[asleep], self.share[asleep]
        self.is_awake[index] = True
        self._bet_on(index)

    def _bet_on(self, index: Ints) -> None:
        target = self.target[index]
        self.up[index], self.down[index] = _growths(target, CLIMBS, HIGHEST)
        self.bet[index] = np.minimum(CLIMB_FACTOR * target, (1 + target) / 2)
        self.miss[index] = (1 - self.bet[index]) / (1 - target)
        self.round[index] = np.clip(np.round(WRONG_PER_ROUND / target), 1, LARGEST_ROUND)

    def forget(self, chosen: Bools) -> None:
        """After an alarm: the test begins anew."""
        self.values[chosen] = 0
        self.runs[chosen] = 0
        self.limits.forget(chosen)
        self.run[chosen] = self.open_n[chosen] = self.open_hits[chosen] = 0


@dataclass(frozen=True)
class Calm:
    """What happened while nothing had changed."""

    alarms: int
    routes: int
    """Routes with an alarm."""
    squares: int
    """The sum of the squared numbers of alarms of each route."""
    answers: float
    grades: float

    def __add__(self, other: "Calm") -> "Calm":
        return Calm(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    @property
    def per_ten_million(self) -> float:
        return self.alarms * 1e7 / self.answers

    @property
    def error(self) -> float:
        """Monte-Carlo error (95%) of that number: routes are independent, the alarms of one route are not."""
        return 1.96e7 * self.squares**0.5 / self.answers if self.alarms else 3.7e7 / self.answers


def false_alarms(routes: Routes, until: float) -> Calm:
    """Alarms until each route has had so many answers."""
    alarms, answers, grades = Counter[int](), 0.0, 0.0
    while len(routes):
        routes.step()
        if routes.alarm.any():
            alarms.update(routes.number[routes.alarm].tolist())
            routes.forget(routes.alarm)
        over = routes.answer >= until
        if over.mean() > 0.05:
            answers += routes.answer[over].sum()
            grades += routes.grades[over].sum()
            routes.keep(~over)
    return Calm(alarms.total(), len(alarms), sum(each * each for each in alarms.values()), answers, grades)


def waits(routes: Routes, change: float, patience: float) -> tuple[Floats, int]:
    """Answers from `change` until the alarm, at most `patience`; and how many false alarms were before."""
    found: list[Floats] = []
    early = 0
    while len(routes):
        routes.step()
        over = routes.answer >= change + patience
        if routes.alarm.any():
            is_early = routes.alarm & (routes.answer < change)
            early += int(is_early.sum())
            routes.forget(is_early)
            over |= routes.alarm & ~is_early
        if over.any():
            found.append(np.minimum(routes.answer[over] - change, patience))
            routes.keep(~over)
    return np.concatenate(found), early


class Raised:
    """Raised routes, until grades release them; `target` is that of their normal."""

    def __init__(self, rate: Rate, way: Way, rng: np.random.Generator, target: Floats) -> None:
        runs = len(target)
        self.way, self.rate, self._rng, self.target = way, rate, rng, target
        self.level = np.minimum(target * CLIMBS[0], np.maximum(HIGHEST, (1 + target) / 2))
        self.fall = _growths(self.level, FALLS, 1.0)
        self.answer, self.grades = np.zeros(runs), np.zeros(runs)
        self.values, self.runs = np.zeros((runs, len(FALLS))), np.zeros((runs, len(FALLS)))
        self.n, self.hits = np.zeros(runs), np.zeros(runs)
        self.graded, self.hour = np.zeros((runs, HOURS)), np.zeros(runs, dtype=int)

    keep = Routes.keep
    _pass_hours = Routes._pass_hours

    def __len__(self) -> int:
        return len(self.answer)

    def step(self) -> Bools:
        """One grade more for each route; returns which are released by it."""
        size, way, rng = len(self), self.way, self._rng
        paced = min(max(way.budget, way.most / way.per_day), way.kept)
        share = np.where(self.graded.sum(axis=1) < way.most, way.kept, paced)
        self.answer += np.floor(np.log1p(-rng.random(size)) / np.log1p(-share)) + 1
        self._pass_hours()
        self.graded[np.arange(size), self.hour % HOURS] += 1
        self.grades += 1
        self.wrong = rng.random(size) < self.rate(self.answer)
        grown = np.where(self.wrong[:, None], *self.fall)
        self.values = (self.values + 1) * np.exp(grown)
        self.runs = np.where(self.runs > 0, self.runs + grown, grown)
        goes_on = self.runs.max(axis=1) > 0
        self.n = np.where(goes_on, self.n + 1, 0.0)
        self.hits = np.where(goes_on, self.hits + self.wrong, 0.0)
        is_low = self.values.mean(axis=1) >= 1 / way.release_alpha
        is_low &= goes_on & (self.grades >= RULE.min_grades)
        if is_low.any():
            n = np.minimum(np.maximum(self.n, 1), RULE.max_grades)
            is_low &= upper(self.hits / np.maximum(self.n, 1) * n, n, RULE.release_confidence) < self.level
        return is_low


def _growths(base: Floats, factors: tuple[float, ...], highest: float) -> tuple[Floats, Floats]:
    """The growth of each bet by a wrong answer, and by a right one."""
    rates = np.minimum(base[:, None] * np.array(factors), np.maximum(highest, (1 + base) / 2)[:, None])
    return np.log(rates / base[:, None]), np.log((1 - rates) / (1 - base[:, None]))


def releases(raised: Raised, until: float) -> Floats:
    """After how many answers each route was released; infinite where it was not until then."""
    found: list[Floats] = []
    while len(raised):
        let_go = raised.step()
        late = raised.answer >= until
        over = let_go | late
        if over.any():
            found.append(np.where(let_go & ~late, raised.answer, np.inf)[over])
            raised.keep(~over)
    return np.concatenate(found)
