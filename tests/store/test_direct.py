"""A store that is used through its driver alone."""

import sqlite3
import threading
from contextlib import closing

import pytest

from cheapdeep_ops.errors import RowError, StoreBusyError, StoreError
from cheapdeep_ops.policy import PolicyAct, ScopeState, blank_book
from cheapdeep_ops.store import counters, policies, processes, recording
from cheapdeep_ops.store.direct import DirectStore
from cheapdeep_ops.store.inserts import Target, prepare
from cheapdeep_ops.store.policies import PolicyEdit
from cheapdeep_ops.store.schema import HEAD, migrate
from cheapdeep_ops.store.tables.call_tables import Bucket, Process, Total
from cheapdeep_ops.store.tables.grade_tables import Candidate
from cheapdeep_ops.store.upsert import target_of

NOW = 1_800_000_000.0
BEAT = processes.Heartbeat(process="p", kind="router", started_at=NOW, seen_at=NOW, base_threshold=0.8)


@pytest.fixture
def direct(either_url, store, tmp_path):
    """The store of `store` once more, directly."""
    direct = DirectStore(either_url, patience_s=0.1, folder=tmp_path)
    yield direct
    direct.close()


def value(default):
    return default() if callable(default) else default


@pytest.mark.parametrize(
    ("target", "model"),
    [
        (recording.BUCKET, Bucket),
        (recording.TOTAL, Total),
        (recording.PROCESS, Process),
        (recording.CANDIDATE, Candidate),
    ],
)
def test_what_a_recorder_knows_of_a_table_is_what_the_table_is(target, model):
    told = target_of(model)
    assert (target.name, target.keys, target.json) == (told.name, told.keys, told.json)
    assert {name: value(default) for name, default in target.defaults.items()} == {
        name: value(default) for name, default in told.defaults.items()
    }
