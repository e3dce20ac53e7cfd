"""What recording costs at a high rate: `python tests/bench/recording.py` prints one table.

One thread puts decisions into one recorder, evenly, and the recorder counts and stores them beside it. All threads run
on one core where the platform can pin them. `CPU` is that of all threads in seconds per second, without making the
decisions. `us each` is this figure for each decision, in microseconds. In the rows with `kept`, a guard's heartbeat is
in the store: answers are kept, redacted and stored too. `grown` is the growth of memory after the first quarter.
"""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cheapdeep_ops import Settings
from cheapdeep_ops.recorder import Recorder
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.recording import Heartbeat, prepare_beat
from cheapdeep_ops.store.schema import migrate
from cheapdeep_ops.values import Decision, Exchange, Hop, Outcome, Reason, TextTurn, Tier, Usage, Verdict

RATES = (0, 500, 5_000)
SECONDS = 20.0
ROUTES = 20
ESCALATED_EACH = 5
_TICK_S = 0.005
_KIB = 1024

CHEAP, DEEP = "claude-haiku-4-5", "claude-opus-4-7"
USAGE = Usage(input_tokens=500, output_tokens=60)
EXCHANGE = Exchange(turns=(TextTurn(role="user", text="Can I return shoes?" * 10),), answer="Within 30 days. " * 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one run used; `longest_put_s` is of single calls of `put`, `grown_mib` is the growth of memory."""

    put: int
    stored: int
    dropped: int
    cpu_s: float
    longest_put_s: float
    grown_mib: float


def decision(number: int, at: float) -> Decision:
    """One of many calls: most ship, each fifth escalates."""
    escalates = number % ESCALATED_EACH == 0
    outcome = Outcome.ESCALATE if escalates else Outcome.SHIP
    confidence = 0.5 if escalates else 0.8 + number % 20 / 100
    verdict = Verdict(confidence=confidence, answer=None if escalates else "yes")
    cheap, deep = Tier(model=CHEAP, index=0, is_deep=False), Tier(model=DEEP, index=1, is_deep=True)
    hops = [Hop(tier=cheap, usage=USAGE, cost_usd=0.0008, verdict=verdict, outcome=outcome, base_outcome=outcome)]
    if escalates:
        hops.append(Hop(tier=deep, usage=USAGE, cost_usd=0.004))
    reason = Reason.LOW_CONFIDENCE if escalates else None
    return Decision(
        call_id=f"call-{number}", route=f"route-{number % ROUTES}", input_class="", tier=len(hops) - 1,
        model=hops[-1].tier.model, confidence=confidence, threshold=0.8, policy_version=0, escalated=escalates,
        reason=reason, bypass_cause=None, base_outcome=outcome, base_reason=reason, cost_usd=0.0008,
        triage_cost_usd=0.0008, baseline_cost_usd=0.004, baseline_basis="", started_at=at, duration_s=0.5,
        triage_duration_s=0.5, hops=tuple(hops), prompt_version="a1",
    )  # fmt: skip


def measure(url: str, rate: int, *, seconds: float, is_kept: bool) -> Reading:
    """Put `rate` decisions a second for `seconds`."""
    store = Store(url)
    migrate(store)
    if is_kept:
        now = time.time()
        beat = Heartbeat(process="guard", kind="guard", started_at=now, seen_at=now, base_threshold=0.8)
        store.transact(prepare_beat(beat))
    recorder = Recorder(Settings(store_url=url, sample_rate=0.01 if is_kept else 0))
    put, put_s, longest_s, grown_from = 0, 0.0, 0.0, 0
    began, cpu_began, own_began = time.monotonic(), time.process_time(), time.thread_time()
    while (passed := time.monotonic() - began) < seconds:
        at, due = time.time(), int(passed * rate)
        made = [decision(number, at) for number in range(put, due)]
        put, entered = due, time.thread_time()
        for each in made:
            called = time.perf_counter()
            recorder.put(each, lambda: EXCHANGE)
            longest_s = max(longest_s, time.perf_counter() - called)
        put_s += time.thread_time() - entered
        if not grown_from and passed > seconds / 4:
            grown_from = resident_bytes()
        time.sleep(_TICK_S)
    own_s, cpu_s, grown = time.thread_time() - own_began, time.process_time() - cpu_began, resident_bytes() - grown_from
    recorder.close()
    with store.reading() as connection:
        stored = int(connection.exec_driver_sql("SELECT coalesce(sum(calls), 0) FROM bucket").scalar() or 0)
    store.close()
    return Reading(
        put=put,
        stored=stored,
        dropped=recorder.dropped,
        cpu_s=(cpu_s - own_s + put_s) / seconds,
        longest_put_s=longest_s,
        grown_mib=grown / _KIB**2,
    )


def resident_bytes() -> int:
    """The resident memory of this process; 0 where the platform does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def main() -> None:
    """Print the table."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(f"{'rate':>6}{'kept':>6}{'CPU s/s':>9}{'us each':>9}{'dropped':>9}{'longest put ms':>16}{'grown MiB':>11}")
    for rate in RATES:
        for is_kept in (False, True):
            with TemporaryDirectory() as folder:
                reading = measure(f"sqlite:///{Path(folder)}/store.db", rate, seconds=SECONDS, is_kept=is_kept)
            each_us = reading.cpu_s / rate * 1e6 if rate else 0
            print(
                f"{rate:>6}{'yes' if is_kept else 'no':>6}{reading.cpu_s:>9.4f}{each_us:>9.1f}{reading.dropped:>9}"
                f"{reading.longest_put_s * 1000:>16.2f}{reading.grown_mib:>11.2f}"
            )


if __name__ == "__main__":
    sys.exit(main())
