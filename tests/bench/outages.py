"""What callers notice while the store is away, and what is missing afterwards.

`python tests/bench/outages.py [--seconds 60] [--only KIND ...]` makes 50 calls a second in four router processes
against the simulated API. For each kind of outage it takes the store away for that long, gives it back, and prints one
line: the callers' median and 99th percentile before and during the outage, resident memory of the largest process at
its beginning, after a part of it and at its end, the most lines of log of one process, the longest close, and what the
store lacks in the end. `missing` are calls in the totals, `seconds` are calls in the buckets of seconds and minutes.
"""

import argparse
import json
import logging
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import psycopg

from cheapdeep_ops import Router, Settings
from cheapdeep_ops.recorder import Recorder
from cheapdeep_ops.recorder.candidate_rows import is_kept
from cheapdeep_ops.sampling import kept_share
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.recording import Heartbeat, prepare_beat
from cheapdeep_ops.store.schema import migrate
from tests.postgres import Server, packages, running

ROUTERS, RATE, ROUTES = 4, 12.5, 5
SAMPLE_RATE = 0.002
CALM_S, AFTER_S = 6.0, 6.0
WORKERS = 4
_NOBODY = 65_534
_FULL = """
CREATE FUNCTION full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
RAISE EXCEPTION USING ERRCODE = '53100', MESSAGE = 'could not extend file: No space left on device'; END $$
"""


# One router process


class Lines(logging.Handler):
    """Keeps the time and the text of each line of log."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[tuple[float, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        self.lines += [(time.time(), line) for line in text.splitlines()]


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def call_until_told() -> dict[str, Any]:
    """One service: calls at its rate until a line on standard input; returns what it made and how long things took."""
    lines = Lines()
    logger = logging.getLogger("cheapdeep_ops")
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    settings = Settings()
    recorder = Recorder(settings)
    share = kept_share(settings.graded_share)
    took: list[tuple[float, float]] = []
    memory: list[tuple[float, int]] = []
    kept: list[tuple[float, str]] = []
    failures, stop = 0, threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()

    with Router(settings=settings, recorder=recorder) as router, ThreadPoolExecutor(WORKERS) as pool:

        def ask(number: int) -> None:
            nonlocal failures
            at = time.time()
            begun = time.monotonic()
            try:
                decision = router.ask(f"How do I change plan {number}?", route=f"route-{number % ROUTES}").decision
            except Exception:  # noqa: BLE001 - counted
                failures += 1
                return
            took.append((at, time.monotonic() - begun))
            if is_kept(decision, share):
                kept.append((at, decision.call_id))

        router.ask("The first call loads all that calls load.")
        if os.environ.get("AS_NOBODY"):
            # Root may write into every file. All that is loaded late is loaded by now.
            os.seteuid(_NOBODY)
        print("ready", flush=True)
        begun, number = time.monotonic(), 0
        while not stop.wait(max(begun + number / RATE - time.monotonic(), 0)):
            pool.submit(ask, number)
            if not number % int(RATE):
                memory.append((time.time(), resident_bytes()))
            number += 1
        pool.shutdown()
        left_out, begun = recorder._samples.left_out, time.monotonic()
        recorder.close()
        closed_s = time.monotonic() - begun
    return {
        "took": took, "memory": memory, "kept": kept, "lines": lines.lines, "closed_s": closed_s,
        "failures": failures, "dropped": recorder.dropped, "left_out": left_out, "calls": len(took) + 1,
    }  # fmt: skip


# The stores, and how they go away


@dataclass
class Place:
    """A store in a folder; `server` is None for SQLite, and `standby` is only for a fail-over."""

    folder: Path
    server: Server | None = None
    standby: Server | None = None

    @property
    def path(self) -> Path:
        return self.folder / "store.db"

    @property
    def url(self) -> str:
        if self.server is None:
            return f"sqlite:///{self.path}"
        hosts = [self.server.folder, *([self.standby.folder] if self.standby else [])]
        return f"postgresql://postgres@/postgres?host={','.join(map(str, hosts))}"

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.glob("store.db*"))

    def execute(self, *statements: str) -> None:
        assert self.server is not None
        for statement in statements:
            self.server.execute(statement)

    def migrate(self) -> None:
        store = Store(self.url)
        migrate(store)
        store.close()
        if self.server is None and os.geteuid() == 0:
            for each in (self.folder, *self.files):
                shutil.chown(each, _NOBODY)


Outage = Callable[[Place], Iterator[None]]


def sqlite_locked(place: Place) -> Iterator[None]:
    with closing(sqlite3.connect(place.path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def sqlite_full(place: Place) -> Iterator[None]:
    """The folder is a small file system of its own: see `small_disk`."""
    ballast = place.folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    yield
    ballast.unlink()


def sqlite_read_only(place: Place) -> Iterator[None]:
    """The file is away for two seconds, and comes back in a folder that may only be read."""
    aside = [(each, each.with_name(f"aside-{each.name}")) for each in place.files]
    place.folder.chmod(0o555)
    for each, other in aside:
        each.rename(other)
    time.sleep(2)
    for each, other in aside:
        other.chmod(0o444)
        other.rename(each)
    yield
    # The log beside the file was made by root, as which the routers begin.
    for each in place.files:
        each.chmod(0o666)
    place.folder.chmod(0o777)


def sqlite_deleted(place: Place) -> Iterator[None]:
    """The folder goes too, so that no process can make the file anew."""
    for each in place.files:
        each.unlink()
    aside = place.folder.rename(place.folder.with_name("aside"))
    yield
    aside.rename(place.folder)


def postgresql_stopped(place: Place) -> Iterator[None]:
    assert place.server is not None
    with place.server.stopped():
        yield


def postgresql_hung(place: Place) -> Iterator[None]:
    assert place.server is not None
    with place.server.hung():
        yield


def postgresql_failed_over(place: Place) -> Iterator[None]:
    assert place.server is not None
    assert place.standby is not None
    place.server.stop()
    yield
    place.standby.promote()


def postgresql_read_only(place: Place) -> Iterator[None]:
    place.execute("ALTER DATABASE postgres SET default_transaction_read_only = on", _END_OTHERS)
    yield
    # A session of this database may not write either.
    assert place.server is not None
    place.server.execute("ALTER DATABASE postgres RESET default_transaction_read_only", database="template1")
    place.execute(_END_OTHERS)


def postgresql_full(place: Place) -> Iterator[None]:
    """A trigger gives the server's error for a full disk: a real one would take the whole server down."""
    triggers = [f'CREATE TRIGGER full BEFORE INSERT ON cheapdeep."{name}" EXECUTE FUNCTION full()' for name in _WRITTEN]
    place.execute(_FULL, *triggers)
    yield
    place.execute("DROP FUNCTION full CASCADE")


def postgresql_locked(place: Place) -> Iterator[None]:
    assert place.server is not None
    where = {"host": str(place.server.folder), "user": "postgres", "dbname": "postgres"}
    with psycopg.connect(**where) as connection:
        connection.execute("LOCK TABLE cheapdeep.bucket IN SHARE MODE")
        yield


def postgresql_deleted(place: Place) -> Iterator[None]:
    place.execute("DROP SCHEMA cheapdeep CASCADE")
    yield
    place.migrate()


_WRITTEN = ("bucket", "total", "process", "candidate")
_END_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname IS NOT NULL"
)
OUTAGES: dict[str, Outage] = {
    each.__name__.replace("_", "-"): each
    for each in (
        sqlite_locked, sqlite_full, sqlite_read_only, sqlite_deleted, postgresql_stopped, postgresql_hung,
        postgresql_read_only, postgresql_failed_over, postgresql_full, postgresql_locked, postgresql_deleted,
    )
}  # fmt: skip
"""Each is a generator: it takes the store away, yields, and gives it back."""


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 24 megabytes at `folder`. Raises OSError if this user may not mount one."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", folder], capture_output=True, check=False)
    if done.returncode:
        raise PermissionError(f"this user may not mount a small file system: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def place_for(kind: str) -> Iterator[Place]:
    """A migrated store that this kind of outage can take away. Raises OSError where that is impossible."""
    with ExitStack() as opening:
        outer = Path(opening.enter_context(TemporaryDirectory()))
        outer.chmod(0o755)
        if kind.startswith("sqlite"):
            folder = outer / "store"
            if kind == "sqlite-full":
                opening.enter_context(small_disk(folder))
            else:
                folder.mkdir()
            place = Place(folder)
        else:
            installed = packages()
            if installed is None:
                raise FileNotFoundError("PostgreSQL's programs are not installed; the extra dev has them")
            place = Place(outer, opening.enter_context(running(installed)))
        place.migrate()
        if kind == "postgresql-failed-over":
            place.standby = opening.enter_context(running(installed, place.server))
        yield place


# One run


@dataclass(frozen=True)
class Result:
    """What one outage did: times in seconds, `mib` at its beginning, after a part of it, and at its end."""

    before: tuple[float, float]
    during: tuple[float, float]
    mib: tuple[float, float, float]
    lines: int
    text: str
    closed_s: float
    calls: int
    failed: int
    missing: int
    missing_in_seconds: int
    candidates: int
    missing_candidates: int
    left_out: int


@contextmanager
def simulator() -> Iterator[str]:
    command = [sys.executable, "-m", "cheapdeep_ops", "sim", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["anthropic_url"]
        finally:
            process.terminate()


def beat_of_a_guard(place: Place) -> None:
    """Have the routers keep answers for grading: they keep none without a guard."""
    now = time.time()
    beat = Heartbeat(process="guard", kind="guard", started_at=now, seen_at=now, base_threshold=0.8)
    store = Store(place.url)
    store.transact(prepare_beat(beat))
    store.close()


@contextmanager
def routers(place: Place, api_url: str, kind: str) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Router processes that call; the function ends them, and returns what each of them says."""
    environment = {
        **os.environ, "ANTHROPIC_API_KEY": "simulated", "ANTHROPIC_BASE_URL": api_url, "NO_PROXY": "127.0.0.1",
        "CHEAPDEEP_STORE_URL": place.url, "CHEAPDEEP_SAMPLE_RATE": str(SAMPLE_RATE),
        "AS_NOBODY": "1" if kind == "sqlite-read-only" and os.geteuid() == 0 else "",
    }  # fmt: skip
    command = [sys.executable, __file__, "call"]
    with ExitStack() as opening:
        outputs = [opening.enter_context(TemporaryFile("w+")) for _ in range(ROUTERS)]
        started = [
            subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=output, text=True)
            for output in outputs
        ]

        def ended() -> list[dict[str, Any]]:
            for each in started:
                each.communicate("stop\n", timeout=60)
            said = [output.seek(0) or output.read().splitlines() for output in outputs]
            return [json.loads(lines[-1]) for lines in said]

        try:
            _await(lambda: all(os.fstat(output.fileno()).st_size for output in outputs))
            yield ended
        finally:
            for each in started:
                if each.poll() is None:
                    each.kill()
                    each.communicate()


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("the routers did not start")
        time.sleep(0.05)


def stored(place: Place) -> tuple[int, int, set[str]]:
    """The calls in totals and in buckets, and the ids of the answers for grading."""
    url = f"{place.url.partition('?')[0]}?host={place.standby.folder}" if place.standby else place.url
    store = Store(url)
    schema = "" if store.is_sqlite else "cheapdeep."
    with store.reading() as connection:
        totals, buckets = (
            int(connection.exec_driver_sql(f"SELECT coalesce(sum(calls), 0) FROM {schema}{table}").scalar() or 0)
            for table in ("total", "bucket")
        )
        kept = {row[0] for row in connection.exec_driver_sql(f"SELECT call_id FROM {schema}candidate")}
    store.close()
    return totals, buckets, kept


def run(kind: str, seconds: float, api_url: str, *, calm_s: float = CALM_S, after_s: float = AFTER_S) -> Result:
    """Take the store of `kind` away for `seconds`, while the routers call."""
    with place_for(kind) as place:
        beat_of_a_guard(place)
        with routers(place, api_url, kind) as end:
            time.sleep(calm_s)
            began = time.time()
            outage = OUTAGES[kind](place)
            next(outage)
            time.sleep(max(began + seconds - time.time(), 0))
            over = time.time()
            next(outage, None)
            time.sleep(after_s)
            said = end()
        return _result(place, said, began, over, is_deleted="deleted" in kind)


def _result(place: Place, said: list[dict[str, Any]], began: float, over: float, *, is_deleted: bool) -> Result:
    totals, buckets, candidates = stored(place)
    calls = sum(each["calls"] for each in said)
    took = [(at, seconds) for each in said for at, seconds in each["took"]]
    # Answers that were stored before a store was deleted are gone with it.
    kept = {name for each in said for at, name in each["kept"] if at > began or not is_deleted}
    largest = max(said, key=lambda each: each["memory"][-1][1])["memory"]
    during = [size for at, size in largest if began <= at < over] or [largest[-1][1]]
    parts = (during[0], during[min(60, len(during) // 3)], during[-1])
    lines = [[line for at, line in each["lines"] if at >= began] for each in said]
    return Result(
        before=_percentiles([each for at, each in took if at < began]),
        during=_percentiles([each for at, each in took if began <= at < over]),
        mib=(parts[0] / 2**20, parts[1] / 2**20, parts[2] / 2**20),
        lines=max(map(len, lines)),
        text="\n".join(max(lines, key=len)),
        closed_s=max(each["closed_s"] for each in said),
        calls=calls,
        failed=sum(each["failures"] + each["dropped"] for each in said),
        missing=calls - totals,
        missing_in_seconds=calls - buckets,
        candidates=len(kept),
        missing_candidates=len(kept - candidates),
        left_out=sum(each["left_out"] for each in said),
    )


def _percentiles(values: list[float]) -> tuple[float, float]:
    cut = quantiles(values, n=100) if len(values) > 1 else [0.0] * 99
    return cut[49], cut[98]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each outage lasts")
    parser.add_argument("--only", nargs="+", choices=OUTAGES, default=list(OUTAGES), help="these kinds alone")
    parser.add_argument("--log", action="store_true", help="print the log of the process with the most lines")
    given = parser.parse_args()
    print(f"{'':24}{'before ms':>14}{'during ms':>14}{'MiB':>18}{'lines':>6}{'close s':>8}{'calls':>7}{'failed':>7}"
          f"{'missing':>8}{'seconds':>8}{'kept':>6}{'missing':>8}")  # fmt: skip
    with simulator() as api_url:
        for kind in given.only:
            try:
                result = run(kind, given.seconds, api_url)
            except (PermissionError, FileNotFoundError) as error:
                print(f"{kind:24} left out: {error}")
                continue
            times = [
                "{:.1f} / {:.1f}".format(*(1e3 * each for each in pair)) for pair in (result.before, result.during)
            ]
            memory = " ".join(f"{each:.1f}" for each in result.mib)
            print(f"{kind:24}{times[0]:>14}{times[1]:>14}{memory:>18}{result.lines:>6}{result.closed_s:>8.2f}"
                  f"{result.calls:>7}{result.failed:>7}{result.missing:>8}{result.missing_in_seconds:>8}"
                  f"{result.candidates:>6}{result.missing_candidates:>8}", flush=True)  # fmt: skip
            if given.log:
                print(result.text)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.argv[1:2] == ["call"]:
        print(json.dumps(call_until_told()), flush=True)
        os._exit(0)  # a process that has changed its user may hang in the C library's own cleaning up
    else:
        main()
