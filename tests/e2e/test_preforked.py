"""gunicorn loads a service that uses a router, then forks its workers: every call is answered and counted once."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, product
from pathlib import Path

import pytest

from cheapdeep_ops.testing import Reply
from tests.e2e.test_processes import until
from tests.patience import PATIENCE_S
from tests.ports import free_port

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork"),
]
WAYS = ("leave", "stream", "ask")
WORKERS, CLIENTS = 3, 6
ROUND, ROUNDS_AT_LEAST, ROUNDS_AT_MOST = 18, 4, 40
COUNTED = """
    SELECT process.pid, counters.route, sum(counters.calls)
    FROM {table} AS counters JOIN process USING (process) GROUP BY process.pid, counters.route
"""


def echo(request):
    """An answer that can be told from every other one's by its first piece, late enough for calls to overlap."""
    return Reply.triage(0.95, f"You ask: {request.question}" + " Surely." * 20).slow(0.05)


class Service:
    """gunicorn's master with its workers."""

    def __init__(self, process, url, log):
        self.process, self.url, self._log = process, url, log

    def call(self, which, way, number):
        """The pid of the worker that answered."""
        text = f"{number:04}?"
        with urllib.request.urlopen(
            f"{self.url}/{which}/{way}?text={urllib.parse.quote(text)}", timeout=PATIENCE_S
        ) as reply:
            answered = json.load(reply)
        assert answered["answer"].startswith(f"You ask: {text}")
        return answered["pid"], which

    def listens(self):
        with contextlib.suppress(urllib.error.URLError):
            return self.call("late", "ask", 0)
        assert self.process.poll() is None, self.log()
        return None

    def log(self):
        return self._log.read_text()


@pytest.fixture
def service(tmp_path, api):
    api.always(echo)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CHEAPDEEP_", "OTEL_"))}
    environment = {
        **kept,
        "ANTHROPIC_BASE_URL": api.url,
        "ANTHROPIC_API_KEY": "simulated",
        "CHEAPDEEP_STORE_URL": f"sqlite:///{tmp_path}/store.db",
        "CHEAPDEEP_FLUSH_EVERY_S": "0.1",
    }
    address, log = f"127.0.0.1:{free_port()}", tmp_path / "gunicorn.log"
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "--preload",
        f"--workers={WORKERS}",
        "--threads=2",
        f"--bind={address}",
    ]
    command += ["--no-control-socket", f"--chdir={Path(__file__).parent}", "preforked:app"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
        try:
            yield Service(process, f"http://{address}", log)
        finally:
            process.terminate()  # nothing where it has ended; its workers end with it
            process.wait(40)


def traffic(service):
    """Calls on both routers and in all ways, until each worker has answered on both; how many of (pid, route)."""
    answered = Counter([until(service.listens, "gunicorn to listen")])
    calls = enumerate(product(range(ROUND * ROUNDS_AT_MOST // 6), ("early", "late"), WAYS), start=1)
    with ThreadPoolExecutor(CLIENTS) as clients:
        for turn in range(ROUNDS_AT_MOST):
            these = [(which, way, number) for number, (_, which, way) in islice(calls, ROUND)]
            answered.update(clients.map(lambda call: service.call(*call), these))
            if turn + 1 >= ROUNDS_AT_LEAST and len(answered) == 2 * WORKERS:
                break
    return answered


def counted(store, table):
    with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        return {(pid, route): calls for pid, route, calls in connection.execute(COUNTED.format(table=table))}


def test_each_call_of_master_and_workers_is_answered_and_counted_once(service, tmp_path, api):
    answered = traffic(service)
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(PATIENCE_S) == 0, service.log()
    assert "Traceback" not in service.log()
    assert len({pid for pid, _ in answered}) == WORKERS
    made = {**answered, (service.process.pid, "early"): len(WAYS)}
    assert counted(tmp_path / "store.db", "total") == made
    assert counted(tmp_path / "store.db", "bucket") == made
    assert len(api.requests) == sum(made.values()), "the cheap tier is asked once for each call"
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        kinds = connection.execute("SELECT kind, count(*) FROM process GROUP BY kind").fetchall()
    assert kinds == [("stopped", 1 + WORKERS)], "the recorder of each process, which its routers share, signed off"
