"""Gateways and clients in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from tests.patience import PATIENCE_S
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]


def known_environment(**more: str) -> dict[str, str]:
    """The variables of a process: of what the machine has set, only what no program here reads as a setting."""
    prefixes = ("CHEAPDEEP_", "ANTHROPIC_", "OTEL_", "PG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until the condition is true."""
    ends_at = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends_at, f"waited in vain for {what}"
        time.sleep(0.02)


def answers(url: str) -> bool:
    """Whether a server answers there, and with 200."""
    try:
        return httpx2.get(url, timeout=PATIENCE_S).status_code == 200
    except httpx2.TransportError:
        return False


class ServerProcess:
    """`cheapdeep-ops gateway` or `cheapdeep-ops serve`, with its log."""

    def __init__(self, command: str, folder: Path, upstream: str, **settings: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / f"{command}-{port}.log"
        known = {
            "ANTHROPIC_BASE_URL": upstream,
            "CHEAPDEEP_STORE_URL": f"sqlite:///{folder / 'store.db'}",
            "CHEAPDEEP_GATEWAY_PORT" if command == "gateway" else "CHEAPDEEP_PORT": str(port),
            # Errors that a test orders one after the other are no reason to leave the first tier alone in the next.
            "CHEAPDEEP_BREAKER_FAILURES": "0",
        }
        run = [sys.executable, "-m", "cheapdeep_ops", command]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(run, env=known_environment(**known | settings), stderr=log, stdout=log)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log
        return answers(f"{self.url}/readyz")

    def end(self) -> int:
        """The exit status after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


class GatewayProcess(ServerProcess):
    """A gateway."""

    def __init__(self, folder: Path, upstream: str, **settings: str) -> None:
        super().__init__("gateway", folder, upstream, **settings)


@contextmanager
def serving(server: ServerProcess) -> Iterator[ServerProcess]:
    """The server, once it is ready, for as long as the context lasts; then it ends without an error in its log."""
    try:
        until(server.is_ready, "the server to be ready")
        yield server
        assert server.end() == 0, server.log
        assert "Traceback" not in server.log, server.log
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait(PATIENCE_S)


@contextmanager
def gateway(folder: Path, upstream: str, **settings: str) -> Iterator[GatewayProcess]:
    """A gateway that answers, for as long as the context lasts."""
    process = GatewayProcess(folder, upstream, **settings)
    with serving(process):
        yield process


class ClientProcess:
    """A program that reads one JSON object on a line, does what it says, and writes one about what came of it."""

    def __init__(self, *command: str | Path, **environment: str) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=known_environment(**environment)
        )

    def __call__(self, act: str, **given: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"act": act, **given}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the client has ended; what it wrote on standard error says why"
        return json.loads(line)

    def close(self) -> None:
        self._process.communicate(timeout=PATIENCE_S)
