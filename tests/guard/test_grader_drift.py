"""A grader that changes: how it is noticed on labelled answers, and what waits meanwhile."""

import json
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from cheapdeep_ops.errors import GraderError
from cheapdeep_ops.guard.actions.baselines import accept_grader
from cheapdeep_ops.guard.notify.messages import headline
from cheapdeep_ops.guard.reports.quality import spending_of
from cheapdeep_ops.guard.rules.book import Rulebook
from cheapdeep_ops.guard.rules.grader_drift.detection import DriftTest, finding_of
from cheapdeep_ops.guard.rules.grader_drift.rule import GraderDriftRule
from cheapdeep_ops.guard.rules.model import Level
from cheapdeep_ops.guard.statistics.agreement import majority
from cheapdeep_ops.store import anchors, candidates, grader_state, grades, incidents, labels, regradings
from cheapdeep_ops.store.tables.grade_tables import AnchorRow, Candidate, GradeRow, RegradeRow
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.units import DAY_S
from cheapdeep_ops.values import Grade, GradeFailure, GradeResult, Usage

from .conftest import START, Bench, School, town_rules

CORRECT, INCORRECT = Grade.CORRECT, Grade.INCORRECT
OTHER = {CORRECT: INCORRECT, INCORRECT: CORRECT}
RULE = next(rule for rule in town_rules().rules if isinstance(rule, GraderDriftRule))
CLIMBING = "FalseConfidenceClimbing"


@pytest.fixture
def engine():
    return "sqlite"


# The test


class Regraded(NamedTuple):
    id: int
    call_id: str
    at: float
    label: Grade
    verdict: Grade


class Labelled:
    """Repeated gradings of so many answers of each label, in turn."""

    def __init__(self, rule=RULE, *, answers=40, seed=0):
        self.rule, self.answers, self.random = rule, answers, Random(seed)
        self.test, self.count = DriftTest(), 0

    def grade(self, times, differs, *, until=lambda _: False):
        """So many gradings; `differs` has the chance that a verdict differs, by label. Returns how many it took."""
        for number in range(times):
            label = (CORRECT, INCORRECT)[self.count % 2]
            verdict = OTHER[label] if self.random.random() < differs[label] else label
            self.put(f"call-{label}-{self.count // 2 % self.answers}", label, verdict)
            if until(self):
                return number + 1
        return times

    def put(self, call_id, label, verdict):
        self.count += 1
        self.test = self.test.after(self.rule, [Regraded(self.count, call_id, float(self.count), label, verdict)])

    @property
    def level(self):
        return finding_of(self.rule, self.test, anchors=2 * self.answers).level

    def fire(self):
        self.test = self.test.in_state(self.rule, fired_at=float(self.count))

    @property
    def fires(self):
        return self.level is Level.ABOVE


USUAL = {CORRECT: 0.02, INCORRECT: 0.2}
LEARNING = 2 * RULE.normal_regradings


def test_normal_is_learned_from_the_first_verdicts_of_each_label_and_is_no_evidence():
    shown = Labelled()
    shown.grade(LEARNING, {CORRECT: 0.5, INCORRECT: 0.5})
    assert (shown.level, shown.test.detector.total) == (Level.BELOW, 0)
    assert {test.normal[1] for test in shown.test.labels.values()} == {RULE.normal_regradings}
    assert Labelled().level is Level.NO_DATA


@pytest.mark.parametrize(
    ("after", "within"),
    [({CORRECT: 0.0, INCORRECT: 1.0}, 24), ({CORRECT: 1.0, INCORRECT: 0.2}, 16), ({CORRECT: 0.5, INCORRECT: 0.5}, 80)],
)
def test_a_grader_that_changed_is_noticed_within_so_many_repeated_gradings(after, within):
    waits = []
    for seed in range(20):
        shown = Labelled(seed=seed)
        shown.grade(LEARNING + 40, USUAL)
        waits.append(shown.grade(200, after, until=lambda one: one.fires))
    assert sorted(waits)[17] <= within


def test_a_grader_that_errs_as_before_is_not_accused():
    for seed in range(10):
        shown = Labelled(seed=seed)
        assert shown.grade(LEARNING + 1_000, USUAL, until=lambda one: one.fires) == LEARNING + 1_000


def test_one_answer_whose_verdict_is_open_is_no_change_of_the_grader():
    shown = Labelled()
    shown.grade(LEARNING, {CORRECT: 0.0, INCORRECT: 0.0})
    for _ in range(50):
        shown.put("doubtful", CORRECT, INCORRECT)
    assert shown.test.detector.alarms(RULE.alpha)
    assert not shown.fires
    for number in range(2):
        shown.put(f"another-{number}", CORRECT, Grade.UNSURE)
    assert shown.fires


def test_it_is_over_once_the_labels_that_fired_are_met_as_before():
    shown = Labelled()
    shown.grade(LEARNING, USUAL)
    shown.grade(200, {CORRECT: 0.4, INCORRECT: 0.2}, until=lambda one: one.fires)
    shown.fire()
    assert [label for label, test in shown.test.labels.items() if test.level is not None] == [CORRECT]
    shown.grade(60, {CORRECT: 0.4, INCORRECT: 0.2})
    assert shown.level in {Level.UNCLEAR, Level.ABOVE}
    assert shown.grade(400, USUAL, until=lambda one: one.level is Level.BELOW) < 300


def test_who_accepts_the_grader_ends_it_and_normal_is_learned_anew():
    shown = Labelled()
    shown.grade(LEARNING, USUAL)
    shown.grade(100, {CORRECT: 1.0, INCORRECT: 1.0}, until=lambda one: one.fires)
    shown.fire()
    accepted = DriftTest(since=float(shown.count), author="ann", why="new model").in_state(RULE, fired_at=shown.count)
    found = finding_of(RULE, accepted, anchors=80)
    assert (found.level, found.signal["kind"], found.signal["why"]) == (
        Level.BELOW, "accepted", "accepted as it is by ann: new model",
    )  # fmt: skip
    shown.test = accepted.in_state(RULE, fired_at=0.0)
    assert shown.level is Level.NO_DATA
    shown.grade(LEARNING + 100, {CORRECT: 0.9, INCORRECT: 0.9})
    assert shown.level is Level.BELOW


@given(st.lists(st.tuples(st.sampled_from([CORRECT, INCORRECT]), st.booleans()), max_size=40), st.booleans())
def test_a_restarted_guard_goes_on_from_what_is_stored(verdicts, fires):
    shown = Labelled(RULE.model_copy(update={"normal_regradings": 5}))
    for label, differs in verdicts:
        shown.put("call", label, OTHER[label] if differs else label)
    if fires:
        shown.fire()
    assert DriftTest.from_row(json.loads(json.dumps(shown.test.row()))) == shown.test


@pytest.mark.parametrize(
    ("votes", "said"),
    [
        ("c", CORRECT), ("i", INCORRECT), ("cci", CORRECT), ("ci", None), ("u", None), ("cu", None), ("", None),
        ("uuc", None),
    ],
)  # fmt: skip
def test_people_say_what_most_of_them_say(votes, said):
    names = {"c": "correct", "i": "incorrect", "u": "unsure"}
    assert majority([names[vote] for vote in votes]) is said


# What is graded again, and when


class Judge(Bench):
    """It finds the truth, which an answer itself states; `says` is what it says instead, by truth."""

    def __init__(self):
        super().__init__()
        self.says = {}

    def grade(self, request):
        truth = super().grade(request)
        return GradeResult(
            grade=self.says.get(truth.grade, truth.grade), reason="as it says", usage=Usage(input_tokens=1_000_000)
        )


def rules(**changes):
    """The town's rules, with a normal that is learned soon."""
    shorter = {"normal_regradings": 20, **changes}
    return Rulebook(
        rules=tuple(
            rule.model_copy(update=shorter) if isinstance(rule, GraderDriftRule) else rule
            for rule in town_rules().rules
        )
    )


@pytest.fixture
def make_school(store, settings, inbox):
    schools = []

    def make(rulebook=None, **changes):
        kept = {"sample_rate": 1.0, "grade_concurrency": 1, "regrades_per_day": 1_440, "sampling": "uniform",
                "max_grader_usd_per_day": 1e9}  # fmt: skip
        school = School(store, settings.model_copy(update={**kept, **changes}), town_rules(), inbox)
        school.bench = Judge()
        school.rulebook = rulebook or rules()
        school.guard = school.another_guard(school.rulebook)
        schools.append(school)
        school.look()
        return school

    yield make
    for school in schools:
        school.recorder.close()


def label_all(school, *, route="anchors", wrong=()):
    """People label all answers of a route by the truth, or `wrong` ones otherwise."""
    candidate = table_of(Candidate)

    def work(connection):
        rows = connection.execute(select(candidate.c.call_id, candidate.c.answer).where(candidate.c.route == route))
        for row in rows.all():
            truth = Grade(row.answer)
            said = OTHER[truth] if row.call_id in wrong else truth
            assert labels.put(connection, row.call_id, said, author="ann", at=school.clock())

    school.store.transact(work)


def minutes(school, count, *, until=lambda: False):
    """The guard works for so many minutes; returns how many it took."""
    for minute in range(count):
        school.clock.advance(60)
        school.guard.grade(school.clock())
        school.look()
        if until():
            return minute + 1
    return count


def rows_of(school, model):
    with school.store.reading() as connection:
        return list(connection.execute(select(table_of(model))).mappings())


def regraded(school):
    return rows_of(school, RegradeRow)


def fires(school, rule):
    with school.store.reading() as connection:
        return any(each["rule"] == rule and each["state"] == "firing" for each in incidents.alerts(connection))


@pytest.fixture
def school(make_school):
    """It has thirty labelled answers of each kind."""
    school = make_school()
    school.teach(60, 0.5, route="anchors")
    label_all(school)
    return school


def test_labelled_answers_are_graded_again_one_in_each_interval_and_the_labels_take_turns(school):
    before = (rows_of(school, GradeRow), rows_of(school, Candidate), school.bench.asked)
    minutes(school, 20)
    found = regraded(school)
    assert len(found) == school.bench.asked - before[2] == 20
    assert [row["label"] for row in found[:4]] in (["correct", "incorrect"] * 2, ["incorrect", "correct"] * 2)
    assert len({row["call_id"] for row in found}) == 20, "none again before all others"
    assert {(row["verdict"] == row["label"], row["failure"]) for row in found} == {(True, "")}
    # No grade of traffic: neither grades nor candidates have changed.
    assert (rows_of(school, GradeRow), rows_of(school, Candidate)) == before[:2]


@pytest.mark.thorough
def test_what_they_cost_is_in_the_cost_of_grading_and_under_its_limit(make_school):
    school = make_school(max_grader_usd_per_day=400.0)  # five dollars for each grading
    school.teach(60, 0.5, route="anchors")
    label_all(school)
    minutes(school, 40)
    with school.store.reading() as connection:
        since = START - 1
        assert regradings.spent_usd(connection, since=since) == 100.0
        assert grader_state.committed_usd(connection, since=since) == 400.0
        assert spending_of(connection, since=since, until=school.clock() + 1)["grader_cost_usd"] == 400.0
        assert grades.graded_since(connection, since) == 60


@pytest.mark.thorough
def test_an_answer_on_which_people_and_the_grader_differ_does_not_serve(school):
    with school.store.reading() as connection:
        some = [each.call_id for each in anchors.labelled(connection)][:5]
    label_all(school, wrong=some)
    minutes(school, 60)
    assert len(regraded(school)) == 60
    assert not {row["call_id"] for row in regraded(school)} & set(some)


@pytest.mark.thorough
def test_a_label_with_few_answers_is_left_out_and_without_labels_nothing_is_asked(make_school):
    school = make_school()
    school.teach(60, 0.1, route="anchors")
    asked = school.bench.asked
    minutes(school, 3)
    assert school.bench.asked == asked
    label_all(school)
    minutes(school, 10)
    assert {row["label"] for row in regraded(school)} == {"correct"}


@pytest.mark.thorough
def test_it_can_be_switched_off(make_school):
    school = make_school(regrades_per_day=0)
    school.teach(60, 0.5, route="anchors")
    label_all(school)
    minutes(school, 3)
    assert regraded(school) == []


@pytest.mark.thorough
def test_a_request_that_fails_is_made_for_another_answer_and_no_verdict_is_no_evidence(school):
    school.bench.error = GraderError("timeout")
    minutes(school, 5)
    assert regraded(school) == []
    school.bench.error, school.bench.grade = None, lambda _: GradeResult(failure=GradeFailure.REFUSAL)
    minutes(school, 50)
    assert {row["failure"] for row in regraded(school)} == {"refusal"}
    with school.store.reading() as connection:
        assert regradings.known_after(connection, school.guard._cache.grader, regrading_id=0) == []


# The content of labelled answers


def without_content(school):
    """As after `CHEAPDEEP_RETAIN_CONTENT_DAYS`."""
    candidates.forget(school.store, before=school.clock() + 1)


def test_without_consent_only_what_is_stored_for_grading_serves(school):
    minutes(school, 2)
    school.guard.retain(school.clock())
    assert rows_of(school, AnchorRow) == []
    without_content(school)
    minutes(school, 3)
    assert len(regraded(school)) == 2


@pytest.fixture
def keeping(make_school):
    school = make_school(keep_anchors=True, max_anchors=40)
    school.teach(80, 0.5, route="anchors")
    label_all(school)
    minutes(school, 1)
    return school


@pytest.mark.thorough
def test_with_consent_as_many_of_each_label_are_kept_and_serve_when_the_rest_is_gone(keeping):
    kept = rows_of(keeping, AnchorRow)
    assert len(kept) == 40
    assert [row["answer"] for row in kept].count("correct") == 20
    (turn,) = kept[0]["turns"]
    assert (turn["role"], turn["text"].startswith("How much is it?")) == ("user", True)
    without_content(keeping)
    minutes(keeping, 50)
    assert {row["call_id"] for row in regraded(keeping)[1:]} == {row["call_id"] for row in kept}
    keeping.guard.retain(keeping.clock())
    assert rows_of(keeping, AnchorRow) == kept


@pytest.mark.thorough
def test_purge_by_call_and_by_age_reaches_them(keeping):
    first = rows_of(keeping, AnchorRow)[0]["call_id"]
    purge_one = lambda connection: anchors.purge_call(connection, first)  # noqa: E731 - used twice
    assert [keeping.store.transact(purge_one) for _ in range(2)] == [1, 0]
    minutes(keeping, 1)
    others = [row["call_id"] for row in rows_of(keeping, AnchorRow)]
    assert first not in others
    without_content(keeping)
    assert anchors.purge(keeping.store, before=keeping.clock()) == len(others)
    assert rows_of(keeping, AnchorRow) == []
    minutes(keeping, 3)
    assert rows_of(keeping, AnchorRow) == [], "nothing is copied from a purged answer"


@pytest.mark.thorough
def test_a_purge_counts_each_call_once(keeping):
    assert anchors.purge(keeping.store, before=keeping.clock() + 1) == 80


@pytest.mark.thorough
@pytest.mark.parametrize("change", [{"keep_anchors": False}, {"retain_content_days": 0.0}, {"max_anchors": 10}])
def test_what_is_no_longer_allowed_is_deleted(keeping, change):
    guard = keeping.another_guard(settings=keeping.settings.model_copy(update=change))
    keeping.guard.close()
    guard.retain(keeping.clock())
    assert len(rows_of(keeping, AnchorRow)) == (10 if "max_anchors" in change else 0)


@pytest.mark.thorough
def test_a_lower_bound_leaves_as_many_anchors_of_each_label(keeping):
    kept = [row["call_id"] for row in rows_of(keeping, AnchorRow) if row["answer"] == "correct"]
    grade = table_of(GradeRow)
    # The order of grading decides which are the newest: all correct ones come last.
    keeping.store.transact(
        lambda connection: connection.execute(
            update(grade).where(grade.c.call_id.in_(kept)).values(id=grade.c.id + 1_000)
        )
    )
    keeping.guard.close()
    keeping.another_guard(settings=keeping.settings.model_copy(update={"max_anchors": 20})).retain(keeping.clock())
    assert [row["answer"] for row in rows_of(keeping, AnchorRow)].count("correct") == 10
    assert len(rows_of(keeping, AnchorRow)) == 20


@pytest.mark.thorough
def test_what_is_too_old_or_no_longer_agreed_on_is_deleted(keeping):
    first, second, *_ = [row["call_id"] for row in rows_of(keeping, AnchorRow)]
    old = keeping.clock() - keeping.settings.retain_anchors_days * DAY_S - 1
    row = table_of(AnchorRow)
    keeping.store.transact(
        lambda connection: connection.execute(update(row).where(row.c.call_id == first).values(at=old))
    )
    label_all(keeping, wrong=[second])
    keeping.guard.retain(keeping.clock())
    left = {row["call_id"] for row in rows_of(keeping, AnchorRow)}
    assert len(left) == 38
    assert not left & {first, second}


# What waits while the grader has changed


def learned(school, *, rate=0.03):
    """Learn what is normal for the grader, and for a route."""
    minutes(school, 40)
    school.learn(300, rate)
    school.look()


def blame(school):
    """The grader finds fault with every answer, until that is noticed."""
    school.bench.says = {CORRECT: INCORRECT}
    return minutes(school, 60, until=lambda: fires(school, "JudgeDrifted"))


@pytest.mark.thorough
@pytest.mark.parametrize("watches", [True, False])
def test_while_the_grader_has_changed_no_grade_raises_and_without_the_rule_it_would(make_school, watches):
    rulebook = rules()
    kept = tuple(rule for rule in rulebook.rules if watches or rule.alert != "JudgeDrifted")
    school = make_school(Rulebook(rules=kept))
    school.teach(60, 0.5, route="anchors")
    label_all(school)
    learned(school)
    if watches:
        assert blame(school) <= 16
    school.bench.says = {CORRECT: INCORRECT}
    school.teach(100, 0.0)
    assert (school.threshold(), fires(school, CLIMBING)) == ((0.8, False) if watches else (0.9, True))


@pytest.mark.thorough
def test_what_was_graded_meanwhile_never_counts_and_the_end_is_told(school):
    learned(school)
    blame(school)
    started = school.inbox.payloads[-1]
    assert headline(started).startswith("JudgeDrifted firing: the grader has changed: ")
    assert started["hold_s"] == 7 * DAY_S
    school.teach(100, 0.0)
    school.bench.says = {}
    minutes(school, 200, until=lambda: not fires(school, "JudgeDrifted"))
    assert school.inbox.payloads[-1]["kind"] == "resolved"
    school.teach(100, 0.03, seed=5)
    assert (school.threshold(), fires(school, CLIMBING)) == (0.8, False)
    # And it is not deaf now: a real drift raises.
    school.drift()
    assert not fires(school, "JudgeDrifted")


@pytest.mark.thorough
def test_a_raise_is_not_released_by_a_grader_that_finds_no_fault_any_more(school):
    learned(school)
    school.drift(0.5)
    assert fires(school, CLIMBING)
    school.bench.says = {INCORRECT: CORRECT}
    minutes(school, 60, until=lambda: fires(school, "JudgeDrifted"))
    school.teach(300, 0.5)
    assert (school.threshold(), fires(school, CLIMBING)) == (0.9, True)


@pytest.mark.thorough
def test_after_a_week_a_person_is_asked_and_the_rules_read_on(school):
    learned(school)
    blame(school)
    school.teach(60, 0.0)
    school.clock.advance(7 * DAY_S - 3_600)
    school.look()
    assert not fires(school, "JudgeUndecided")
    school.clock.advance(3_600)
    school.look()
    assert fires(school, "JudgeUndecided")
    assert not fires(school, CLIMBING)
    asked = next(each for each in school.inbox.payloads if each["rule"] == "JudgeUndecided")
    assert asked["signal"]["why"] == "JudgeDrifted has fired for 7 days"
    school.teach(60, 0.0)
    assert fires(school, CLIMBING)
    school.do(accept_grader, author="ann", why="the new model")
    school.look()
    assert not fires(school, "JudgeDrifted")
    assert not fires(school, "JudgeUndecided")


@pytest.mark.thorough
def test_a_system_that_drifts_while_the_grader_stays_the_same_is_no_change_of_the_grader(school):
    learned(school)
    school.drift(0.5)
    minutes(school, 100)
    assert fires(school, CLIMBING)
    assert not fires(school, "JudgeDrifted")
    with school.store.reading() as connection:
        row = table_of(RegradeRow)
        assert connection.execute(select(func.count()).where(row.c.verdict != row.c.label)).scalar() == 0


@pytest.mark.thorough
def test_a_route_learns_its_normal_from_calls_after_the_change(school):
    minutes(school, 40)
    school.teach(150, 0.03)
    blame(school)
    school.teach(100, 0.03)
    school.bench.says = {}
    minutes(school, 200, until=lambda: not fires(school, "JudgeDrifted"))
    ended = school.clock()
    school.teach(210, 0.03)
    with school.store.reading() as connection:
        found = grades.baselines(connection, school.guard._cache.grader)["support"]
    assert found.rate < 0.1
    assert found.until > ended


@pytest.mark.thorough
def test_another_grader_ends_it_and_begins_anew(school):
    learned(school)
    blame(school)
    messages = len(school.inbox.payloads)
    minutes(school, 3)
    assert len(school.inbox.payloads) == messages, "an open incident is told once"
    school.settings = school.settings.model_copy(update={"grader_model": "claude-sonnet-4-6"})
    school.guard.close()
    school.guard = school.another_guard(school.rulebook)
    school.look()
    assert not fires(school, "JudgeDrifted")
    assert headline(school.inbox.payloads[-1]).startswith(
        "JudgeDrifted resolved: the grader is another one now: claude-sonnet-4-6, prompt"
    )
    school.bench.says = {}
    minutes(school, 45)
    assert not fires(school, "JudgeDrifted")
    assert {row["grader_model"] for row in regraded(school)} == {"claude-opus-4-7", "claude-sonnet-4-6"}
