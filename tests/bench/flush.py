"""What one flush of a recorder costs: `python tests/bench/flush.py` prints one table.

A flush writes the counters of some routes, each with a bucket and a total, and the recorder's heartbeat. CPU is that of
the whole process; the time under the write lock is from `BEGIN IMMEDIATE` to the end of the commit. Both are medians.
The second row of each size rests before each flush, as a recorder does: the processor's caches are cold then.
"""

import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from cheapdeep_ops import Settings
from cheapdeep_ops.recorder import Recorder
from cheapdeep_ops.values import Decision, Hop, Outcome, Tier

SIZES = (1, 10, 100)
FLUSHES, RESTED_FLUSHES = 100, 15
REST_S = 0.3
NOW = 1_800_000_000.0
HOP = Hop(tier=Tier(model="claude-haiku-4-5", index=0, is_deep=False), usage=None, cost_usd=0.0004)


class Locked:
    """The time that a link's transactions hold the write lock, in seconds."""

    def __init__(self, link: Any) -> None:
        self.spans: list[float] = []
        self._begin, self._end = link.begin, link.end
        link.begin, link.end = self.begin, self.end

    def begin(self) -> None:
        """Take the lock."""
        self._begin()
        self._began = time.perf_counter()

    def end(self, how: str) -> None:
        """Release it."""
        self._end(how)
        self.spans.append(time.perf_counter() - self._began)


def decision(route: str, at: float) -> Decision:
    """An answer that shipped."""
    return Decision(
        call_id="id", route=route, input_class="", tier=0, model="claude-haiku-4-5", confidence=0.9, threshold=0.8,
        policy_version=0, escalated=False, reason=None, bypass_cause=None, base_outcome=Outcome.SHIP, base_reason=None,
        cost_usd=0.0004, triage_cost_usd=0.0004, baseline_cost_usd=0.002, baseline_basis="", started_at=at,
        duration_s=0.0, triage_duration_s=0.0, hops=(HOP,), error="",
    )  # fmt: skip


def flushed(url: str, size: int, *, flushes: int, rest_s: float) -> tuple[float, float]:
    """CPU seconds and seconds under the write lock of a flush of `size` routes."""
    recorder = Recorder(Settings(store_url=url, sample_rate=0), clock=lambda: NOW, background=False)
    recorder.drain(NOW)
    locked = Locked(recorder._destination._store()._link)
    spent = []
    for number in range(flushes + 5):
        for route in range(size):
            recorder.put(decision(f"route-{route}", NOW + number))
        time.sleep(rest_s)
        began = time.process_time()
        recorder.drain(NOW + number)
        spent.append(time.process_time() - began)
    recorder.close()
    return median(spent[5:]), median(locked.spans[5 : flushes + 5])


def main() -> None:
    """Print the table."""
    print(f"{'routes':>8}{'rest s':>8}{'CPU ms':>10}{'lock ms':>10}")
    for size in SIZES:
        for flushes, rest_s in ((FLUSHES, 0), (RESTED_FLUSHES, REST_S)):
            with TemporaryDirectory() as folder:
                url = f"sqlite:///{Path(folder)}/store.db"
                cpu_s, lock_s = flushed(url, size, flushes=flushes, rest_s=rest_s)
            print(f"{size:>8}{rest_s:>8}{cpu_s * 1000:>10.2f}{lock_s * 1000:>10.2f}")


if __name__ == "__main__":
    sys.exit(main())
