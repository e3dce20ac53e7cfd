import pytest

from cheapdeep_ops.guard.rules.escalation.explanation import compared, storm_cause
from cheapdeep_ops.guard.statistics.attribution import Kind
from cheapdeep_ops.recorder.tally import Tally
from cheapdeep_ops.store import recording
from cheapdeep_ops.store.counts import TrafficMix
from tests.stores import migrated

NOW = 1_800_000_000


def makeup(escalated, *, origins):
    return TrafficMix(
        calls={("support", "a"): 1000}, base_escalated={("support", "a"): escalated},
        base_reasons={"low_confidence": escalated},
        origins=dict.fromkeys(origins, 1000), base_origins=dict.fromkeys(origins, escalated),
    )  # fmt: skip


def test_a_version_that_was_only_not_counted_before_is_not_taken_for_a_new_one():
    found = compared(makeup(50, origins=[]), makeup(500, origins=["haiku|p1|7"]))
    assert (found.kind, found.contributors) == (Kind.ALL, ())


def test_a_policy_version_is_left_out_on_request():
    before, now = makeup(50, origins=["haiku|p1|7"]), makeup(500, origins=["haiku|p1|8"])
    assert compared(before, now).contributors[0].element == "8"
    assert compared(before, now, with_policy=False).kind is Kind.ALL


def bucket(at, calls, escalated):
    row = {**Tally(calls=calls, triaged=calls, base_escalated=escalated).row(), "base_reasons": {}}
    return {"route": "support", "input_class": "", "process": "p", "at": at, **row}


@pytest.mark.parametrize(
    ("before", "said", "kind"),
    [
        ([bucket(NOW - 2000, 100, 5), bucket(NOW - 20_000, 100, 90)], "the hour before", "everything got worse"),
        ([bucket(NOW - 20_000, 100, 5)], "the day before", "everything got worse"),
        ([bucket(NOW - 90_000, 100, 5)], "the day before", "unknown"),
    ],
)
def test_the_hour_before_is_compared_with_else_the_day_else_nothing_is_said(sqlite_url, before, said, kind):
    store = migrated(sqlite_url)
    rows = [*before, bucket(NOW - 10, 100, 60)]
    store.transact(recording.prepare_counters(buckets=rows, totals=[]))
    with store.reading() as connection:
        found = storm_cause(connection, scope="support", started_at=NOW, long_s=300, now=NOW)
    store.close()
    assert (found["compared_with"], found["kind"]) == (said, kind)
