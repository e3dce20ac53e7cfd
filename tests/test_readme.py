import ast
import asyncio
import contextlib
import inspect
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx2
import pytest

from cheapdeep_ops.settings import Settings
from cheapdeep_ops.testing import Reply, SimulatedAnthropic
from cheapdeep_ops.treatment import FEATURES
from cheapdeep_ops.values import BypassCause, Reason
from tests.e2e.test_processes import free_port, until

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(block, names):
    """Run an example, with `await` at the top level as in a notebook."""
    code = compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if inspect.iscoroutine(waits := eval(code, names)):
        asyncio.run(waits)


def rows(store, query):
    with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def test_every_python_block_runs_in_order_and_closes_what_it_opens(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    with SimulatedAnthropic() as api:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "simulated")
        names: dict = {}
        for block in BLOCKS:
            run(block, names)
    assert capsys.readouterr().out.count("Answer") >= 6
    assert len(BLOCKS) >= 9
    counted = dict(rows("cheapdeep.db", "SELECT route, sum(calls) FROM total GROUP BY route"))
    assert counted == {"default": 1, "support": 3, "tickets": 2, "notebook": 1}
    assert rows("cheapdeep.db", "SELECT DISTINCT kind FROM process") == [("stopped",)]


@pytest.fixture
def fastapi_example(tmp_path, api):
    """The URL of the README's service behind uvicorn, and its process."""
    (block,) = re.findall(r"<!-- fastapi -->\n```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "service.py").write_text(block, encoding="utf-8")
    port, kept = free_port(), {name: value for name, value in os.environ.items() if not name.startswith("CHEAPDEEP_")}
    environment = {**kept, "ANTHROPIC_BASE_URL": api.url, "ANTHROPIC_API_KEY": "simulated"}
    command = [sys.executable, "-m", "uvicorn", "service:app", f"--port={port}"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        # uvicorn ends a connection after an error, and a client that goes on with it meets its end
        limits = httpx2.Limits(max_keepalive_connections=0)
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, limits=limits) as client:
            until(lambda: listens(client, process), "uvicorn to listen")
            yield client, process
    finally:
        process.kill()
        process.communicate(timeout=10)


def listens(client, process):
    assert process.poll() is None
    with contextlib.suppress(httpx2.ConnectError):
        return client.get("/openapi.json").is_success
    return False


@pytest.mark.thorough
def test_the_fastapi_example_answers_streams_tells_errors_and_stores_its_calls_when_it_is_stopped(
    fastapi_example, api, tmp_path
):
    client, process = fastapi_example
    api.enqueue(Reply.triage(0.95, "Under Settings."))
    assert client.get("/answer", params={"question": "Where?"}).json() == "Under Settings."

    api.enqueue(Reply.triage(0.95, "Under Settings, " * 20).paced(0.05))
    with client.stream("GET", "/stream", params={"question": "Where?"}) as streamed:
        pieces = list(streamed.iter_text())
    assert "".join(pieces) == "Under Settings, " * 20
    assert len(pieces) > 5, "it arrives while it is written"

    api.always(Reply.error(400))
    assert client.get("/stream", params={"question": "Where?"}).status_code == 500
    assert client.get("/answer", params={"question": "Where?"}).status_code == 500

    api.always(Reply.triage(0.95, "Under Settings, " * 20).paced(0.05))
    with client.stream("GET", "/stream", params={"question": "Where?"}) as streamed:
        next(streamed.iter_text())

    process.send_signal(signal.SIGTERM)
    assert process.wait(30) in {0, -signal.SIGTERM}
    counted = "SELECT route, sum(calls), sum(escalated) FROM total GROUP BY route"
    assert rows(tmp_path / "cheapdeep.db", counted) == [("chat", 5, 2)]
    assert rows(tmp_path / "cheapdeep.db", "SELECT kind FROM process") == [("stopped",)]


def test_every_setting_in_the_readme_exists_and_the_main_ones_are_there():
    named = set(re.findall(r"CHEAPDEEP_[A-Z_]+[A-Z]", README))
    known = {"CHEAPDEEP_" + name.upper() for name in Settings.model_fields} | {"CHEAPDEEP_CONFIG_FILE"}
    assert named <= known
    assert len(named) >= 18


def test_the_reasons_of_the_readme_are_reasons():
    (listed,) = re.findall(r"The reasons are a closed set: (.*?)\.\)\n", README, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", listed)) == {reason.value for reason in Reason}


def test_the_table_of_features_is_the_one_that_decides():
    rows = [
        f"| `{each.name}` | {each.default} | {', '.join(each.others)} | {f'`{each.cause}`' if each.cause else ''} | "
        f"{each.means} |\n"
        for each in FEATURES
    ]
    assert f"| feature | | may be | cause | |\n|---|---|---|---|---|\n{''.join(rows)}\n" in README


def test_every_cause_of_a_bypass_is_in_the_readme():
    (section,) = re.findall(r"### What is triaged\n(.*?)\n## ", README, re.DOTALL)
    assert {cause for cause in BypassCause if f"`{cause}`" not in section} == set()


@pytest.mark.parametrize(("mark", "word"), [("demo", "cheapdeep-ops demo"), ("tests", "pytest")])
def test_the_two_commands_are_there_and_ci_runs_the_second(mark, word):
    (command,) = re.findall(rf"<!-- {mark} -->\n```console\n(.*?)\n```", README, re.DOTALL)
    assert word in command
    assert "\n" not in command
    if mark == "tests":
        script = (ROOT / ".ci" / "run").read_text()
        (extract,) = re.findall(r"^command=\$\((awk .*)\)$", script, re.MULTILINE)
        found = subprocess.run(["bash", "-c", extract], cwd=ROOT, capture_output=True, text=True, check=True)
        assert found.stdout.strip() == command


def test_the_floors_in_the_readme_are_the_ones_that_are_checked():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    for layer in contracts[0]["layers"]:
        assert f"    {layer}\n" in README
