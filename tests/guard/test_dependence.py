import json
import math
from itertools import accumulate
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cheapdeep_ops.guard.rules.false_confidence.detection import SequentialTest, learned
from cheapdeep_ops.guard.statistics.dependence import (
    QUESTION_SHARE,
    RUN,
    Given,
    GrowthLimiter,
    Traffic,
    TrafficLearner,
    dispersion_of_blocks,
    evidence_share,
)
from cheapdeep_ops.guard.statistics.intervals import Estimate
from cheapdeep_ops.guard.statistics.sequential import Bets, Detector, Observed
from tests.guard.test_quality import Graded

steady = settings(derandomize=True, deadline=None, max_examples=60, database=None)

TARGET, NEEDED, ALPHA = 0.04, 12.0, 8e-6
BETS = Bets.on_climb(TARGET)
NORMAL = learned(Estimate(rate=0.03, n=600, count=600))
UP, DOWN = BETS.growth(1, 1), BETS.growth(0, 1)


def seen(wrong, *, question="", at=0.0):
    return Observed(UP if wrong else DOWN, int(wrong), 1, at, question)


def given_by(observed, *, run=1.0, traffic=None, needed=NEEDED):
    """What each of these adds, in one run of evidence."""
    limiter = GrowthLimiter(Given(), needed, TrafficLearner(traffic or Traffic()))
    return [limiter.limited(each, run) for each in observed]


def sums(grown):
    return [sum(each) for each in zip(*grown, strict=True)]


def apart(wrongs, **more):
    """Observations of other seconds, of other questions unless one is given."""
    return [seen(wrong, at=100.0 * number, **{"question": f"{number}", **more}) for number, wrong in enumerate(wrongs)]


class TestOneQuestion:
    def test_gives_a_tenth_however_often_it_is_asked(self):
        # With correct answers between, so that no run of neighbours is bounded.
        wrongs = [number % 8 == 0 for number in range(400)]
        grown = given_by([each._replace(question="again") if each.hits else each for each in apart(wrongs)])
        gained = sums(each for each, wrong in zip(grown, wrongs, strict=True) if wrong)
        assert gained == pytest.approx([min(NEEDED / 10, 50 * up) for up in UP])

    def test_gives_again_what_its_correct_answers_took(self):
        grown = given_by(apart([*[True] * 4, False, True], question="again"))
        assert grown[5] == pytest.approx([-each for each in grown[4]], abs=1e-5)

    def test_loses_all_that_its_correct_answers_cost(self):
        assert given_by(apart([False] * 50, question="again")) == [DOWN] * 50

    def test_may_give_as_much_in_the_next_run(self):
        limiter = GrowthLimiter(Given(), NEEDED, TrafficLearner(Traffic()))
        one, two = (seen(True, question="again", at=at) for at in (0.0, 100.0))
        first = limiter.limited(one, 0.0)
        assert max(limiter.limited(two, 1.0)) < max(first)
        assert limiter.limited(two, 0.0) == first

    def test_that_nobody_knows_is_not_taken_for_another(self):
        grown = given_by([seen(wrong, at=100.0 * number) for number, wrong in enumerate([True, *[False] * 7] * 3)])
        assert grown[0] == grown[8] == grown[16]

    @pytest.mark.parametrize(
        ("usual", "share"), [(0.0, 0.1), (0.005, 0.1), (0.1, 0.4), (0.3, 0.8196), (0.5, math.inf), (0.95, math.inf)]
    )
    def test_gives_more_if_it_is_usual(self, usual, share):
        assert evidence_share(usual) == pytest.approx(share, abs=1e-4)


class TestUsualQuestions:
    @staticmethod
    def learned_from(questions, run=0.0, *, wrong=False):
        learner = TrafficLearner(Traffic())
        for question in questions:
            learner.learn(seen(wrong, question=question), run)
        return learner

    def test_are_known_after_some_calm_observations(self):
        assert self.learned_from(["always"] * 50).usual_share("always") == pytest.approx(0.5)
        assert self.learned_from(["always"] * 450).usual_share("always") == pytest.approx(0.9)

    def test_are_hardly_learned_while_there_is_evidence(self):
        assert self.learned_from(["always"] * 50, run=2.0).usual_share("always") < 0.1
        assert self.learned_from(["always"] * 50, wrong=True).usual_share("always") < 0.1
        # A route that was never calm can be found all the same.
        assert evidence_share(self.learned_from(["always"] * 400, run=math.inf).usual_share("always")) == math.inf

    def test_are_found_among_many_others_and_never_counted_too_high(self):
        random = Random(5)
        asked = [f"{random.randrange(10**6)}" if random.random() < 0.7 else "often" for _ in range(900)]
        learner = self.learned_from(asked)
        assert 0.2 < learner.usual_share("often") <= asked.count("often") / 950
        assert len(learner.traffic.questions) <= 32

    def test_are_forgotten_when_they_are_asked_no_more(self):
        learner = self.learned_from(["once"] * 900 + [f"{number}" for number in range(5_000)])
        assert evidence_share(learner.usual_share("once")) == QUESTION_SHARE


class TestNeighbours:
    def test_give_a_third_in_each_run_of_six(self):
        grown = given_by(apart([True] * 60))
        for start in range(60):
            assert max(sums(grown[start : start + RUN])) <= NEEDED / 3 + 1e-6
        # A climb to 100% is still found: in eighteen grades at the soonest.
        assert max(sums(grown[:18])) == pytest.approx(NEEDED)

    @pytest.mark.parametrize("wrong", [30, 60])
    def test_of_one_second_move_nothing(self, wrong):
        random = Random(f"{wrong}")
        for _ in range(5):
            test = SequentialTest()
            for number in range(400):
                test = test.after(Graded(incorrect=random.random() < 0.03, called_at=100.0 * number), NORMAL)
            before = max(test.climb.evidence, 0.0)
            for _ in range(wrong):
                # The grades of the second may come with others between them.
                test = test.after(Graded(incorrect=True, called_at=50_000.5), NORMAL)
                test = test.after(Graded(incorrect=False, called_at=50_100.0 + _), NORMAL)
            assert not test.climb.alarms(ALPHA)
            assert test.climb.evidence <= before - math.log(ALPHA) / 3 + 1

    def test_of_three_seconds_are_enough(self):
        test = SequentialTest()
        for number in range(60):
            test = test.after(Graded(incorrect=True, called_at=100.0 + number // 15), NORMAL)
        assert test.climb.alarms(ALPHA)


class TestTheDispersion:
    def test_is_one_where_the_rate_is_steady(self):
        random = Random(1)
        found = [
            dispersion_of_blocks([sum(random.random() < 0.03 for _ in range(50)) for _ in range(200)])
            for _ in range(50)
        ]
        assert sum(each > 1 for each in found) <= 3

    def test_is_that_of_rates_that_vary_from_day_to_day(self):
        random, blocks = Random(2), []
        for _ in range(40):
            rate = random.choice([0.01, 0.09])
            blocks += [sum(random.random() < rate for _ in range(50)) for _ in range(5)]
        assert 2 < dispersion_of_blocks(blocks) < 16

    def test_divides_all_growth(self):
        grown = given_by(apart([True, False]), traffic=Traffic(dispersion=2.0))
        assert grown[1] == tuple(each / 2 for each in DOWN)
        assert grown[0] == pytest.approx([min(each, NEEDED / 10) / 2 for each in UP])

    @pytest.mark.parametrize("count", [1, 3, 10, 30])
    @pytest.mark.parametrize("dispersion", [1.0, 6.0, 20.0])
    def test_hides_no_climb_of_the_questions_that_are_usual(self, count, dispersion):
        traffic = Traffic(
            questions={f"q{number}": 900 / count for number in range(count)}, total=900, dispersion=dispersion
        )
        # Each wrong answer is followed by correct ones, so that no run of neighbours is bounded.
        observed = [
            seen(number % 6 == 0, question=f"q{number // 6 % count}", at=100.0 * number)
            for number in range(6 * 40 * int(dispersion))
        ]
        second_bet = accumulate(grown[1] for grown in given_by(observed, traffic=traffic))
        assert max(second_bet) > NEEDED

    @pytest.mark.parametrize("dispersion", [1.0, 6.0, 20.0])
    def test_gives_a_new_question_no_more(self, dispersion):
        assert evidence_share(0.0, dispersion) == QUESTION_SHARE

    def test_is_not_learned_from_an_incident_and_not_while_evidence_grows(self):
        learner = TrafficLearner(Traffic())
        for number in range(1_000):
            learner.learn(seen(number % 500 < 100), math.inf if number % 500 < 100 else 5.0)
        assert learner.dispersion == 1.0
        assert len(learner.traffic.waiting) == 20
        assert learner.traffic.without_evidence().waiting == ()
        learner.learn(seen(wrong=False), 0.5)
        assert learner.dispersion > 2


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from(["", "a", "b", "c"]), st.sampled_from([0.0, 0.4, 1.0, 7.0])),
        max_size=80,
    ),
    st.floats(1, 5),
)
@steady
def test_no_bet_has_a_better_chance_than_a_fair_one_whatever_was_before(past, varied):
    learner = TrafficLearner(Traffic(dispersion=varied))
    limiter, detector = GrowthLimiter(Given(), NEEDED, learner), Detector()

    def limit(observed, run):
        grown = limiter.limited(observed, run)
        learner.learn(observed, run)
        return grown

    for wrong, question, at in past:
        given_before, traffic, run = limiter.given, learner.traffic, detector.run
        both = [
            GrowthLimiter(given_before, NEEDED, TrafficLearner(traffic)).limited(
                seen(each, question=question, at=at), run
            )
            for each in (True, False)
        ]
        # At the target, the mean of a bet's factor is 1 without bounds.
        for up, down in zip(*both, strict=True):
            assert TARGET * math.exp(up) + (1 - TARGET) * math.exp(down) <= 1 + 1e-12
        detector = detector.after_all([seen(wrong, question=question, at=at)], limit=limit)


def test_a_test_goes_on_where_it_was():
    random, test, kept = Random(9), SequentialTest(), SequentialTest()
    for number in range(300):
        one = Graded(
            incorrect=random.random() < 0.1, called_at=float(number // 3), fingerprint=f"{random.randrange(9)}" * 32
        )
        test = test.after(one, NORMAL)
        kept = SequentialTest.from_row(json.loads(json.dumps(kept.row()))).after(one, NORMAL)
        assert kept == test
    assert len(json.dumps(test.row())) < 6_000
    # Of a fingerprint, only so much is kept that it names no question.
    assert all(len(each) == 4 for each in (*test.climb_given.questions, *test.traffic.questions))


def test_what_is_usual_outlasts_an_incident_and_the_evidence_does_not():
    test = SequentialTest(phase=(False, 0.0))
    for number in range(200):
        test = test.after(Graded(incorrect=number > 150, called_at=9.0 * number, fingerprint="a" * 32), NORMAL)
    again = test.in_phase((True, 1.0))
    assert again.traffic.questions == test.traffic.questions
    assert (again.climb, again.climb_given, again.traffic.waiting) == (Detector(), Given(), ())
    assert test.in_phase((False, 0.0)) is test
