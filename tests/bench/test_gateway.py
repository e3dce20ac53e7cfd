"""The bench of the gateway runs, and what it measures are answered calls."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gateway.processes import known_environment
from tests.patience import PATIENCE_S

BENCH = Path(__file__).with_name("gateway.py")

pytestmark = pytest.mark.thorough


def test_every_server_answers_every_kind_of_call(tmp_path):
    figures = tmp_path / "figures.json"
    command = [sys.executable, BENCH, "--rounds", "1", "--seconds", "0.3", "--json", figures]
    subprocess.run(command, env=known_environment(), check=True, capture_output=True, timeout=2 * PATIENCE_S)
    rows = {(row["kind"], row["server"]): row for row in json.loads(figures.read_text())}
    servers = ("straight", "pass-through", "gateway")
    assert rows.keys() == {(kind, server) for kind in ("shipped", "streamed", "forwarded") for server in servers}
    assert all(row["calls_per_s"] > 0 for row in rows.values())
    # The API is asked for what costs more: a triage reply is read, and a call is recorded.
    assert rows["shipped", "gateway"]["cpu_us"][1] > rows["shipped", "pass-through"]["cpu_us"][1]
