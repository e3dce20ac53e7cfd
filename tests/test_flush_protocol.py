"""The protocol between a router and the guards of one store, against a model that only counts.

The router's side and the guard's are the product's own. Between them, a network without sockets loses, repeats and
delays what they say.
"""

import gzip
import itertools
import json
from collections import Counter
from http.client import HTTPMessage
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from cheapdeep_ops.admission import Admitted
from cheapdeep_ops.call_counters import Counters
from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.guard.http.flush_bodies import read_candidates, read_flush, read_names
from cheapdeep_ops.guard.http.flushes import _store_candidates, _store_flush
from cheapdeep_ops.guard.retention import Retention
from cheapdeep_ops.recorder import counter_writer
from cheapdeep_ops.recorder.counter_writer import CounterWriter
from cheapdeep_ops.recorder.guard_connection import Answer
from cheapdeep_ops.recorder.guard_destination import GuardDestination
from cheapdeep_ops.recorder.wire import (
    LARGEST_BODY,
    VERSION_HEADER,
    BodyError,
    compact,
    flush_interval_s,
    packed,
    unpacked,
)
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters, processes, senders
from cheapdeep_ops.store.direct import DirectStore
from cheapdeep_ops.store.recording import Heartbeat
from cheapdeep_ops.store.senders import (
    Flush,
    Identity,
    SenderError,
    StaleFlushError,
    UnknownSenderError,
    apply_candidates,
    apply_flush,
)
from cheapdeep_ops.units import DAY_S, HOUR_S
from cheapdeep_ops.values import Decision, Name, Outcome
from tests.stores import migrated

NOW = 1_800_000_000
OPEN_S = 10
"""How long a second stays open for late calls."""

ROUTES = ("support", "sales")
ADMITTED = Admitted(called={Name(route): 0.0 for route in ROUTES})
FATES = ("arrives", "is lost", "its answer is lost", "comes later", "only its first batch arrives")
SECONDS_AT_ONCE = 2
"""The largest number of seconds in one batch, so that a flush has several."""


def decision(route, at):
    return Decision(
        call_id="id", route=route, input_class="", tier=0, model="claude-haiku-4-5", confidence=0.9, threshold=0.8,
        policy_version=0, escalated=False, reason=None, bypass_cause=None, base_outcome=Outcome.SHIP, base_reason=None,
        cost_usd=0.0004, triage_cost_usd=0.0004, baseline_cost_usd=0.002, baseline_basis="", started_at=at,
        duration_s=0.0, triage_duration_s=0.0, hops=(), error="failed",
    )  # fmt: skip


def beat(process, **changes):
    return Heartbeat(
        **{"process": process, "kind": "router", "started_at": 1.0, "seen_at": float(NOW), "base_threshold": 0.8}
        | changes
    )


class NoFollower:
    """In place of the thread with the long poll."""

    etag = ""

    def note(self, body, *, asked_at, answered_at):
        pass

    def stop(self):
        pass


class Network:
    """Carries requests to one of the guards, and may lose them or their answers; `clock` is that of the guards."""

    shown_url = "https://guard"

    def __init__(self, stores, clock):
        self.stores, self.clock = stores, clock
        self.fate, self.guard = "arrives", 0
        self.sent, self.under_way = [], []

    def ask(self, method, path, *, body, headers, timeout_s):
        content = unpacked(body, headers.get("Content-Encoding", ""))
        if self.fate == "is lost":
            raise StoreError("no answer")
        if self.fate == "only its first batch arrives":
            self.fate = "is lost"
        if self.fate == "comes later":
            self.under_way.append((path, content))
            raise StoreError("no answer")
        answer = self.deliver(path, content, self.guard)
        if self.fate == "its answer is lost":
            raise StoreError("no answer")
        return answer

    def deliver(self, path, content, guard):
        work = _store_candidates if path.endswith("candidates") else _store_flush
        self.sent.append((path, content))
        try:
            found = work(self.stores[guard], content, self.clock())
        except UnknownSenderError as error:
            known = HTTPMessage()
            known[VERSION_HEADER] = "1.2"
            return Answer(404, known, {"detail": str(error)})
        except SenderError as error:
            return Answer(403, HTTPMessage(), {"detail": str(error)})
        return Answer(200, HTTPMessage(), {**found, "news": {}})

    def close(self):
        pass


def destination_over(network):
    destination = GuardDestination("https://guard", token="t", clock=lambda: NOW, on_news=lambda: None)
    destination._connection, destination._follower = network, NoFollower()
    return destination


class Protocol(RuleBasedStateMachine):
    """Two routers and two guards on one store, which folds seconds and seals the processes that are silent."""

    url = ""  # of a blank store, by default a file of the example's own

    def __init__(self):
        super().__init__()
        self.folder = TemporaryDirectory()
        url = self.url or f"sqlite:///{self.folder.name}/store.db"
        self.store = migrated(url)
        self.stores = [DirectStore(url, patience_s=1.0, folder=Path(self.folder.name)) for _ in range(2)]
        self.now = float(NOW)
        self.retentions = [Retention(self.store, Settings(), monotonic=lambda: self.now) for _ in range(2)]
        self.networks = [Network(self.stores, lambda: self.now) for _ in range(2)]
        self.writers = [
            CounterWriter(destination_over(network), ADMITTED, drop=self.dropped) for network in self.networks
        ]
        self.saved_at = [self.now, self.now]
        self.sent = Counter()
        self.acknowledged = Counter()

    def dropped(self, count, why):
        raise AssertionError(f"{count} calls were dropped: {why}")

    @rule(seconds=st.sampled_from([1, 15, 90, 2 * HOUR_S, 14 * HOUR_S, 26 * HOUR_S]))
    def time_goes_on(self, seconds):
        self.now += seconds

    @rule(who=st.integers(0, 1), route=st.sampled_from(ROUTES), back=st.integers(0, 3), count=st.integers(1, 3))
    def count(self, who, route, back, count):
        for _ in range(count):
            assert self.writers[who].add(decision(route, NOW), at=int(self.now) - back)
        self.sent[who, route] += count

    @rule(who=st.integers(0, 1), guard=st.integers(0, 1), fate=st.sampled_from(FATES))
    def flush(self, who, guard, fate):
        """What the recorder does: it goes on under a new name after half a day, and closes what is stored."""
        network, writer = self.networks[who], self.writers[who]
        network.fate, network.guard = fate, guard
        if self.now - self.saved_at[who] > DAY_S / 2:
            writer.restart(self.beat(writer))
            self.saved_at[who] = self.now
        try:
            with patch.object(counter_writer, "_SECONDS_AT_ONCE", SECONDS_AT_ONCE):
                writer.save(self.beat(writer))
        except StoreError:
            return
        assert fate in ("arrives", "only its first batch arrives")
        self.saved_at[who] = self.now
        writer.close_seconds(before=int(self.now) - OPEN_S)
        for route in ROUTES:
            self.acknowledged[who, route] = self.sent[who, route]

    def beat(self, writer):
        return beat(writer.process, seen_at=self.now, closed_before=writer.buffer.closed_before)

    @rule(guard=st.integers(0, 1), hours=st.sampled_from([0, 0, 2]))
    def fold(self, guard, hours):
        """A guard folds what is sealed; one that has seen a silence for two hours more seals the silent ones."""
        self.retentions[guard].step(self.now)
        if hours:
            self.now += hours * HOUR_S
            self.retentions[guard].step(self.now)

    @rule(who=st.integers(0, 1), guard=st.integers(0, 1), choice=st.randoms(use_true_random=False))
    def repeat(self, who, guard, choice):
        """A request that was delayed, or sent twice, arrives at either guard."""
        network = self.networks[who]
        if waiting := [*network.sent, *network.under_way]:
            network.deliver(*choice.choice(waiting), guard)

    @rule(who=st.integers(0, 1), other=st.integers(0, 1))
    def forge(self, who, other):
        """A sender with the id of another process, and a secret of its own, changes nothing."""
        before = self.stored()
        for process in [row[0] for row in self.stores[0].read("SELECT process FROM process")] if not self.url else []:
            forged = Flush(
                identity=Identity(process, "guessed"),
                number=10**9,
                buckets=[{**Counters(calls=99).row(), "route": "x", "input_class": "", "at": NOW, "process": process}],
                totals=[{**Counters(calls=99).row(), "route": "x", "input_class": "", "process": process}],
                beat=beat(process),
            )
            with pytest.raises(SenderError):
                apply_flush(self.stores[other], forged)
        assert self.stored() == before

    def stored(self, table="bucket"):
        schema = "" if self.stores[0].dialect == "sqlite" else "cheapdeep."
        rows = self.stores[0].read(
            f"SELECT process, route, {'at' if table == 'bucket' else 0}, calls FROM {schema}{table}"
        )
        return {row[:3]: row[3] for row in rows}

    def counted(self):
        """The calls of each route in all seconds, folded or not; and those that were late."""
        with self.store.reading() as connection:
            found, late = counters.by_route(connection, since=0, until=2**40), processes.late(connection)
            together = counters.sums_of(connection, ["calls"], since=0, until=2**40)["calls"]
        calls = Counter({route: each.calls for route, each in found.items()})
        assert calls.total() == together
        return calls, late

    @staticmethod
    def by_route(calls):
        """The calls of both routers by route."""
        return sum((Counter({route: count}) for (_, route), count in calls.items()), Counter())

    @invariant()
    def nothing_is_counted_twice_and_nothing_acknowledged_is_missing(self):
        counts, late = self.counted()
        assert counts <= self.by_route(self.sent)
        assert counts.total() + late <= self.sent.total()
        assert self.acknowledged.total() <= counts.total() + late
        assert self.totals() <= self.by_route(self.sent)

    def totals(self):
        """The calls of each route since the beginning, in all processes."""
        totals = Counter()
        for (_, route, _), calls in self.stored("total").items():
            totals[route] += calls
        return totals

    def teardown(self):
        try:
            for who in range(2):
                self.flush(who, 1 - who, "arrives")
            self.fold(0, 0)
            counts, late = self.counted()
            assert counts.total() + late == self.sent.total()
            if not late:
                assert self.totals() == counts == +self.by_route(self.sent)
        finally:
            for store in (*self.stores, self.store):
                store.close()
            self.folder.cleanup()


def test_a_proxy_that_finds_no_guard_makes_nothing_count_twice():
    state = Protocol()
    try:
        state.count(0, "support", 0, 2)
        state.flush(0, 0, "arrives")
        state.count(0, "support", 1, 1)
        state.networks[0].deliver = lambda *_: Answer(404, HTTPMessage(), {"message": "no route"})
        with pytest.raises(StoreError, match="404"):
            state.writers[0].save(beat(state.writers[0].process))
        del state.networks[0].deliver
        state.writers[0].store_lost()
        state.flush(0, 0, "arrives")
        assert len({process for process, *_ in state.stored()}) == 1
    finally:
        state.teardown()


def test_what_a_dead_process_sends_again_is_late_once():
    state = Protocol()
    try:
        for fate, calls in (("arrives", 1), ("its answer is lost", 2), ("is lost", 2)):
            state.count(0, "support", 0, calls)
            state.flush(0, 0, fate)
        state.time_goes_on(26 * HOUR_S)
        state.fold(0, 2)
        for fate in ("its answer is lost", "comes later", "arrives"):
            state.flush(0, 0, fate)
        assert state.counted() == ({"support": 3}, 2)
    finally:
        state.teardown()


def test_seconds_that_a_dead_process_did_not_send_are_in_one_total():
    state = Protocol()
    try:
        state.flush(0, 0, "arrives")  # joins the store
        for _ in range(3 * SECONDS_AT_ONCE):
            state.count(0, "support", 0, 1)
            state.time_goes_on(1)
        state.flush(0, 0, "only its first batch arrives")
        assert state.totals() == {"support": SECONDS_AT_ONCE}
        state.time_goes_on(26 * HOUR_S)
        state.fold(0, 2)
        state.flush(0, 0, "arrives")
        # The second batch may have arrived, so it stays under the name that is dead by now.
        assert state.counted() == ({"support": 2 * SECONDS_AT_ONCE}, SECONDS_AT_ONCE)
        assert state.totals() == {"support": 2 * SECONDS_AT_ONCE}
    finally:
        state.teardown()


def test_whatever_the_network_does_counts_are_exact():
    steady = hypothesis_settings(derandomize=True, deadline=None, max_examples=6, stateful_step_count=20, database=None)
    run_state_machine_as_test(Protocol, settings=steady)


@pytest.mark.parametrize("fate", ["is lost", "its answer is lost", "comes later"])
def test_what_was_counted_after_a_lost_flush_is_in_the_next_one(fate):
    state = Protocol()
    try:
        for step, calls in (("arrives", 2), (fate, 3), ("arrives", 1)):
            state.count(0, "support", 0, calls)
            state.flush(0, 0, step)
        for path, content in [*state.networks[0].under_way, *state.networks[0].sent]:
            state.networks[0].deliver(path, content, 1)
        assert list(state.stored().values()) == [6]
    finally:
        state.teardown()


@pytest.mark.thorough
def test_whatever_the_network_does_counts_are_exact_in_many_more_runs():
    steady = hypothesis_settings(
        derandomize=True, deadline=None, max_examples=150, stateful_step_count=50, database=None
    )
    run_state_machine_as_test(Protocol, settings=steady)


@pytest.mark.thorough
def test_postgresql_gives_the_same_counts(postgresql):
    names = itertools.count()

    class OnPostgresql(Protocol):
        def __init__(self):
            name = f"protocol{next(names)}"
            postgresql.execute(f"CREATE DATABASE {name} TEMPLATE migrated STRATEGY file_copy")
            self.url = postgresql.url(name)
            super().__init__()

    steady = hypothesis_settings(
        derandomize=True, deadline=None, max_examples=20, stateful_step_count=40, database=None
    )
    run_state_machine_as_test(OnPostgresql, settings=steady)


# The guard's side alone


@pytest.fixture
def engine():
    return "sqlite"


@pytest.fixture
def direct(tmp_path):
    url = f"sqlite:///{tmp_path}/store.db"
    store = migrated(url)
    store.close()
    direct = DirectStore(url, patience_s=1.0, folder=tmp_path)
    yield direct
    direct.close()


@pytest.fixture
def identity(direct):
    return senders.join(direct, beat(""), process="ab" * 16, secret="s3same")


def flush_of(identity, number, calls, *, at=NOW, **changes):
    key = {"route": "support", "input_class": "", "process": identity.process}
    row = Counters(calls=calls).row()
    known = {
        "identity": identity, "number": number, "buckets": [{**key, "at": at, **row}], "totals": [{**key, **row}],
        "beat": beat(identity.process),
    }  # fmt: skip
    return Flush(**known | changes)


def calls(direct):
    return direct.read("SELECT coalesce(sum(calls), 0) FROM bucket")[0][0]


def test_only_a_greater_number_is_applied_and_the_answer_has_the_last_one(direct, identity):
    apply_flush(direct, flush_of(identity, 3, calls=7))
    for number in (3, 2):
        with pytest.raises(StaleFlushError) as refused:
            apply_flush(direct, flush_of(identity, number, calls=5))
        assert refused.value.number == 3
    assert calls(direct) == 7
    apply_flush(direct, flush_of(identity, 4, calls=8))
    assert calls(direct) == 8


def test_a_process_that_has_never_sent_is_not_alive_and_its_secret_is_stored_hashed(direct, identity):
    assert direct.read("SELECT kind, flush FROM process") == [("stopped", 0)]
    assert "s3same" not in str(direct.read("SELECT * FROM process"))
    assert senders.live_routers(direct, now=NOW) == 0
    apply_flush(direct, flush_of(identity, 1, calls=1))
    assert senders.live_routers(direct, now=NOW + 59) == 1
    apply_flush(direct, flush_of(identity, 2, calls=1, is_last=True))
    assert senders.live_routers(direct, now=NOW) == 0
    assert calls(direct) == 1


@pytest.mark.parametrize(
    ("process", "secret", "error"),
    [
        ("ab" * 16, "guessed", SenderError),
        ("ab" * 16, "", SenderError),
        ("cd" * 16, "s3same", UnknownSenderError),
        ("'; DROP TABLE bucket; --", "s3same", UnknownSenderError),
    ],
)
def test_no_other_sender_writes_the_rows_of_a_process(direct, identity, process, secret, error):
    with pytest.raises(error):
        apply_flush(direct, flush_of(Identity(process, secret), 1, calls=9))
    with pytest.raises(error):
        apply_candidates(direct, Identity(process, secret), [])
    assert calls(direct) == 0


def test_a_router_that_writes_to_the_store_itself_has_no_secret_that_could_be_guessed(direct):
    plain = beat("ef" * 16)
    senders.join(direct, plain, process=plain.process, secret="x")
    direct.transact(lambda connection: connection.exec_driver_sql("UPDATE process SET secret = ?", [("",)]))
    with pytest.raises(SenderError):
        apply_flush(direct, flush_of(Identity(plain.process, ""), 1, calls=9))


def test_a_row_that_the_database_rejects_takes_no_other_row_with_it(direct, identity):
    key = {"route": "support", "input_class": "", "process": identity.process}
    rows = [{**key, "at": NOW + second, **Counters(calls=1).row()} for second in range(5)]
    rows[2]["calls"] = 2**70
    rejected = apply_flush(direct, flush_of(identity, 1, calls=5, buckets=rows))
    assert [row["at"] for row, _ in rejected] == [NOW + 2]
    assert calls(direct) == 4
    with pytest.raises(StaleFlushError):
        apply_flush(direct, flush_of(identity, 1, calls=99))


# Bodies


ABOUT = {
    "started_at": 1.0, "base_threshold": 0.8, "policy_version": 0, "dropped": 0, "host": "h", "pid": 1,
    "package_version": "1",
}  # fmt: skip
BUCKET = {"route": "support", "input_class": "", "at": NOW, "calls": 2, "models": {"claude-haiku-4-5": 2}}
TOTAL = {"route": "support", "input_class": "", "calls": 2}


def flush_body(**changes):
    body = {"process": "ab" * 16, "secret": "s", "number": 1, "beat": ABOUT, "buckets": [BUCKET], "totals": [TOTAL]}
    return json.dumps(body | changes).encode()


def test_what_a_router_leaves_out_is_zero_and_what_a_guard_does_not_know_is_ignored():
    newer = flush_body(buckets=[{**BUCKET, "new_counter": 3}], mood="fine", beat={**ABOUT, "zone": "eu"})
    (row,) = read_flush(newer, now=NOW).flush.buckets
    assert row["calls"] == 2
    assert row == {**Counters(calls=2, models={"claude-haiku-4-5": 2}).row(), **row}
    assert "new_counter" not in row
    assert row["process"] == "ab" * 16
    everything = {**Counters(calls=3, models={"m": 1}).row(), "route": "r", "input_class": "", "at": 5, "process": "p"}
    assert compact([everything]) == [{"route": "r", "input_class": "", "at": 5, "calls": 3, "models": {"m": 1}}]


@pytest.mark.parametrize(
    "change",
    [
        {"calls": -1}, {"calls": 2**31}, {"calls": "2"}, {"calls": 2.5}, {"calls": True}, {"cost_nusd": 2**63},
        {"models": {"m": -1}}, {"models": {"m\0": 1}}, {"models": {"m" * 401: 1}}, {"models": []},
        {"models": {f"m{number}": 1 for number in range(501)}}, {"route": "a\nb"}, {"route": "r" * 101}, {"route": 1},
        {"input_class": None}, {"at": -1}, {"at": NOW + 2 * 86_400}, {"at": "now"}, {"at": NOW + 0.5}, {"route": "*"},
    ],
)  # fmt: skip
def test_a_malformed_bucket_is_refused_alone(change):
    totals = [TOTAL, {**TOTAL, "route": "*"}]
    read = read_flush(flush_body(buckets=[{**BUCKET, **change}, BUCKET], totals=totals), now=NOW)
    assert len(read.refused) == len(read.flush.buckets) == 1
    assert read.flush.buckets[0]["calls"] == 2


def test_a_bucket_without_a_total_is_refused_so_that_sums_agree():
    read = read_flush(flush_body(totals=[{**TOTAL, "calls": -1}]), now=NOW)
    assert read.flush.buckets == read.flush.totals == []
    assert read.refused == [(["support", "", NOW], "has no total")]


def test_a_malformed_name_leaves_the_others():
    asked = [["a\nb", ""], ["sales", ""], ["*", ""], ["sales"], ["sales", "faq"], 7]
    assert read_names(json.dumps({"names": asked}).encode()) == [Name("sales"), Name("sales", "faq")]
    with pytest.raises(BodyError):
        read_names(b'{"names": 1}')


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{", b"\xff", b'{"beat": 1}', b"{}", flush_body(process="../x"), flush_body(process="AB" * 16),
        flush_body(number=-1), flush_body(number=2**63), flush_body(secret=None), flush_body(beat={}),
        flush_body(beat={**ABOUT, "started_at": float("inf")}), flush_body(buckets={}), b"[" * 100_000,
        flush_body(beat={**ABOUT, "host": "a\x1b[31m"}), flush_body(number=True),
    ],
)  # fmt: skip
def test_a_malformed_body_is_refused_whole_and_the_fault_shows_no_secret(body):
    with pytest.raises(BodyError) as refused:
        read_flush(body.replace(b'"s"', b'"s3same"'), now=NOW)
    assert "s3same" not in str(refused.value)


CANDIDATE = {
    "call_id": "c1", "position": 0.1, "kept_share": 0.3, "route": "support", "input_class": "", "at": float(NOW),
    "threshold": 0.8, "policy_version": 0, "tier": 0, "model": "m", "shipped": True, "confidence": 0.9,
    "prompt_version": "", "response_id": "", "trace_id": "", "span_id": "", "trace_sampled": False,
    "turns": [{"role": "user", "text": "Is it open?"}], "answer": "Yes.", "state": "kept", "why": "",
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"state": "graded"}, {"confidence": 1.5}, {"answer": "a\0b"}, {"turns": [{"role": "root", "text": ""}]},
        {"at": NOW + 2 * 86_400.0}, {"shipped": 1}, {"call_id": ""}, {"route": "r" * 101},
    ],
)  # fmt: skip
def test_a_malformed_candidate_is_refused_alone_and_no_sender_chooses_what_is_graded(change):
    body = {"process": "ab" * 16, "secret": "s", "rows": [{**CANDIDATE, **change}, {**CANDIDATE, "call_id": "c2"}]}
    identity, rows, refused = read_candidates(json.dumps(body).encode(), now=NOW)
    assert identity == ("ab" * 16, "s")
    assert [row["call_id"] for row in rows] == ["c2"]
    assert len(refused) == 1
    more = {**CANDIDATE, "inclusion": 1.0, "chosen_at": 1.0}
    _, (row,), _ = read_candidates(json.dumps({**body, "rows": [more]}).encode(), now=NOW)
    assert row == CANDIDATE


def test_candidates_that_are_sent_twice_are_stored_once(direct, identity):
    for answer in ("Yes.", "No."):
        assert apply_candidates(direct, identity, [{**CANDIDATE, "answer": answer}]) == []
    assert direct.read("SELECT call_id, answer FROM candidate") == [("c1", "Yes.")]


def test_bodies_are_bounded_before_and_after_they_are_unpacked():
    body, headers = packed(b"x" * 2_000)
    assert unpacked(body, headers["Content-Encoding"]) == b"x" * 2_000
    assert packed(b"short")[0] == b"short"
    assert unpacked(gzip.compress(bytes(LARGEST_BODY), 1), "gzip") == bytes(LARGEST_BODY)
    for malformed, encoding in (
        (gzip.compress(bytes(LARGEST_BODY + 1), 1), "gzip"),
        (gzip.compress(b"whole" * 100)[:-9], "gzip"),
        (b"not gzip", "gzip"),
        (b"x", "br"),
    ):
        with pytest.raises(BodyError):
            unpacked(malformed, encoding)


def test_flushes_a_second_stay_bounded_however_many_routers_there_are():
    assert [flush_interval_s(routers) for routers in (0, 40, 400, 2_000, 10_000, 10**6)] == [0, 0.1, 1, 5, 25, 30]
    assert all(routers / flush_interval_s(routers) <= 400 * 1.001 for routers in range(1, 12_000, 37))
