"""Did a change make calls slower? CPU time of one call in two checkouts, side by side on the simulated API.

    python tests/bench/checkouts.py BEFORE AFTER [--calls 2000] [--rounds 5] [--way shipped|escalated|streamed]

Each checkout runs in a process of its own, in turn with the other, against one server in a third process. Prints
microseconds of CPU per call, the median of the rounds, and the ratio, for `Router` and for `AsyncRouter`.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from statistics import median
from typing import Any

REQUEST: dict[str, Any] = {"max_tokens": 200, "messages": [{"role": "user", "content": "Where is my order? " * 20}]}
WARM_UP = 100


def served() -> None:
    """The simulated API, until its input ends."""
    from cheapdeep_ops.testing import Reply, SimulatedAnthropic  # noqa: PLC0415

    way = sys.argv[2]
    with SimulatedAnthropic() as api:
        cheap = Reply.triage(0.2, None) if way == "escalated" else Reply.triage(0.95, "It is on its way. " * 10)
        api.always(lambda asked: cheap if asked.is_triage else Reply.text("It arrives on Monday. " * 10))
        print(api.url, flush=True)
        sys.stdin.read()


def of_threads(router: Any, calls: int, *, is_streamed: bool) -> float:
    """Seconds of CPU for so many calls of a `Router`."""
    for number in range(WARM_UP + calls):
        if number == WARM_UP:
            began = time.process_time()
        if is_streamed:
            list(router.messages.create(stream=True, **REQUEST))
        else:
            router.messages.create(**REQUEST)
    return time.process_time() - began


async def of_loop(router: Any, calls: int, *, is_streamed: bool) -> float:
    """Seconds of CPU for so many calls of an `AsyncRouter`, one after the other."""
    async with router:
        for number in range(WARM_UP + calls):
            if number == WARM_UP:
                began = time.process_time()
            if is_streamed:
                [event async for event in await router.messages.create(stream=True, **REQUEST)]
            else:
                await router.messages.create(**REQUEST)
        return time.process_time() - began


def measured() -> None:
    """Prints the seconds of CPU for the calls of one round, for both routers."""
    from cheapdeep_ops import AsyncRouter, Router, Settings  # noqa: PLC0415

    url, calls, is_streamed = sys.argv[2], int(sys.argv[3]), sys.argv[4] == "streamed"
    options: dict[str, Any] = {"settings": Settings(record=False), "base_url": url, "api_key": "any"}
    with Router(**options) as router:
        threads = of_threads(router, calls, is_streamed=is_streamed)
    loop = asyncio.run(of_loop(AsyncRouter(**options), calls, is_streamed=is_streamed))
    print(json.dumps({"Router": threads, "AsyncRouter": loop}))


def run(checkout: str, *arguments: object) -> subprocess.Popen[str]:
    """This script in a process that has the package of `checkout`."""
    command = [sys.executable, __file__, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": checkout}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, cwd=checkout, stdin=pipe, stdout=pipe, text=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Did a change make calls slower?")
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--way", choices=["shipped", "escalated", "streamed"], default="shipped")
    asked = parser.parse_args()
    took: dict[str, list[dict[str, float]]] = {asked.before: [], asked.after: []}
    server = run(asked.after, "served", asked.way)
    url = server.stdout.readline().strip() if server.stdout else ""
    for number in range(asked.rounds):
        # Whatever grows in the server must not count against one side only.
        for checkout in (asked.before, asked.after) if number % 2 else (asked.after, asked.before):
            told, _ = run(checkout, "measured", url, asked.calls, asked.way).communicate()
            took[checkout].append(json.loads(told))
    server.communicate()
    for kind in ("Router", "AsyncRouter"):
        before, after = (1e6 * median(each[kind] for each in rounds) / asked.calls for rounds in took.values())
        print(f"{kind:12} {asked.way}: before {before:.0f} us, after {after:.0f} us, ratio {after / before:.3f}")


if __name__ == "__main__":
    {"served": served, "measured": measured}.get(sys.argv[1], main)()
