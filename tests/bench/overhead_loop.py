"""The measuring loop of one process of `overhead.py`; it needs the standard library alone.

It reads `SECONDS CONCURRENCY` from standard input, and makes calls for this time. Then it prints their number and the
CPU seconds of the whole process. What the variant flushes in the end is inside the measured time.
"""

import asyncio
import json
import platform
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from inspect import isawaitable
from typing import Any

from overhead_server import UNSURE

WORD = "The patient, a woman of 54, takes venlafaxine 150 mg, ramipril 5 mg and levothyroxine 75 mcg every day. "
SYSTEM = "You answer questions of pharmacists in short, plain sentences, and you say what you do not know. " * 6
QUESTION = f"{WORD * 12}What does venlafaxine inhibit? "
TOOL = {"name": "lookup", "description": "Look a drug up.", "input_schema": {"type": "object", "properties": {}}}
MODEL = "claude-opus-4-7"

Act = Callable[[], Any]
"""Something to do; what it returns is awaited if it is awaitable."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What is measured: `call`, and `flush` once in the end. `close` comes last and is not measured."""

    call: Act
    flush: Act = lambda: None
    close: Act = lambda: None


def request(kind: str) -> dict[str, Any]:
    """The arguments of a call, about 2 kB of text."""
    content = QUESTION + UNSURE if kind == "escalated" else QUESTION
    tools = {"tools": [TOOL]} if kind == "bypassed" else {}
    return {"max_tokens": 1024, "system": SYSTEM, "messages": [{"role": "user", "content": content}], **tools}


async def measured(variant: Variant, *, seconds: float, concurrency: int) -> dict[str, float]:
    """Make calls for `seconds`; CPU is that of all threads of the process."""
    call = variant.call
    for _ in range(20):
        await call()
    made, until = 0, time.monotonic() + seconds

    async def caller() -> None:
        nonlocal made
        while time.monotonic() < until:
            await call()
            made += 1

    began = time.process_time()
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    variant.flush()
    return {"calls": made, "cpu_s": time.process_time() - began}


def measured_in_threads(variant: Variant, *, seconds: float, concurrency: int) -> dict[str, float]:
    """`measured` for a synchronous client, with a thread for each caller."""
    call = variant.call
    for _ in range(20):
        call()
    until = time.monotonic() + seconds

    def caller(_number: int) -> int:
        made = 0
        while time.monotonic() < until:
            call()
            made += 1
        return made

    with ThreadPoolExecutor(concurrency) as threads:
        began = time.process_time()
        made = sum(threads.map(caller, range(concurrency)))
        variant.flush()
        return {"calls": made, "cpu_s": time.process_time() - began}


def environment(packages: Iterable[str]) -> str:
    """The versions of Python and of those packages that are installed."""
    found = [f"{platform.python_implementation()} {platform.python_version()}"]
    for name in packages:
        with suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return ", ".join(found)


def serve(make: Callable[[], Variant], packages: Iterable[str], *, is_sync: bool = False) -> None:
    """Say that the process is ready, or what it misses; then measure as often as it is asked for."""
    try:
        variant = make()
    except ModuleNotFoundError as error:
        print(json.dumps({"missing": error.name}), flush=True)
        return
    print(json.dumps({"environment": environment(packages)}), flush=True)
    with asyncio.Runner() as runner, suppress(KeyboardInterrupt):
        for line in sys.stdin:
            seconds, concurrency = line.split()
            given: dict[str, Any] = {"seconds": float(seconds), "concurrency": int(concurrency)}
            figures = measured_in_threads(variant, **given) if is_sync else runner.run(measured(variant, **given))
            print(json.dumps(figures), flush=True)
        runner.run(_done(variant.close))


async def _done(act: Act) -> None:
    made = act()
    if isawaitable(made):
        await made
