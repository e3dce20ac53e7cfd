"""Where the time of a shipped call goes: `python tests/bench/own_share.py [SECONDS]` prints two tables.

A timer interrupts the process at each millisecond of CPU time, and the package of the running function is noted.
The time of a function of the standard library or of C code counts for the package that calls it. `own` is what is
neither the SDK, its libraries nor HTTP: the router's code and OpenTelemetry's. The API is simulated, in a process of
its own. A bare call of the SDK is measured too.
"""

import asyncio
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, Self

from overhead import simulated_api
from overhead_worker import bare, routed

SECONDS = 20.0
PACKAGES = (
    "cheapdeep_ops", "opentelemetry", "anthropic", "pydantic", "httpx2", "httpcore2", "h11", "anyio", "aiohttp",
)  # fmt: skip
OWN = frozenset({"cheapdeep_ops", "opentelemetry"})
TOP = 10


class Sampler:
    """Notes the stack of the main thread at each millisecond of CPU time."""

    def __init__(self) -> None:
        self.samples = 0
        self.packages: Counter[str] = Counter()
        self.functions: Counter[str] = Counter()

    def __enter__(self) -> Self:
        signal.signal(signal.SIGPROF, self._note)
        signal.setitimer(signal.ITIMER_PROF, 1e-3, 1e-3)
        return self

    def __exit__(self, *_error: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _note(self, _signal: int, frame: FrameType | None) -> None:
        self.samples += 1
        while frame is not None:
            package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
            if package in PACKAGES:
                self.packages[package] += 1
                if package in OWN:
                    place = Path(frame.f_code.co_filename).with_suffix("").name
                    self.functions[f"{package}: {place}.{frame.f_code.co_qualname}"] += 1
                return
            frame = frame.f_back


async def calls(call: Any, seconds: float) -> int:
    """Make calls for `seconds`; returns their number."""
    made, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        await call()
        made += 1
    return made


def sampled(call: Any, seconds: float) -> tuple[Sampler, float]:
    """The samples of calls, and the CPU microseconds that each call took."""
    with asyncio.Runner() as runner:
        runner.run(calls(call, 1.0))
        began = time.process_time()
        with Sampler() as sampler:
            made = runner.run(calls(call, seconds))
        return sampler, (time.process_time() - began) / made * 1e6


def main() -> None:
    """Print the tables."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    with simulated_api(None) as url, TemporaryDirectory() as folder:
        _, bare_us = sampled(bare("bare", "default", url, []).call, seconds / 4)
        sampler, us = sampled(routed("shipped", "aiohttp", url, [], folder).call, seconds)
    share = us / sampler.samples
    own = sum(sampler.packages[name] for name in OWN) * share
    print(f"a bare call {bare_us:.0f} us, a shipped call {us:.0f} us ({sampler.samples} samples), own {own:.0f} us")
    for title, counts in (("package", sampler.packages), ("function of our own", sampler.functions)):
        print(f"\n{'us':>6}  {title}")
        for name, count in counts.most_common(TOP):
            print(f"{count * share:6.1f}  {name}")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
