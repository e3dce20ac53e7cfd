"""Gateways and clients in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
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


class GatewayProcess:
    """`cheapdeep-ops gateway`, with its log."""

    def __init__(self, folder: Path, upstream: str, **settings: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / f"gateway-{port}.log"
        known = {
            "ANTHROPIC_BASE_URL": upstream,
            "CHEAPDEEP_STORE_URL": f"sqlite:///{folder / 'store.db'}",
            "CHEAPDEEP_GATEWAY_PORT": str(port),
            # Errors that a test orders one after the other are no reason to leave the first tier alone in the next.
            "CHEAPDEEP_BREAKER_FAILURES": "0",
        }
        command = [sys.executable, "-m", "cheapdeep_ops", "gateway"]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(command, env=known_environment(**known | settings), stderr=log, stdout=log)
        try:
            until(self._is_ready, "the gateway to be ready")
        except BaseException:
            self.process.kill()
            self.process.wait(PATIENCE_S)
            raise

    @property
    def log(self) -> str:
        return self._log.read_text()

    def end(self) -> int:
        """The exit status after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log
        return answers(f"{self.url}/readyz")


@contextmanager
def gateway(folder: Path, upstream: str, **settings: str):
    """A gateway that answers, for as long as the context lasts; then it ends without an error in its log."""
    process = GatewayProcess(folder, upstream, **settings)
    try:
        yield process
        assert process.end() == 0, process.log
        assert "Traceback" not in process.log, process.log
    finally:
        if process.process.poll() is None:
            process.process.kill()
            process.process.wait(PATIENCE_S)


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
