import json
import logging
import threading
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cheapdeep_ops.recorder import Recorder
from cheapdeep_ops.recorder.fingerprints import digest_of, fingerprint_of
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store.direct import DirectStore
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.fingerprint_key import fingerprint_key, keep_key
from cheapdeep_ops.store.schema import migrate
from cheapdeep_ops.values import TextTurn
from tests.guards import EXCHANGE, decision, drained, recorder_at, rows, serving
from tests.stores import migrated

pytestmark = pytest.mark.usefixtures("patient_recorders")
steady = settings(derandomize=True, deadline=None, max_examples=100, database=None)
turns = st.lists(
    st.builds(TextTurn, role=st.sampled_from(["system", "user", "assistant"]), text=st.text(max_size=5)), max_size=3
)
KEY = b"k" * 32


def asking(text):
    return replace(EXCHANGE, turns=(TextTurn(role="user", text=text),))


def found(url):
    return dict(rows(url, "SELECT call_id, fingerprint FROM candidate"))


@given(turns, turns)
@steady
def test_only_equal_turns_have_an_equal_digest(some, others):
    assert (digest_of(some) == digest_of(others)) == (some == others)


def test_no_text_can_look_like_two_turns():
    one, two = TextTurn(role="user", text="a"), TextTurn(role="user", text="b")
    both = TextTurn(role="user", text="auser 1 b")
    assert len({digest_of(each) for each in ([one, two], [both], [two, one], [one], [])}) == 5
    assert digest_of([TextTurn(role="user", text="\ud83d")]) != digest_of([TextTurn(role="user", text="?")])


def test_another_key_makes_another_fingerprint():
    digest = digest_of(EXCHANGE.turns)
    assert len({fingerprint_of(digest, key) for key in (KEY, b"l" * 32)}) == 2
    assert len(fingerprint_of(digest, KEY)) == 32


@pytest.fixture
def record(tmp_path):
    """Stores the answers to some questions with one recorder; returns their fingerprints, and the store's URL."""

    def recorded(*texts, name="store.db", **changes):
        url = f"sqlite:///{tmp_path}/{name}"
        recorder = Recorder(Settings(store_url=url, sample_rate=1.0, **changes), background=False)
        for number, text in enumerate(texts):
            recorder.put(decision(call_id=f"call-{number}"), lambda text=text: asking(text))
        recorder.drain(time.time())
        recorder.close()
        return list(found(url).values()), url

    return recorded


def test_equal_requests_have_equal_fingerprints_of_the_text_before_redaction(record, caplog):
    caplog.set_level(logging.DEBUG)
    (one, two, again, other), url = record("I am ann@example.com", "I am bob@example.com", "I am ann@example.com", "Hi")
    assert one == again
    assert len({one, two, other}) == 3
    assert len({turns for (turns,) in rows(url, "SELECT turns FROM candidate")}) == 2
    ((key,),) = rows(url, "SELECT value FROM secret")
    assert one == fingerprint_of(digest_of(asking("I am ann@example.com").turns), bytes.fromhex(key))
    assert key not in caplog.text


def test_each_store_has_its_own_key(record):
    (one,), _ = record("Is it open?", name="one.db")
    (other,), _ = record("Is it open?", name="other.db")
    assert one != other


def test_an_answer_that_cannot_be_graded_has_none(record):
    fingerprints, _ = record("x" * 60_000)
    assert fingerprints == [""]


@pytest.mark.thorough
def test_what_is_left_in_the_spool_has_none(tmp_path):
    folder = tmp_path / "spool"
    (tmp_path / "store.db").write_text("no database")
    url = f"sqlite:///{tmp_path}/store.db"
    recorder = Recorder(Settings(store_url=url, sample_rate=1.0, spool_dir=folder), background=False)
    recorder.put(decision(), lambda: EXCHANGE)
    recorder.close()
    (path,) = folder.iterdir()
    (answer,) = json.loads(path.read_text())["answers"]
    assert "fingerprint" not in answer
    (tmp_path / "store.db").unlink()
    recorder = Recorder(Settings(store_url=url, sample_rate=1.0, spool_dir=folder), background=False)
    recorder.drain(time.time())
    recorder.close()
    assert list(found(url).values()) == [""]


def test_many_processes_agree_on_one_key(tmp_path):
    url = f"sqlite:///{tmp_path}/store.db"
    store = migrated(url)
    store.close()
    keys, ready = [], threading.Barrier(8)

    def read():
        direct = DirectStore(url, patience_s=5.0, folder=tmp_path)
        ready.wait()
        keys.append(fingerprint_key(direct))
        direct.close()

    threads = [threading.Thread(target=read) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(keys) == 8
    assert len({*keys}) == 1
    assert len(keys[0]) == 32


def test_a_key_stays_as_it_is(tmp_path):
    url = f"sqlite:///{tmp_path}/store.db"
    store, direct = Store(url), DirectStore(url, patience_s=1.0, folder=tmp_path)
    migrate(store)
    keep_key(store, KEY)
    keep_key(store, b"another")
    assert fingerprint_key(direct) == KEY
    direct.close()
    store.close()


def test_a_router_that_sends_to_a_guard_makes_the_fingerprints_of_one_with_a_database(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    url = f"sqlite:///{tmp_path}/guard.db"
    with serving(url) as guard:
        remote = recorder_at(guard.url)
        remote.put(decision(call_id="remote"), lambda: EXCHANGE)
        drained(remote)
        remote.close()
        local = Recorder(Settings(store_url=url, sample_rate=1.0), background=False)
        local.put(decision(call_id="local"), lambda: EXCHANGE)
        drained(local)
        local.close()
    assert set(found(url)) == {"remote", "local"}
    assert found(url)["remote"] == found(url)["local"] != ""
    ((key,),) = rows(url, "SELECT value FROM secret")
    assert key not in caplog.text
    assert key not in repr(remote._destination.__dict__)


def test_a_store_that_was_made_anew_has_another_key_which_its_routers_learn(tmp_path):
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("one", "two")]
    with serving(urls[0]) as guard:
        port = int(guard.url.rsplit(":", 1)[1])
        recorder = recorder_at(guard.url)
        recorder.put(decision(call_id="one"), lambda: EXCHANGE)
        drained(recorder)
    with serving(urls[1], port=port):
        recorder.put(decision(call_id="two"), lambda: EXCHANGE)
        drained(recorder)
        recorder.close()
    keys = [rows(url, "SELECT value FROM secret")[0][0] for url in urls]
    assert [found(url)[name] for url, name in zip(urls, ("one", "two"), strict=True)] == [
        fingerprint_of(digest_of(EXCHANGE.turns), bytes.fromhex(key)) for key in keys
    ]


def test_a_guard_that_gives_no_key_gets_answers_without_fingerprints(tmp_path):
    url = f"sqlite:///{tmp_path}/guard.db"
    with serving(url) as guard:
        recorder = recorder_at(guard.url)
        drained(recorder, calls=1)
        (sender,) = recorder._destination._senders.values()
        sender.fingerprint_key = b""
        recorder.put(decision(call_id="a"), lambda: EXCHANGE)
        drained(recorder)
        recorder.close()
    assert found(url) == {"a": ""}


def test_a_fingerprint_of_another_form_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path}/guard.db"
    with serving(url) as guard:
        recorder = recorder_at(guard.url)
        drained(recorder, calls=1)
        recorder.put(decision(call_id="a"), lambda: EXCHANGE)
        recorder._samples.redact_all()
        (row,) = recorder._samples.rows
        rejected = recorder._destination.write_candidates([{**row, "fingerprint": "Is it open?"}])
        assert [each["call_id"] for each, _ in rejected] == ["a"]
        recorder.close()
