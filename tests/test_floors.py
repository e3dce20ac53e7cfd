import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOP_LEVEL = {"cheapdeep_ops", "dashboards", "alerts", "tests", "pyproject.toml", "README.md", "requirements.lock"}


def test_imports_go_down_only():
    script = Path(sys.executable).with_name("lint-imports")
    found = subprocess.run([script, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def test_the_top_level_is_what_it_should_be():
    listed = subprocess.run(
        ["git", "ls-files", "--cached"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    top = {name.split("/")[0] for name in listed}
    assert {name for name in top if not name.startswith(".")} <= TOP_LEVEL
