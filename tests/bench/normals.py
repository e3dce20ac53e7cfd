"""How soon climbs are found where normal is learned, how often nothing is found, and how soon a raise is let go.

Run `python tests/bench/normals.py [climbs|calm|releases]`; it needs numpy, and takes about half an hour of one core.
`--seed N` takes other random numbers, `--only TEXT` takes the rows with this text, and `--answers` sets the size of
`calm`. Routes are simulated thousands at a time (`many_routes.py`), with the package's arithmetic. All numbers are of
confident answers, and errors are Monte-Carlo errors (95%). Nothing here repeats a question: see `dependence.py`.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from many_routes import Calm, Floats, Raised, Rate, Routes, Way, false_alarms, releases, waits

SMALL, LARGE = 33_000.0, 864_000.0
HOUR = 1 / 24
CLIMBS = ((0.03, 0.10), (0.02, 0.05))
CALMS = (60_000, 300_000, 1_000_000)
STEADY = (0.01, 0.02, 0.03, 0.05, 0.10)
HELD = (0.18, 0.15, 0.12)
PATIENCE = 1_000_000.0
TOGETHER = 4_000
"""How many routes are simulated at once."""
DAYS = 100_000
"""How many days there are to choose from, so that routes share few of them."""


def climbs(before: float, after: float, change: float) -> Rate:
    return lambda at: np.where(at >= change, after, before)


def steady(rate: float) -> Rate:
    return lambda at: np.full(at.shape, rate)


def days(rate: float, spread: float, per_day: float, rng: np.random.Generator, count: int) -> Rate:
    """A rate that is lognormal from day to day, with the mean `rate`; days repeat after `count`."""
    rates = np.minimum(rate * np.exp(rng.normal(-spread * spread / 2, spread, count)), 1.0)
    return lambda at: rates[(at / per_day).astype(int) % count]


def rhythm(rate: float, swing: float, per_day: float) -> Rate:
    """A rate that goes up and down by `swing` every day."""
    return lambda at: rate + swing * np.sin(at * (2 * np.pi / per_day))


def judged(rate: Rate, tpr: float, tnr: float) -> Rate:
    """The rate that a grader sees which finds `tpr` of the wrong answers, and leaves `tnr` of the right ones alone."""
    return lambda at: rate(at) * tpr + (1 - rate(at)) * (1 - tnr)


@dataclass(frozen=True)
class Wait:
    """The answers from a climb to its alarm."""

    name: str
    found: Floats
    early: int
    """Alarms before the climb."""

    @property
    def mean(self) -> float:
        return float(self.found.mean())

    @property
    def error(self) -> float:
        return 1.96 * float(self.found.std()) / len(self.found) ** 0.5

    def __str__(self) -> str:
        half, most = np.quantile(self.found, [0.5, 0.9])
        never = (self.found >= PATIENCE).mean()
        shown = f"{self.mean:>9,.0f} ± {self.error:<7,.0f}{half:>8,.0f}{most:>9,.0f}"
        return f"{self.name:<58}{shown}{never:>8.2%}{self.early:>6}"


def waited(
    name: str, rate: Rate, change: float, way: Way, *, runs: int, target: float | None = None, seed: int = 1
) -> Wait:
    rng = np.random.default_rng(seed)
    parts = [
        waits(Routes(min(TOGETHER, runs - done), rate, way, rng, target=target), change, PATIENCE)
        for done in range(0, runs, TOGETHER)
    ]
    return Wait(name, np.concatenate([found for found, _ in parts]), sum(early for _, early in parts))


def climb_rows(*, runs: int, seed: int = 1, only: str = "") -> Iterator[Wait]:
    for before, after in CLIMBS:
        for per_day in (SMALL, LARGE):
            named = f"{before:.0%} -> {after:.0%}, {per_day:,.0f} a day"
            way, late = Way(per_day=per_day), Way(per_day=per_day, late=round(per_day * HOUR))
            known, calm = climbs(before, after, 20_000), CALMS[1]
            rows: list[tuple[str, Rate, float, Way, int, float | None]] = [
                ("target known", known, 20_000, way, runs, before),
                ("target known, an hour late", known, 20_000, late, runs, before),
                *(
                    (f"after {each:,}", climbs(before, after, each), each, way, many, None)
                    for each, many in zip(CALMS, (runs, runs, runs // 2), strict=True)
                ),
                (f"after {calm:,}, an hour late", climbs(before, after, calm), calm, late, runs // 2, None),
                (
                    f"after {calm:,}, grader .8/.98", judged(climbs(before, after, calm), 0.8, 0.98), calm, way,
                    runs // 2, None,
                ),
            ]  # fmt: skip
            for name, rate, change, how, many, target in rows:
                if only in (full := f"{named}: {name}"):
                    yield waited(full, rate, change, how, runs=many, target=target, seed=seed)


def calm_rows(
    *, answers: float, until: float = 1_000_000.0, seed: int = 11, only: str = "", bounded: bool = True
) -> Iterator[tuple[str, Calm]]:
    """False alarms over so many answers, of routes that have `until` answers each, from their first on."""
    ways = {f"steady {rate:.0%}": (steady(rate), Way()) for rate in STEADY}
    varied = np.random.default_rng(seed + 7)
    ways |= {f"{rate:.0%}, +-1 point a day": (rhythm(rate, 0.01, SMALL), Way()) for rate in STEADY[1:]}
    ways["3%, days lognormal 0.3"] = (days(0.03, 0.3, SMALL, varied, DAYS), Way())
    ways["3%, 864,000 a day"] = (steady(0.03), Way(per_day=LARGE))
    ways["3%, an hour late"] = (steady(0.03), Way(late=round(SMALL * HOUR)))
    ways["3%, grader .8/.98"] = (judged(steady(0.03), 0.8, 0.98), Way())
    for name, (rate, way) in ways.items():
        if only not in name:
            continue
        rng, total = np.random.default_rng(seed), Calm(0, 0, 0, 0.0, 0.0)
        while total.answers < answers:
            few = max(min(TOGETHER, round((answers - total.answers) / until)), 1)
            routes = Routes(few, rate, replace(way, is_bounded=bounded), rng, span=DAYS * SMALL)
            total += false_alarms(routes, until)
        yield name, total


def normal_targets(rate: float, calm: float, *, runs: int, seed: int = 5) -> Floats:
    """The targets of routes with this rate after so many answers."""
    routes, found = Routes(runs, steady(rate), Way(), np.random.default_rng(seed)), []
    while len(routes):
        routes.step()
        over = routes.answer >= calm
        if over.any():
            found.append(routes.target[over].copy())
            routes.keep(~over)
    return np.concatenate(found)


def release_rows(
    *, runs: int, normal: float = 0.05, calm: float = 60_000.0, seed: int = 5, way: Way | None = None
) -> Iterator[tuple[str, float, float]]:
    """What is let go within 100,000 answers, and after how many answers of a true recovery; with the error."""
    targets = normal_targets(normal, calm, runs=runs, seed=seed)
    rng, way = np.random.default_rng(seed + 1), way or Way()
    for rate in HELD:
        let_go = np.isfinite(releases(Raised(steady(rate), way, rng, targets.copy()), 100_000.0)).mean()
        yield f"{rate:.0%} stays: let go within 100,000", let_go, 1.96 * (let_go * (1 - let_go) / runs) ** 0.5
    for stay in (0, 5_000, 20_000):
        found = releases(Raised(climbs(0.18, normal, stay), way, rng, targets.copy()), stay + 60_000.0) - stay
        found = np.sort(found[found >= 0])
        half, around = len(found) // 2, round(0.98 * len(found) ** 0.5)
        yield (
            f"back after {stay:,} answers: median until let go",
            found[half],
            (found[half + around] - found[half - around]) / 2,
        )


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("what", nargs="*", choices=(*TABLES, []))
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--only", default="")
    arguments.add_argument("--answers", type=float, default=2e9)
    arguments.add_argument("--runs", type=int, default=4_000)
    given = arguments.parse_args()
    what, seed, only = given.what or TABLES, given.seed, given.only
    if "climbs" in what:
        print(f"{'climb':<58}{'answers until the raise':>19}{'median':>8}{'90%':>9}{'never':>8}{'early':>6}")
        for row in climb_rows(runs=given.runs, seed=seed, only=only):
            print(row, flush=True)
    if "calm" in what:
        print(f"{'calm':<40}{'false alarms in 10 million':>28}{'alarms':>8}{'routes':>8}{'answers':>10}{'graded':>8}")
        for name, calm in calm_rows(answers=given.answers, seed=seed, only=only):
            shown = f"{calm.per_ten_million:>17.2f} ± {calm.error:<8.2f}{calm.alarms:>8}{calm.routes:>8}"
            print(f"{name:<40}{shown}{calm.answers:>10.1e}{calm.grades / calm.answers:>8.2%}", flush=True)
    if "releases" in what:
        for name, value, error in release_rows(runs=given.runs, seed=seed):
            print(
                f"{name:<50}{value:>10.3f} ± {error:.3f}" if value < 1 else f"{name:<50}{value:>10,.0f} ± {error:,.0f}",
                flush=True,
            )


TABLES = ("climbs", "calm", "releases")

if __name__ == "__main__":
    main()
