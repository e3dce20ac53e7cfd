import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx2
import pytest

import cheapdeep_ops
from cheapdeep_ops import testing
from cheapdeep_ops.testing.serving import serve

ROOT = str(Path(cheapdeep_ops.__file__).parents[1])


def test_public_names():
    assert testing.__all__ == [
        "CLASSES",
        "FrozenClock",
        "Reply",
        "SimulatedAnthropic",
        "SimulatedGrader",
        "SimulatedSlack",
        "TrafficClass",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_module_serves_until_a_signal(number):
    with subprocess.Popen(
        [sys.executable, "-m", "cheapdeep_ops.testing", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    ) as process:
        urls = json.loads(process.stdout.readline())
        assert httpx2.get(f"{urls['anthropic_url']}/healthz").status_code == 200
        assert httpx2.post(f"{urls['slack_url']}auth.test").json()["error"] == "not_authed"
        process.send_signal(number)
        out, err = process.communicate(timeout=300)
    assert (process.returncode, out, err) == (0, "", "")


class FirstLine(io.StringIO):
    def __init__(self):
        super().__init__()
        self.written = threading.Event()

    def flush(self):
        self.written.set()


def test_serve_ends_with_its_event(capsys):
    end, out = threading.Event(), FirstLine()
    thread = threading.Thread(target=serve, kwargs={"until": end, "out": out})
    thread.start()
    assert out.written.wait(60)
    end.set()
    thread.join(60)
    urls = json.loads(out.getvalue())
    assert not thread.is_alive()
    assert urls["slack_url"].endswith("/api/")
    assert f"ANTHROPIC_BASE_URL={urls['anthropic_url']}" in capsys.readouterr().err
