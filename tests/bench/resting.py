"""What a router without calls costs: `python tests/bench/resting.py` prints one table.

A recorder rests beside a guard's heartbeat, in a process of its own for each round. `CPU` is that of the whole process,
in milliseconds per second; the table shows the least and the middle one of the rounds. `commits` are those of the
recorder's database, per second. PgBouncer runs in transaction mode; a row is left out where its server is not installed.
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
from typing import NamedTuple

import psycopg

from cheapdeep_ops import Settings
from cheapdeep_ops.recorder import Recorder
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.recording import Heartbeat, prepare_beat
from cheapdeep_ops.store.schema import migrate
from tests.postgres import Server, packages, pooled, running

SECONDS = 20.0
ROUNDS = 5
_SETTLES_S = 2.0
_COMMITS = "SELECT xact_commit FROM pg_stat_database WHERE datname = %s"


class Place(NamedTuple):
    """A store; `server` and `database` are where its commits are counted."""

    name: str
    url: str
    server: Server | None = None
    database: str = ""

    def commits(self) -> int:
        """How many transactions the database has committed; 0 for a file."""
        if self.server is None:
            return 0
        # From another database, so that this look is not counted.
        with psycopg.connect(host=str(self.server.folder), user="postgres", dbname="postgres") as connection:
            row = connection.execute(_COMMITS, [self.database]).fetchone()
        return int(row[0]) if row else 0


def rest(url: str, seconds: float) -> float:
    """The CPU seconds per second of this process while a recorder rests."""
    recorder = Recorder(Settings(store_url=url))
    time.sleep(_SETTLES_S)
    began, cpu_began = time.monotonic(), time.process_time()
    time.sleep(seconds)
    used = (time.process_time() - cpu_began) / (time.monotonic() - began)
    recorder.close()
    return used


def measure(place: Place, *, seconds: float, rounds: int) -> tuple[list[float], float]:
    """The CPU seconds per second of each round, and the commits per second."""
    store = Store(place.url)
    migrate(store)
    now = time.time()
    beat = Heartbeat(process="guard", kind="guard", started_at=now, seen_at=now, base_threshold=0.8)
    store.transact(prepare_beat(beat))
    store.close()
    used, commits = [], 0
    for _ in range(rounds):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            running = pool.submit(rest, place.url, seconds)
            time.sleep(_SETTLES_S + seconds / 10)
            before = place.commits()
            time.sleep(seconds * 0.8)
            commits += place.commits() - before
            used.append(running.result())
    return used, commits / (rounds * seconds * 0.8)


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
            found.append(Place("PostgreSQL", server.url("direct"), server, "direct"))
            program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
            if program is not None:
                where = stack.enter_context(pooled(server, program))
                url = f"postgresql://postgres@/behind?host={where['host']}&port={where['port']}"
                found.append(Place("with PgBouncer", url, server, "behind"))
        yield found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    print(f"{'store':<16}{'CPU ms/s, least':>17}{'middle':>8}{'commits/s':>11}")
    with places() as found:
        for place in found:
            used, commits = measure(place, seconds=options.seconds, rounds=options.rounds)
            least, middle = min(used) * 1000, statistics.median(used) * 1000
            print(f"{place.name:<16}{least:>17.3f}{middle:>8.3f}{commits:>11.2f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
