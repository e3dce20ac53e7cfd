from functools import partial

import pytest
from sqlalchemy import select

from cheapdeep_ops.sampling import kept_share, position
from cheapdeep_ops.store import candidates, grades, recording, sampling_rates
from cheapdeep_ops.store.candidates import Backlog, GradingSample
from cheapdeep_ops.store.tables.grade_tables import Candidate, GradeRow
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.values import CandidateState, TextTurn, Trace
from tests.stores import migrated

from .rows import most_rows

NOW = 1_800_000_000.0
TURNS = [{"role": "system", "text": "Be brief."}, {"role": "user", "text": "Größe? 🙂"}]
CANDIDATE, GRADE = table_of(Candidate), table_of(GradeRow)
BLANK = {
    "kept": 0, "skipped": 0, "waiting": 0, "graded": 0, "failed": 0, "expired": 0, "skipped_causes": {},
}  # fmt: skip


@pytest.fixture
def store(either_url):
    store = migrated(either_url)
    yield store
    store.close()


class Do:
    """Runs one function of the store in a transaction."""

    def __init__(self, store):
        self.store = store

    def __call__(self, work, *args, **more):
        return self.store.transact(lambda connection: work(connection, *args, **more))


@pytest.fixture
def do(store):
    return Do(store)


def row(call_id, *, at=NOW, place=0.0, share=0.05, **changes):
    return {
        "call_id": call_id, "position": place, "kept_share": share, "route": "support", "input_class": "refund",
        "at": at, "shipped": True, "confidence": 0.95, "threshold": 0.8, "policy_version": 3,
        "model": "claude-haiku-4-5", "prompt_version": "p1", "response_id": "msg_1", "trace_id": "", "span_id": "",
        "trace_sampled": False, "turns": TURNS, "answer": f"answer {call_id}", "state": "kept", "why": "",
        **changes,
    }  # fmt: skip


def skipped(call_id, why="redacted", **more):
    return row(call_id, turns=None, answer=None, state="skipped", why=why, **more)


def grade_row(call_id, *, called_at=NOW, **changes):
    return {
        "call_id": call_id, "grader_model": "m", "grader_prompt": "p", "verdict": "correct", "failure": "",
        "reason": f"reason {call_id}", "at": NOW, "called_at": called_at, "route": "support", "input_class": "",
        "shipped": True, "confidence": 0.95, "policy_version": 3, "inclusion": 0.01, "cost_nusd": 5, **changes,
    }  # fmt: skip


def kept(do, *rows):
    do(recording.prepare_candidates(rows))


def column(store, name, table=CANDIDATE, key="call_id"):
    """One column of all rows by their call."""
    with store.reading() as connection:
        return {each[0]: each[1] for each in connection.execute(select(table.c[key], table.c[name]))}


def states(store):
    return column(store, "state")


def due_ids(do, *, now=NOW, limit=100):
    return [sample.call_id for sample in do(candidates.due, now=now, limit=limit)]


def waiting(do, *rows, now=NOW):
    """Keep rows and choose all of them."""
    kept(do, *rows)
    candidates.choose(do.store, otherwise=1.0, now=now)


# Choosing


def test_candidates_that_are_there_already_stay_as_they_are(do, store):
    waiting(do, row("a"))
    kept(do, row("a", answer="another", at=NOW + 1), row("b"))
    assert states(store) == {"a": "waiting", "b": "kept"}
    assert column(store, "answer")["a"] == "answer a"


def test_a_smaller_rate_chooses_a_part_of_what_a_larger_one_does(do, store):
    calls = [f"call-{number}" for number in range(400)]
    kept(do, *(row(call, place=position(call), share=0.5) for call in calls))
    chosen = []
    for rate in (0.01, 0.05, 0.2):
        candidates.choose(do.store, otherwise=rate, now=NOW)
        chosen.append({call for call, inclusion in column(store, "inclusion").items() if inclusion is not None})
        assert chosen[-1] == {call for call in calls if position(call) < rate}
    assert chosen[0] < chosen[1] < chosen[2]


def test_steering_chooses_the_newest_kept_answers_of_one_route_within_its_time(do, store):
    kept(do, *(row(call, at=NOW + second) for second, call in enumerate("abcd")), row("x", at=NOW + 9, route="faq"))
    assert do(candidates.steer, "support", since=NOW + 1, most=2, now=NOW + 10) == 2
    assert column(store, "steered") == {"a": False, "b": False, "c": True, "d": True, "x": False}
    assert do(candidates.steer, "support", since=NOW + 1, most=2, now=NOW + 10) == 1
    assert states(store) == {"a": "kept", "b": "waiting", "c": "waiting", "d": "waiting", "x": "kept"}


@pytest.mark.parametrize(
    ("share", "rate", "inclusion"),
    [(0.05, 0.01, 0.01), (0.05, 0.05, 0.05), (0.05, 0.2, 0.05), (1.0, 1.0, 1.0), (1.0, 0.3, 0.3)],
)
def test_a_chosen_call_bears_the_probability_with_which_one_like_it_is_chosen(do, share, rate, inclusion):
    kept(do, row("a", place=0.004, share=share))
    assert candidates.choose(do.store, otherwise=rate, now=NOW) == 1
    (sample,) = do(candidates.due, now=NOW, limit=9)
    assert sample.inclusion == inclusion


def test_the_shares_of_router_and_guard_that_have_other_rates_meet_at_the_smaller_one(do):
    calls = [f"call-{number}" for number in range(3_000)]
    share = kept_share(0.0005)
    kept(do, *(row(call, place=position(call), share=share) for call in calls if position(call) < share))
    candidates.choose(do.store, otherwise=0.02, now=NOW)
    samples = do(candidates.due, now=NOW, limit=3_000)
    assert {sample.inclusion for sample in samples} == {share}
    assert {sample.call_id for sample in samples} == {call for call in calls if position(call) < share}


def test_a_call_on_the_edge_is_not_chosen(do):
    kept(do, row("below", place=0.0099), row("on", place=0.01), row("first", place=0.0))
    candidates.choose(do.store, otherwise=0.01, now=NOW)
    assert sorted(due_ids(do)) == ["below", "first"]


def test_choosing_again_changes_nothing_and_keeps_the_first_probability(do, store):
    kept(do, row("a"), skipped("b"))
    assert candidates.choose(do.store, otherwise=0.01, now=NOW) == 2
    assert (
        candidates.choose(do.store, otherwise=0.01, now=NOW + 5)
        == candidates.choose(do.store, otherwise=1.0, now=NOW + 6)
        == 0
    )
    assert column(store, "inclusion") == {"a": 0.01, "b": 0.01}
    assert column(store, "chosen_at") == {"a": NOW, "b": NOW}


def test_a_rate_of_nothing_chooses_nothing(do):
    kept(do, row("a"))
    assert candidates.choose(do.store, otherwise=0.0, now=NOW) == 0


@pytest.mark.parametrize("state", [state for state in CandidateState if state.value not in ("kept", "skipped")])
def test_what_was_chosen_and_went_on_is_not_chosen_again(do, store, state):
    waiting(do, row("a"))
    do(candidates.settle, "a", state)
    assert candidates.choose(do.store, otherwise=1.0, now=NOW + 1) == 0
    assert states(store) == {"a": state.value}


# Waiting


def test_a_sample_has_what_its_grader_reads_and_what_its_grade_repeats(do):
    place = Trace(trace_id="0" * 31 + "1", span_id="0" * 15 + "2", sampled=True)
    where = {"trace_id": place.trace_id, "span_id": place.span_id, "trace_sampled": True}
    waiting(do, row("a", shipped=False, confidence=0.85, **where))
    assert do(candidates.due, now=NOW, limit=9) == [
        GradingSample(
            call_id="a",
            route="support",
            input_class="refund",
            at=NOW,
            shipped=False,
            confidence=0.85,
            policy_version=3,
            inclusion=0.05,
            attempts=0,
            model="claude-haiku-4-5",
            prompt_version="p1",
            response_id="msg_1",
            trace=place,
            turns=(TextTurn(role="system", text="Be brief."), TextTurn(role="user", text="Größe? 🙂")),
            answer="answer a",
        )
    ]


def test_a_call_without_a_trace_has_none(do):
    waiting(do, row("a"))
    assert do(candidates.due, now=NOW, limit=9)[0].trace is None


def test_samples_that_wait_longest_come_first_then_older_calls_then_ids(do):
    waiting(do, row("c", at=NOW - 1), row("b", at=NOW - 2), row("a", at=NOW - 1), now=NOW + 1)
    waiting(do, row("d", at=NOW), now=NOW)
    assert due_ids(do, now=NOW + 1) == ["d", "b", "a", "c"]
    assert due_ids(do, now=NOW + 1, limit=2) == ["d", "b"]
    assert due_ids(do, now=NOW) == ["d"]
    assert due_ids(do, now=NOW - 1) == []


def test_a_postponed_sample_is_not_due_before_its_time_and_knows_its_tries(do, store):
    waiting(do, row("a"), row("b"))
    do(candidates.postpone, "a", until=NOW + 30, attempts=2)
    assert due_ids(do, now=NOW + 29.5) == ["b"]
    assert due_ids(do, now=NOW + 30) == ["b", "a"]
    assert column(store, "attempts") == {"a": 2, "b": 0}


def test_samples_of_a_batch_are_not_due_until_they_are_postponed(do, store):
    waiting(do, row("a"), row("b"), row("c"))
    do(candidates.submit, ["a", "b"], "batch-1")
    do(candidates.submit, ["c"], "batch-2")
    assert due_ids(do) == []
    assert {each.call_id for each in do(candidates.submitted, "batch-1")} == {"a", "b"}
    do(candidates.postpone, "a", until=NOW, attempts=1)
    do(candidates.settle, "b", CandidateState.GRADED)
    assert do(candidates.submitted, "batch-1") == []
    assert due_ids(do) == ["a"]
    assert column(store, "batch_id")["a"] == ""


def test_ungraded_are_those_that_wait_and_those_that_are_still_to_be_found(do):
    waiting(do, row("a"), row("b"), row("c"))
    kept(do, row("d", place=0.004), row("e", place=0.04), row("f", place=0.004, state="skipped"))
    found = partial(do, candidates.ungraded, otherwise=0.01)
    do(candidates.submit, ["a"], "batch-1")
    do(candidates.settle, "b", CandidateState.GRADED)
    assert found(in_batches=True) == {"support": 3}
    assert found(in_batches=False) == {"support": 2}
    do(sampling_rates.begin, "support", 0.1, since=NOW - 1, why="adaptive")
    assert found(in_batches=False) == {"support": 3}


def test_the_backlog_is_what_waits_or_is_in_a_batch_and_since_when(do):
    assert do(candidates.backlog) == Backlog(waiting=0, submitted=0, oldest=None)
    waiting(do, row("a"), now=NOW)
    waiting(do, row("b"), row("c"), row("d"), now=NOW + 9)
    do(candidates.submit, ["a"], "batch")
    do(candidates.settle, "d", CandidateState.FAILED, why="refusal")
    assert do(candidates.backlog) == Backlog(waiting=3, submitted=1, oldest=NOW)
    do(candidates.settle, "a", CandidateState.GRADED)
    assert do(candidates.backlog) == Backlog(waiting=2, submitted=0, oldest=NOW + 9)


# The funnel


def test_the_funnel_tells_what_became_of_each_chosen_call_and_adds_up(do):
    fates = {
        CandidateState.WAITING: 3, CandidateState.SUBMITTED: 2, CandidateState.GRADED: 4, CandidateState.FAILED: 1,
        CandidateState.EXPIRED: 2,
    }  # fmt: skip
    calls = [(state, f"{state}-{number}") for state, count in fates.items() for number in range(count)]
    waiting(do, *(row(call) for _, call in calls), skipped("x"), skipped("y", "too_long"), skipped("z"))
    kept(do, row("beyond", place=0.9), skipped("far", place=0.9))
    for state, call in calls:
        do(candidates.settle, call, state)
    candidates.choose(do.store, otherwise=0.5, now=NOW)
    found = do(candidates.funnel, otherwise=0.0, since=NOW, until=NOW + 1)
    assert found == {
        "skipped": 3, "waiting": 5, "graded": 4, "failed": 1, "expired": 2,
        "skipped_causes": {"redacted": 2, "too_long": 1},
    }  # fmt: skip
    assert sum(count for name, count in found.items() if name != "skipped_causes") == len(calls) + 3


def test_the_funnel_keeps_to_its_period(do):
    waiting(do, *(row(str(at), at=at) for at in (9.0, 10.0, 19.0, 20.0)))
    assert do(candidates.funnel, otherwise=0.0, since=10.0, until=20.0)["waiting"] == 2
    assert do(candidates.funnel, otherwise=0.0, since=30.0, until=40.0) == {
        name: value for name, value in BLANK.items() if name != "kept"
    }


def test_failures_of_several_kinds_are_one_state(do):
    waiting(do, row("a"), row("b"), skipped("c"))
    do(candidates.settle, "a", CandidateState.FAILED, why="refusal")
    do(candidates.settle, "b", CandidateState.FAILED, why="malformed")
    assert do(candidates.funnel, otherwise=0.0, since=0, until=NOW + 1)["failed"] == 2


# Forgetting


@pytest.fixture
def history(do, store):
    """One call of each fate, an old one and a new one."""
    for name, at in (("old", NOW - 100), ("new", NOW)):
        ids = {state: f"{name}-{state}" for state in ("waiting", "submitted", "graded", "failed")}
        waiting(do, *(row(call, at=at) for call in ids.values()), skipped(f"{name}-skipped", at=at), now=at)
        do(candidates.submit, [ids["submitted"]], "batch")
        do(candidates.settle, ids["graded"], CandidateState.GRADED)
        do(candidates.settle, ids["failed"], CandidateState.FAILED, why="refusal")
        do(grades.add, grade_row(ids["graded"], called_at=at))
        do(grades.add, grade_row(ids["failed"], called_at=at, verdict=None, failure="refusal"))
    for name, at in (("old", NOW - 100), ("new", NOW)):
        kept(do, row(f"{name}-kept", at=at, place=0.9), skipped(f"{name}-unchosen", at=at, place=0.9))
    return store


def content(store, name):
    """Whatever is still held of the calls of that name."""
    held = {**column(store, "answer"), **{f"{call} turns": turns for call, turns in column(store, "turns").items()}}
    reasons = column(store, "reason", GRADE)
    return {call for call, text in {**held, **reasons}.items() if call.startswith(name) and text}


def test_forgetting_by_age_removes_content_and_reasons_and_leaves_the_newer_ones(do, history):
    new = content(history, "new")
    assert len(content(history, "old")) == len(new) == 10
    assert candidates.forget(do.store, before=NOW) == 5
    assert content(history, "old") == set()
    assert content(history, "new") == new
    assert candidates.forget(do.store, before=NOW) == 0


def test_what_was_not_graded_by_then_has_expired_and_what_was_not_chosen_is_gone(do, history):
    candidates.forget(do.store, before=NOW)
    assert {call: state for call, state in states(history).items() if call.startswith("old")} == {
        "old-waiting": "expired",
        "old-submitted": "expired",
        "old-graded": "graded",
        "old-failed": "failed",
        "old-skipped": "skipped",
    }
    assert {state for call, state in states(history).items() if call.startswith("new")} == {
        "waiting", "submitted", "graded", "failed", "skipped", "kept",
    }  # fmt: skip
    assert {"old-kept", "old-unchosen"}.isdisjoint(states(history))


def test_forgetting_keeps_the_counts(do, history):
    before = do(candidates.funnel, otherwise=0.0, since=0, until=NOW + 1)
    tallied = do(grades.tallies, since=0, until=NOW + 1)
    candidates.forget(do.store, before=NOW)
    after = do(candidates.funnel, otherwise=0.0, since=0, until=NOW + 1)
    assert after == {**before, "waiting": 2, "expired": 2}
    assert sum(count for count in after.values() if isinstance(count, int)) == 10
    assert do(grades.tallies, since=0, until=NOW + 1) == tallied
    assert len(column(history, "reason", GRADE)) == 4


def test_an_expired_sample_is_neither_due_nor_part_of_its_batch_nor_chosen_again(do, history):
    candidates.forget(do.store, before=NOW)
    assert due_ids(do, now=NOW) == ["new-waiting"]
    assert [each.call_id for each in do(candidates.submitted, "batch")] == ["new-submitted"]
    candidates.choose(do.store, otherwise=1.0, now=NOW)
    assert due_ids(do, now=NOW) == ["new-kept", "new-waiting"]
    assert do(candidates.backlog).waiting == 3


@pytest.mark.parametrize("call_id", ["old-waiting", "old-graded", "old-failed", "old-submitted", "new-kept"])
def test_one_call_can_be_forgotten(do, history, call_id):
    others = content(history, "") - {call_id, f"{call_id} turns"}
    assert do(candidates.forget_call, call_id) == 1
    assert content(history, "") == others
    assert do(candidates.forget_call, call_id) == 0


@pytest.mark.parametrize(
    ("purge", "left"),
    [
        (lambda do: candidates.forget(do.store, before=NOW), ["new", "new"]),
        (lambda do: candidates.trim(do.store, most=1), ["new", "new"]),
        (lambda do: do(candidates.forget_call, "new"), ["old", "old"]),
    ],
)
def test_a_fingerprint_is_removed_with_the_content(do, store, purge, left):
    for name, at in (("old", NOW - 100), ("new", NOW)):
        waiting(do, row(name, at=at, fingerprint=name), now=at)
        do(candidates.settle, name, CandidateState.GRADED)
        # A grade may have no reason.
        do(grades.add, grade_row(name, called_at=at, reason="", fingerprint=name))
    read = do(grades.known_after, grades.GraderVersion(model="m", prompt="p"), grade_id=0, route="support")
    assert [each.fingerprint for each in read] == ["old", "new"]
    purge(do)
    stored = [*column(store, "fingerprint").values(), *column(store, "fingerprint", GRADE).values()]
    assert [each for each in stored if each] == left


@pytest.mark.parametrize("call_id", ["nobody", "old-skipped", "old-unchosen"])
def test_of_a_call_without_content_nothing_is_forgotten(do, history, call_id):
    before = content(history, "")
    assert do(candidates.forget_call, call_id) == 0
    assert content(history, "") == before


def test_the_number_of_calls_with_content_is_bounded_and_the_oldest_go_first(do, store):
    waiting(do, *(row(f"{number:02}", at=NOW + number) for number in range(10)), skipped("x", at=NOW + 99))
    assert do(candidates.newest_beyond, 10) is None
    overflow = do(candidates.newest_beyond, 7)
    assert overflow == NOW + 2
    candidates.forget(do.store, before=overflow + 1e-6)
    assert sorted(call for call, answer in column(store, "answer").items() if answer) == [
        f"{number:02}" for number in range(3, 10)
    ]
    assert do(candidates.newest_beyond, 7) is None


def test_content_that_is_one_too_many_goes_oldest_first_but_not_what_waits(do, store):
    waiting(do, *(row(f"waits {number}", at=NOW + number) for number in range(3)))
    kept(do, *(row(f"kept {number}", at=NOW + number) for number in range(3, 10)))
    assert candidates.trim(store, most=5) == 2
    held = {call for call, answer in column(store, "answer").items() if answer}
    assert held == {*(f"waits {number}" for number in range(3)), *(f"kept {number}" for number in range(5, 10))}
    assert candidates.trim(store, most=5) == candidates.trim(store, most=50) == 0


def test_choosing_and_forgetting_change_few_rows_at_once(do, store):
    kept(do, *(row(f"{number:02}", at=NOW + number) for number in range(25)), skipped("x"))
    with most_rows(store) as rows:
        assert candidates.choose(store, otherwise=1.0, now=NOW, limit=4) == 26
    assert (max(rows), sum(rows)) == (4, 26)
    kept(do, *(row(f"mere {number:02}", at=NOW + number) for number in range(25)), skipped("mere skip"))
    for number in range(25):
        do(grades.add, grade_row(f"{number:02}", called_at=NOW + number))
        do(candidates.settle, f"{number:02}", CandidateState.GRADED)
    with most_rows(store) as rows:
        assert candidates.trim(store, most=40, limit=4) == 10
        assert candidates.forget(store, before=NOW + 99, limit=4) == 40
    assert max(rows) == 4
    assert content(store, "") == set()
    assert set(states(store)) == {*(f"{number:02}" for number in range(25)), "x"}


def test_an_empty_store_has_no_overflow(do):
    assert do(candidates.newest_beyond, 1) is None


def test_examples_are_wrong_answers_whose_content_is_stored_in_the_order_asked_for(do):
    turns = [{"role": "user", "text": "first"}, {"role": "assistant", "text": "yes"}, {"role": "user", "text": "last"}]
    kept(do, row("a", turns=turns), row("b"), row("right"), row("gone"), row("ungraded"))
    for call_id, verdict in (("a", "incorrect"), ("b", "incorrect"), ("right", "correct"), ("gone", "incorrect")):
        do(grades.add, grade_row(call_id, verdict=verdict))
    do(grades.add, grade_row("b", verdict="correct", grader_prompt="another"))
    do(candidates.forget_call, "gone")
    found = do(candidates.examples, ["b", "gone", "ungraded", "right", "a", "unknown"])
    assert [(each.call_id, each.question, each.answer, each.reason) for each in found] == [
        ("b", "Größe? 🙂", "answer b", "reason b"),
        ("a", "last", "answer a", "reason a"),
    ]
    assert "answer a" not in repr(found)
    assert do(candidates.examples, []) == []
