"""People check the judge: labels, what they say, and the rate that follows; a second judge beside the first."""

import json
from itertools import count

import pytest
from sqlalchemy import select

from cheapdeep_ops.errors import GraderError, PolicyError
from cheapdeep_ops.guard.actions.labels import label, label_all
from cheapdeep_ops.guard.grading.version import grader_version
from cheapdeep_ops.guard.reports.receipt import receipt
from cheapdeep_ops.guard.reports.review import next_sample, review_of
from cheapdeep_ops.store import candidates, grades, labels
from cheapdeep_ops.store.grades import GraderVersion
from cheapdeep_ops.store.tables.grade_tables import Candidate, GradeRow
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.values import Exchange, Grade, GradeFailure, GradeResult, TextTurn, Usage

from .conftest import START, Bench, School, decided, town_rules

SECOND = "claude-sonnet-4-6"
ON_SQLITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


class Erring(Bench):
    """A judge that calls every third wrong answer right, and every twentieth right one wrong; the second never errs."""

    def __init__(self):
        super().__init__()
        self._seen = {"correct": count(1), "incorrect": count(1)}
        self.models = []
        self.second = None
        self.stuck = 0

    def grade(self, request):
        content = request["messages"][0]["content"]
        truth = json.loads(content)["answer"]
        self.models.append(request["model"])
        if request["model"] == SECOND:
            if "stuck" in content:
                self.stuck += 1
                raise GraderError("timeout")
            if isinstance(self.second, Exception):
                raise self.second
            return self.second or GradeResult(grade=Grade(truth), usage=Usage(input_tokens=20, output_tokens=2))
        errs = next(self._seen[truth]) % {"incorrect": 3, "correct": 20}[truth] == 0
        other = {"correct": "incorrect", "incorrect": "correct"}[truth]
        said = Grade(other if errs else truth)
        return GradeResult(grade=said, reason="it says so", usage=Usage(input_tokens=10, output_tokens=1))


@pytest.fixture
def make_school(store, settings, inbox):
    schools = []

    def make(**changes):
        kept = {"sample_rate": 1.0, "grade_concurrency": 1, **changes}
        school = School(store, settings.model_copy(update=kept), town_rules(), inbox)
        school.bench = Erring()
        school.guard = school.another_guard()
        schools.append(school)
        school.look()
        return school

    yield make
    for school in schools:
        school.recorder.close()


@pytest.fixture
def school(make_school):
    school = make_school()
    school.teach(400, 0.2)
    return school


def grade_rows(school):
    with school.store.reading() as connection:
        return [dict(row._mapping) for row in connection.execute(select(table_of(GradeRow)).order_by("id"))]


def looked_at(school, **more):
    with school.store.reading() as connection:
        return review_of(connection, school.settings, **more)


def following(school, **more):
    with school.store.reading() as connection:
        return next_sample(connection, school.settings, **more)


def truthful(school, most, author="ann"):
    """Label what comes next, by the truth, until enough was labelled."""
    for _ in range(most):
        sample = following(school)
        school.do(label, call_id=sample.call_id, verdict=Grade(sample.answer), author=author)


def report(school):
    return receipt(school.store, school.settings, since=START - 1, until=school.clock() + 1)


@pytest.mark.thorough
@ON_SQLITE
def test_rates_are_uncorrected_until_labels_suffice_and_then_corrected(school):
    before = report(school)
    assert before["judge_correction"] == "uncorrected"
    assert before["judge_correction_why"] == (
        "0 of 30 labels of answers graded correct, 0 of 20 of answers graded incorrect"
    )
    assert before["corrected_false_confident_rate"] is None
    truthful(school, 80)
    after = report(school)
    assert (after["judge_correction"], after["judge_labels"]) == ("corrected", 80)
    wrong = answers_of(school).count("incorrect") / 400
    low, high = after["corrected_false_confident_interval"]
    assert low <= wrong <= high
    assert after["false_confident_rate"] == before["false_confident_rate"]
    assert low <= after["corrected_false_confident_rate"] <= high


def answers_of(school):
    with school.store.reading() as connection:
        return list(connection.execute(select(table_of(Candidate).c.answer)).scalars())


@pytest.mark.thorough
def test_what_is_labelled_next_is_of_the_kind_that_lacks_most_and_the_same_for_all(school):
    assert following(school) == following(school)
    truthful(school, 10)
    found = looked_at(school)
    assert (found["judged_correct"], found["judged_incorrect"]) == (6, 4)
    assert found["needed"] == {"judged_correct": 24, "judged_incorrect": 16}
    assert sum(found["waiting"].values()) == 390
    first = following(school)
    second = following(school, skipped={first.call_id})
    assert first.call_id != second.call_id


@ON_SQLITE
@pytest.mark.thorough
def test_agreement_is_what_people_find(school):
    truthful(school, 150)
    found = looked_at(school)
    low, high = found["tpr_interval"]
    assert low <= 2 / 3 <= high
    low, high = found["fpr_interval"]
    assert low <= 1 / 20 <= high
    assert 0.3 < found["kappa"] < 0.9
    assert found["authors"] == {"ann": 150}
    assert found["suffices"]


@pytest.mark.thorough
def test_a_person_may_change_their_mind_and_people_may_differ(school):
    call_id = following(school).call_id
    school.do(label, call_id=call_id, verdict=Grade.UNSURE, author="ann")
    assert (looked_at(school)["labels"], looked_at(school)["undecided"]) == (0, 1)
    school.do(label, call_id=call_id, verdict=Grade.CORRECT, author="ann")
    assert looked_at(school)["labels"] == 1
    school.do(label, call_id=call_id, verdict=Grade.INCORRECT, author="bob")
    assert (looked_at(school)["labels"], looked_at(school)["undecided"]) == (0, 1)
    school.do(label, call_id=call_id, verdict=Grade.UNSURE, author="eve")
    assert looked_at(school)["undecided"] == 1, "no more say one thing than another"
    school.do(label, call_id=call_id, verdict=Grade.INCORRECT, author="eve")
    found = looked_at(school)
    assert (found["labels"], found["authors"]) == (1, {"ann": 1, "bob": 1, "eve": 1})
    assert following(school).call_id != call_id


@pytest.mark.thorough
@ON_SQLITE
def test_only_what_was_graded_can_be_labelled(school):
    with pytest.raises(PolicyError, match="no grader has a verdict on the call nobody"):
        school.do(label, call_id="nobody", verdict=Grade.CORRECT, author="ann")
    assert looked_at(school)["labels"] == 0


@pytest.mark.thorough
@ON_SQLITE
def test_labels_given_together_are_stored_together_or_not_at_all(school):
    call_id = following(school).call_id
    given = [{"call_id": each, "verdict": "correct"} for each in (call_id, "nobody")]
    with pytest.raises(PolicyError, match="nobody"):
        school.do(label_all, labels=given, author="ann")
    assert looked_at(school)["labels"] == 0


@pytest.mark.thorough
@ON_SQLITE
def test_one_label_of_another_day_changes_little(school):
    truthful(school, 80)
    before = looked_at(school)
    school.clock.advance(5 * 86_400)
    school.teach(400, 0.0)
    with school.store.reading() as connection:
        (late, *_) = [
            call_id
            for call_id, said in labels.unlabelled(connection, grader_version(school.settings)).items()
            if said == "correct" and int(call_id.removeprefix("call-")) >= 400
        ]
    school.do(label, call_id=late, verdict=Grade.CORRECT, author="ann")
    after = looked_at(school)
    assert after["labels"] == before["labels"] + 1
    assert after["fpr"] == pytest.approx(before["fpr"], rel=0.15)


@pytest.mark.thorough
@ON_SQLITE
def test_what_is_forgotten_is_not_shown_and_its_label_still_counts(school):
    truthful(school, 1)
    waiting = following(school)
    candidates.forget(school.store, before=school.clock() + 1)
    assert following(school) is None
    assert looked_at(school)["labels"] == 1
    school.do(label, call_id=waiting.call_id, verdict=Grade.CORRECT, author="ann")
    assert looked_at(school)["labels"] == 2


@pytest.mark.thorough
@ON_SQLITE
def test_routes_are_looked_at_apart(school):
    school.teach(50, 0.0, route="billing")
    sample = following(school, scope="billing")
    assert sample.route == "billing"
    school.do(label, call_id=sample.call_id, verdict=Grade.CORRECT, author="ann")
    assert looked_at(school, scope="billing")["labels"] == 1
    assert looked_at(school, scope="support")["labels"] == 0
    assert looked_at(school)["labels"] == 1


@pytest.mark.thorough
def test_a_second_judge_grades_a_part_and_the_two_are_compared(make_school):
    school = make_school(second_grader_model=SECOND, second_grader_share=0.2)
    school.teach(300, 0.2)
    first, second = (
        GraderVersion(model=school.settings.grader_model, prompt=grader_version(school.settings).prompt),
        SECOND,
    )
    rows = [row for row in grade_rows(school) if row["second"]]
    assert {row["grader_model"] for row in rows} == {second}
    assert 20 <= len(rows) <= 85
    assert {round(row["inclusion"], 9) for row in rows} == {0.2}
    found = looked_at(school)
    (pair,) = found["pairs"]
    assert (pair["n"], [each["model"] for each in pair["judges"]]) == (len(rows), [first.model, SECOND])
    assert pair["agree"] < pair["n"]
    assert pair["kappa_interval"][0] < pair["kappa"] < 1
    assert [each["graded"] for each in found["judges"]] == [300, len(rows)]


@pytest.mark.thorough
@ON_SQLITE
def test_what_a_second_judge_says_moves_no_rate_and_no_rule(make_school):
    school = make_school(second_grader_model=SECOND, second_grader_share=1.0)
    school.bench.second = GradeResult(grade=Grade.INCORRECT, usage=Usage(input_tokens=20, output_tokens=2))
    school.teach(400, 0.0)
    found = report(school)
    assert (found["graded"], found["false_confident_rate"]) == (400, pytest.approx(1 / 20))
    assert school.threshold() == 0.8
    assert 0 < found["second_grader_cost_usd"] < found["grader_cost_usd"]
    assert found["sampling"]["evenly"]["samples"] == 400
    assert sum(row["second"] for row in grade_rows(school)) >= 40
    with school.store.reading() as connection:
        counted = grades.totals(connection)
    assert counted[("support", "correct")][0] + counted[("support", "incorrect")][0] == 400
    assert counted[("support", "second_judge")][0] == sum(row["second"] for row in grade_rows(school))


@pytest.mark.thorough
@ON_SQLITE
@pytest.mark.parametrize(
    ("second", "asked", "written"),
    [
        (GraderError("down"), 9, 0),
        (GraderError("no key", pauses=True), 3, 0),
        (GradeResult(failure=GradeFailure.MALFORMED), 30, 30),
    ],
    ids=["down: three times a run", "no key: once a run", "malformed: asked once a call, ten a run"],
)
def test_a_second_judge_that_fails_is_in_nobodys_way(make_school, second, asked, written):
    school = make_school(second_grader_model=SECOND, second_grader_share=1.0)
    school.bench.second = second
    school.teach(200, 0.0)
    assert report(school)["graded"] == 200
    (judge,) = looked_at(school)["judges"]
    assert judge["model"] == school.settings.grader_model
    assert school.bench.models.count(SECOND) == asked
    assert sum(row["second"] for row in grade_rows(school)) == written
    assert len({row["call_id"] for row in grade_rows(school) if row["second"]}) == written


@pytest.mark.thorough
@ON_SQLITE
def test_a_call_that_a_second_judge_always_fails_on_holds_up_no_other(make_school):
    school = make_school(second_grader_model=SECOND, second_grader_share=1.0)
    decision = school._named(decided(0.95, school.recorder.book.for_route("support"), at=school.clock()))
    stuck = Exchange(turns=(TextTurn(role="user", text="stuck"),), answer="correct", response_id="msg_1")
    school.recorder.put(decision, lambda: stuck)
    school.teach(500, 0.0)
    asked = [row["call_id"] for row in grade_rows(school) if row["second"]]
    assert len(asked) >= 40
    assert decision.call_id not in asked
    assert 1 <= school.bench.stuck <= 3


@ON_SQLITE
def test_a_second_judge_spends_from_the_same_purse(make_school):
    school = make_school(second_grader_model=SECOND, second_grader_share=1.0, max_grader_usd_per_day=0.0)
    school.teach(100, 0.0)
    assert school.bench.models == []


@pytest.mark.thorough
@ON_SQLITE
def test_labels_check_every_judge_that_has_graded_the_call(make_school):
    school = make_school(second_grader_model=SECOND, second_grader_share=1.0)
    school.teach(200, 0.2)
    truthful(school, 60)
    first, second = looked_at(school)["judges"]
    assert second["model"] == SECOND
    assert 0 < second["labels"] <= first["labels"]
    assert second["kappa"] == 1.0 > first["kappa"]


@pytest.mark.thorough
@ON_SQLITE
def test_another_prompt_is_another_judge_with_labels_of_its_own(school, monkeypatch):
    truthful(school, 20)
    monkeypatch.setattr("cheapdeep_ops.guard.grading.version.PROMPT_VERSION", "another")
    assert looked_at(school)["labels"] == 0
    assert [each["labels"] for each in looked_at(school)["judges"]] == [20]
    with school.store.reading() as connection:
        assert labels.unlabelled(connection, grader_version(school.settings)) == {}
