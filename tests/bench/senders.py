"""Two thousand routers that come back at once: `python tests/bench/senders.py` prints one table.

The senders are simulated: each keeps one connection and sends real flushes, and they all begin at one moment with the
counts of an outage. Two guards take them, behind two addresses, on one PostgreSQL. A sender waits if it is asked to.
`exact` is whether the store has every call once. `connections` is the largest number at PostgreSQL. `health` are the
times that GET /healthz took meanwhile. `CPU each` is that of both guards for each flush.
"""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

import psycopg
from guards import tokens_file
from postgres import Server, packages, running

from cheapdeep_ops.recorder.wire import FLUSHES_PATH, packed
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate

SENDERS = 2_000
SECONDS = 20
ROUTES = 3
ROUNDS = 5
GUARDS = 2
TOKEN = "bench"
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass(slots=True)
class Sender:
    """One process: what it has counted, and who it is for the guard."""

    port: int
    begun: int
    process: str = ""
    secret: str = ""
    number: int = 0
    waits: int = 0
    sent: int = 0
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = field(default=None, repr=False)

    def rows(self, seconds: range) -> list[dict]:
        return [
            {"route": f"route-{route}", "input_class": "", "at": at, "calls": 1, "triaged": 1, "models": {"m": 1}}
            for route in range(ROUTES)
            for at in seconds
        ]

    def totals(self, calls: int) -> list[dict]:
        return [
            {"route": f"route-{route}", "input_class": "", "calls": calls, "triaged": calls, "models": {"m": calls}}
            for route in range(ROUTES)
        ]

    async def run(self) -> None:
        await self.post({})
        for number in range(ROUNDS):
            # First the backlog, then a flush of two seconds each time.
            last = self.begun + SECONDS + number
            seconds = range(self.begun, last) if not number else range(last - 2, last)
            await self.flush(self.rows(seconds), self.totals(last - self.begun))
        await self.leave()

    async def flush(self, buckets: list[dict], totals: list[dict]) -> None:
        answer = await self.post({"buckets": buckets, "totals": totals})
        assert answer["number"] == self.number, answer
        assert not answer["rejected"], answer
        self.sent += 1

    async def post(self, content: dict) -> dict:
        beat = {
            "started_at": 1.0, "base_threshold": 0.8, "policy_version": 0, "dropped": 0, "host": "bench", "pid": 1,
            "package_version": "0",
        }  # fmt: skip
        while True:
            if self.process:
                self.number += 1
                content |= {"process": self.process, "secret": self.secret, "number": self.number}
            status, headers, body = await self.exchange(json.dumps({"beat": beat, **content}).encode())
            if status == 200:
                self.process, self.secret = body.get("process", self.process), body.get("secret", self.secret)
                return body
            if status not in (429, 503):
                raise RuntimeError(f"HTTP {status}: {body}")
            self.waits += 1
            await asyncio.sleep(float(headers["retry-after"]))

    async def exchange(self, body: bytes) -> tuple[int, dict[str, str], dict]:
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        content, more = packed(body)
        head = {"Host": "localhost", "Authorization": f"Bearer {TOKEN}", "Content-Length": str(len(content)), **more}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        writer.write(f"POST {FLUSHES_PATH} HTTP/1.1\r\n{lines}\r\n".encode() + content)
        status, headers = await _head(reader)
        answer = await reader.readexactly(int(headers["content-length"]))
        return status, headers, json.loads(answer) if headers["content-type"].startswith("application/json") else {}

    async def leave(self) -> None:
        if self.streams is not None:
            self.streams[1].close()


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in lines if line)
    return int(first.split()[1]), {name.lower(): value for name, value in pairs}


async def health(port: int, stop: asyncio.Event) -> list[float]:
    """How long /healthz takes, asked ten times a second over a connection of its own."""
    took = []
    while not stop.is_set():
        begun = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        status, _ = await _head(reader)
        assert status == 200
        took.append(time.perf_counter() - begun)
        writer.close()
        await asyncio.sleep(0.1)
    return took


@contextmanager
def guards(url: str, count: int, tokens: Path) -> Iterator[list[tuple[subprocess.Popen, int]]]:
    known = {name: value for name, value in os.environ.items() if not name.startswith("CHEAPDEEP_")}
    known |= {
        "CHEAPDEEP_STORE_URL": url,
        "CHEAPDEEP_API_TOKENS_FILE": str(tokens),
        "CHEAPDEEP_PORT": "0",
        "ANTHROPIC_API_KEY": "x",
    }
    made = []
    try:
        for _ in range(count):
            command = [sys.executable, "-m", "cheapdeep_ops", "serve"]
            process = subprocess.Popen(command, env=known, stderr=subprocess.PIPE, text=True)
            line = next(line for line in process.stderr if "watching" in line)
            made.append((process, int(line.rsplit(":", 1)[1])))
        yield made
    finally:
        for process, _ in made:
            process.send_signal(signal.SIGTERM)
        for process, _ in made:
            process.communicate(timeout=20)


def cpu_s(process: subprocess.Popen) -> float:
    """The CPU time of a process so far; 0 where there is no /proc."""
    found = Path(f"/proc/{process.pid}/stat")
    if not found.exists():
        return 0.0
    values = found.read_text().rsplit(")", 1)[1].split()
    return (int(values[11]) + int(values[12])) / _CLOCK_TICKS


async def watched(server: Server, database: str, stop: asyncio.Event) -> int:
    """The largest number of connections to the database."""
    most = 0
    with psycopg.connect(host=str(server.folder), user="postgres", dbname="postgres", autocommit=True) as connection:
        while not stop.is_set():
            row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = %s", [database]).fetchone()
            most = max(most, row[0])
            await asyncio.sleep(0.1)
    return most


async def storm(ports: Sequence[int], server: Server, database: str, count: int) -> dict:
    begun = int(time.time()) - SECONDS - ROUNDS
    senders = [Sender(ports[number % len(ports)], begun) for number in range(count)]
    random.Random(1).shuffle(senders)
    stop = asyncio.Event()
    watching = [asyncio.create_task(health(port, stop)) for port in ports]
    connections = asyncio.create_task(watched(server, database, stop))
    started = time.perf_counter()
    await asyncio.gather(*(sender.run() for sender in senders))
    took = time.perf_counter() - started
    stop.set()
    times = sorted(each for one in await asyncio.gather(*watching) for each in one)
    return {
        "took_s": took,
        "flushes": sum(sender.sent for sender in senders),
        "waits": sum(sender.waits for sender in senders),
        "calls": count * ROUTES * (SECONDS + ROUNDS - 1),
        "health_ms": [1e3 * times[int(share * (len(times) - 1))] for share in (0.5, 0.99, 1)],
        "connections": await connections,
    }


def measured(url: str, server: Server, database: str, count: int) -> dict:
    store = Store(url)
    migrate(store)
    with TemporaryDirectory() as folder, guards(url, GUARDS, tokens_file(Path(folder), token=TOKEN)) as made:
        before = sum(cpu_s(process) for process, _ in made)
        found = asyncio.run(storm([port for _, port in made], server, database, count))
        found["cpu_ms_each"] = 1e3 * (sum(cpu_s(process) for process, _ in made) - before) / (found["flushes"] + count)
    with store.reading() as connection:
        counted = connection.exec_driver_sql("SELECT sum(calls) FROM cheapdeep.bucket").scalar()
        totals = connection.exec_driver_sql("SELECT sum(calls) FROM cheapdeep.total").scalar()
    store.close()
    found["exact"] = counted == totals == found["calls"]
    return found


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else SENDERS
    with running(packages()) as server, server.database() as database:
        found = measured(server.url(database), server, database, count)
    print(
        f"{count} senders, {GUARDS} guards, {SECONDS} s of backlog on {ROUTES} routes, then {ROUNDS - 1} flushes each"
    )
    for name, value in found.items():
        shown = ", ".join(f"{each:.1f}" for each in value) if isinstance(value, list) else value
        print(f"  {name:12} {shown:.2f}" if isinstance(shown, float) else f"  {name:12} {shown}")


if __name__ == "__main__":
    main()
