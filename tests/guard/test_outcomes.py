"""What users say about answers, over real HTTP: a rate of its own, in no other."""

from dataclasses import replace

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from cheapdeep_ops.guard.actions.outcomes import OutcomeOf
from cheapdeep_ops.guard.state_text import outcomes_words
from cheapdeep_ops.store import expiry, grades
from cheapdeep_ops.store.outcomes import CallFacts, ReportedOutcome, put
from cheapdeep_ops.store.tables.grade_tables import OutcomeRow
from cheapdeep_ops.store.tables.row import table_of
from tests.guards import serving, tokens_file

from .conftest import START

PATH = "/api/v1/outcomes"
WRONG = {"call_id": "call-1", "outcome": "wrong", "source": "thumbs:u-1"}


@pytest.fixture
def engine():
    return "sqlite"


@pytest.fixture(scope="module")
def guard(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outcomes")
    tokens = tokens_file(folder, "outcome", "read", "act")
    with serving(f"sqlite:///{folder}/outcomes.db", api_tokens_file=tokens) as served:
        served.store.transact(know)
        yield served


def know(connection):
    """One call that the store has, with its grade."""
    grades.add(
        connection,
        {"call_id": "call-1", "grader_model": "claude-opus-4-7", "grader_prompt": "x", "verdict": "correct",
         "failure": "", "reason": "", "called_at": START, "at": START, "route": "support", "input_class": "",
         "shipped": True, "confidence": 0.9, "policy_version": 0, "inclusion": 1.0, "cost_nusd": 0, "tier": 0},
    )  # fmt: skip


@pytest.fixture
def client(guard):
    guard.store.transact(lambda connection: connection.execute(table_of(OutcomeRow).delete()))
    with httpx2.Client(base_url=guard.url, headers={"Authorization": "Bearer s3same"}, timeout=30) as client:
        yield client


def rows(guard):
    with guard.store.reading() as connection:
        ordered = select(table_of(OutcomeRow)).order_by("call_id", "source")
        return [dict(row) for row in connection.execute(ordered).mappings()]


def tell(client, *told):
    answer = client.post(f"{PATH}/batch", json={"outcomes": list(told)})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_outcome_of_a_known_call_has_the_store_s_facts_and_of_an_unknown_one_the_claims(guard, client):
    claims = {"route": "billing", "tier": 1, "confidence": 0.2, "at": 5.0}
    assert client.post(PATH, json={**WRONG, **claims}).json() == {"received": 1, "unknown": 0}
    assert client.post(PATH, json={**WRONG, "call_id": "gone", **claims}).json() == {"received": 1, "unknown": 1}
    assert client.post(PATH, json={**WRONG, "call_id": "lost"}).json() == {"received": 1, "unknown": 1}
    known, claimed, bare = rows(guard)
    facts = ("is_known", "route", "tier", "confidence", "called_at")
    assert [known[name] for name in facts] == [True, "support", 0, 0.9, START]
    assert [claimed[name] for name in facts] == [False, "billing", 1, 0.2, 5.0]
    assert [bare[name] for name in facts] == [False, "", None, None, None]


def test_a_source_may_change_its_mind_and_a_repeat_changes_nothing(guard, client):
    tell(client, WRONG)
    first = rows(guard)
    tell(client, WRONG)
    assert rows(guard) == first
    tell(client, {**WRONG, "outcome": "right"}, {**WRONG, "source": "thumbs:u-2"})
    assert [(row["source"], row["is_wrong"]) for row in rows(guard)] == [("thumbs:u-1", False), ("thumbs:u-2", True)]
    assert rows(guard)[0]["at"] > first[0]["at"]


def test_of_two_for_one_key_in_a_batch_the_last_counts(guard, client):
    assert tell(client, WRONG, {**WRONG, "outcome": "right"}) == {"received": 2, "unknown": 0}
    assert [row["is_wrong"] for row in rows(guard)] == [False]


def test_they_are_shown_as_a_rate_of_their_own_and_are_in_no_other(guard, client):
    def shown():
        return {path: client.get(f"/api/v1/{path}").json() for path in ("report", "status")}

    before = shown()
    admit = {"route": "support", "author": "ann"}
    assert client.put("/api/v1/routes", json=admit).status_code == 200
    others = [{**WRONG, "call_id": f"other-{number}", "route": "secret-route"} for number in range(3)]
    tell(client, WRONG, {**WRONG, "source": "form", "outcome": "right"}, *others)
    after = shown()
    expected = {
        "n": 5, "wrong": 4, "wrong_share": 0.8, "unknown": 3,
        "by_route": {
            "other": {"n": 3, "wrong": 3, "wrong_share": 1.0, "unverified": 3},
            "support": {"n": 2, "wrong": 1, "wrong_share": 0.5, "unverified": 0},
        },
    }  # fmt: skip
    assert [answer.pop("outcomes") for answer in after.values()] == [expected] * 2
    none = {"n": 0, "wrong": 0, "wrong_share": None, "unknown": 0, "by_route": {}}
    assert [answer.pop("outcomes") for answer in before.values()] == [none] * 2
    changing = {"since", "until", "at", "watchers"}
    for path in before:
        assert {name: value for name, value in after[path].items() if name not in changing} == {
            name: value for name, value in before[path].items() if name not in changing
        }
    assert outcomes_words(none) == "none reported"
    assert outcomes_words(expected) == (
        "4 of 5 reports say wrong (80.0%); 3 of calls that are not stored, unverified; by route: other 3 of 3, support "
        "1 of 2; no random sample"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"call_id": ""}, {"call_id": " "}, {"call_id": "x" * 401}, {"call_id": "a\nb"}, {"call_id": "a\x00b"},
        {"call_id": 7}, {"source": ""}, {"source": "x" * 101}, {"source": "a\x1bb"}, {"source": "a\u2028b"},
        {"outcome": "unsure"}, {"outcome": True}, {"route": "x" * 101}, {"route": "a\tb"}, {"tier": -1}, {"tier": 0.5},
        {"confidence": 1.01}, {"confidence": "high"}, {"at": -1}, {"at": 1e12}, {"note": "hello"}, {"author": "ann"},
    ],
    ids=str,
)  # fmt: skip
def test_a_malformed_outcome_is_refused_with_its_place_and_nothing_is_stored(guard, client, change):
    answer = client.post(f"{PATH}/batch", json={"outcomes": [WRONG, {**WRONG, "call_id": "call-2", **change}]})
    assert answer.status_code == 422
    (name,) = change
    assert name in str(answer.json()["detail"]) or name in {"note", "author"}
    assert rows(guard) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 422), (b"{", 422), (b"[]", 422), (b'"x"', 422), (b"null", 422), (b"\xff", 400), (b"[" * 60_000, 400)],
    ids=["empty", "cut", "list", "text", "null", "no-utf8", "deep"],
)
def test_a_body_that_is_no_outcome_is_refused(guard, client, body, status):
    answer = client.post(PATH, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, list(answer.json())) == (status, ["detail"])
    assert rows(guard) == []


def test_a_batch_has_bounds(guard, client):
    told = [{**WRONG, "call_id": f"call-{number}"} for number in range(1_001)]
    assert client.post(f"{PATH}/batch", json={"outcomes": told}).status_code == 422
    assert client.post(f"{PATH}/batch", json={"outcomes": []}).status_code == 422
    assert tell(client, *told[:1_000]) == {"received": 1_000, "unknown": 999}
    assert len(rows(guard)) == 1_000


@pytest.mark.parametrize("route", [None, "support", "billing"])
def test_a_token_for_one_route_reports_calls_of_that_route_and_names_it_where_a_call_is_unknown(tmp_path, route):
    tokens = tokens_file(tmp_path, "outcome", routes='routes = ["support"]\n')
    with serving(f"sqlite:///{tmp_path}/one.db", api_tokens_file=tokens) as served:
        served.store.transact(know)
        headers = {"Authorization": "Bearer s3same"}
        with httpx2.Client(base_url=served.url, headers=headers, timeout=30) as client:
            # What the store knows wins over the claim.
            claim = {} if route is None else {"route": route}
            assert client.post(PATH, json={**WRONG, **claim}).status_code == 200
            unknown = client.post(PATH, json={**WRONG, "call_id": "gone", **claim})
            assert unknown.status_code == (200 if route == "support" else 403)


def test_old_ones_are_deleted(guard, client):
    tell(client, WRONG)
    (row,) = rows(guard)
    assert expiry.expire_outcomes(guard.store, before=row["at"]) == 0
    assert expiry.expire_outcomes(guard.store, before=row["at"] + 1e-3) == 1
    assert rows(guard) == []


def test_of_unknown_calls_only_the_newest_outcomes_stay(store):
    known = ReportedOutcome(call_id="call-1", source="a", is_wrong=True, claimed=CallFacts())
    made_up = [replace(known, call_id=f"none-{number}") for number in range(5)]
    store.transact(know)
    for number, each in enumerate((known, *made_up)):
        store.transact(lambda connection, each=each, at=number: put(connection, [each], now=at))
    assert expiry.expire_outcomes(store, before=0, most_unknown=2) == 3
    with store.reading() as connection:
        left = connection.execute(select(table_of(OutcomeRow).c.call_id)).scalars().all()
    assert sorted(left) == ["call-1", "none-3", "none-4"]


@pytest.mark.thorough
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"], indirect=True)
def test_both_databases_keep_one_outcome_for_each_key(store):
    def said(call_id, source, is_wrong):
        return ReportedOutcome(
            call_id=call_id, source=source, is_wrong=is_wrong, claimed=CallFacts(route="é", confidence=0.5)
        )

    first = [said("a", "x", True), said("b", "x", True), said("a", "y", False)]
    assert store.transact(lambda connection: put(connection, first, now=START)) == 2
    assert store.transact(lambda connection: put(connection, [*first, said("a", "x", False)], now=START + 1)) == 2
    table = table_of(OutcomeRow)
    with store.reading() as connection:
        found = connection.execute(select(table.c.call_id, table.c.source, table.c.is_wrong, table.c.at))
        assert sorted(map(tuple, found)) == [
            ("a", "x", False, START + 1), ("a", "y", False, START), ("b", "x", True, START),
        ]  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(text=st.text(max_size=120))
def test_no_text_with_control_characters_is_taken(text):
    try:
        told = OutcomeOf(call_id="a", outcome="right", source=text)
    except ValueError:
        return
    assert told.source.strip()
    assert len(told.source) <= 100
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in told.source)
