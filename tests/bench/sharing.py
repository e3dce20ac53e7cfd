"""Five services and a guard that share one SQLite file: nothing is left out, nothing is late, no caller waits.

`python tests/bench/sharing.py [SECONDS]` (120) starts simulators, a guard and five routers in their own processes.
Each router makes 20 calls a second on 50 routes. It prints what was made beside what the store counted, how long a
finished call takes to be committed, and how large the write-ahead log became. Then, for a tenth of the time each, five
rounds in turn with and without a guard compare the callers' 99th percentile.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

from sqlalchemy import func, select

from cheapdeep_ops import Router, Settings
from cheapdeep_ops.recorder import Recorder
from cheapdeep_ops.recorder.candidate_rows import is_kept
from cheapdeep_ops.sampling import kept_share
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.tables.call_tables import Bucket
from cheapdeep_ops.store.tables.grade_tables import Candidate
from cheapdeep_ops.store.tables.row import table_of

ROUTERS, RATE, ROUTES = 5, 20.0, 50
SAMPLE_RATE = 0.02
WORKERS = 4


class Committed:
    """A recorder that notes how long each call waits for its commit, in seconds."""

    def __init__(self, settings: Settings) -> None:
        self.waits: list[float] = []
        self._put_at: list[float] = []
        self.recorder = Recorder(settings)
        self._put, self._drain = self.recorder.put, self.recorder.drain
        self.recorder.put, self.recorder.drain = self.put, self.drain  # type: ignore[method-assign]

    def put(self, *given: Any) -> None:
        self._put(*given)
        self._put_at.append(time.monotonic())

    def drain(self, now: float) -> None:
        known = len(self._put_at)
        self._drain(now)
        at = time.monotonic()
        self.waits += [at - put for put in self._put_at[:known]]
        del self._put_at[:known]


def call_for(seconds: float) -> dict[str, Any]:
    """One service: calls at its rate until the time is up; returns what it made and how long things took."""
    settings = Settings()
    committed = Committed(settings)
    share = kept_share(settings.graded_share)
    made: list[tuple[float, bool]] = []

    with Router(settings=settings, recorder=committed.recorder) as router, ThreadPoolExecutor(WORKERS) as pool:

        def ask(number: int) -> None:
            begun = time.monotonic()
            decision = router.ask(f"How do I change plan {number}?", route=f"route-{number % ROUTES}").decision
            made.append((time.monotonic() - begun, is_kept(decision, share)))

        begun, number = time.monotonic(), 0
        while (due := begun + number / RATE) < begun + seconds:
            time.sleep(max(due - time.monotonic(), 0))
            pool.submit(ask, number)
            number += 1
        pool.shutdown()
        committed.recorder.close()
    calls = [took for took, _ in made]
    return {"calls": len(calls), "candidates": sum(kept for _, kept in made), "waits": committed.waits, "asks": calls}


@contextmanager
def simulators() -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "cheapdeep_ops", "sim", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.terminate()


@contextmanager
def guard(environment: dict[str, str]) -> Iterator[None]:
    command = [sys.executable, "-m", "cheapdeep_ops", "serve"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "watching" in line:
                break
        said: list[str] = []
        reader = threading.Thread(target=said.extend, args=(process.stderr,), daemon=True)
        reader.start()
        yield
        process.terminate()
        process.wait(30)
        reader.join(5)
        print("the guard's warnings:", sum("WARNING" in line or "ERROR" in line for line in said))


def services(environment: dict[str, str], seconds: float) -> tuple[list[dict[str, Any]], int]:
    """What each of the services did, and how large the write-ahead log became (bytes)."""
    command = [sys.executable, __file__, "call", str(seconds)]
    log = Path(environment["CHEAPDEEP_STORE_URL"].removeprefix("sqlite:///") + "-wal")
    largest = 0
    with ExitStack() as opening:
        # Into files: a pipe that no thread reads holds less than a service writes.
        outputs = [opening.enter_context(TemporaryFile("w+")) for _ in range(ROUTERS)]
        running = [subprocess.Popen(command, env=environment, stdout=output, text=True) for output in outputs]
        while any(each.poll() is None for each in running):
            largest = max(largest, log.stat().st_size if log.exists() else 0)
            time.sleep(0.1)
        for output in outputs:
            output.seek(0)
        return [json.loads(output.read()) for output in outputs], largest


def stored(url: str) -> tuple[int, int]:
    """The calls and candidates in a store."""
    store = Store(url)
    bucket, candidate = table_of(Bucket), table_of(Candidate)
    with store.reading() as connection:
        calls = connection.execute(select(func.sum(bucket.c.calls))).scalar() or 0
        candidates = connection.execute(select(func.count()).select_from(candidate)).scalar() or 0
    store.close()
    return int(calls), int(candidates)


def percentile(values: list[float], hundredth: int) -> float:
    return quantiles(values, n=100)[hundredth - 1]


def environment_for(addresses: dict[str, Any], folder: str, name: str) -> dict[str, str]:
    return {
        **os.environ,
        "ANTHROPIC_API_KEY": "simulated",
        "ANTHROPIC_BASE_URL": addresses["anthropic_url"],
        "NO_PROXY": "127.0.0.1",
        "CHEAPDEEP_STORE_URL": f"sqlite:///{folder}/{name}.db",
        "CHEAPDEEP_SAMPLE_RATE": str(SAMPLE_RATE),
        "CHEAPDEEP_GRADE_EVERY_S": "5",
        "CHEAPDEEP_PORT": "0",
    }


def main(seconds: float) -> None:
    with ExitStack() as opening:
        folder = opening.enter_context(TemporaryDirectory())
        addresses = opening.enter_context(simulators())
        environment = environment_for(addresses, folder, "shared")
        with guard(environment):
            time.sleep(2)  # so that routers find a guard and keep candidates from their first call on
            found, largest = services(environment, seconds)
        waits = [wait for each in found for wait in each["waits"]]
        calls, candidates = stored(environment["CHEAPDEEP_STORE_URL"])
        print(f"calls made {sum(each['calls'] for each in found)}, counted {calls}")
        print(f"candidates chosen {sum(each['candidates'] for each in found)}, stored {candidates}")
        print(f"put to committed: median {percentile(waits, 50):.2f} s, p99 {percentile(waits, 99):.2f} s, "
              f"longest {max(waits):.2f} s (n {len(waits)})")  # fmt: skip
        print(f"write-ahead log: at most {largest / 1e6:.1f} MB")
        for number in range(5):
            for is_guarded in (False, True, False):
                compared = environment_for(addresses, folder, f"pair-{number}")
                with guard(compared) if is_guarded else ExitStack():
                    asks = [ask for each in services(compared, seconds / 10)[0] for ask in each["asks"]]
                kind = "with a guard" if is_guarded else "without    "
                print(f"round {number}, {kind}: Router.ask p50 {percentile(asks, 50) * 1e3:.1f} ms, "
                      f"p99 {percentile(asks, 99) * 1e3:.1f} ms (n {len(asks)})", flush=True)  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["call"]:
        print(json.dumps(call_for(float(sys.argv[2]))))
    else:
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 120.0)
