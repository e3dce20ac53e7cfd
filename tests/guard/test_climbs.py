from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops.guard.rules.cause_text import cause_text
from cheapdeep_ops.guard.rules.false_confidence.explanation import band_of, climb_cause, names_of, read_climb
from cheapdeep_ops.guard.rules.hold import HeldTimes
from cheapdeep_ops.guard.statistics.attribution import Kind, as_facts
from cheapdeep_ops.guard.statistics.contributions import Dimension
from cheapdeep_ops.store import grades
from cheapdeep_ops.store.grades import AttributedGrade, Baseline, GraderVersion
from tests.stores import migrated

NOW = 1_800_000_000.0
JUDGE = GraderVersion(model="claude-opus-4-7", prompt="p1")
NAMES = names_of(base=0.8, raised=0.9, with_policy=True)


def grade(*, incorrect=False, **changes):
    values = {
        "id": 0, "call_id": "c", "route": "support", "called_at": NOW, "inclusion": 0.01, "shipped": True,
        "input_class": "refund", "model": "haiku", "prompt_version": "p", "policy_version": 1, "confidence": 0.95,
    }  # fmt: skip
    return AttributedGrade(incorrect=incorrect, **{**values, **changes})


def some(right, wrong, **changes):
    return [grade(**changes)] * right + [grade(incorrect=True, **changes)] * wrong


def first(cause):
    return (cause.contributors[0].dimension.value, cause.contributors[0].element) if cause.contributors else None


BEFORE = [*some(190, 10), *some(190, 10, input_class="tariffs")]


@pytest.mark.parametrize(
    ("now", "named"),
    [
        ([*some(38, 2), *some(10, 30, input_class="tariffs")], ("input class", "tariffs")),
        ([*some(38, 2), *some(10, 30, model="haiku-2")], ("model", "haiku-2")),
        ([*some(38, 2), *some(10, 30, prompt_version="q")], ("prompt version", "q")),
        ([*some(38, 2), *some(10, 30, policy_version=2)], ("policy version", "2")),
    ],
)
def test_what_makes_the_climb_is_named(now, named):
    cause = climb_cause(BEFORE, now, NAMES)
    assert (cause.kind, first(cause)) == (Kind.WORSE, named)
    (part, *_) = cause.contributors
    assert part.low < part.share < part.high


def test_a_confidence_band_is_named():
    before = [*some(190, 10), *some(190, 10, confidence=0.85)]
    cause = climb_cause(before, [*some(38, 2), *some(20, 20, confidence=0.85)], NAMES)
    assert first(cause) == ("confidence band", "0.8 to below 0.9")


def test_where_all_got_worse_alike_or_too_little_tells_them_apart_nobody_is_named():
    alike = climb_cause(BEFORE, [*some(30, 10), *some(30, 10, input_class="tariffs")], NAMES)
    assert (alike.kind, alike.contributors) == (Kind.ALL, ())
    few = climb_cause(BEFORE, [*some(8, 2), *some(7, 6, input_class="tariffs")], NAMES)
    assert (few.kind, few.contributors) == (Kind.UNCLEAR, ())
    said = cause_text({**as_facts(few), "compared_with": "the grades before the climb"})
    assert said.startswith("no part stands out: the differences may be chance (5.0%")


def test_a_mix_is_told_from_answers_that_were_chosen_by_chance_and_from_no_others():
    before = [*some(380, 8), *some(10, 10, input_class="hard")]
    now = [*some(38, 1), *some(20, 20, input_class="hard")]
    by_chance = climb_cause(before, now, NAMES)
    assert (by_chance.kind, first(by_chance)) == (Kind.MIX, ("input class", "hard"))
    hard = some(20, 20, input_class="hard", steered=True)
    hindsight = climb_cause(before, [*some(38, 1, steered=True), *hard], NAMES)
    assert (hindsight.kind, hindsight.contributors) == (Kind.UNCLEAR, ())
    assert "chosen by chance" in hindsight.why
    another_time = climb_cause(before, now, NAMES, is_of_one_time=False)
    assert (another_time.kind, another_time.contributors) == (Kind.UNCLEAR, ())
    not_more_of_it = climb_cause(before, [*some(38, 1), *some(1, 1, input_class="hard"), *hard], NAMES)
    assert not_more_of_it.kind is not Kind.MIX


def test_answers_in_hindsight_count_for_the_rate_of_their_class():
    worse = some(4, 36, input_class="tariffs", steered=True)
    cause = climb_cause(BEFORE, [*some(30, 2), *some(6, 26, input_class="tariffs"), *worse], NAMES)
    assert first(cause) == ("input class", "tariffs")
    assert cause.contributors[0].now.count == 72
    assert cause.contributors[0].traffic_now == pytest.approx(0.5)


def test_a_few_grades_from_times_of_little_sampling_do_not_say_it_all():
    cause = climb_cause(BEFORE, [*some(60, 30), *some(0, 2, inclusion=0.0001, input_class="rare")], NAMES)
    assert cause.now.n > 30
    assert first(cause) != ("input class", "rare")


def test_without_grades_the_cause_is_unknown_and_says_so():
    assert climb_cause([], [], NAMES).why == "only 0 grades now"
    assert climb_cause([], some(10, 10), NAMES).why == "only 0 grades before to compare with"


def test_a_version_that_was_only_not_kept_before_is_not_taken_for_a_new_one():
    cause = climb_cause([grade(model=""), *some(190, 10, model="")], some(20, 20), NAMES)
    assert first(cause) is None


described = st.builds(
    grade, incorrect=st.booleans(), inclusion=st.floats(0.001, 1), steered=st.booleans(),
    input_class=st.text(max_size=3), model=st.sampled_from(["", "a", "b"]), confidence=st.floats(0, 1),
)  # fmt: skip


@given(st.lists(described, max_size=120), st.lists(described, max_size=120))
def test_any_grades_give_a_cause_that_can_be_said(before, now):
    cause = climb_cause(before, now, NAMES)
    assert "\n" not in cause_text({**as_facts(cause), "compared_with": "before"})


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_every_confidence_is_of_one_of_three_bands(confidence, base, raised):
    base, raised = sorted((base, raised))
    words = {f"below {base:g}", f"{base:g} to below {raised:g}", f"{raised:g} or more"}
    assert band_of(confidence, base=base, raised=raised) in words


def row(number, called_at, **changes):
    return {
        "call_id": f"c{number}", "grader_model": JUDGE.model, "grader_prompt": JUDGE.prompt, "verdict": "incorrect",
        "failure": "", "reason": "", "at": called_at, "called_at": called_at, "route": "support",
        "input_class": "refund", "shipped": True, "confidence": 0.95, "policy_version": 3, "inclusion": 0.01,
        "output_tokens": 1, "cost_nusd": 5, "model": "haiku", "prompt_version": "p", **changes,
    }  # fmt: skip


@pytest.fixture
def store(either_url):
    store = migrated(either_url)
    rows = [row(number, NOW + number) for number in range(100)]
    Random(1).shuffle(rows)
    store.transact(lambda connection: [grades.add(connection, each) for each in rows])
    yield store
    store.close()


@pytest.mark.parametrize(
    ("over", "said", "before"),
    [
        ({}, "the grades before the climb", range(69, 29, -1)),
        ({"support": NOW + 35}, "the grades before the climb", range(69, 34, -1)),
        ({"support": NOW + 60}, "the grades that normal was learned from", range(20, -1, -1)),
    ],
)
def test_what_was_before_is_after_the_last_incident_else_what_was_learned(store, over, said, before):
    normals = {"support": Baseline(scope="support", since=NOW, until=NOW + 20)}
    with store.reading() as connection:
        climb = read_climb(
            connection, JUDGE, normals, over=over, began=NOW + 70, until=NOW + 95, limit=40, held=HeldTimes()
        )
    assert climb.compared_with == said
    assert [each.call_id for each in climb.before] == [f"c{number}" for number in before]
    assert [each.call_id for each in climb.now] == [f"c{number}" for number in range(94, 69, -1)]


@pytest.mark.parametrize(
    ("since", "over", "is_of_one_time"),
    [
        (NOW - 9, {}, True),
        (NOW + 35, {}, False),
        (NOW - 9, {"shop": NOW + 35}, False),
        (NOW - 9, {"shop": NOW + 35, "support": NOW + 35}, True),
        (NOW - 9, {"shop": NOW + 60, "support": NOW + 60}, False),
    ],
)
def test_of_several_routes_it_is_told_whether_the_grades_before_are_of_the_same_time(
    store, since, over, is_of_one_time
):
    normals = {
        "support": Baseline(scope="support", since=NOW - 9, until=NOW + 20),
        "shop": Baseline(scope="shop", since=since),
    }
    with store.reading() as connection:
        climb = read_climb(
            connection, JUDGE, normals, over=over, began=NOW + 70, until=NOW + 95, limit=50, held=HeldTimes()
        )
    assert climb.is_of_one_time is is_of_one_time


def test_policy_versions_prove_nothing_once_a_raise_was_made():
    assert Dimension.POLICY_VERSION not in names_of(base=0.8, raised=0.9, with_policy=False)
