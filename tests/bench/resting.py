"""What a router without calls costs: `python tests/bench/resting.py` prints one table.

A recorder rests beside a guard's heartbeat, in a process of its own for each round. `CPU` is that of the whole process,
in milliseconds per second; the table shows the least and the middle one of the rounds. `waking` is a thread that does
nothing three times a second, measured beside it: on a busy machine, waking up costs most. `commits` are those of the
recorder's database, per second. PgBouncer runs in transaction mode. What is not installed has no row.
"""

import argparse
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import NamedTuple

import psycopg

from cheapdeep_ops import Settings
from cheapdeep_ops.recorder import Recorder
from cheapdeep_ops.recorder.store_destination import POLL_S
from cheapdeep_ops.recorder.wake import Wake
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.recording import Heartbeat, prepare_beat
from cheapdeep_ops.store.schema import migrate
from tests.postgres import packages, pooled, running

SECONDS = 20.0
ROUNDS = 5
_SETTLES_S = 2.0
_COUNTS_WITHIN_S = 12.0
"""After how long an idle session has told the server of all its commits: PostgreSQL's limit is ten seconds."""

_COMMITS = "SELECT xact_commit FROM pg_stat_database WHERE datname = %s"


class Place(NamedTuple):
    """A store; `folder` and `database` are where its commits are counted."""

    name: str
    url: str
    folder: str = ""
    database: str = ""

    def commits(self) -> int:
        """How many transactions the database has committed; 0 for a file."""
        if not self.folder:
            return 0
        # From another database, so that this look is not counted.
        with psycopg.connect(host=self.folder, user="postgres", dbname="postgres") as connection:
            row = connection.execute(_COMMITS, [self.database]).fetchone()
        return int(row[0]) if row else 0


def rest(place: Place, seconds: float) -> tuple[float, float]:
    """The CPU seconds and the commits per second of this process while a recorder rests."""
    recorder = Recorder(Settings(store_url=place.url))
    time.sleep(_COUNTS_WITHIN_S if place.folder else 0)
    before, began = place.commits(), time.monotonic()
    used = _used(seconds)
    commits = (place.commits() - before) / (time.monotonic() - began)
    recorder.close()
    return used, commits


def wake_up(seconds: float) -> float:
    """The CPU seconds per second of this process while a thread wakes up as often, and does nothing."""
    wake, is_over = Wake(), Event()

    def run() -> None:
        while not is_over.is_set():
            wake.wait(POLL_S)

    thread = Thread(target=run)
    thread.start()
    used = _used(seconds)
    is_over.set()
    thread.join()
    return used


def _used(seconds: float) -> float:
    time.sleep(_SETTLES_S)
    began, cpu_began = time.monotonic(), time.process_time()
    time.sleep(seconds)
    return (time.process_time() - cpu_began) / (time.monotonic() - began)


def measure(place: Place, *, seconds: float, rounds: int) -> tuple[list[float], list[float], float]:
    """The CPU seconds per second of a recorder and of a mere thread in each round, and the commits per second."""
    store = Store(place.url)
    migrate(store)
    now = time.time()
    beat = Heartbeat(process="guard", kind="guard", started_at=now, seen_at=now, base_threshold=0.8)
    store.transact(prepare_beat(beat))
    store.close()
    used: list[float] = []
    waking: list[float] = []
    commits: list[float] = []
    for _ in range(rounds):
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            resting, beside = pool.submit(rest, place, seconds), pool.submit(wake_up, seconds)
            used.append(resting.result()[0])
            commits.append(resting.result()[1])
            waking.append(beside.result())
    return used, waking, statistics.mean(commits)


@contextmanager
def places() -> Iterator[list[Place]]:
    """A file, and a database with and without PgBouncer, as far as their programs are installed."""
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        found = [Place("SQLite", f"sqlite:///{Path(folder)}/store.db")]
        installed = packages()
        if installed is not None:
            server = stack.enter_context(running(installed))
            server.execute("CREATE DATABASE direct")
            server.execute("CREATE DATABASE behind")
            found.append(Place("PostgreSQL", server.url("direct"), str(server.folder), "direct"))
            program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
            if program is not None:
                where = stack.enter_context(pooled(server, program))
                url = f"postgresql://postgres@/behind?host={where['host']}&port={where['port']}"
                found.append(Place("with PgBouncer", url, str(server.folder), "behind"))
        yield found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    print(f"{'store':<16}{'CPU ms/s, least':>17}{'middle':>8}{'waking':>8}{'commits/s':>11}")
    with places() as found:
        for place in found:
            used, waking, commits = measure(place, seconds=options.seconds, rounds=options.rounds)
            least, middle, bare = min(used), statistics.median(used), statistics.median(waking)
            row = f"{place.name:<16}{least * 1000:>17.3f}{middle * 1000:>8.3f}{bare * 1000:>8.3f}{commits:>11.2f}"
            print(row, flush=True)


if __name__ == "__main__":
    sys.exit(main())
