"""Commands read and act in their own process as they do over HTTP: from one declaration, with the same errors."""

import os
import subprocess
import sys

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from cheapdeep_ops.cli.guard_client import LocalGuard
from cheapdeep_ops.cli.remote_guard import RemoteGuard
from cheapdeep_ops.errors import MissingError, PolicyError
from cheapdeep_ops.guard.actions.alerts import acknowledge
from cheapdeep_ops.guard.actions.operation import ActionContext
from cheapdeep_ops.guard.actions.reports import REPORTS
from cheapdeep_ops.guard.actions.thresholds import pin
from cheapdeep_ops.guard.http.api import make_api
from tests.stores import migrated

STORM = [0.95] * 2 + [0.5] * 8


@pytest.fixture
def engine():
    return "sqlite"


def guards_of(school):
    """The guard in this process and over HTTP, both on the store of `school`."""
    settings = school.settings.model_copy(update={"api_tokens": (SecretStr("s3same"),)})
    api = make_api(school.store, settings=settings, collector=None, is_ready=str, clock=school.clock)
    client = TestClient(api, base_url="http://localhost", headers={"Authorization": "Bearer s3same"})
    here = LocalGuard(ActionContext(store=school.store, settings=settings, clock=school.clock))
    return here, RemoteGuard(client, shown_url="http://localhost", has_token=True)


@pytest.mark.thorough
def test_every_report_is_read_here_as_it_is_over_http(school):
    school.teach(120, 0.1)
    school.run(120, STORM, cls="invoice")
    here, there = guards_of(school)
    for path in REPORTS:
        ids = {"incident_id": 1} if "{" in path else {}
        found = here.read(path, **ids)
        assert found == there.read(path, **ids), path
        assert found or path in {"policy/changes", "silences", "undelivered"}, path


REFUSED = (
    ("report", {"last_s": 0}, PolicyError),
    ("report/trends", {"since": 20.0, "until": 10.0}, PolicyError),
    ("series", {"last_s": 86_400.0, "step_s": 1}, PolicyError),
    ("incidents", {"limit": 1_001}, PolicyError),
    ("incidents/{incident_id}", {"incident_id": 2**31}, PolicyError),
    ("incidents/{incident_id}", {"incident_id": 99}, MissingError),
    ("why", {"route": " "}, PolicyError),
    ("review/next", {"skip": ["x"] * 201}, PolicyError),
)


def test_a_wrong_report_is_refused_here_in_the_words_of_the_api(school):
    here, there = guards_of(school)
    for path, fields, error in REFUSED:
        with pytest.raises(error) as refused:
            there.read(path, **fields)
        with pytest.raises(error) as refused_here:
            here.read(path, **fields)
        assert str(refused_here.value) == str(refused.value), path


@pytest.mark.thorough
def test_an_operation_is_performed_here_as_it_is_over_http(school):
    answers = []
    for guard in guards_of(school):
        answers.append(guard.act(pin, threshold=0.7, route="support", why="trial", author="ann"))
        with pytest.raises(PolicyError, match="incident_id: Input should be less than"):
            guard.act(acknowledge, incident_id=2**31, why="seen")
        with pytest.raises(MissingError):
            guard.act(acknowledge, incident_id=99, why="seen")
    here, there = ({**answer, "version": 0} for answer in answers)
    assert here.keys() == there.keys()
    assert "support" in str(here)


CODE = """
import sys
from cheapdeep_ops.cli import main
assert main(sys.argv[1:]) == 0
print(*sorted(sys.modules), file=sys.stderr)
"""


@pytest.mark.thorough
def test_a_command_on_the_store_loads_no_web_framework(tmp_path):
    store = migrated(f"sqlite:///{tmp_path}/store.db")
    store.close()
    environment = {**os.environ, "CHEAPDEEP_STORE_URL": f"sqlite:///{tmp_path}/store.db"}
    ran = subprocess.run(
        [sys.executable, "-c", CODE, "report", "--json"], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    loaded = set(ran.stderr.split())
    assert "sqlalchemy" in loaded
    assert not {"fastapi", "starlette", "uvicorn", "nicegui", "apscheduler", "anthropic"} & loaded
