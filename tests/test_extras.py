import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from cheapdeep_ops.extras import EXTRAS, require
from tests.stores import migrated

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
SHOWS_MODULES = """
import sys
from cheapdeep_ops.cli import main
status = main(sys.argv[1:])
print(*sorted(sys.modules), file=sys.stderr)
sys.exit(status)
"""
LACKS = """
import runpy, sys
sys.modules[sys.argv[1]] = None
sys.argv[:] = sys.argv[2:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def started(code, *arguments):
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def names(requirements):
    found = {re.match(r"[\w-]+", each)[0].lower() for each in requirements}
    return {name.replace("_", "-") for name in found}


def distributions_of(extra):
    known = packages_distributions()
    return {known[module][0].lower().replace("_", "-") for module in EXTRAS[extra]}


@pytest.mark.parametrize(("extra", "module"), [(extra, module) for extra in EXTRAS for module in EXTRAS[extra]])
def test_a_module_that_is_missing_is_named_with_the_command_that_installs_it(extra, module, monkeypatch):
    require(extra)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"^{module} not installed: run pip install 'cheapdeep_ops\[{extra}\]'$"):
        require(extra)


def test_what_is_looked_for_is_what_the_extras_bring():
    extras = PROJECT["optional-dependencies"]
    base, testing, guard = names(PROJECT["dependencies"]), names(extras["testing"]), names(extras["guard"])
    assert distributions_of("testing") == testing
    # The exporters are parts of a package that the base brings.
    exporters = {"opentelemetry-exporter-otlp", "opentelemetry-exporter-prometheus"}
    assert distributions_of("guard") - base == (guard | testing) - {"cheapdeep-ops"} - exporters


def test_the_base_has_no_grpc():
    assert not {"opentelemetry-exporter-otlp", "grpcio"} & names(PROJECT["dependencies"])


def test_the_command_line_without_its_extra_is_one_line():
    done = started(LACKS, "typer", "cheapdeep_ops", "status")
    assert done.returncode == 2
    assert done.stderr == "error: typer not installed: run pip install 'cheapdeep_ops[guard]'\n"


def test_the_simulators_without_their_extra_say_what_to_install():
    done = started(LACKS, "starlette", "cheapdeep_ops.testing")
    assert done.returncode == 1
    expected = "ImportError: starlette not installed: run pip install 'cheapdeep_ops[testing]'"
    assert done.stderr.splitlines()[-1] == expected


@pytest.mark.thorough
@pytest.mark.parametrize(
    "command", ["status", "report", "threshold show", "normal show", "alert silences", "review", "backtest", "migrate"]
)
def test_a_command_that_reads_the_store_loads_no_sdk_and_no_server(command, tmp_path, monkeypatch):
    monkeypatch.setenv("CHEAPDEEP_STORE_URL", f"sqlite:///{tmp_path}/small.db")
    store = migrated(f"sqlite:///{tmp_path}/small.db")
    store.close()
    done = started(SHOWS_MODULES, *command.split(), "--json")
    assert done.returncode == 0, done.stderr
    loaded = done.stderr.split()
    assert "cheapdeep_ops.store.engine" in loaded
    heavy = {"anthropic", "apscheduler", "nicegui", "opentelemetry.sdk", "prometheus_client", "slack_sdk", "uvicorn"}
    assert heavy.intersection(loaded) == set()
