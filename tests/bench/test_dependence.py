import sys
from pathlib import Path
from random import Random

import pytest

np = pytest.importorskip("numpy")

from cheapdeep_ops.guard.statistics.dependence import (  # noqa: E402
    Given,
    GrowthLimiter,
    Traffic,
    TrafficLearner,
    dispersion_of_blocks,
)
from cheapdeep_ops.guard.statistics.sequential import Bets, Detector, Observed  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))

import dependence  # noqa: E402 - it needs numpy
from many_limits import Limits, dispersions  # noqa: E402

ROUTES, GRADES = 8, 3_000


@pytest.mark.thorough
def test_many_routes_at_once_are_bounded_as_one_is():
    random, bets = Random(3), Bets.on_climb(0.03)
    up, down = (np.array(bets.growth(hits, 1)) for hits in (1, 0))
    many, cusum = Limits(ROUTES, dependence.NEEDED.climb), np.zeros((ROUTES, 5))
    counts = np.ones(ROUTES, dtype=bool)
    detectors, learners = [Detector()] * ROUTES, [TrafficLearner(Traffic()) for _ in range(ROUTES)]
    limiters = [GrowthLimiter(Given(), dependence.NEEDED.climb, each) for each in learners]
    for number in range(GRADES):
        # The rate varies from day to day, and in hours of an outage one question is asked again and again.
        rate = 0.3 if number % 500 < 20 else 0.02 * (1 + number // 200 % 3)
        wrong = np.array([random.random() < rate for _ in range(ROUTES)])
        repeats = np.array([random.random() < (0.5 if number % 500 < 20 else 0.02) for _ in range(ROUTES)])
        run = np.maximum(cusum.max(axis=1), 0)
        growth = many.limited(np.where(wrong[:, None], up, down), run, repeats.astype(int), counts)
        many.learn(wrong, run, counts)
        cusum = np.maximum(cusum, 0) + growth
        for place in range(ROUTES):
            many.share[place] = learners[place].usual_share("again")
            question = "again" if repeats[place] else f"{number}"
            seen = Observed(bets.growth(int(wrong[place]), 1), int(wrong[place]), 1, float(number), question)

            def limit(observed, evidence, place=place):
                grown = limiters[place].limited(observed, evidence)
                learners[place].learn(observed, evidence)
                return grown

            detectors[place] = detectors[place].after_all([seen], limit=limit)
            many.share[place] = learners[place].usual_share("again")
        np.testing.assert_allclose(cusum, [each.runs for each in detectors], atol=1e-6)
        np.testing.assert_allclose(many.dispersion, [each.dispersion for each in learners])
    assert many.dispersion.max() > 1


@pytest.mark.parametrize("blocks", [[2] * 100, [0] * 100, [0, 9] * 60, [Random(1).randrange(6) for _ in range(90)]])
def test_the_dispersion_of_many_is_that_of_each(blocks):
    wide = np.array([[9] * (200 - len(blocks)) + blocks], dtype=float)
    assert dispersions(wide, np.array([len(blocks)])) == pytest.approx([dispersion_of_blocks(blocks)])


@pytest.mark.thorough
def test_a_question_that_is_asked_again_and_again_makes_hardly_any_false_alarm():
    case = dependence.Case("", 0.03, dependence.Question(600))
    bounded, without = (
        dependence.false_alarms(case, answers=4e7, until=200_000, seed=2, limits=limits) for limits in (True, False)
    )
    assert bounded.alarms <= 2
    assert without.alarms > 50


@pytest.mark.thorough
def test_wrong_answers_of_one_second_raise_no_alarm():
    assert dependence.alarms_of_a_second(60, rate=0.03, runs=10, seed=0) == 0
