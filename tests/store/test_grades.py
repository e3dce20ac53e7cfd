from dataclasses import replace

import pytest
from sqlalchemy import select

from cheapdeep_ops.store import grades
from cheapdeep_ops.store.grades import Baseline, DecidedGrade, GraderVersion, GradeTally
from cheapdeep_ops.store.tables.grade_tables import NormalRow
from cheapdeep_ops.store.tables.row import table_of
from tests.stores import migrated

NOW = 1_800_000_000.0
JUDGE = GraderVersion(model="claude-opus-4-7", prompt="p1")
OTHERS = [GraderVersion(model="claude-opus-4-8", prompt="p1"), GraderVersion(model="claude-opus-4-7", prompt="p2")]


@pytest.fixture
def store(either_url):
    store = migrated(either_url)
    yield store
    store.close()


@pytest.fixture
def do(store):
    """Runs one function of the store in a transaction."""

    def done(work, *args, **more):
        return store.transact(lambda connection: work(connection, *args, **more))

    return done


def row(call_id, *, at=NOW, judge=JUDGE, **changes):
    return {
        "call_id": call_id, "grader_model": judge.model, "grader_prompt": judge.prompt, "verdict": "correct",
        "failure": "", "reason": "", "at": at, "called_at": NOW, "route": "support", "input_class": "refund",
        "shipped": True, "confidence": 0.95, "policy_version": 3, "inclusion": 0.01, "output_tokens": 1, "cost_nusd": 5,
        **changes,
    }  # fmt: skip


def add_all(do, *rows):
    return [do(grades.add, each) for each in rows]


def called(do, moments, **changes):
    """One grade for each moment at which a call began; the class says which."""
    add_all(do, *(row(f"{at}-{changes}", called_at=at, input_class=str(at), **changes) for at in moments))


def classes(found):
    return [each.input_class for each in found]


def nano(usd):
    return round(usd * 1e9)


def in_nano(totals):
    return {key: (count, nano(usd)) for key, (count, usd) in totals.items()}


# Adding


def test_a_grade_is_added_once(do):
    assert add_all(do, row("a"), row("a"), row("a", verdict="incorrect", cost_nusd=99)) == [True, False, False]
    assert in_nano(do(grades.totals)) == {("support", "correct"): (1, 5)}
    assert nano(do(grades.spent_usd, since=0)) == 5
    (tallied,) = do(grades.tallies, since=0, until=NOW + 1)
    assert (tallied.verdict, tallied.count) == ("correct", 1)


@pytest.mark.parametrize("other", OTHERS)
def test_another_judge_may_grade_the_same_call(do, other):
    assert add_all(do, row("a"), row("a", judge=other), row("a", judge=other)) == [True, True, False]
    assert in_nano(do(grades.totals)) == {("support", "correct"): (2, 10)}


def test_a_failure_is_no_grade_and_a_grade_after_it_by_the_same_judge_is_none(do):
    assert add_all(do, row("a", verdict=None, failure="refusal"), row("a")) == [True, False]
    assert do(grades.newest, "support", JUDGE, since=0, limit=9) == []


# Windows


def test_the_newest_grades_are_those_of_the_latest_calls_whenever_they_were_graded(do):
    called(do, [10.0, 30.0, 20.0])
    assert classes(do(grades.newest, "support", JUDGE, since=0, limit=9)) == ["30.0", "20.0", "10.0"]
    assert classes(do(grades.newest, "support", JUDGE, since=0, limit=2)) == ["30.0", "20.0"]


def test_the_oldest_grades_are_those_of_the_first_calls(do):
    called(do, [10.0, 30.0, 20.0])
    assert classes(do(grades.oldest, "support", JUDGE, since=0, limit=9)) == ["10.0", "20.0", "30.0"]
    assert classes(do(grades.oldest, "support", JUDGE, since=10.0, limit=1)) == ["20.0"]


def test_grades_are_read_in_the_order_in_which_they_became_known_and_say_when(do):
    moments = {"a": 50.0, "b": 60.0, "c": 70.0}
    add_all(do, *(row(name, at=at, called_at=100 - at, input_class=name) for name, at in moments.items()))
    found = do(grades.known_after, JUDGE, grade_id=0, route=None, since=50.0, limit=9)
    assert [(each.input_class, each.at) for each in found] == [("b", 60.0), ("c", 70.0)]
    assert classes(do(grades.known_after, JUDGE, grade_id=found[0].id, route="support", limit=9)) == ["c"]
    assert classes(do(grades.oldest, "support", JUDGE, since=0, known_by=60.0, limit=9)) == ["b", "a"]


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (0.0, None, ["30.0", "20.0", "10.0"]),
        (10.0, None, ["30.0", "20.0"]),
        (9.99, 30.0, ["20.0", "10.0"]),
        (10.0, 30.01, ["30.0", "20.0"]),
        (30.0, None, []),
        (20.0, 20.0, []),
    ],
)
def test_a_window_begins_after_its_start_and_ends_before_its_end(do, since, until, expected):
    called(do, [10.0, 20.0, 30.0])
    assert classes(do(grades.newest, "support", JUDGE, since=since, until=until, limit=9)) == expected


def test_of_calls_of_one_moment_the_one_graded_last_is_the_newest(do):
    add_all(do, *(row(name, input_class=name) for name in "abc"))
    assert classes(do(grades.newest, "support", JUDGE, since=0, limit=9)) == ["c", "b", "a"]
    assert classes(do(grades.oldest, "support", JUDGE, since=0, limit=9)) == ["a", "b", "c"]


def test_decided_grades_are_counted_by_route(do):
    called(do, [10.0, 20.0, 30.0])
    called(do, [20.0], route="legal")
    called(do, [30.0], route="faq")
    add_all(do, row("unsure", verdict="unsure"), row("other", judge=OTHERS[0]), row("second", second=True))
    count = {
        since: do(grades.decided_by_route, ["support", "legal"], JUDGE, since=since) for since in (0.0, 10.0, 30.0)
    }
    assert count == {0.0: {"support": 3, "legal": 1}, 10.0: {"support": 2, "legal": 1}, 30.0: {}}


@pytest.mark.parametrize("read", [grades.newest, grades.oldest])
def test_only_decided_grades_of_the_route_and_the_judge_are_read(do, read):
    add_all(
        do,
        row("a", verdict="incorrect", shipped=False, inclusion=0.05),
        row("b", verdict="unsure"),
        row("c", verdict=None, failure="malformed"),
        row("d", route="legal"),
        *(row("a", judge=other, verdict="correct") for other in OTHERS),
    )
    assert do(read, "support", JUDGE, since=0, limit=9) == [
        DecidedGrade(
            route="support", called_at=NOW, incorrect=True, inclusion=0.05, shipped=False, input_class="refund"
        )
    ]


@pytest.mark.parametrize(("shipped", "expected"), [(None, ["b", "a"]), (True, ["a"]), (False, ["b"])])
def test_answers_that_went_out_can_be_told_from_withheld_ones(do, shipped, expected):
    add_all(do, row("a", input_class="a"), row("b", input_class="b", shipped=False))
    assert classes(do(grades.newest, "support", JUDGE, since=0, shipped=shipped, limit=9)) == expected


def test_the_limit_counts_what_was_picked(do):
    called(do, [10.0, 20.0])
    called(do, [30.0, 40.0], shipped=False)
    assert classes(do(grades.newest, "support", JUDGE, since=0, shipped=True, limit=2)) == ["20.0", "10.0"]


def test_routes_are_all_of_which_anything_was_graded_by_anybody(do):
    assert do(grades.counts) == {}
    add_all(do, row("a"), row("b"), row("c", route="legal", judge=OTHERS[0], verdict=None, failure="refusal"))
    assert set(do(grades.counts)) == {"support", "legal"}


# Sums


def test_grades_are_tallied_by_kind(do):
    add_all(
        do,
        row("a"),
        row("b"),
        row("c", verdict="incorrect", cost_nusd=None),
        row("d", shipped=False),
        row("e", inclusion=0.05),
        row("f", verdict=None, failure="refusal", cost_nusd=7),
        row("g", route="legal"),
        row("h", judge=OTHERS[0], cost_nusd=None),
    )
    found = do(grades.tallies, since=NOW, until=NOW + 1)
    base = {"route": "support", "verdict": "correct", "failure": "", "shipped": True, "inclusion": 0.01, "unpriced": 0}
    assert {each.route for each in found} == {"support", "legal"}
    assert sorted(filter(lambda each: each.route == "support", found), key=str) == sorted(
        [
            GradeTally(**{**base, "count": 3, "cost_nusd": 10, "unpriced": 1}),
            GradeTally(**{**base, "verdict": "incorrect", "count": 1, "cost_nusd": 0, "unpriced": 1}),
            GradeTally(**{**base, "shipped": False, "count": 1, "cost_nusd": 5}),
            GradeTally(**{**base, "inclusion": 0.05, "count": 1, "cost_nusd": 5}),
            GradeTally(**{**base, "verdict": None, "failure": "refusal", "count": 1, "cost_nusd": 7}),
        ],
        key=str,
    )


@pytest.mark.parametrize(
    ("since", "until", "scope", "count"),
    [(0, 99, "*", 4), (10, 30, "*", 3), (10, 20, "*", 1), (0, 99, "legal", 1), (0, 20, "legal", 0), (0, 99, "x", 0)],
)
def test_a_tally_keeps_to_its_period_and_scope(do, since, until, scope, count):
    called(do, [10.0, 20.0, 30.0])
    called(do, [20.0], route="legal")
    found = do(grades.tallies, since=since, until=until, scope=scope)
    assert sum(each.count for each in found) == count


def test_totals_are_of_all_time_by_route_and_outcome(do):
    add_all(
        do,
        row("a", called_at=1.0),
        row("b", cost_nusd=7),
        row("c", cost_nusd=None),
        row("d", verdict="incorrect"),
        row("e", verdict=None, failure="refusal", cost_nusd=1),
        row("f", verdict=None, failure="unavailable", cost_nusd=None),
        row("g", route="legal", verdict="unsure"),
    )
    assert in_nano(do(grades.totals)) == {
        ("support", "correct"): (3, 12),
        ("support", "incorrect"): (1, 5),
        ("support", "refusal"): (1, 1),
        ("support", "unavailable"): (1, 0),
        ("legal", "unsure"): (1, 5),
    }


def test_totals_of_an_empty_store_are_none(do):
    assert do(grades.totals) == {}
    assert do(grades.spent_usd, since=0) == 0.0


@pytest.mark.parametrize(
    ("since", "until", "nusd"), [(0, None, 111), (10, None, 111), (10.5, None, 110), (10, 30, 11), (31, None, 0)]
)
def test_spending_goes_by_when_a_grade_was_given(do, since, until, nusd):
    add_all(
        do,
        *(row(f"{at}", at=float(at), called_at=1.0, cost_nusd=cost) for at, cost in ((10, 1), (20, 10), (30, 100))),
        row("unpriced", at=20.0, cost_nusd=None),
    )
    assert nano(do(grades.spent_usd, since=since, until=until)) == nusd


def test_large_sums_are_exact(do):
    add_all(do, *(row(f"{number}", cost_nusd=3_000_000_000_001) for number in range(9)))
    assert nano(do(grades.spent_usd, since=0)) == 27_000_000_000_009
    assert in_nano(do(grades.totals)) == {("support", "correct"): (9, 27_000_000_000_009)}


# What is normal


def test_nothing_is_normal_before_it_was_learned(do):
    add_all(do, row("a"))
    assert do(grades.baselines, JUDGE) == {}


def test_what_was_learned_is_held_and_comes_out_as_it_went_in(do):
    learned = Baseline(scope="support", since=0.0, rate=0.031, n=187.25, grades=200, until=NOW, learned_at=NOW + 1)
    do(grades.save_baselines, JUDGE, [learned])
    add_all(do, row("a"))
    assert do(grades.baselines, JUDGE) == {"support": learned}
    more = Baseline(scope="support", since=0.0, rate=0.04, n=290.0, grades=300, until=NOW + 2, learned_at=NOW + 3)
    do(grades.save_baselines, JUDGE, [more])
    assert do(grades.baselines, JUDGE) == {"support": more}


def test_a_scope_that_was_never_graded_can_be_learned(do):
    learned = Baseline(scope="*", since=3.0, rate=0.05, n=10.0, grades=10, until=NOW, learned_at=NOW)
    do(grades.save_baselines, JUDGE, [learned])
    assert do(grades.baselines, JUDGE) == {"*": learned}


def test_learning_anew_forgets_and_begins_then(do):
    add_all(do, row("a"))
    do(
        grades.save_baselines,
        JUDGE,
        [Baseline(scope="support", since=0.0, rate=0.03, n=9.0, grades=9, until=NOW, learned_at=NOW)],
    )
    do(grades.relearn, JUDGE, "support", now=NOW + 5, author="ann", why="new prompt")
    asked_for = {"scope": "support", "since": NOW + 5, "author": "ann", "why": "new prompt"}
    assert do(grades.baselines, JUDGE) == {"support": Baseline(**asked_for)}
    again = Baseline(**asked_for, rate=0.1, n=8.0, grades=8, until=NOW + 9, learned_at=NOW + 9)
    do(grades.save_baselines, JUDGE, [again])
    assert do(grades.baselines, JUDGE) == {"support": again}


@pytest.mark.parametrize("other", OTHERS)
def test_what_is_normal_is_one_judges_and_not_anothers(do, other):
    learned = Baseline(scope="support", since=0.0, rate=0.03, n=9.0, grades=9, until=NOW, learned_at=NOW)
    do(grades.save_baselines, JUDGE, [learned])
    assert do(grades.baselines, other) == {}
    do(grades.relearn, other, "support", now=NOW, author="ann", why="another model")
    assert do(grades.baselines, other) == {
        "support": Baseline(scope="support", since=NOW, author="ann", why="another model")
    }
    assert do(grades.baselines, JUDGE) == {"support": learned}


def test_who_had_it_learned_anew_and_why_is_kept(do, store):
    do(grades.relearn, JUDGE, "support", now=NOW, author="ann", why="new prompt")
    asked_for = do(grades.baselines, JUDGE)["support"]
    do(grades.save_baselines, JUDGE, [replace(asked_for, rate=0.1, n=8.0, grades=8, until=NOW, learned_at=NOW)])
    normal = table_of(NormalRow).c
    with store.reading() as connection:
        assert connection.execute(select(normal.author, normal.why)).one() == ("ann", "new prompt")


def test_a_judge_is_named_by_model_and_prompt():
    assert str(JUDGE) == "claude-opus-4-7, prompt p1"


def test_described_grades_are_decided_ones_of_the_period_with_what_their_call_can_be_told_by(do):
    told = {"model": "haiku", "prompt_version": "p", "policy_version": 4, "confidence": 0.85, "steered": True}
    for number in range(4):
        do(grades.add, row(f"c{number}", called_at=NOW + number, verdict="incorrect", **told))
    do(grades.add, row("failed", called_at=NOW + 1, verdict=None, failure="malformed"))
    do(grades.add, row("of-another", called_at=NOW + 1, judge=OTHERS[0]))
    do(grades.add, row("elsewhere", called_at=NOW + 1, route="shop"))
    found = do(grades.attributed, "support", JUDGE, since=NOW + 1, until=NOW + 3, limit=10)
    assert [each.call_id for each in found] == ["c2", "c1"]
    assert {name: getattr(found[0], name) for name in told} == told
    assert found[0].incorrect
    assert len(do(grades.attributed, "support", JUDGE, since=NOW, until=NOW + 9, limit=3)) == 3
