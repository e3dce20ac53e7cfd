"""Every README.md: examples run, links lead somewhere, and tables say what the code says."""

import ast
import asyncio
import contextlib
import inspect
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest
import typer
import yaml

import cheapdeep_ops.cli.main  # noqa: F401 - loading it registers the commands
from cheapdeep_ops.claude.prompt import triage_prompt
from cheapdeep_ops.claude.rubric import RUBRIC
from cheapdeep_ops.cli.common import app
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.pricing import ENVELOPE_TOKENS, PriceBook, tokenizer_ratio
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.testing import Reply, SimulatedAnthropic
from cheapdeep_ops.treatment import FEATURES
from cheapdeep_ops.values import BypassCause, Reason, Usage
from tests.e2e.test_processes import until
from tests.ports import free_port

ROOT = Path(__file__).parents[1]
FOLDERS = ("alerts", "cheapdeep_ops", "dashboards", "tests")
PATHS = [ROOT / "README.md", *sorted(path for name in FOLDERS for path in (ROOT / name).rglob("*.md"))]
TEXTS = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PATHS if "node_modules" not in path.parts
}
README = TEXTS["README.md"]
EXAMPLES = ("README.md", "cheapdeep_ops/router/README.md", "cheapdeep_ops/testing/README.md")
"""Files whose Python examples run in one process, in order."""

MOST_BYTES = 12_000
each_file = pytest.mark.parametrize("name", TEXTS)


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def prose(text):
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def tables(text):
    """The cells of every row of every table, without headings."""
    rows = re.findall(r"^ *\|(.*)\|$", prose(text), re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in rows]


def anchors(text):
    """The anchors that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


# Examples


def run(block, names):
    """Run an example, with `await` at the top level as in a notebook."""
    code = compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if inspect.iscoroutine(waits := eval(code, names)):
        asyncio.run(waits)


def rows(store, query):
    with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def test_python_examples_run_in_order_and_close_what_they_open(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    with SimulatedAnthropic() as api:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "simulated")
        names: dict = {}
        examples = [block for name in EXAMPLES for block in blocks(TEXTS[name], "python")]
        for block in examples:
            run(block, names)
    assert capsys.readouterr().out.count("Answer") >= 9
    assert len(examples) >= 11
    counted = dict(rows("cheapdeep.db", "SELECT route, sum(calls) FROM total GROUP BY route"))
    assert counted == {"default": 1, "support": 4, "chat": 1, "tickets": 2, "notebook": 1}
    assert rows("cheapdeep.db", "SELECT DISTINCT kind FROM process") == [("stopped",)]


def test_the_example_that_checks_a_signature_takes_it_and_refuses_another():
    (block,) = blocks(TEXTS["cheapdeep_ops/guard/notify/README.md"], "python")
    names: dict = {}
    run(block, names)
    body = b'{"version": 1}'
    signed = names["hmac"].new(b"s", b"1000." + body, "sha256").hexdigest()
    is_genuine = names["is_genuine"]
    assert is_genuine(f"t=1000,v1={signed}", body, secret="s", now=1_010.0)
    assert not is_genuine(f"t=1000,v1={signed}", body + b" ", secret="s", now=1_010.0)
    assert not is_genuine(f"t=1000,v1={signed}", body, secret="s", now=1_400.0)
    others = ("", "t=x,v1=", "v1=é", "t=1000,v1=é", f"v1={signed}", f"t={'9' * 5_000},v1={signed}")
    assert not any(is_genuine(text, body, secret="s", now=1_010.0) for text in others)


def test_the_example_of_a_scraped_router_runs():
    (block,) = blocks(TEXTS["dashboards/README.md"], "python")
    done = subprocess.run([sys.executable, "-W", "error", "-c", block.replace("9464", "0")], check=False)
    assert done.returncode == 0


def test_every_python_example_is_run_by_a_test():
    has = {name for name, text in TEXTS.items() if blocks(text, "python")}
    assert has == {*EXAMPLES, "cheapdeep_ops/guard/notify/README.md", "dashboards/README.md"}


@pytest.fixture
def fastapi_example(tmp_path, api):
    """The URL of the example's service behind uvicorn, and its process."""
    text = TEXTS["cheapdeep_ops/router/README.md"]
    (block,) = re.findall(r"<!-- fastapi -->\n```python\n(.*?)```", text, re.DOTALL)
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
        process.communicate(timeout=300)


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
    assert process.wait(60) in {0, -signal.SIGTERM}
    counted = "SELECT route, sum(calls), sum(escalated) FROM total GROUP BY route"
    assert rows(tmp_path / "cheapdeep.db", counted) == [("chat", 5, 2)]
    assert rows(tmp_path / "cheapdeep.db", "SELECT kind FROM process") == [("stopped",)]


# Links and size


def test_the_readme_is_short():
    assert len(README.encode()) <= MOST_BYTES


@each_file
def test_every_relative_link_and_anchor_resolves(name):
    here = ROOT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(TEXTS[name])):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        leads_to = (here.parent / path).resolve() if path else here
        assert leads_to.exists(), target
        assert leads_to.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(TEXTS[str(leads_to.relative_to(ROOT))]), target


@each_file
def test_no_anchor_is_ambiguous(name):
    headings = re.findall(r"^#+ (.+)$", prose(TEXTS[name]), re.MULTILINE)
    if name != "cheapdeep_ops/CHANGELOG.md":
        assert len(headings) == len(anchors(TEXTS[name]))


@each_file
def test_every_readme_is_reached_from_the_first_one(name):
    reached, waiting = set(), ["README.md"]
    while waiting:
        here = waiting.pop()
        if here not in reached:
            reached.add(here)
            targets = re.findall(r"\]\(([^)\s#]+\.md)", TEXTS[here])
            waiting += [str(((ROOT / here).parent / target).resolve().relative_to(ROOT)) for target in targets]
    assert name in reached


@each_file
def test_files_of_this_repository_that_are_named_exist(name):
    for path in re.findall(r"`((?:tests|alerts|dashboards|cheapdeep_ops|guard|router)/[\w./]+\.\w+)`", TEXTS[name]):
        places = (ROOT, ROOT / "cheapdeep_ops", (ROOT / name).parent)
        assert any((place / path).exists() for place in places), path


# Alerts


def alert_names():
    page = yaml.safe_load((ROOT / "alerts" / "prometheus.rules.yml").read_text("utf-8"))
    paged = {rule["alert"] for group in page["groups"] for rule in group["rules"] if "alert" in rule}
    return {rule.alert for rule in read_rulebook().rules} | paged


def test_every_alert_has_its_heading_in_the_runbook():
    assert {name.lower() for name in alert_names()} <= anchors(TEXTS["alerts/README.md"])


# Commands


def _leaves(command, words):
    if nested := getattr(command, "commands", None):
        for name, each in nested.items():
            yield from _leaves(each, (*words, name))
    if not nested or (words and command.invoke_without_command):
        yield " ".join(words), command


COMMANDS = dict(_leaves(typer.main.get_command(app), ()))
"""All commands by their words, such as "threshold set"."""


def options_of(command):
    return {option for parameter in command.params for option in parameter.opts if option.startswith("--")} - {"--json"}


def test_every_command_is_documented_with_all_its_options():
    (section,) = re.findall(r"^## Commands\n(.*?)^## ", TEXTS["cheapdeep_ops/cli/README.md"], re.DOTALL | re.MULTILINE)
    documented = {}
    for command, options, *_ in tables(section)[2:]:
        words = [word for word in command.strip("`").split() if word.islower() and "[" not in word]
        documented[" ".join(words)] = set(re.findall(r"--[\w-]+", options))
    assert documented == {name: options_of(command) for name, command in COMMANDS.items()}
    without = {name for name, command in COMMANDS.items() if not any("--json" in each.opts for each in command.params)}
    assert without == {"serve", "gateway", "watch", "dashboards export"}


def command_lines():
    for name, text in TEXTS.items():
        for block in blocks(text, "console"):
            lines = block.replace("\\\n", " ").splitlines()
            yield from ((name, line.partition(" #")[0]) for line in lines if line.startswith("cheapdeep-ops "))


@pytest.mark.parametrize(("name", "line"), [*command_lines()])
def test_every_command_line_of_an_example_is_understood(name, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outcomes.csv").touch()
    (tmp_path / "other.yaml").touch()
    words = shlex.split(line)[1:]
    length = next(n for n in (2, 1) if " ".join(words[:n]) in COMMANDS)
    COMMANDS[" ".join(words[:length])].make_context(line, words[length:])


@each_file
def test_every_command_in_the_text_exists(name):
    for words in re.findall(r"`cheapdeep-ops\s+([a-z]+(?:\s+[a-z]+)?)", TEXTS[name]):
        first, *_ = words.split()
        assert " ".join(words.split()) in COMMANDS or first in COMMANDS, words


# Settings


def shown(value):
    match value:
        case None | () | {}:
            return ""
        case bool():
            return f"`{str(value).lower()}`"
        case tuple():
            return f"`{','.join(value)}`"
        case float():
            return f"`{value:.15g}`"
        case _:
            return f"`{value}`"


def test_every_setting_is_documented_with_its_default():
    documented = {
        row[0].strip("`"): row[1]
        for row in tables(TEXTS["cheapdeep_ops/cli/README.md"])
        if row[0].startswith("`CHEAPDEEP_")
    }
    defaults = {"CHEAPDEEP_" + name.upper(): shown(field.default) for name, field in Settings.model_fields.items()}
    assert defaults == documented


@each_file
def test_every_setting_that_is_named_exists(name):
    known = {"CHEAPDEEP_" + field.upper() for field in Settings.model_fields}
    known |= {"CHEAPDEEP_CONFIG_FILE", "CHEAPDEEP_LIVE"}
    assert set(re.findall(r"CHEAPDEEP_[A-Z_]+[A-Z]", TEXTS[name])) <= known


def test_the_readme_has_the_defaults_of_the_settings_that_it_shows():
    documented = {row[0].strip("`"): row[1].strip("`") for row in tables(TEXTS["cheapdeep_ops/cli/README.md"])}
    here = [row for row in tables(README) if row[0].startswith("`CHEAPDEEP_")]
    assert len(here) == 8
    assert all(row[1].strip("`") == documented[re.findall(r"\w+", row[0])[0]] for row in here)


# Tables and figures that the code decides


def test_the_reasons_are_reasons():
    text = TEXTS["cheapdeep_ops/guard/statistics/README.md"]
    (listed,) = re.findall(r"are a closed set: (.*?)\.\)\n", text, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", listed)) == {reason.value for reason in Reason}


def test_the_table_of_features_is_the_one_that_decides():
    decided = [
        [f"`{each.name}`", str(each.default), ", ".join(each.others), f"`{each.cause}`" if each.cause else ""]
        for each in FEATURES
    ]
    rows = tables(TEXTS["cheapdeep_ops/claude/README.md"])[2:]
    assert [row[:4] for row in rows] == decided
    assert all(row[4] for row in rows)


def test_every_cause_of_a_bypass_is_explained():
    text = TEXTS["cheapdeep_ops/claude/README.md"]
    assert {cause for cause in BypassCause if f"`{cause}`" not in text} == set()


def test_the_worked_month_is_what_the_price_data_say():
    prices, at = PriceBook(), datetime(2026, 11, 30, tzinfo=UTC).timestamp()
    cheap, deep = Settings.model_fields["tiers"].default
    ratio, contract = tokenizer_ratio(cheap, deep), triage_prompt().tokens

    def cost(model, asked, answered):
        return prices.cost(model, Usage(input_tokens=round(asked), output_tokens=round(answered)), at=at)

    shipped = cost(cheap, 500 + contract, 200 + ENVELOPE_TOKENS)
    triage = cost(cheap, 500 + contract, ENVELOPE_TOKENS)
    alone = cost(deep, 500 * ratio, 200 * ratio)
    grading = cost(deep, (len(RUBRIC) / 4 + 700) * ratio, 50)

    def routed(escalated):
        return (1 - escalated) * shipped + escalated * (triage + alone)

    def saving(escalated):
        return 1 - routed(escalated) / alone

    million = 1_000_000
    assert f"| Opus alone | ${million * alone:,.0f} |" in README
    assert f"| routed | ${million * routed(0.2):,.0f} ({saving(0.2):.0%} less) |" in README
    assert f"| grading 1% of what ships | ${million * 0.8 * 0.01 * grading:,.0f} |" in README
    assert f"Opus counts {ratio:g} times as many" in README
    words = " ".join(README.split())
    assert f"{contract} tokens for its contract and {ENVELOPE_TOKENS} for its JSON" in words
    assert f"{len(RUBRIC) / 4:.0f} for its rubric" in words
    even = (alone - shipped) / (triage + alone - shipped)
    assert f"At 35% escalated the saving is {saving(0.35):.0%}; beyond {even:.0%} routing" in words


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


def test_the_floors_are_the_ones_that_are_checked():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    for layer in contracts[0]["layers"]:
        assert f"    {layer}\n" in TEXTS["cheapdeep_ops/README.md"]


def test_the_licence_is_the_one_that_the_package_names():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    assert project["license-files"] == ["cheapdeep_ops/LICENSE"]
    assert "Version 2.0, January 2004" in (ROOT / "cheapdeep_ops" / "LICENSE").read_text()
