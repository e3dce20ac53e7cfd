"""What a call through the gateway costs, beside a bare pass-through and LiteLLM's proxy.

    python tests/bench/gateway.py [--rounds 5] [--seconds 2] [--json FILE]

Each server is one process on one core. The simulated API, which answers at once, and the callers share another core.
The servers take turns in random order, so that a ratio compares two measurements of one round. LiteLLM takes part where
LITELLM_PYTHON names the Python of an environment with `litellm[proxy]`.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
OPUS, HAIKU = "claude-opus-4-7", "claude-haiku-4-5"
START_S = 180.0
TEXT = "Which of these medicines raises blood pressure, and by how much? " * 32  # 2 kB
CONCURRENT = (1, 32)
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
TOOLS = [{"name": "find", "input_schema": {"type": "object"}}]
# A shipped call is answered by the first tier, after which LiteLLM and the pass-through are asked for that model.
KINDS: dict[str, dict[str, Any]] = {"shipped": {}, "streamed": {"stream": True}, "forwarded": {"tools": TOOLS}}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@dataclass
class Server:
    """A server to measure, or the API itself."""

    name: str
    port: int
    process: subprocess.Popen[str] | None = None
    model: str = HAIKU

    def request(self, kind: str) -> bytes:
        model = OPUS if kind == "forwarded" else self.model
        turns = [{"role": "user", "content": TEXT}]
        body = json.dumps({"model": model, "max_tokens": 1024, "messages": turns, **KINDS[kind]}).encode()
        head = (
            f"POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: sk-any\r\nanthropic-version: 2023-06-01\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def cpu_s(self) -> float:
        """The CPU time of all threads of the process so far, in seconds."""
        if self.process is None:
            return 0.0
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * TICK_S


@contextmanager
def running(core: int, *command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process on one core."""
    own = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    process = subprocess.Popen(
        ["taskset", "-c", str(core), *command], env={**own, **environment}, cwd=HERE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def listens(server: Server) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if server.process is not None and server.process.poll() is not None:
            raise SystemExit(f"{server.name} has ended")
        with suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 1):
            return
        time.sleep(0.2)
    raise SystemExit(f"{server.name} does not listen")


def started(stack: ExitStack, folder: Path) -> list[Server]:
    cores = sorted(os.sched_getaffinity(0))
    own, theirs = cores[0], cores[-1]
    os.sched_setaffinity(0, {own})
    api = stack.enter_context(running(own, sys.executable, "overhead_server.py"))
    assert api.stdout is not None
    port = int(api.stdout.readline())
    url = f"http://127.0.0.1:{port}"
    servers = [Server("straight", port)]

    def add(name: str, port: int, *command: str, model: str = HAIKU, **environment: str) -> None:
        process = stack.enter_context(running(theirs, *command, **environment))
        servers.append(Server(name, port, process, model))
        listens(servers[-1])

    bare = ("-m", "uvicorn", "gateway_passthrough:app", "--no-access-log", "--log-level", "warning")
    port = free_port()
    add("pass-through", port, sys.executable, *bare, "--port", str(port), UPSTREAM=url)
    port = free_port()
    settings = {"CHEAPDEEP_STORE_URL": f"sqlite:///{folder / 'store.db'}", "CHEAPDEEP_GATEWAY_PORT": str(port)}
    command = (sys.executable, "-m", "cheapdeep_ops", "gateway")
    add("gateway", port, *command, model=OPUS, PYTHONPATH=str(ROOT), ANTHROPIC_BASE_URL=url, **settings)
    if python := os.environ.get("LITELLM_PYTHON"):
        port = free_port()
        known = [
            {"model_name": name, "litellm_params": {"model": f"anthropic/{name}", "api_base": url, "api_key": "any"}}
            for name in (HAIKU, OPUS)
        ]
        config = folder / "litellm.yaml"
        config.write_text(json.dumps({"model_list": known, "litellm_settings": {"telemetry": False}}))
        options = ("--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--telemetry", "False")
        program = str(Path(python).with_name("litellm"))
        # Without keys of its own, it has less to do for each call.
        known_to_it = {
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
        }
        add("LiteLLM", port, program, *options, **known_to_it)
    return servers


async def answer(reader: asyncio.StreamReader) -> bytes:
    """Read one response: its head and its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200"):
        raise SystemExit(f"refused: {head.decode()} {(await reader.read(2000)).decode()}")
    if b"content-length:" in head:
        return await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
    body = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body.append((await reader.readexactly(size + 2))[:-2])
    await reader.readexactly(2)
    return b"".join(body)


@dataclass
class Measured:
    """One server in one round."""

    calls: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)


async def calls(server: Server, kind: str, concurrent: int, seconds: float) -> Measured:
    """Let callers ask, one call after another each, for some seconds."""
    request, measured = server.request(kind), Measured()
    until = 0.0

    async def caller() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request)
        content = await answer(reader)  # the first call on a connection is not counted
        assert b"Venlafaxine" in content, content
        await begun.wait()
        while (now := time.perf_counter()) < until:
            writer.write(request)
            await answer(reader)
            measured.latencies_s.append(time.perf_counter() - now)
        writer.close()

    begun = asyncio.Event()
    callers = [asyncio.create_task(caller()) for _ in range(concurrent)]
    await asyncio.sleep(0.3)
    cpu_s, started_at = server.cpu_s(), time.perf_counter()
    until = started_at + seconds
    begun.set()
    await asyncio.gather(*callers)
    measured.wall_s = time.perf_counter() - started_at
    measured.cpu_s, measured.calls = server.cpu_s() - cpu_s, len(measured.latencies_s)
    return measured


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def cpu_us_of(measured: list[Measured]) -> float:
    """The CPU time of a call, in microseconds, over all rounds; that of the API is not measured."""
    return sum(each.cpu_s for each in measured) / max(1, sum(each.calls for each in measured)) * 1e6


Rounds = dict[tuple[str, str, int], list[Measured]]


def measure(servers: list[Server], kinds: list[str], rounds: int, seconds: float, seed: int) -> Rounds:
    found: Rounds = {}
    drawn = random.Random(seed)
    for number in range(rounds):
        for kind in kinds:
            for concurrent in CONCURRENT:
                for server in drawn.sample(servers, len(servers)):
                    measured = asyncio.run(calls(server, kind, concurrent, seconds))
                    found.setdefault((kind, server.name, concurrent), []).append(measured)
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return found


def rows(found: Rounds, servers: list[Server], kinds: list[str]) -> list[dict[str, Any]]:
    """The figures by kind and server; ratios are medians over the rounds."""
    made = []
    for kind in kinds:
        straight = [quantile(each.latencies_s, 0.5) for each in found[kind, "straight", 1]]
        for server in servers:
            alone, many = found[kind, server.name, 1], found[kind, server.name, 32]
            p50 = [quantile(each.latencies_s, 0.5) for each in alone]
            bare = [quantile(each.latencies_s, 0.5) for each in found[kind, "pass-through", 1]]
            ours = found[kind, "gateway", 32]
            rates = [each.calls / each.wall_s for each in many]
            ratios = [(our.calls / our.wall_s) / rate for our, rate in zip(ours, rates, strict=True)]
            every = [latency for each in alone for latency in each.latencies_s]
            cpu_us = [cpu_us_of(each) for each in (alone, many)]
            made.append(
                {
                    "kind": kind,
                    "server": server.name,
                    "calls_per_s": statistics.median(rates),
                    "cpu_us": cpu_us,
                    "p50_ms": statistics.median(p50) * 1e3,
                    "p99_ms": quantile(every, 0.99) * 1e3,
                    "added_p50_ms": statistics.median(a - b for a, b in zip(p50, straight, strict=True)) * 1e3,
                    "p50_over_pass_through": statistics.median(a / b for a, b in zip(p50, bare, strict=True)),
                    "gateway_rate_over_its": statistics.median(ratios),
                }
            )
    return made


def table(made: list[dict[str, Any]]) -> str:
    lines = [
        "| call | server | CPU us c=1 | c=32 | calls/s c=32 | ours / its | p50 ms c=1 | p99 | added p50 | its / bare |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in made:
        alone, many = row["cpu_us"]
        lines.append(
            f"| {row['kind']} | {row['server']} | {alone:.0f} | {many:.0f} | {row['calls_per_s']:.0f} | "
            f"{row['gateway_rate_over_its']:.2f} | {row['p50_ms']:.2f} | {row['p99_ms']:.2f} | "
            f"{row['added_p50_ms']:.2f} | {row['p50_over_pass_through']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each measurement")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()
    with TemporaryDirectory() as folder, ExitStack() as stack:
        servers = started(stack, Path(folder))
        if len(servers) == 3:
            print("without LiteLLM: LITELLM_PYTHON names no Python", file=sys.stderr)
        found = measure(servers, given.kinds, given.rounds, given.seconds, given.seed)
        made = rows(found, servers, given.kinds)
    print(table(made))
    if given.json:
        given.json.write_text(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
