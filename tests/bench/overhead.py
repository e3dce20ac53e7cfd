"""What the router adds to a call, in CPU time: `python tests/bench/overhead.py` prints a table of ratios.

A simulated API answers at once, in a process of its own on one core. Each variant makes its calls in a process of its
own on another core. Rounds are interleaved in random order, so that a busy machine slows all variants alike. A ratio
compares two variants in one round; the table has the median of the rounds with the least and the greatest.

`--peers` measures LiteLLM too, in an environment of its own that is made at the first use. `INSTRUMENTED_PYTHON` may
name the Python of an environment with add-ons that trace the SDK's client.
"""

import argparse
import json
import os
import platform
import random
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import overhead_peers
from overhead_report import CONCURRENCIES, PEERS, PICTURE, SECTIONS, Results, markdown, plot, put_between, table

HERE = Path(__file__).parent
README = HERE / "README.md"
UNWANTED = ("CHEAPDEEP_", "ANTHROPIC_", "OTEL_")
"""Variables of the caller that would change what is measured."""


class MissingError(Exception):
    """A variant cannot be measured here; says what is missing."""


class Worker:
    """The process of one variant. Raises MissingError."""

    def __init__(self, variant: str, url: str, core: int | None) -> None:
        self.variant = variant
        command, environment = _command(variant)
        self.process = subprocess.Popen(
            [*command, variant, url], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        _pin(self.process.pid, core)
        ready = self._line()
        if "missing" in ready:
            self.close()
            raise MissingError(f"not installed: {ready['missing']}")
        self.environment = ready["environment"]

    def measure(self, seconds: float, concurrency: int) -> float:
        """CPU microseconds for each call."""
        print(seconds, concurrency, file=self.process.stdin, flush=True)
        figures = self._line()
        return figures["cpu_s"] / figures["calls"] * 1e6

    def _line(self) -> dict:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            raise RuntimeError(f"{self.variant} ended")
        return json.loads(line)

    def close(self) -> None:
        """Stop the process."""
        with self.process:  # which closes both pipes: the process ends when it has nothing more to read
            pass


def _command(variant: str) -> tuple[list[str], dict[str, str]]:
    """The command of a variant's process, and its variables. Raises MissingError."""
    if variant.startswith("litellm"):
        try:
            return [overhead_peers.installed(), str(HERE / "overhead_peers.py")], overhead_peers.environment()
        except subprocess.CalledProcessError as error:
            raise MissingError(f"not installed: {Path(error.cmd[0]).name} ended with {error.returncode}") from error
    python = os.environ.get("INSTRUMENTED_PYTHON", sys.executable) if "add-on" in variant else sys.executable
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(UNWANTED)}
    # The checkout of this file is measured, whatever else is installed.
    return [python, str(HERE / "overhead_worker.py")], {**inherited, "PYTHONPATH": str(HERE.parents[1])}


def _pin(pid: int, core: int | None) -> None:
    if core is not None:
        os.sched_setaffinity(pid, {core})


def _cores() -> tuple[int | None, int | None]:
    """A core for the API and one for its clients, where processes can be pinned."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (usable[0], usable[1]) if len(usable) > 1 else (None, None)


@contextmanager
def simulated_api(core: int | None = None) -> Iterator[str]:
    """The URL of a simulated API."""
    command = [sys.executable, str(HERE / "overhead_server.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            _pin(server.pid, core)
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"  # type: ignore[union-attr]
        finally:
            server.terminate()


def measure(variants: Sequence[str], *, rounds: int, seconds: float, seed: int) -> Results:
    """Measure all variants in turns."""
    now, machine = datetime.now(UTC).astimezone(), _machine()
    results = Results(
        date=f"{now:%Y-%m-%d %H:%M}", machine=machine, load=_load(), rounds=rounds, seconds=seconds, seed=seed
    )
    figures: dict[str, dict[str, list[float]]] = defaultdict(lambda: {str(each): [] for each in CONCURRENCIES})
    rng = random.Random(seed)
    api_core, client_core = _cores()
    with ExitStack() as stack:
        url = stack.enter_context(simulated_api(api_core))
        workers = []
        for variant in variants:
            try:
                worker = Worker(variant, url, client_core)
            except MissingError as error:
                results.missing[variant] = str(error)
                continue
            workers.append(worker)
            stack.callback(worker.close)
        for number in range(rounds + 1):
            for concurrency in CONCURRENCIES:
                for worker in rng.sample(workers, len(workers)):
                    figure = worker.measure(seconds if number else min(seconds, 1.0), concurrency)
                    if number:  # the first round warms up
                        figures[worker.variant][str(concurrency)].append(figure)
            print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
    results.environments = list(dict.fromkeys(worker.environment for worker in workers))
    results.figures = dict(figures)
    return results


def _machine() -> str:
    """The processor and the number of its cores."""
    known = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*: (.+)$", known.read_text("utf-8"), re.MULTILINE) if known.exists() else None
    return f"{named[1] if named else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def _load() -> float:
    """The load average of a minute; 0 where there is none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def variants_of(only: str, *, peers: bool) -> list[str]:
    """The variants of the rows whose variant contains a part of `only`, and what these are compared with."""
    rows = [row for title, rows in SECTIONS.items() if peers or title != PEERS for row in rows]
    parts = only.split(",")
    chosen = [row for row in rows if any(part in row.variant for part in parts)]
    return list(dict.fromkeys(name for row in chosen for name in row.variants))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each variant in each round and concurrency")
    parser.add_argument("--only", default="", help="rows whose variant contains this text; several with commas")
    parser.add_argument("--seed", type=int, default=0, help="of the order in which variants take turns")
    parser.add_argument("--peers", action="store_true", help="LiteLLM too; the first time, it is installed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--from", type=Path, metavar="FILE", dest="earlier", help="show these figures, measure nothing")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios, in SVG")
    parser.add_argument("--readme", action="store_true", help=f"put table and picture into {README.name} beside this")
    args = parser.parse_args(arguments)
    if args.earlier:
        results = Results.read(args.earlier)
    else:
        variants = variants_of(args.only, peers=args.peers)
        results = measure(variants, rounds=args.rounds, seconds=args.seconds, seed=args.seed)
    print("\n".join(table(results)))
    if args.json:
        results.write(args.json)
    if args.plot:
        args.plot.write_text(plot(results), encoding="utf-8")
    if args.readme:
        README.write_text(put_between(README.read_text("utf-8"), markdown(results)), encoding="utf-8")
        README.with_name(PICTURE).write_text(plot(results), encoding="utf-8")


if __name__ == "__main__":
    main()
