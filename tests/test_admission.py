"""Which names count by themselves: ids inside them, the limits of the fleet, and sums that stay exact."""

import threading
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops import Settings
from cheapdeep_ops.admission import Admitted, shown_names
from cheapdeep_ops.name_ids import without_ids
from cheapdeep_ops.policy import PolicyAct, ScopeState, act_on, blank_book
from cheapdeep_ops.recorder.recorder import Recorder
from cheapdeep_ops.router.label_limits import Labeller
from cheapdeep_ops.store import counters
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.testing.clock import FrozenClock
from cheapdeep_ops.values import Decision, Hop, Name, Outcome, Tier
from tests.stores import migrated

NOW = 1_790_000_000.0
HOP = Hop(tier=Tier(model="claude-haiku-4-5", index=0, is_deep=False), usage=None, cost_usd=0.0004)
DECISION = Decision(
    call_id="id", route="support", input_class="", tier=0, model="claude-haiku-4-5", confidence=0.9, threshold=0.8,
    policy_version=0, escalated=False, reason=None, bypass_cause=None, base_outcome=Outcome.SHIP, base_reason=None,
    cost_usd=0.0004, triage_cost_usd=0.0004, baseline_cost_usd=0.002, baseline_basis="", started_at=NOW,
    duration_s=0.0, triage_duration_s=0.0, hops=(HOP,),
)  # fmt: skip

WORDS = (
    "support", "gpt-4", "v2", "s3", "q3-report", "model-3-5", "claude-opus-4-7", "base64-decode", "sha256", "4k-video",
    "covid19-faq", "report-2024", "feed2023", "deadbeef", "internationalization", "2nd_line", "v1.2/chat", "{id}",
)  # fmt: skip
IDS = st.one_of(
    st.integers(10_000, 10**18).map(str),
    st.uuids().map(str),
    st.uuids().map(lambda value: value.hex),
    st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=25, max_size=25).map(lambda rest: "0" + rest[:-1] + "Z7"[:1]),
    st.from_regex(r"\A[a-z]{1,8}\.[a-z]{1,8}@[a-z]{1,8}\.(com|org)\Z"),
    st.dates().map(str),
)


# Ids


@pytest.mark.parametrize("word", WORDS)
def test_a_word_with_a_digit_stays(word):
    assert without_ids(word) == word
    assert without_ids(f"team/{word}") == f"team/{word}"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("user/7/chat", "user/{id}/chat"),
        ("7", "{id}"),
        ("user:42", "user:{id}"),
        ("ticket-48213", "ticket-{id}"),
        ("mail/jane@example.org/x", "mail/{id}/x"),
        ("a1b2c3d4", "{id}"),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV", "{id}"),
        ("of 550e8400-e29b-41d4-a716-446655440000", "of {id}"),
        ("daily-2026-11-30", "daily-{id}"),
    ],
)
def test_an_id_inside_a_name_is_replaced(name, shown):
    assert without_ids(name) == shown


@given(IDS, st.sampled_from(("user/{}/chat", "chat {}", "{}", "of:{}")))
def test_any_id_leads_to_one_name(one, form):
    assert without_ids(form.format(one)) == form.format("{id}")


@given(st.one_of(st.text(), st.from_regex(r"[0-9a-fA-Fgz@./:{}-]{0,60}"), IDS))
@pytest.mark.thorough
def test_a_second_time_changes_nothing(name):
    assert without_ids(without_ids(name)) == without_ids(name)


# Labels of a call


def admitted(*names, **limits):
    return Admitted(called={Name(*each): NOW for each in names}, **limits)


def of(route, input_class="", book=None, default="default"):
    book = book or replace(blank_book(), admitted=admitted(("support",), ("support", "invoice"), ("user/{id}",)))
    return Labeller(default, max_routes=200, max_classes=50).of(route, input_class, book)


def test_a_call_has_the_callers_text_the_name_and_what_counts():
    assert of("user/7", "invoice")[:3] == (("user/7", "invoice"), ("user/{id}", "invoice"), ("user/{id}", "other"))
    assert of("sales", "invoice")[1:3] == (("sales", "invoice"), ("other", "other"))
    assert of("sales")[1:3] == (("sales", ""), ("other", ""))
    assert of("support", "invoice").counted == ("support", "invoice")


def test_the_default_route_and_admitted_and_pinned_routes_keep_their_ids():
    assert of(None, default="tenant/7").name.route == "tenant/7"
    book = replace(blank_book(), admitted=admitted(("user/8",)))
    assert (of("user/8", book=book).name.route, of("user/9", book=book).name.route) == ("user/8", "user/{id}")
    pinned = book.with_scope(act_on(ScopeState(scope="user/9"), PolicyAct.PIN, threshold=1.0))
    assert of("user/9", book=pinned).name.route == "user/9"


def test_a_folded_route_follows_its_own_pin_first_and_then_that_of_other():
    book = replace(blank_book(), admitted=admitted(max_routes=0))
    book = book.with_scope(act_on(ScopeState(scope="sales"), PolicyAct.PIN, threshold=0.99))
    book = book.with_scope(act_on(ScopeState(scope="other"), PolicyAct.PIN, threshold=0.7))
    sales, chat = of("sales", book=book), of("chat", book=book)
    assert (sales.counted.route, sales.policy.threshold, sales.shown_threshold) == ("other", 0.99, 0.7)
    assert (chat.counted.route, chat.policy.threshold) == ("other", 0.7)


@pytest.mark.thorough
def test_labels_are_remembered_and_bounded_also_for_objects_that_are_no_text():
    labeller, book = Labeller("default", max_routes=3, max_classes=2), blank_book()
    assert labeller.of("a", "", book) is labeller.of("a", "", book)
    assert [labeller.of(each, "", book).counted.route for each in (1, True, None, "b", [2], "a", 2)] == [
        "{id}", "True", "other", "other", "other", "a", "{id}",
    ]  # fmt: skip
    for number in range(10_000):
        labeller.of(f"user/{number}", f"class-{number}", book)
    assert len(labeller._known[1]) <= 4_096


# What a report shows


@given(st.sets(st.text(max_size=3)), st.sets(st.text(max_size=3)), st.integers(0, 20))
def test_a_report_shows_at_most_the_limit_and_other(names, known, limit):
    shown = shown_names(names, known, limit)
    assert shown.keys() >= names
    assert len(set(shown.values()) - {"other"}) <= limit
    assert all(label in (name, "other") for name, label in shown.items())
    if len(known) <= limit:
        assert all(shown[name] == name for name in names & known)


# The store


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.thorough)])
def settings(request, tmp_path):
    is_sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/store.db" if is_sqlite else request.getfixturevalue("postgresql_url")
    store = migrated(url)
    store.close()
    return Settings(store_url=url, max_routes=5, max_input_classes=2)


@pytest.fixture
def made():
    recorders = []

    def make(settings):
        recorders.append(Recorder(settings, clock=FrozenClock(NOW), background=False))
        recorders[-1].refresh(NOW)
        return recorders[-1]

    yield make
    for each in recorders:
        each.close()


def put(recorder, route, input_class="", count=1):
    for _ in range(count):
        recorder.put(replace(DECISION, route=route, input_class=input_class))


def stored(settings):
    """The calls by (route, class): of the totals, and of the seconds."""
    store = Store(settings.store_url)
    try:
        with store.reading() as connection:
            totals = {key: sums.calls for key, sums in counters.totals(connection).items()}
            mix = counters.traffic_mix(connection, since=0, until=2**40).calls
            return totals, dict(mix)
    finally:
        store.close()


def test_the_busiest_new_routes_are_admitted_and_the_others_count_as_other(settings, made):
    recorder = made(settings)
    for number in range(8):
        put(recorder, f"route-{number}", count=number + 1)
    recorder.drain(NOW)
    expected = {(f"route-{number}", ""): number + 1 for number in range(3, 8)} | {("other", ""): 6}
    assert stored(settings) == (expected, expected)
    assert (recorder._writer.names.folded, set(recorder._writer.names.folded_names)) == (
        6,
        {"route-0", "route-1", "route-2"},
    )


def test_a_second_process_counts_what_the_first_was_admitted_for_and_folds_the_rest(settings, made):
    first, second = made(settings), made(settings)
    for number in range(5):
        put(first, f"route-{number}")
    first.drain(NOW)
    # It has not read the names since, so that its own wait until the store has refused them.
    for route in ("route-1", "late", "late"):
        put(second, route)
    second.drain(NOW)
    put(second, "later")
    second.drain(NOW + 1)
    totals, seconds = stored(settings)
    assert totals == seconds == {**{(f"route-{n}", ""): 1 + (n == 1) for n in range(5)}, ("other", ""): 3}


def test_a_route_has_so_many_classes_and_other_has_one(settings, made):
    recorder = made(settings)
    for name in "abcd":
        put(recorder, "support", name, count=3 if name in "cd" else 1)
    recorder.drain(NOW)
    for number in range(6):
        put(recorder, f"route-{number}", "x", count=6 - number)
    recorder.drain(NOW)
    totals, seconds = stored(settings)
    assert totals == seconds
    assert {key: calls for key, calls in totals.items() if key[0] == "support"} == {
        ("support", "c"): 3, ("support", "d"): 3, ("support", "other"): 2,
    }  # fmt: skip
    assert totals["other", "other"] == 3
    assert sum(totals.values()) == 29


def test_a_flush_without_a_new_name_asks_for_nothing_and_a_full_store_is_not_asked_again(settings, made, monkeypatch):
    recorder, asked = made(settings), []
    admit = recorder._destination.admit
    monkeypatch.setattr(recorder._destination, "admit", lambda names, now: asked.append(names) or admit(names, now))
    for turn in range(3):
        for number in range(7):
            put(recorder, f"route-{number}")
        recorder.drain(NOW + turn)
        recorder.refresh(NOW + turn)
    assert len(asked) == 1
    recorder.drain(NOW + 4_000)
    put(recorder, "route-1")
    recorder.drain(NOW + 2 * 86_400)
    assert asked[1:] == [[Name("route-1")]]
    assert recorder._writer.admitted.called[Name("route-1")] == NOW + 2 * 86_400


def test_no_more_names_wait_than_there_is_a_choice_from(settings, made):
    recorder = made(settings)
    for number in range(1_000):
        put(recorder, f"route-{number}", f"class-{number % 7}")
    recorder.fold(NOW)
    assert len(recorder._writer.names._waiting) == 10
    assert recorder.book.admitted.version == 0
    recorder.drain(NOW)
    totals, seconds = stored(settings)
    assert sum(totals.values()) == sum(seconds.values()) == 1_000
    assert len({route for route, _ in totals}) == 6


def test_many_processes_at_once_admit_no_more_than_the_limit(settings, made):
    def run(number):
        recorder = Recorder(settings, clock=FrozenClock(NOW), background=False)
        for other in range(8):
            put(recorder, f"route-{number}-{other}", count=2)
        recorder.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    totals, seconds = stored(settings)
    assert totals == seconds
    assert len(totals) == 6
    assert sum(totals.values()) == 4 * 8 * 2


@given(
    st.lists(
        st.tuples(st.sampled_from(("a", "b", "c", "d")), st.sampled_from(("", "x", "y", "z")), st.booleans()),
        max_size=40,
    )
)
def test_whole_tallies_fold_exactly(calls):
    """Against a model that just counts: whatever is admitted when, all calls are counted once."""
    from cheapdeep_ops.recorder.counter_buffer import CounterBuffer  # noqa: PLC0415
    from cheapdeep_ops.recorder.name_counts import NameCounts  # noqa: PLC0415

    known = admitted(max_routes=2, max_classes=1)
    buffer, names, rows = CounterBuffer(capacity=1_000), NameCounts(), {}
    for turn, (route, input_class, settles) in enumerate(calls):
        assert names.add(buffer, replace(DECISION, route=route, input_class=input_class), known, at=turn // 3)
        if settles:
            called = dict(known.called)
            for name in names.wanted(buffer, known, NOW):
                if name in known.wanted(name) and name not in called:
                    called[name] = NOW
                    known = replace(known, called=called)
            names.settle(buffer, known)
            batch = buffer.everything()
            buckets, totals = buffer.rows(batch, "p")
            rows |= {(row["route"], row["input_class"], row["at"]): row["calls"] for row in buckets}
            buffer.saved(batch)
            by_name = Counter()
            for (name_route, name_class, _), count in rows.items():
                by_name[name_route, name_class] += count
            assert {(row["route"], row["input_class"]): row["calls"] for row in totals}.items() <= by_name.items()
            assert sum(rows.values()) == turn + 1
            assert all(known.counted(Name(*key)) == key for key in by_name)
