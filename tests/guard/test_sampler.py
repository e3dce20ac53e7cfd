import pytest

from cheapdeep_ops.guard.grading.adaptive import LEARNING
from cheapdeep_ops.guard.grading.sampler import Sampler
from cheapdeep_ops.guard.grading.version import grader_version
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import recording
from tests.stores import migrated

NOW = 1_800_000_000.0
HOUR_S = 3_600.0


@pytest.fixture
def store(tmp_path):
    store = migrated(f"sqlite:///{tmp_path / 'calls.db'}")
    yield store
    store.close()


def keep(store, route, count, *, at):
    rows = [
        {
            "call_id": f"{route}-{n}", "position": 0.5, "kept_share": 0.2, "route": route, "input_class": "", "at": at,
            "shipped": True, "confidence": 0.95, "threshold": 0.8, "policy_version": 0, "model": "claude-haiku-4-5",
            "prompt_version": "p1", "response_id": "", "trace_id": "", "span_id": "", "trace_sampled": False,
            "turns": None, "answer": None, "state": "skipped", "why": "redacted",
        }
        for n in range(count)
    ]  # fmt: skip
    store.transact(recording.prepare_candidates(rows))


def test_shares_follow_the_traffic_of_the_last_day(store):
    keep(store, "large", 200, at=NOW - 23 * HOUR_S)
    keep(store, "small", 2, at=NOW - 23 * HOUR_S)
    keep(store, "gone", 2, at=NOW - 25 * HOUR_S)
    settings = Settings(sampling="adaptive")
    sampler = Sampler(settings, grader_version(settings))
    plan = store.transact(lambda connection: sampler.plan(connection, NOW, rules=()))
    assert plan.shares.keys() == {"large", "small"}
    assert plan.shares["small"] > plan.shares["large"] == pytest.approx(LEARNING * settings.graded_share, rel=0.1)
