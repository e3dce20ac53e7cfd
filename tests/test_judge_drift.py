"""A grader that changes and a system that drifts, over real HTTP: router, guard, simulated API and Slack."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from sqlalchemy import select

from cheapdeep_ops import Settings
from cheapdeep_ops.demo.environment import Environment, Simulators
from cheapdeep_ops.resources import packaged
from cheapdeep_ops.store import grades, incidents, labels, regradings
from cheapdeep_ops.store.grades import GraderVersion
from cheapdeep_ops.store.tables.grade_tables import GradeRow, RegradeRow
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.testing import Reply, SimulatedGrader
from cheapdeep_ops.testing.traffic.simulated_grader import grade_text
from cheapdeep_ops.units import DAY_S
from cheapdeep_ops.values import Grade

pytestmark = pytest.mark.thorough
CLIMBING = "FalseConfidenceClimbing"
NORMAL = 40
EVERY_S = 3_600.0


class Api:
    """Answers that say themselves whether they are right, and the simulated grader, which may be exchanged."""

    def __init__(self) -> None:
        self.judge = SimulatedGrader()
        self.wrong_of_hundred = 4
        self.answered = 0

    def __call__(self, request):
        if request.is_grading:
            correct = "right" in request.graded_answer
            return Reply.text(grade_text(self.judge.verdict(request.graded_answer, correct=correct, seed=7)))
        self.answered += 1
        # Spread evenly over a hundred answers, so that a short stretch has about the rate of a long one.
        kind = "wrong" if (self.answered * 37) % 100 < self.wrong_of_hundred else "right"
        return Reply.triage(0.95, f"A {kind} answer, number {self.answered}.")


class World:
    def __init__(self, environment: Environment, api: Api) -> None:
        self.environment, self.api = environment, api
        self.store = environment.store

    def calls(self, count: int, *, wrong_of_hundred: int = 4) -> None:
        self.api.wrong_of_hundred = wrong_of_hundred
        for _ in range(count):
            at = self.environment.clock() + 1.0
            self.environment.call(at, lambda router: router.ask("Is it open?"), correct=lambda _: None)
        self.pass_(2 * EVERY_S)

    def label_all(self) -> None:
        """People label every answer by the truth."""
        grade = table_of(GradeRow)

        def work(connection):
            for row in connection.execute(select(grade.c.call_id, grade.c.verdict)).all():
                assert labels.put(
                    connection, row.call_id, Grade(row.verdict), author="ann", at=self.environment.clock()
                )

        self.store.transact(work)

    def pass_(self, seconds: float) -> None:
        self.environment.advance_to(self.environment.clock() + seconds)

    def regrade_until(self, *, fires: bool, most: int) -> int:
        """Let time pass until JudgeDrifted fires, or does no longer; returns the number of repeated gradings."""
        before = self.regraded
        while self.fires("JudgeDrifted") is not fires and self.regraded - before < most:
            self.pass_(EVERY_S)
        return self.regraded - before

    @property
    def regraded(self) -> int:
        with self.store.reading() as connection:
            return regradings.newest_id(connection)

    def fires(self, rule: str) -> bool:
        with self.store.reading() as connection:
            return any(each["rule"] == rule and each["state"] == "firing" for each in incidents.alerts(connection))

    @property
    def threshold(self) -> float:
        return self.environment.router.ask("Is it open?").decision.threshold


@pytest.fixture(scope="module")
def simulators() -> Iterator[Simulators]:
    with Simulators() as simulators:
        yield simulators


@pytest.fixture
def world(simulators, tmp_path: Path) -> Iterator[World]:
    rules = yaml.safe_load(packaged("alerts/rules.yaml").read_text("utf-8"))
    # All calls fare the same here, and there are pauses of days.
    rules["rules"] = [rule for rule in rules["rules"] if rule["alert"] not in {"InertGate", "SchedulerStalled"}]
    next(rule for rule in rules["rules"] if rule["alert"] == "JudgeDrifted")["normal_regradings"] = NORMAL
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    settings = Settings(
        rules_file=tmp_path / "rules.yaml", sample_rate=1.0, sampling="uniform", regrades_per_day=24,
        evaluate_every_s=EVERY_S, grade_every_s=EVERY_S,
    )  # fmt: skip
    api = Api()
    with Environment(simulators, settings=settings, route="support", ids="call") as environment:
        simulators.api.always(api)
        world = World(environment, api)
        world.calls(80, wrong_of_hundred=40)
        world.label_all()
        # What is normal for the route is learned from better answers than those that people have labelled.
        grader = GraderVersion(model=settings.grader_model, prompt=_prompt(world))
        now = environment.clock()
        world.store.transact(
            lambda connection: grades.relearn(connection, grader, "support", now=now, author="ann", why="test")
        )
        world.calls(220)
        world.pass_((2 * NORMAL + 2) * EVERY_S)
        yield world


def _prompt(world: World) -> str:
    with world.store.reading() as connection:
        prompt: str = connection.execute(select(table_of(GradeRow).c.grader_prompt).limit(1)).scalar()
    return prompt


def test_a_grader_that_changes_is_noticed_and_false_confidence_waits_for_it(world):
    assert world.regraded >= 2 * NORMAL
    assert not world.fires("JudgeDrifted")
    world.api.judge = SimulatedGrader(tnr=0.3)
    assert world.regrade_until(fires=True, most=60) <= 40
    # Right answers are graded wrong, and nothing is raised because of that.
    world.calls(150)
    assert (world.fires(CLIMBING), world.threshold) == (False, 0.8)
    world.api.judge = SimulatedGrader()
    assert world.regrade_until(fires=False, most=150) < 100
    world.calls(150)
    assert (world.fires(CLIMBING), world.threshold) == (False, 0.8)
    # The verdicts on labelled answers are in no rate.
    with world.store.reading() as connection:
        counted = sum(grades.counts(connection).values())
    assert 0 < counted <= world.api.answered < counted + world.regraded
    world.calls(150, wrong_of_hundred=40)
    assert (world.fires(CLIMBING), world.threshold) == (True, 0.9)


def test_a_grader_that_stays_changed_is_a_question_to_people_after_a_week(world):
    world.api.judge = SimulatedGrader(tpr=0.2)
    assert world.regrade_until(fires=True, most=60) <= 40
    world.calls(20)
    world.pass_(6.9 * DAY_S)
    assert (world.fires("JudgeDrifted"), world.fires("JudgeUndecided")) == (True, False)
    world.pass_(0.2 * DAY_S)
    assert world.fires("JudgeUndecided")
    told = " ".join(str(message) for message in world.environment.slack.messages)
    assert "the grader has changed" in told
    assert "JudgeUndecided" in told


def test_a_system_that_drifts_is_not_taken_for_a_change_of_the_grader(world):
    world.calls(150, wrong_of_hundred=40)
    assert world.fires(CLIMBING)
    world.pass_(60 * EVERY_S)
    row = table_of(RegradeRow)
    with world.store.reading() as connection:
        assert connection.execute(select(row.c.id).where(row.c.verdict != row.c.label)).first() is None
    assert world.regraded >= 2 * NORMAL + 59
    assert not world.fires("JudgeDrifted")
