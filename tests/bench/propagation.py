"""How soon routers follow a change of policy: `python tests/bench/propagation.py [CHANGES]` prints one table.

64 recorders in one process follow one store: 32 read it themselves, and 32 follow a guard in another process over HTTP.
A change is committed at a random moment. Its delay in a recorder lasts from the commit until that decides by it.
Times are milliseconds: the median, the 99th percentile and the longest of all changes in all recorders.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

from guards import TOKEN, tokens_file
from postgres import packages, running

from cheapdeep_ops import Settings
from cheapdeep_ops.policy import PolicyAct, blank_book
from cheapdeep_ops.recorder import Recorder
from cheapdeep_ops.store import policies
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.policies import PolicyEdit
from cheapdeep_ops.store.schema import migrate

EACH = 32
CHANGES = 500
ROUTE = "support"
_LOOK_S = 0.002
_GIVE_UP_S = 10.0


@contextmanager
def guard(store_url: str, folder: Path) -> Iterator[str]:
    """The address of a guard in a process of its own."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("CHEAPDEEP_")}
    known |= {
        "CHEAPDEEP_STORE_URL": store_url, "CHEAPDEEP_API_TOKENS_FILE": str(tokens_file(folder)),
        "CHEAPDEEP_PORT": "0", "ANTHROPIC_API_KEY": "none",
    }  # fmt: skip
    command = [sys.executable, "-m", "cheapdeep_ops", "serve"]
    with subprocess.Popen(command, env=known, stderr=subprocess.PIPE, text=True) as process:
        line = next(line for line in process.stderr if "watching" in line)
        try:
            yield f"http://127.0.0.1:{line.rsplit(':', 1)[1].strip()}"
        finally:
            process.send_signal(signal.SIGTERM)


def delays(store: Store, recorders: list[Recorder], changes: int) -> list[list[float]]:
    """The delays in each recorder, in seconds."""
    chance, found = random.Random(1), [[] for _ in recorders]
    for number in range(changes):
        time.sleep(chance.uniform(0.05, 0.5))
        threshold = 0.81 + number % 10 / 100
        change = PolicyEdit(scope=ROUTE, act=PolicyAct.PIN, author="bench", why="bench", threshold=threshold)
        store.transact(lambda connection, change=change: policies.apply(connection, blank_book(), change, at=1.0))
        begun, waiting = time.perf_counter(), set(range(len(recorders)))
        while waiting and time.perf_counter() - begun < _GIVE_UP_S:
            time.sleep(_LOOK_S)
            now = time.perf_counter()
            for each in [each for each in waiting if recorders[each].book.for_route(ROUTE).threshold == threshold]:
                waiting.discard(each)
                found[each].append(now - begun)
        assert not waiting, f"{len(waiting)} recorders did not follow"
    return found


def measured(name: str, store_url: str, changes: int) -> None:
    store = Store(store_url)
    migrate(store)
    with TemporaryDirectory() as folder, guard(store_url, Path(folder)) as address:
        by_store = [Recorder(Settings(store_url=store_url)) for _ in range(EACH)]
        by_http = [Recorder(Settings(store_url=address, guard_token=TOKEN)) for _ in range(EACH)]
        cpu = time.process_time()
        time.sleep(3)
        rest_ms = (time.process_time() - cpu) / 3 / (2 * EACH) * 1e3
        found = delays(store, [*by_store, *by_http], changes)
        for recorder in (*by_store, *by_http):
            recorder.close()
    store.close()
    for way, lists in (("store", found[:EACH]), ("http", found[EACH:])):
        times = sorted(each for one in lists for each in one)
        shown = (1e3 * times[int(share * (len(times) - 1))] for share in (0.5, 0.99, 1))
        print(f"{name:12} {way:6} {changes:6} {' '.join(f'{each:8.0f}' for each in shown)}", flush=True)
    print(f"{name:12} at rest, both ways: {rest_ms:.2f} ms of CPU a second for each recorder", flush=True)


def main() -> None:
    changes = int(sys.argv[1]) if len(sys.argv) > 1 else CHANGES
    print("database     by     changes  median      p99  longest", flush=True)
    with TemporaryDirectory() as folder:
        measured("SQLite", f"sqlite:///{folder}/store.db", changes)
    with running(packages()) as server, server.database() as database:
        measured("PostgreSQL", server.url(database), changes)


if __name__ == "__main__":
    main()
