"""The real Prometheus on loopback, and what Grafana would fill into a query before it asks one."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

import pytest

from cheapdeep_ops.resources import packaged
from cheapdeep_ops.telemetry import names
from tests.patience import PATIENCE_S
from tests.ports import free_port

Json = dict[str, Any]

BOARDS = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(packaged("dashboards").glob("*.json"))}
DURATIONS = (names.CALL_DURATION, names.OVERHEAD_DURATION, names.OPERATION_DURATION)
ROUTERS = {f"{name.replace('.', '_')}_seconds" for name in DURATIONS}
"""What boards read of the routers' own metrics, as Prometheus calls them, by scrape and by OTLP."""


def targets(board: Json) -> Iterator[tuple[str, Json]]:
    """Every query of a board, by the panel's title and the query's letter, or by the name of its marks."""
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target
    for annotation in board["annotations"]["list"]:
        yield annotation["name"], annotation["target"]


def filled(expr: str, variables: Mapping[str, str]) -> str:
    for name, value in variables.items():
        expr = expr.replace(name, value)
    assert "$" not in expr, expr
    return expr


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian package prometheus)")
    return found


def wait_until(holds: Callable[[], object], *, what: Callable[[], str] = str) -> None:
    """Look until it holds; `what` says why it may not, for the test that fails."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


class Prometheus:
    """A Prometheus server on loopback, asked over HTTP."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._open = build_opener(ProxyHandler({})).open

    def is_ready(self) -> bool:
        try:
            with self._open(f"{self.url}/-/ready", timeout=10) as answer:
                return answer.status == 200
        except (URLError, ConnectionError, TimeoutError):
            return False

    def at(self, moment: float, query: str) -> list[Json]:
        """The instant vector that `query` gives at that time (Unix time)."""
        return self._ask("query", query=query, time=moment)

    def over(self, start: float, end: float, query: str, *, step: float) -> list[Json]:
        """The matrix that `query` gives from `start` to `end`."""
        return self._ask("query_range", query=query, start=start, end=end, step=step)

    def _ask(self, what: str, **params: object) -> list[Json]:
        with self._open(f"{self.url}/api/v1/{what}?{urlencode(params)}", timeout=30) as answer:
            body = json.load(answer)
        assert body["status"] == "success"
        assert not body.get("warnings")
        return body["data"]["result"]


@contextmanager
def running(folder: Path, config: str) -> Iterator[Prometheus]:
    """A server with that configuration; its data lies in the folder `data`."""
    command, port = tool("prometheus"), free_port()
    file, data, log = folder / "prometheus.yml", folder / "data", folder / "log"
    file.write_text(config)
    flags = [f"--config.file={file}", f"--storage.tsdb.path={data}", f"--web.listen-address=127.0.0.1:{port}"]
    with log.open("wb") as out, subprocess.Popen([command, *flags], stdout=out, stderr=out) as process:
        try:
            server = Prometheus(port)
            wait_until(lambda: server.is_ready() or process.poll() is not None, what=log.read_text)
            assert process.poll() is None, log.read_text()
            yield server
        finally:
            process.kill()
