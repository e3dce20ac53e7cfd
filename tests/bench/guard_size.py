"""What the guard's work costs on a large store: `python tests/bench/guard_size.py` prints one table.

It fills a SQLite store with two million rows of counters (200 routes, 30 days) and with 100,000 grades.
Then it measures evaluations: the first ever, later ones, one with new grades, and the first after a restart. It also
measures `cheapdeep-ops status` and the metrics page. CPU is user and system time of the whole process.

`--store FILE` keeps the store and uses it again for two hours. Older calls would not be of the last day.
`--profile PART` prints the functions that take the time of one part, such as `metrics`.
"""

import argparse
import cProfile
import json
import os
import pstats
import resource
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final

from cheapdeep_ops import Settings
from cheapdeep_ops.claude.rubric import PROMPT_VERSION
from cheapdeep_ops.guard.guard import Guard
from cheapdeep_ops.guard.http.metrics import FleetCollector, page
from cheapdeep_ops.guard.notify.log import LogSender
from cheapdeep_ops.guard.reports.status import status
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate
from tests.tracing import traced

CLASSES: Final = ("", "refund", "invoice-pdf")
ALIVE: Final = 4
"""The number of routers that run now; the others have stopped, because each restart makes another process."""

SHAPES: Final = 2_000
"""How many different rows of counters there are; each has the calls of one second."""

WRONG: Final = 0.03
FRESH_S: Final = 7_200.0
SCRAPES: Final = 5
GUARDS_OWN: Final = (
    "alert",
    "incident",
    "detector",
    "normal",
    "outbox",
    "delivery",
    "policy",
    "policy_change",
    "lease",
)
"""The tables that an evaluation writes; they are emptied before the first one."""

PROBE: Final = """
import cheapdeep_ops.cli.main, cheapdeep_ops.cli.commands.reports, cheapdeep_ops.cli.render.terminal
import cheapdeep_ops.guard.http.api
"""
"""What a command of this kind imports."""


def shape(random: Random) -> dict[str, object]:
    """The counters of one to six calls of one second."""
    calls = random.randint(1, 6)
    triaged = sum(random.random() < 0.95 for _ in range(calls))
    stated = [min(int(random.betavariate(8, 1.5) * 100), 100) for _ in range(triaged)]
    escalated = sum(each < 80 for each in stated)
    origin = f"claude-haiku-4-5|v3|{random.choice((0, 0, 0, 7, 12))}"
    reasons = Counter(random.choice(("low_confidence", "low_confidence", "no_answer")) for _ in range(escalated))
    malformed = random.random() < 0.01
    return {
        "calls": calls, "triaged": triaged, "shipped": triaged - escalated, "escalated": escalated,
        "base_escalated": escalated, "bypassed": calls - triaged, "errors": int(random.random() < 0.005),
        "cost_nusd": calls * random.randint(400_000, 900_000), "triage_cost_nusd": triaged * 300_000,
        "baseline_nusd": calls * 2_500_000, "reasons": reasons, "base_reasons": reasons,
        "bypass_causes": {"tools": calls - triaged} if calls > triaged else {},
        "confidence": Counter(str(each) for each in stated),
        "models": {"claude-haiku-4-5": triaged - escalated, "claude-opus-4-7": escalated + calls - triaged},
        "triage_replies": triaged, "triage_input_tokens": triaged * 900, "triage_output_tokens": triaged * 60,
        "added_latency": Counter(str(random.randint(8, 14)) for _ in range(escalated)),
        "origins": {origin: triaged}, "base_origins": {origin: escalated} if escalated else {},
        "triage_errors": {"APITimeoutError": 1} if random.random() < 0.01 else {},
        "malformed_causes": {"not_json": 1} if malformed else {}, "deep_replies": escalated,
        "deep_input_tokens": escalated * 900,
    }  # fmt: skip


def as_row(counters: Mapping[str, Any]) -> tuple[object, ...]:
    """The counters as SQLite stores them: mappings are JSON."""
    return tuple(json.dumps(value) if isinstance(value, dict) else value for value in counters.values())


def buckets(shapes: list[dict[str, object]], size: argparse.Namespace, now: float) -> Iterator[tuple[object, ...]]:
    """The rows of the seconds, oldest first; each route has its turn."""
    rows, random = [as_row(each) for each in shapes], Random(1)
    span, count = size.days * 86_400, size.buckets
    for number in range(count):
        turn, place = divmod(number, size.routes)
        at = int(now - span + number * span / count)
        process = f"router-{number * size.processes // count}"
        yield (f"route-{place}", CLASSES[turn % 3], process, at, *random.choice(rows))


def totals(shapes: list[dict[str, object]], size: argparse.Namespace) -> Iterator[tuple[object, ...]]:
    """A sum for each route, class and router."""
    keys = list(product(range(size.routes), CLASSES, range(size.processes)))
    random, times = Random(2), max(size.buckets // (len(keys) * 40), 1)
    for route, name, router in keys:
        added: dict[str, Any] = {}
        for each in random.choices(shapes, k=40):
            for key, value in each.items():
                more = Counter(value) if isinstance(value, dict) else value
                added[key] = added[key] + more if key in added else more
        scaled = {
            key: {label: count * times for label, count in value.items()} if isinstance(value, dict) else value * times
            for key, value in added.items()
        }
        yield (f"route-{route}", name, f"router-{router}", *as_row(scaled))


def grade_rows(size: argparse.Namespace, now: float, grader: str, first: int, count: int) -> Iterator[dict[str, Any]]:
    """`count` grades from number `first` on, in turn over all routes; the last of `size.grades` is a minute old."""
    random, every_s = Random(first), size.days * 86_400 / size.grades
    for number in range(first, first + count):
        at = now - 60 - (size.grades - 1 - number) * every_s
        yield {
            "call_id": f"call-{number}", "grader_model": grader, "grader_prompt": PROMPT_VERSION,
            "verdict": "incorrect" if random.random() < WRONG else "correct", "failure": "", "reason": "", "at": at,
            "called_at": at - 60, "route": f"route-{number % size.routes}",
            "input_class": CLASSES[number // size.routes % 3], "shipped": True,
            "confidence": round(0.8 + 0.2 * random.random(), 2), "policy_version": 0, "inclusion": 0.01, "batch": False,
            "input_tokens": 900, "output_tokens": 80, "cache_read_tokens": 0, "cache_write_5m_tokens": 0,
            "cache_write_1h_tokens": 0, "cost_nusd": 6_000_000, "model": "claude-haiku-4-5", "tier": 0,
            "prompt_version": "v3", "steered": False, "second": False, "fingerprint": "",
        }  # fmt: skip


def candidate_of(grade: Mapping[str, Any]) -> dict[str, Any]:
    """The answer that was graded, without its text."""
    same = ("call_id", "route", "input_class", "shipped", "confidence", "policy_version", "model", "tier", "inclusion")
    return {
        **{name: grade[name] for name in same}, "position": 0.001, "kept_share": 0.3, "at": grade["called_at"],
        "threshold": 0.8, "prompt_version": "v3", "response_id": "", "trace_id": "", "span_id": "",
        "trace_sampled": False, "state": "graded", "why": "", "chosen_at": grade["called_at"], "due_at": 0.0,
        "attempts": 0, "batch_id": "", "steered": False, "fingerprint": "",
    }  # fmt: skip


def put(connection: sqlite3.Connection, table: str, rows: Iterator[dict[str, Any]]) -> None:
    """Insert rows with equal columns."""
    first = next(rows)
    marks = ", ".join(f":{name}" for name in first)
    statement = f"INSERT INTO {table} ({', '.join(first)}) VALUES ({marks})"
    connection.execute(statement, first)
    connection.executemany(statement, rows)


def counter_columns(table: str, connection: sqlite3.Connection, given: Mapping[str, object], keys: list[str]) -> str:
    """An INSERT for rows of `keys` and the `given` counters; all other counters are 0 or empty."""
    names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    kinds = {row[1]: row[2] for row in connection.execute(f"PRAGMA table_info({table})")}
    others = [name for name in names if name not in given and name not in keys]
    values = [*("?" for _ in (*keys, *given)), *("'{}'" if kinds[name] == "JSON" else "0" for name in others)]
    return f"INSERT INTO {table} ({', '.join([*keys, *given, *others])}) VALUES ({', '.join(values)})"


def fill(path: Path, size: argparse.Namespace, settings: Settings, now: float) -> None:
    """Make the store, by SQL of the driver alone."""
    store = Store(settings.store_url)
    migrate(store)
    store.close()
    random = Random(0)
    shapes = [shape(random) for _ in range(SHAPES)]
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous=OFF")
    with connection:
        insert = counter_columns("bucket", connection, shapes[0], ["route", "input_class", "process", "at"])
        connection.executemany(insert, buckets(shapes, size, now))
        insert = counter_columns("total", connection, shapes[0], ["route", "input_class", "process"])
        connection.executemany(insert, totals(shapes, size))
        put(connection, "grade", grade_rows(size, now, settings.grader_model, 0, size.grades))
        graded = grade_rows(size, now, settings.grader_model, 0, size.grades)
        put(connection, "candidate", (candidate_of(each) for each in graded))
        connection.execute("INSERT INTO grade_total SELECT route, verdict, count(*), sum(cost_nusd) FROM grade "
                           "GROUP BY route, verdict")  # fmt: skip
        routers = (
            {"process": f"router-{number}", "kind": "router" if number >= size.processes - ALIVE else "stopped",
             "host": "host", "pid": 1, "started_at": now - 86_400, "seen_at": now, "package_version": "0",
             "base_threshold": settings.base_threshold, "policy_version": 0, "dropped": 0, "closed_before": 0,
             "sealed_before": 0, "late": 0, "clock_ahead_s": 0.0, "flush": 0, "secret": "", "folded": 0,
             "folded_names": "{}"}
            for number in range(size.processes)
        )  # fmt: skip
        put(connection, "process", routers)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def reset(path: Path, size: argparse.Namespace) -> None:
    """Remove what guards and `evaluations` have written, so that the next evaluation is the first one ever."""
    with sqlite3.connect(path) as connection:
        for table in GUARDS_OWN:
            connection.execute(f"DELETE FROM {table}")
        connection.execute("DELETE FROM process WHERE process NOT LIKE 'router-%'")
        connection.execute("DELETE FROM grade WHERE id > ?", [size.grades])
    connection.close()


class Table:
    """Measures parts, and prints a line for each."""

    def __init__(self, profiled: str) -> None:
        self._profiled = profiled
        print(f"{'part':<58}{'CPU s':>8}{'wall s':>8}")

    def measure(self, part: str, work: Callable[[], object]) -> None:
        """Run `work` and print its CPU and wall time in seconds; those of its child processes count too."""
        profile = cProfile.Profile() if self._profiled and self._profiled in part else None
        before, began = _cpu_s(), time.perf_counter()
        if profile is None:
            work()
        else:
            profile.runcall(work)
        self.line(part, _cpu_s() - before, time.perf_counter() - began)
        if profile is not None:
            pstats.Stats(profile).sort_stats("cumulative").print_stats(45)
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)

    @staticmethod
    def line(part: str, cpu_s: float, wall_s: float) -> None:
        """Print one line."""
        print(f"{part:<58}{cpu_s:>8.3f}{wall_s:>8.3f}", flush=True)


def _cpu_s() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def evaluations(table: Table, path: Path, size: argparse.Namespace, settings: Settings, now: float) -> None:
    """Evaluations in the order in which a guard makes them."""
    rulebook, store = read_rulebook(), Store(settings.store_url)

    def started() -> Guard:
        return Guard(store, settings=settings, rulebook=rulebook, senders={"log": LogSender()}, started_at=now)

    def step(part: str, guard: Guard, at: float) -> None:
        with traced() as tracer:
            table.measure(part, lambda: guard.step(at))
        longest = max((each.cpu_s for each in tracer.transactions), default=0.0)
        print(f"    {len(tracer.transactions)} write transactions, the longest {longest * 1e3:.1f} ms of CPU")

    guard = started()
    metrics(table, settings, now, "metrics page before the first evaluation", 1)
    table.measure("the report `status` before the first evaluation", lambda: status(store, settings, now))
    step("evaluation: the first ever", guard, now)
    step("evaluation: 5 s later, nothing new", guard, now + 5)
    step("evaluation: 65 s later, nothing new", guard, now + 65)
    with sqlite3.connect(path) as connection:
        put(connection, "grade", grade_rows(size, now, settings.grader_model, size.grades, 20))
        connection.execute("UPDATE grade_total SET count = count + 1 WHERE route IN (SELECT route FROM grade_total "
                           "WHERE outcome = 'correct' ORDER BY route LIMIT 20) AND outcome = 'correct'")  # fmt: skip
    connection.close()
    step("evaluation: with new grades of 20 routes", guard, now + 70)
    step("evaluation: nothing new", guard, now + 75)
    step("evaluation: eleven minutes later", guard, now + 660)
    guard.close()
    again = started()
    step("evaluation: the first after a restart", again, now + 665)
    step("evaluation: the second after a restart", again, now + 670)
    again.close()
    store.close()


def metrics(table: Table, settings: Settings, now: float, part: str, scrapes: int) -> None:
    """The metrics page, scraped every 15 seconds."""
    rulebook, store = read_rulebook(), Store(settings.store_url)
    times = iter(now + 15 * number for number in range(1_000))
    collector = FleetCollector(store, settings=settings, rulebook=rulebook, jobs=dict, clock=lambda: next(times))
    for number in range(scrapes):
        table.measure(f"{part}, scrape {number + 1}", lambda: page(collector))
    store.close()


def commands(table: Table, settings: Settings) -> None:
    """`cheapdeep-ops status`, and what starting Python and importing take of it."""
    environment = {**os.environ, "CHEAPDEEP_STORE_URL": settings.store_url}

    def run(*arguments: str) -> Callable[[], object]:
        return lambda: subprocess.run(
            [sys.executable, *arguments], env=environment, check=True, stdout=subprocess.DEVNULL
        )

    for _ in range(2):
        table.measure("Python's start and the imports alone", run("-c", PROBE))
        table.measure("status", run("-m", "cheapdeep_ops", "status"))
        table.measure("status --json", run("-m", "cheapdeep_ops", "status", "--json"))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"routes": 200, "grades": 100_000, "buckets": 2_000_000, "days": 30, "processes": 20}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--store", type=Path, help="keep the store in this file")
    parser.add_argument("--profile", default="", metavar="PART")
    size = parser.parse_args()
    with TemporaryDirectory() as folder:
        path = size.store or Path(folder) / "store.db"
        settings = Settings(store_url=f"sqlite:///{path.absolute()}")
        table = Table(size.profile)
        if time.time() - _ends(path) > FRESH_S:
            path.unlink(missing_ok=True)
            table.measure("(filling the store)", lambda: fill(path, size, settings, time.time()))
        reset(path, size)
        now = _ends(path)
        evaluations(table, path, size, settings, now)
        metrics(table, settings, now + 700, "metrics page", SCRAPES)
        commands(table, settings)


def _ends(path: Path) -> float:
    """When the calls in the store end; 0 without a store."""
    if not path.exists():
        return 0.0
    with sqlite3.connect(path) as connection:
        (newest,) = connection.execute("SELECT max(at) FROM bucket").fetchone()
    connection.close()
    return float(newest + 1)


if __name__ == "__main__":
    main()
