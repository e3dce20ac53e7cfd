import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from cheapdeep_ops.settings import Settings
from cheapdeep_ops.testing import SimulatedAnthropic
from cheapdeep_ops.treatment import FEATURES
from cheapdeep_ops.values import BypassCause, Reason

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_every_python_block_runs_in_order(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    with SimulatedAnthropic() as api:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "simulated")
        names: dict = {}
        for block in BLOCKS:
            exec(compile(block, "README.md", "exec"), names)
    assert capsys.readouterr().out.count("Answer") >= 2
    assert len(BLOCKS) >= 4


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
