"""A store that is used through its driver alone."""

import pytest

from cheapdeep_ops.errors import RowError, StoreBusyError, StoreError
from cheapdeep_ops.policy import PolicyAct, blank_book
from cheapdeep_ops.store import fingerprint_key, policies, processes, recording, slices
from cheapdeep_ops.store.direct import DirectStore
from cheapdeep_ops.store.inserts import combined, prepare, table_name
from cheapdeep_ops.store.policies import PolicyEdit
from cheapdeep_ops.store.schema import HEAD, migrate
from cheapdeep_ops.store.tables.budget_tables import BudgetSlice
from cheapdeep_ops.store.tables.call_tables import Bucket, Process, SecretRow, Total
from cheapdeep_ops.store.tables.grade_tables import Candidate
from cheapdeep_ops.store.upsert import target_of
from tests.stores import migrated

NOW = 1_800_000_000.0
TARGETS = [
    (recording.BUCKET, Bucket),
    (recording.TOTAL, Total),
    (recording.PROCESS, Process),
    (recording.CANDIDATE, Candidate),
    (fingerprint_key.SECRET, SecretRow),
    (slices.SLICE, BudgetSlice),
]
PATIENCE_S = 0.1


@pytest.fixture
def store(either_url):
    store = migrated(either_url)
    yield store
    store.close()


@pytest.fixture
def direct(either_url, store, tmp_path):
    """The store of `store` once more, directly."""
    direct = DirectStore(either_url, patience_s=PATIENCE_S, folder=tmp_path)
    yield direct
    direct.close()


def beat(process="p", kind="router", seen_at=NOW):
    return recording.prepare_beat(
        recording.Heartbeat(process=process, kind=kind, started_at=NOW, seen_at=seen_at, base_threshold=0.8)
    )


def kinds(direct):
    return dict(direct.read(f"SELECT process, kind FROM {table_name(direct.dialect, 'process')}"))


def value(default):
    return default() if callable(default) else default


@pytest.mark.parametrize(("target", "model"), TARGETS)
def test_what_a_recorder_knows_of_a_table_is_what_the_table_is(target, model):
    declared = target_of(model)
    assert (target.name, target.keys, target.json) == (declared.name, declared.keys, declared.json)
    defaults, expected = ({name: value(each) for name, each in of.defaults.items()} for of in (target, declared))
    assert defaults == expected


def test_policies_and_the_guard_are_read_as_the_guard_reads_them(direct, store):
    assert recording.read_policies(direct)[:2] == ([], None)
    book = blank_book()
    edits = (
        PolicyEdit(scope="support", act=PolicyAct.RAISE, cause="EscalationStorm"),
        PolicyEdit(scope="chat", act=PolicyAct.PIN, threshold=0.85, author="ann"),
    )
    for edit in edits:
        book = store.transact(lambda connection, edit=edit, book=book: policies.apply(connection, book, edit, at=NOW))
    direct.transact(beat("router", seen_at=NOW + 9))
    for seen_at in (NOW + 1, NOW + 2):
        direct.transact(beat("guard", kind="guard", seen_at=seen_at))
    rows, seen, *_ = recording.read_policies(direct)
    with store.reading() as connection:
        expected = policies.read_book(connection, base=0.8, raised=0.9)
        assert seen == processes.last_seen(connection, "guard") == NOW + 2
    assert recording.book_of(rows, base=0.8, raised=0.9) == expected == book


def test_a_transaction_is_stored_whole_or_not_at_all(direct):
    refused = prepare(recording.PROCESS, [{"process": None, "kind": "router"}], "replace")
    with pytest.raises(RowError):
        direct.transact(combined(beat("one"), refused))
    direct.transact(beat("two"))
    direct.transact(recording.prepare_stop("two"))
    assert kinds(direct) == {"two": "stopped"}


def test_a_statement_that_fails_leaves_a_connection_that_works(direct):
    for _ in range(2):
        with pytest.raises(StoreError, match="nowhere"):
            direct.read("SELECT 1 FROM nowhere")
        direct.transact(beat())
    assert kinds(direct) == {"p": "router"}


def test_a_store_without_tables_has_no_version(direct, blank_url, tmp_path):
    assert direct.version() == HEAD
    blank = DirectStore(blank_url.replace("store.db", "other.db"), patience_s=PATIENCE_S, folder=tmp_path)
    assert blank.version() is None
    blank.close()


def test_a_lock_holds_up_writers_and_no_reader(direct, store):
    direct.transact(beat())
    with store.engine.begin() as connection:
        processes.mark_stopped(connection, "p")
        with pytest.raises(StoreBusyError):
            direct.transact(beat())
        assert kinds(direct) == {"p": "router"}
    direct.transact(beat())
    assert kinds(direct) == {"p": "router"}


@pytest.mark.parametrize("engine", [pytest.param("postgresql", marks=pytest.mark.thorough)], indirect=True)
@pytest.mark.parametrize("use", [kinds, lambda direct: direct.transact(beat())])
def test_a_kept_connection_that_was_lost_is_replaced_at_once(direct, store, use):
    direct.transact(beat())
    ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    store.transact(lambda connection: connection.exec_driver_sql(f"{ends} AND datname = current_database()").all())
    use(direct)
    assert kinds(direct) == {"p": "router"}


@pytest.mark.parametrize("engine", [pytest.param("postgresql", marks=pytest.mark.thorough)], indirect=True)
def test_no_limit_outlives_its_statement(direct, store):
    names = "'lock_timeout', 'idle_in_transaction_session_timeout'"
    settings = f"SELECT name, setting FROM pg_settings WHERE name IN ({names})"
    assert dict(direct.read(settings)) == {"lock_timeout": "100", "idle_in_transaction_session_timeout": "60000"}
    direct.transact(beat())
    link = direct._link
    assert {setting for _, setting in link.connection.execute(settings).fetchall()} == {"0"}


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_file_that_was_replaced_is_written_anew(direct, store, either_url, tmp_path):
    direct.transact(beat("before"))
    store.close()
    for each in tmp_path.glob("store.db*"):
        each.unlink()
    migrate(store)
    direct.close()  # as a recorder does when the file's identity changes
    direct.transact(beat("after"))
    assert kinds(direct) == {"after": "router"}
