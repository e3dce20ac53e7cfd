import json
from dataclasses import dataclass
from random import Random
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.guard.rules.false_confidence.detection import (
    AlarmLevel,
    SequentialTest,
    at_rate,
    estimate,
    finding_of,
    learned,
)
from cheapdeep_ops.guard.rules.false_confidence.rule import QualityRule
from cheapdeep_ops.guard.rules.model import Level
from cheapdeep_ops.guard.statistics.intervals import Estimate, weighted

steady = settings(derandomize=True, deadline=None, max_examples=200, database=None)

ABOVE, BELOW, UNCLEAR, NO_DATA = Level.ABOVE, Level.BELOW, Level.UNCLEAR, Level.NO_DATA
RAISED_AT = 1_000_000.0
(PACKAGED,) = [rule for rule in read_rulebook().rules if rule.alert == "FalseConfidenceClimbing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    incorrect: bool
    called_at: float = RAISED_AT
    inclusion: float = 1.0
    shipped: bool = True
    fingerprint: str = ""


def of(hits: int, n: int) -> Estimate:
    return Estimate(rate=hits / n, n=n, count=n)


def graded(wrong: int, n: int, **fields: object) -> list[Graded]:
    """`n` grades with `wrong` incorrect ones spread evenly over them."""
    return [Graded(incorrect=number * wrong // n != (number + 1) * wrong // n, **fields) for number in range(n)]


def numbered(grades):
    return [
        Graded(incorrect=each.incorrect, called_at=RAISED_AT + number, inclusion=each.inclusion, shipped=each.shipped)
        for number, each in enumerate(grades)
    ]


def find(grades, alarm, *, fires=False, rule: QualityRule = PACKAGED):
    """The finding after `grades`, oldest first, where the same alarm holds for all of them."""
    grades, watch = numbered(grades), SequentialTest()
    for each in grades if alarm else ():
        watch = watch.after(each, alarm)
    return finding_of(rule, watch, grades[: -rule.max_grades - 1 : -1], alarm, fires=fires)


NORMAL = learned(of(10, 200))  # 5%, a target of about 7.4% and a level of about 11%
TENTH = at_rate(0.10)

# Runs of grades, the oldest first, as (wrong, of how many); then the alarm, and the level.
QUIET = {
    "no grade at all": ([], NORMAL, NO_DATA),
    "one too few, all wrong": ([(49, 49)], NORMAL, NO_DATA),
    "just enough, all wrong": ([(50, 50)], NORMAL, ABOVE),
    "just enough, none wrong": ([(0, 50)], NORMAL, UNCLEAR),
    "the same as normal": ([(40, 800)], NORMAL, UNCLEAR),
    "a little more than normal": ([(56, 800)], NORMAL, UNCLEAR),
    "a jump after 750 good ones": ([(37, 750), (25, 50)], NORMAL, ABOVE),
    "a slow rise, seen in 800": ([(142, 800)], NORMAL, ABOVE),
    "nothing is normal yet, all wrong": ([(800, 800)], None, NO_DATA),
    "at the limit exactly": ([(80, 800)], TENTH, UNCLEAR),
    "surely above the limit": ([(40, 80)], TENTH, ABOVE),
}

FIRING = {
    "no grade since": ([], NORMAL, NO_DATA),
    "one too few since, none wrong": ([(0, 49)], NORMAL, NO_DATA),
    "enough to let go, none wrong": ([(0, 150)], NORMAL, BELOW),
    "as normal, in 600": ([(30, 600)], NORMAL, BELOW),
    "at the level": ([(90, 800)], NORMAL, UNCLEAR),
    "as bad as before": ([(192, 800)], NORMAL, ABOVE),
    "bad at first, good since": ([(300, 700), (5, 300)], NORMAL, BELOW),
    "bad at first, good in too few": ([(300, 700), (0, 20)], NORMAL, ABOVE),
    "nothing is normal any more": ([(0, 800)], None, NO_DATA),
    "surely below a limit": ([(4, 400)], TENTH, BELOW),
}


class TestTheLevel:
    @pytest.mark.parametrize("case", QUIET)
    def test_while_quiet(self, case):
        runs, alarm, level = QUIET[case]
        assert find([each for wrong, n in runs for each in graded(wrong, n)], alarm).level is level

    @pytest.mark.parametrize("case", FIRING)
    def test_while_firing(self, case):
        runs, alarm, level = FIRING[case]
        assert find([each for wrong, n in runs for each in graded(wrong, n)], alarm, fires=True).level is level

    @pytest.mark.parametrize(("table", "fires"), [(QUIET, False), (FIRING, True)])
    def test_is_of_shipped_and_withheld_answers_alike(self, table, fires):
        for runs, alarm, level in table.values():
            mixed = [
                Graded(incorrect=each.incorrect, shipped=number % 2 == 0)
                for number, each in enumerate(each for wrong, n in runs for each in graded(wrong, n))
            ]
            assert find(mixed, alarm, fires=fires).level is level

    def test_while_quiet_is_never_below(self):
        assert find(graded(0, 800), NORMAL).level is UNCLEAR

    @steady
    @given(st.lists(st.booleans(), max_size=300))
    def test_goes_on_where_it_was_after_a_restart(self, wrongs):
        watch = kept = SequentialTest(phase=(False, 0.0))
        for each in numbered([Graded(incorrect=wrong) for wrong in wrongs]):
            watch = watch.after(each, NORMAL)
            kept = SequentialTest.from_row(json.loads(json.dumps(kept.row()))).after(each, NORMAL)
        assert kept == watch


class TestTheSignal:
    def test_is_of_the_run_that_decided(self):
        found = find([*graded(37, 750), *graded(30, 50)], NORMAL)
        assert found.level is ABOVE
        assert found.signal["n"] < 100
        assert found.signal["low"] > found.signal["normal_high"]
        assert found.signal["evidence"] >= found.signal["evidence_limit"]

    def test_while_firing_is_of_the_run_that_shows_it_still_bad(self):
        found = find(graded(192, 800), NORMAL, fires=True)
        assert found.level is ABOVE
        assert found.signal["rate"] == pytest.approx(0.24, abs=0.03)
        assert found.signal["evidence"] >= found.signal["evidence_limit"] == pytest.approx(11.74, abs=0.01)

    def test_lets_go_only_if_the_weighted_rate_lies_below_too(self):
        plain = graded(1, 200)
        heavy = [Graded(incorrect=each.incorrect, inclusion=0.01 if each.incorrect else 1.0) for each in plain]
        assert find(plain, NORMAL, fires=True).level is BELOW
        assert find(heavy, NORMAL, fires=True).level is UNCLEAR

    def test_lies_below_the_level_where_it_lets_go(self):
        found = find(graded(10, 400), NORMAL, fires=True)
        assert found.level is BELOW
        assert found.signal["high"] < found.signal["limit"]

    def test_is_of_all_where_nothing_has_decided(self):
        signal = find(graded(40, 800), NORMAL).signal
        assert (signal["n"], signal["rate"]) == (800, pytest.approx(0.05))
        assert (signal["limit"], signal["target"]) == (NORMAL.level, NORMAL.target)

    def test_of_nothing_could_be_anything(self):
        signal = find([], None).signal
        assert (signal["rate"], signal["low"], signal["high"], signal["n"], signal["limit"]) == (
            None,
            0.0,
            1.0,
            0,
            None,
        )

    def test_shows_apart_what_has_shipped(self):
        grades = [*graded(0, 60), *graded(30, 60, shipped=False)]
        signal = find(grades, NORMAL).signal
        assert (signal["shipped_rate"], signal["shipped_n"]) == (0.0, 60)


class TestAnAlarm:
    @pytest.mark.parametrize(("hits", "n"), [(0, 200), (10, 200), (100, 200), (200, 200)])
    def test_that_was_learned_lies_above_what_is_normal_and_below_one(self, hits, n):
        alarm = learned(of(hits, n))
        assert min(hits / n, 0.98) < alarm.target <= alarm.level < 1

    def test_that_was_learned_from_less_needs_more(self):
        assert learned(of(5, 100)).target > learned(of(50, 1_000)).target

    def test_that_was_set_is_certain(self):
        assert AlarmLevel(target=0.1, level=0.1) == at_rate(0.1)


def test_an_estimate_of_no_grades_is_none_and_of_some_is_weighted():
    assert estimate([]) is None
    some = [Graded(incorrect=True, inclusion=0.5), Graded(incorrect=False, inclusion=0.1)]
    assert estimate(some) == weighted([(True, 0.5, 1), (False, 0.1, 1)])


def learned_from(random: Random, rate: float) -> AlarmLevel:
    return learned(of(sum(random.random() < rate for _ in range(600)), 600))


def first(level: Level, alarm: AlarmLevel, wrongs, *, fires=False, every=1):
    """After how many grades the level is found, looked for after every so many."""
    grades = numbered([Graded(incorrect=wrong) for wrong in wrongs])
    watch = SequentialTest()
    for seen, each in enumerate(grades, start=1):
        watch = watch.after(each, alarm)
        if seen % every == 0:
            newest = grades[max(seen - PACKAGED.max_grades, 0) : seen][::-1]
            if finding_of(PACKAGED, watch, newest, alarm, fires=fires).level is level:
                return seen
    return None


def drawn(random: Random, rate: float, n: int) -> list[bool]:
    return [random.random() < rate for _ in range(n)]


class TestRunsOfGrades:
    @pytest.mark.thorough
    @pytest.mark.parametrize("rate", [0.02, 0.05, 0.3])
    def test_at_a_steady_rate_call_hardly_a_false_alarm(self, rate):
        random = Random(f"steady {rate}")
        found = [first(ABOVE, learned_from(random, rate), drawn(random, rate, 1_000), every=20) for _ in range(40)]
        assert sum(each is not None for each in found) <= 1

    def test_in_which_5_percent_become_24_are_found_soon(self):
        random = Random("5 to 24")
        found = [first(ABOVE, learned_from(random, 0.05), drawn(random, 0.24, 600), every=5) for _ in range(40)]
        assert None not in found
        assert median(found) <= 100

    @pytest.mark.thorough
    def test_in_which_3_percent_become_10_are_found_within_1500(self):
        random = Random("3 to 10")
        found = [first(ABOVE, learned_from(random, 0.03), drawn(random, 0.10, 1_500), every=20) for _ in range(40)]
        assert sum(each is not None for each in found) >= 0.85 * 40


class TestAfterARaise:
    """Calls made since, until one look says that it is over."""

    @staticmethod
    def let_go(seed, *, withheld_share, shipped_wrong, withheld_wrong, most=1_000):
        random, watch, grades = Random(seed), SequentialTest(), []
        for seen in range(1, most + 1):
            shipped = random.random() >= withheld_share
            wrong = random.random() < (shipped_wrong if shipped else withheld_wrong)
            grades.append(Graded(incorrect=wrong, shipped=shipped, called_at=RAISED_AT + seen))
            watch = watch.after(grades[-1], NORMAL)
            newest = grades[: -PACKAGED.max_grades - 1 : -1] if seen % 20 == 0 else []
            if newest and finding_of(PACKAGED, watch, newest, NORMAL, fires=True).level is BELOW:
                return seen
        return None

    @pytest.mark.parametrize(
        "mixture",
        [
            # 0.8 * 3% + 0.2 * 13% = 5%, as normal, although what is withheld is worse than the level.
            {"withheld_share": 0.2, "shipped_wrong": 0.03, "withheld_wrong": 0.13},
            {"withheld_share": 0.0, "shipped_wrong": 0.05, "withheld_wrong": 1.0},
            {"withheld_share": 1.0, "shipped_wrong": 1.0, "withheld_wrong": 0.05},
        ],
    )
    def test_a_healthy_route_is_let_go(self, mixture):
        released = [self.let_go(f"well {seed}", **mixture, most=2_000) for seed in range(20)]
        assert None not in released
        assert median(released) <= 300

    @pytest.mark.thorough
    def test_a_route_that_stays_bad_is_never_let_go(self):
        mixture = {"withheld_share": 0.2, "shipped_wrong": 0.24, "withheld_wrong": 0.24}
        assert {self.let_go(f"bad {seed}", **mixture) for seed in range(30)} == {None}

    @pytest.mark.thorough
    def test_a_route_whose_bad_answers_are_all_withheld_is_never_let_go(self):
        # What ships is fine because of the raise; without it the route would be as bad as before.
        mixture = {"withheld_share": 0.4, "shipped_wrong": 0.0, "withheld_wrong": 0.6}
        assert {self.let_go(f"held {seed}", **mixture) for seed in range(30)} == {None}
