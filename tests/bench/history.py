"""Whether history costs anything: `python tests/bench/history.py` prints one table.

It fills two stores with calls of the same 200 routes at the same rate: one with ten million calls of 30 days, as they
are after folds, and one with the last ten thousand of these calls. Then it measures what reads them: evaluations,
`status`, the metrics page, the console's pages, and `report --last 30d` with its plots. Each figure is the least of
some runs; CPU is that of this process, and with `--postgresql` the wall time counts, which has the server's work too.
Last it prints the size on disk at day 30 and at day 60.
"""

import argparse
import json
import os
import resource
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final

from sqlalchemy import create_engine, text

from cheapdeep_ops import Settings
from cheapdeep_ops.cli.render.receipt_page import html_receipt
from cheapdeep_ops.guard.console.charts_page import PERIODS, drawn_of
from cheapdeep_ops.guard.console.layout import ConsoleContext
from cheapdeep_ops.guard.console.overview import overview_of
from cheapdeep_ops.guard.guard import Guard
from cheapdeep_ops.guard.http.metrics import FleetCollector, page
from cheapdeep_ops.guard.notify.log import LogSender
from cheapdeep_ops.guard.reports.receipt import receipt
from cheapdeep_ops.guard.reports.status import status
from cheapdeep_ops.guard.reports.trends import trends
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate
from cheapdeep_ops.store.tables.call_tables import Horizon
from cheapdeep_ops.store.tables.row import table_of
from tests.bench.guard_size import CLASSES, shape
from tests.postgres import packages, running

DAY, HOUR, MINUTE = 86_400, 3_600, 60
HORIZON = table_of(Horizon)
END: Final = 20_000.0 * DAY + 15.5 * HOUR
"""When the calls end (Unix time): in the middle of a day and of an hour, where most rows are read."""

VARIANTS: Final = 60
"""How many different rows there are for each number of calls; more would only take longer to make."""

FEW: Final = 40
"""Up to so many calls, a row has exactly that many; beyond, a number with one significant digit."""

KEYS: Final = {"bucket": ("route", "input_class", "process", "at"), "total": ("route", "input_class", "process"),
               "rollup": ("width_s", "at", "route", "input_class", "call_seconds", "base_seconds")}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Size:
    """How many calls, over how many days, in how many routes and processes."""

    calls: int = 10_000_000
    days: float = 30.0
    routes: int = 200
    processes: int = 20
    classes: int = len(CLASSES)
    minutes_days: float = 2.0
    hours_days: float = 31.0

    def lasting(self, days: float) -> "Size":
        """Calls at the same rate over so many days."""
        return replace(self, days=days, calls=round(self.rate * days * DAY))

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls / (self.days * DAY)

    def streams(self) -> list[tuple[str, str]]:
        """Route and class of each stream of calls."""
        return [(f"route-{number}", name) for number in range(self.routes) for name in CLASSES[: self.classes]]


class Rows:
    """Counters of some number of calls, as a database stores them."""

    def __init__(self) -> None:
        self._random = Random(0)
        singles = [shape(self._random) for _ in range(2_000)]
        self._singles = [each for each in singles if each["calls"] == 1]
        self._made: dict[int, list[tuple[object, ...]]] = {}
        self.names = list(self._singles[0])

    def of(self, calls: int) -> tuple[object, ...]:
        """One row; large numbers are made from fewer calls and scaled up."""
        # Rows of many calls differ little, and take long to make.
        calls = round(calls, 1 - len(str(calls))) if calls > FEW else calls
        made = self._made.setdefault(calls, [])
        if len(made) < (VARIANTS if calls <= FEW else VARIANTS // 3):
            made.append(self._row(calls))
            return made[-1]
        return self._random.choice(made)

    def _row(self, calls: int) -> tuple[object, ...]:
        drawn = min(calls, 300)
        added: dict[str, Any] = {}
        for each in self._random.choices(self._singles, k=drawn):
            for name, value in each.items():
                more = Counter(value) if isinstance(value, dict) else value
                added[name] = added[name] + more if name in added else more
        times = calls / drawn
        scaled = {
            name: json.dumps({key: round(count * times) for key, count in value.items()})
            if isinstance(value, dict) else round(value * times)
            for name, value in added.items()
        }  # fmt: skip
        return tuple(scaled.values())


def poisson(random: Random, mean: float) -> int:
    """A number of calls; for a large mean from the normal distribution."""
    if mean > 50:
        return max(round(random.gauss(mean, mean**0.5)), 0)
    number, product, limit = 0, random.random(), 2.718281828459045**-mean
    while product > limit:
        number, product = number + 1, product * random.random()
    return number


def spread(random: Random, calls: float, streams: int) -> Counter[int]:
    """How many of `calls` each stream has, by its number; those without one are left out."""
    if calls < 2 * streams:
        return Counter(random.choices(range(streams), k=poisson(random, calls)))
    return +Counter({number: poisson(random, calls / streams) for number in range(streams)})


def folded(size: Size, rows: Rows, now: float) -> Iterator[tuple[object, ...]]:
    """The rows of `rollup` after folds."""
    random, begin, end = Random(1), now - size.days * DAY, open_since(now)
    keys, since = size.streams(), horizons(size, now)
    for width in (1, MINUTE, HOUR, DAY):
        for at in range(max(int(begin) // width * width, since.get(width, 0)), end, width):
            lasts = min(at + width, end) - max(at, begin)
            counts = spread(random, size.rate * lasts, len(keys))
            for number in sorted(counts):
                bits = random.getrandbits(60) | 1 if width == MINUTE else 0
                yield (width, at, *keys[number], bits, bits, *rows.of(counts[number]))
            if counts:
                yield (width, at, "*", "", 0, 0, *rows.of(counts.total()))


def open_since(now: float) -> int:
    """When the first second began that is not folded: a guard folds each whole minute soon after its end."""
    return int(now - 75) // MINUTE * MINUTE


def horizons(size: Size, now: float) -> dict[int, int]:
    """Since when the rows of each width are stored."""
    return {
        1: int(now - HOUR) // MINUTE * MINUTE,
        MINUTE: int(now - size.minutes_days * DAY) // HOUR * HOUR,
        HOUR: int(now - size.hours_days * DAY) // DAY * DAY,
    }


def seconds(size: Size, rows: Rows, now: float) -> Iterator[tuple[object, ...]]:
    """The rows of `bucket`."""
    random, keys = Random(2), size.streams()
    for at in range(open_since(now), int(now)):
        for _ in range(poisson(random, size.rate)):
            yield (*random.choice(keys), f"router-{random.randrange(size.processes)}", at, *rows.of(1))


def totals(size: Size, rows: Rows) -> Iterator[tuple[object, ...]]:
    """A sum for each stream of calls and process."""
    each = max(size.calls // (len(size.streams()) * size.processes), 1)
    for number in range(size.processes):
        for key in size.streams():
            yield (*key, f"router-{number}", *rows.of(each))


def fill(store: Store, size: Size, now: float) -> None:
    """Make a store as it is after folds."""
    migrate(store)
    rows = Rows()
    insert(store, "rollup", rows.names, folded(size, rows, now))
    insert(store, "bucket", rows.names, seconds(size, rows, now))
    insert(store, "total", rows.names, totals(size, rows))
    put_processes(store, size, now, sealed_before=open_since(now))
    put(store, "horizon", ["width_s", "since"], iter(horizons(size, now).items()))
    tidy(store)


def put_processes(store: Store, size: Size, now: float, *, sealed_before: int) -> None:
    """The rows of the routers, all of which run."""
    process = {
        "kind": "router", "host": "host", "pid": 1, "started_at": now - DAY, "seen_at": now, "package_version": "0",
        "base_threshold": 0.8, "policy_version": 0, "dropped": 0, "closed_before": int(now) - 10,
        "sealed_before": sealed_before, "late": 0, "clock_ahead_s": 0.0, "flush": 0, "secret": "", "folded": 0,
        "folded_names": "{}",
    }  # fmt: skip
    routers = ((f"router-{number}", *process.values()) for number in range(size.processes))
    put(store, "process", ["process", *process], routers)


def insert(store: Store, table: str, names: list[str], rows: Iterator[tuple[object, ...]]) -> None:
    """Insert rows of counters; all other counters are 0 or empty."""
    with store.reading() as connection:
        inspected = connection.execute(text(f"SELECT * FROM {_name(store, table)} LIMIT 0"))
        columns = list(inspected.keys())
    given = [*KEYS[table], *names]
    texts = {"reasons", "base_reasons", "bypass_causes", "confidence", "models", "added_latency", "origins",
             "base_origins", "triage_errors", "malformed_causes"}  # fmt: skip
    others = [name for name in columns if name not in given]
    rest = tuple("{}" if name in texts else 0 for name in others)
    put(store, table, [*given, *others], ((*row, *rest) for row in rows))


def put(store: Store, table: str, names: list[str], rows: Iterator[tuple[object, ...]]) -> None:
    """Insert rows by the driver's fastest way."""
    columns = ", ".join(names)
    if store.is_sqlite:
        connection = sqlite3.connect(str(store.engine.url.database))
        connection.execute("PRAGMA synchronous=OFF")
        with connection:
            marks = ", ".join("?" * len(names))
            connection.executemany(f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({marks})", rows)
        connection.close()
        return
    with store.engine.connect() as sql:
        driver = sql.connection.driver_connection
        with driver.cursor() as cursor:  # type: ignore[union-attr]
            name = _name(store, table)
            cursor.execute(f"CREATE TEMP TABLE loaded (LIKE {name})")
            with cursor.copy(f"COPY loaded ({columns}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
            cursor.execute(f"INSERT INTO {name} SELECT * FROM loaded ON CONFLICT DO NOTHING; DROP TABLE loaded")
        driver.commit()  # type: ignore[union-attr]


def _name(store: Store, table: str) -> str:
    return table if store.is_sqlite else f"cheapdeep.{table}"


def tidy(store: Store) -> None:
    """Do what a database does of itself in time: checkpoint the log, or gather statistics."""
    with store.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        if store.is_sqlite:
            driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        else:
            driver.autocommit = True
            driver.execute("VACUUM ANALYZE")


def size_of(store: Store) -> int:
    """Bytes on disk of all tables and indexes."""
    with store.reading() as connection:
        if store.is_sqlite:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar() or 0
            return int(pages) * 4_096
        relations = "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n"
        query = f"{relations} ON n.oid = c.relnamespace WHERE n.nspname = 'cheapdeep' AND c.relkind = 'r'"
        return int(connection.exec_driver_sql(query).scalar() or 0)


def parts_of(store: Store, settings: Settings, now: float) -> Mapping[str, Callable[[], object]]:
    """What is measured, by its name."""
    rulebook = read_rulebook()
    guard = Guard(store, settings=settings, rulebook=rulebook, senders={"log": LogSender()}, started_at=now)
    ticks = iter(now + 5 * number for number in range(10_000))
    collector = FleetCollector(store, settings=settings, rulebook=rulebook, jobs=dict, clock=lambda: now + 1)
    # The figures of a page need no access rights.
    context = ConsoleContext(store=store, settings=settings, clock=lambda: now, access=None)  # type: ignore[arg-type]

    def report() -> object:
        month = {"since": now - 30 * DAY, "until": now}
        return html_receipt(receipt(store, settings, **month), trends(store, settings, **month))

    def scrape() -> object:
        """The metrics page fifteen seconds later."""
        with store.engine.begin() as connection:
            total = _name(store, "total")
            connection.execute(
                text(f"UPDATE {total} SET calls = calls + 1 WHERE process = 'router-1' AND route < 'route-14'")
            )
        return page(collector)

    first = next(iter(PERIODS.values()))
    return {
        "evaluation": lambda: guard.step(next(ticks)),
        "status": lambda: status(store, settings, now),
        "metrics page": lambda: page(collector),
        "metrics page, a quarter of all routes with new calls": scrape,
        "console: overview": lambda: overview_of(context),
        "console: charts, all routes, 1 hour": lambda: drawn_of(context, "*", first),
        "console: charts, one route, 1 hour": lambda: drawn_of(context, "route-1", first),
        "console: charts, all routes, 30 days": lambda: drawn_of(context, "*", PERIODS["30 days"]),
        "console: charts, one route, 30 days": lambda: drawn_of(context, "route-1", PERIODS["30 days"]),
        "report --last 24h": lambda: receipt(store, settings, since=now - DAY, until=now),
        "report --last 30d, with plots": report,
    }


def least_s(work: Callable[[], object], runs: int, clock: Callable[[], float]) -> float:
    """The least time of some runs, in seconds; the first one fills caches."""
    work()
    times = []
    for _ in range(runs):
        begun = clock()
        work()
        times.append(clock() - begun)
    return min(times)


def measured(
    many: tuple[Store, Settings], few: tuple[Store, Settings], now: float, *, runs: int, by_wall: bool
) -> dict[str, tuple[float, float]]:
    """The seconds that each part takes with many calls and with few, in turns within one run."""
    clock = time.perf_counter if by_wall else time.process_time
    parts = [parts_of(*each, now) for each in (many, few)]
    return {name: (least_s(parts[0][name], runs, clock), least_s(parts[1][name], runs, clock)) for name in parts[0]}


def commands(*settings: Settings) -> dict[str, tuple[float, float]]:
    """The CPU seconds of whole commands, with Python's start and imports: for many calls and for few."""
    month = ["report", "--last", "30d", "--json"]
    found = {}
    with TemporaryDirectory() as compiled:
        for name, arguments in (("command status", ["status"]), ("command report --last 30d --json", month)):
            many, few = (_command_s(arguments, each, compiled) for each in settings)
            found[name] = (many, few)
    return found


def _command_s(arguments: list[str], settings: Settings, compiled: str) -> float:
    # The command asks for the time, and the calls end at END.
    code = (
        f"import sys, time; time.time = lambda: {END}; from cheapdeep_ops.cli import main; sys.exit(main({arguments}))"
    )
    # Modules are compiled, as an installer leaves them: the first run compiles them, wherever the package lies.
    environment = {**os.environ, "CHEAPDEEP_STORE_URL": settings.store_url, "PYTHONPYCACHEPREFIX": compiled}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    times = []
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], env=environment, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def grown(store: Store, size: Size, now: float) -> int:
    """Bytes on disk after twice the days, with the same traffic."""
    fill(store, size.lasting(2 * size.days), now)
    return size_of(store)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=Size.calls)
    parser.add_argument("--routes", type=int, default=Size.routes)
    parser.add_argument("--classes", type=int, default=Size.classes, help="input classes of each route, at most 3")
    parser.add_argument("--few", type=int, default=10_000, help="calls in the small store")
    parser.add_argument("--hours-days", type=float, default=Size.hours_days, help="how long hours are stored")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--postgresql", action="store_true", help="on a server that the bench starts")
    parser.add_argument("--no-size", action="store_true", help="leave out the sizes, which take some minutes")
    given = parser.parse_args()
    size = Size(calls=given.calls, routes=given.routes, classes=given.classes, hours_days=given.hours_days)
    with ExitStack() as stack:
        if given.postgresql:
            installed = packages() or sys.exit("PostgreSQL's programs are not installed")
            server = stack.enter_context(running(installed))

            def url(name: str) -> str:
                engine = create_engine(server.url("postgres"), isolation_level="AUTOCOMMIT")
                with engine.connect() as connection:
                    connection.exec_driver_sql(f"CREATE DATABASE {name}")
                engine.dispose()
                return server.url(name)
        else:
            folder = Path(stack.enter_context(TemporaryDirectory()))

            def url(name: str) -> str:
                return f"sqlite:///{folder / name}.db"

        stores = {}
        few = size.lasting(given.few / size.rate / DAY)
        for name, each in (("many", size), ("few", few)):
            begun, settings = time.perf_counter(), Settings(store_url=url(name))
            stores[name] = (Store(settings.store_url), settings)
            fill(stores[name][0], each, END)
            megabytes, took_s = size_of(stores[name][0]) / 1e6, time.perf_counter() - begun
            print(f"{each.calls:,} calls: {megabytes:.0f} MB, filled in {took_s:.0f} s")
        found = measured(stores["many"], stores["few"], END, runs=given.runs, by_wall=given.postgresql)
        print(
            f"{'seconds of wall time' if given.postgresql else 'seconds of CPU':<54}{'many':>8}{'few':>8}{'ratio':>8}"
        )
        if not given.postgresql:
            found |= commands(*(settings for _, settings in stores.values()))
        for name, (many, few) in found.items():
            print(f"{name:<54}{many:>8.3f}{few:>8.3f}{many / few:>8.2f}", flush=True)
        sizes = [size_of(stores["many"][0])]
        for store, _ in stores.values():
            store.close()
        if not given.no_size:
            later = Store(url("later"))
            sizes.append(grown(later, size, END))
            later.close()
            days = [f"day {size.days * times:.0f}: {each / 1e6:.0f} MB" for times, each in enumerate(sizes, start=1)]
            print(f"{', '.join(days)}, {sizes[1] / sizes[0] - 1:+.1%}")


if __name__ == "__main__":
    main()
