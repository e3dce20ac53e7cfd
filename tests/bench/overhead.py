"""What the router adds to a call, in CPU time: `python tests/bench/overhead.py` prints a table of ratios.

A simulated API answers at once, in a process of its own on one core. Each variant makes its calls in a process of its
own on another core. Rounds are interleaved in random order, so that a busy machine slows all variants alike. A figure
is the median of the rounds; a ratio compares two variants of one run.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
CONCURRENCIES = (1, 32)


@dataclass(frozen=True)
class Row:
    """A variant, what it is compared with, and the largest ratio that is wanted at each concurrency."""

    variant: str
    against: tuple[str, ...] = ("bare/default",)
    most: tuple[float, float] | None = None


ROWS = (
    Row("shipped/aiohttp", ("bare/aiohttp",), (1.15, 1.15)),
    Row("shipped/default", ("bare/default",), (1.10, 1.10)),
    Row("shipped/sync", ("bare/sync",), (1.10, 1.10)),
    Row("escalated/aiohttp", ("bare/aiohttp", "bare/aiohttp"), (1.10, 1.10)),
    Row("escalated/default", ("bare/default", "bare/default"), (1.10, 1.10)),
    Row("bypassed/aiohttp", ("bare/aiohttp",), (1.08, 1.08)),
    Row("bypassed/default", ("bare/default",), (1.08, 1.08)),
    Row("streamed/aiohttp", ("helper/default",), (0.80, 0.80)),
    Row("streamed/aiohttp", ("helper/aiohttp",)),
    Row("streamed/default", ("helper/default",), (1.00, 1.00)),
    Row("streamed-events/default", ("events/default",)),
    Row("shipped/aiohttp", ("bare/default",), (0.70, 0.60)),
    Row("shipped/aiohttp/no-telemetry"),
    Row("shipped/aiohttp/no-recording"),
    Row("bare/aiohttp"),
    Row("bare/default/traced"),
    Row("bare/sync"),
)


class Worker:
    """The process of one variant."""

    def __init__(self, variant: str, url: str, core: int | None) -> None:
        self.variant = variant
        command = [sys.executable, str(HERE / "overhead_worker.py"), variant, url]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        _pin(self.process.pid, core)
        self._line()

    def measure(self, seconds: float, concurrency: int) -> float:
        """CPU microseconds for each call."""
        print(seconds, concurrency, file=self.process.stdin, flush=True)
        figures = json.loads(self._line())
        return figures["cpu_s"] / figures["calls"] * 1e6

    def _line(self) -> str:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            raise RuntimeError(f"{self.variant} ended")
        return line

    def close(self) -> None:
        """Stop the process."""
        if self.process.stdin:
            self.process.stdin.close()
        self.process.wait(30)


def _pin(pid: int, core: int | None) -> None:
    if core is not None:
        os.sched_setaffinity(pid, {core})


def _cores() -> tuple[int | None, int | None]:
    """A core for the API and one for its clients, where processes can be pinned."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (usable[0], usable[1]) if len(usable) > 1 else (None, None)


@contextmanager
def simulated_api(core: int | None) -> Iterator[str]:
    """The URL of a simulated API."""
    command = [sys.executable, str(HERE / "overhead_server.py")]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        _pin(server.pid, core)
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"  # type: ignore[union-attr]
    finally:
        server.terminate()
        server.wait(30)


Figures = dict[tuple[str, int], list[float]]


def measure(variants: Sequence[str], *, rounds: int, seconds: float, seed: int) -> Figures:
    """CPU microseconds for each call, by variant and concurrency."""
    figures: Figures = defaultdict(list)
    rng = random.Random(seed)
    api_core, client_core = _cores()
    with ExitStack() as stack:
        url = stack.enter_context(simulated_api(api_core))
        workers = []
        for variant in variants:
            workers.append(Worker(variant, url, client_core))
            stack.callback(workers[-1].close)
        for number in range(rounds + 1):
            for concurrency in CONCURRENCIES:
                for worker in rng.sample(workers, len(workers)):
                    figure = worker.measure(seconds if number else 1.0, concurrency)
                    if number:  # the first round warms up
                        figures[worker.variant, concurrency].append(figure)
            print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
    return figures


def table(rows: Sequence[Row], figures: Figures) -> Iterator[str]:
    """The lines of the table."""
    yield f"{'variant':<32}{'against':<32}{'us c=1':>8}{'us c=32':>8}{'ratio c=1':>18}{'ratio c=32':>18}  wanted"
    for row in rows:
        cells = []
        for concurrency in CONCURRENCIES:
            own = figures[row.variant, concurrency]
            others = [sum(parts) for parts in zip(*(figures[name, concurrency] for name in row.against), strict=True)]
            ratios = [one / other for one, other in zip(own, others, strict=True)]
            cells.append((median(own), median(own) / median(others), min(ratios), max(ratios)))
        (us_1, *first), (us_32, *second) = cells
        spread = "".join(f"{ratio:>6.2f} ({low:.2f}-{high:.2f})" for ratio, low, high in (first, second))
        wanted = " / ".join(f"{most:.2f}" for most in row.most) if row.most else ""
        yield f"{row.variant:<32}{' + '.join(row.against):<32}{us_1:>8.0f}{us_32:>8.0f}  {spread}  {wanted}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each variant in each round")
    parser.add_argument("--only", default="", help="rows whose variant contains this text; several with commas")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rows = [row for row in ROWS if any(part in row.variant for part in args.only.split(","))]
    variants = list(dict.fromkeys(name for row in rows for name in (row.variant, *row.against)))
    figures = measure(variants, rounds=args.rounds, seconds=args.seconds, seed=args.seed)
    packages = ", ".join(f"{name} {version(name)}" for name in ("anthropic", "httpx2", "aiohttp", "opentelemetry-sdk"))
    print(f"{platform.python_implementation()} {platform.python_version()}, {packages}; {os.cpu_count()} cores")
    print("\n".join(table(rows, figures)))


if __name__ == "__main__":
    main()
