"""The image and the compose file: what can be checked where no container can be built."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx2
import pytest
import yaml

from cheapdeep_ops import Settings
from cheapdeep_ops.testing import Reply, SimulatedAnthropic
from tests.gateway.processes import answers, known_environment, until
from tests.patience import PATIENCE_S
from tests.ports import free_port

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "cheapdeep_ops" / "deploy"
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OWN = ("gateway", "guard", "migrate")
UID = int(re.search(r"^USER (\d+):\d+$", DOCKERFILE, re.MULTILINE)[1])


def instructions(name):
    """The arguments of each instruction of this name, continued lines joined."""
    return re.findall(rf"^{name} (.+)$", DOCKERFILE.replace("\\\n", ""), re.MULTILINE)


def test_the_image_runs_as_another_user_than_root():
    assert UID > 0
    assert DOCKERFILE.rindex("USER ") > DOCKERFILE.rindex("FROM ")
    assert all(image.startswith("python:3.12-slim") for image in instructions("FROM"))
    assert json.loads(instructions("ENTRYPOINT")[0]) == ["cheapdeep-ops"]


def test_the_build_finds_its_files_and_nothing_else():
    copied = [name for line in instructions("COPY") if "--from" not in line for name in line.split()[:-1]]
    assert all((ROOT / name).exists() for name in copied)
    # Docker reads the file that is named after the Dockerfile.
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text().split()
    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == set(copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "all" in project["optional-dependencies"]


@pytest.mark.parametrize("name", OWN)
def test_own_services_write_only_where_they_must(name):
    service = SERVICES[name]
    assert (service["read_only"], service["tmpfs"], service["cap_drop"]) == (True, ["/tmp"], ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "user" not in service  # that of the image
    assert "volumes" not in service  # the store is PostgreSQL


def test_ports_are_on_loopback_and_images_are_pinned():
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert service["image"] == "cheapdeep-ops" or re.fullmatch(r"[a-z/]+:v?\d+\.\d+(\.\d+)?", service["image"])


def test_mounted_files_are_there_and_volumes_are_named():
    for service in SERVICES.values():
        for source in [mount.split(":")[0] for mount in service.get("volumes", [])]:
            assert (FOLDER / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
        assert set(service.get("secrets", [])) <= COMPOSE["secrets"].keys()


def test_secrets_must_be_given():
    text = (FOLDER / "compose.yaml").read_text()
    for name in ("POSTGRES_PASSWORD", "CHEAPDEEP_API_TOKENS", "ANTHROPIC_API_KEY"):
        assert f"${{{name}:?}}" in text
    assert not re.search(r"(PASSWORD|TOKENS?|KEY): (?!\$)", text.replace("environment: CHEAPDEEP", ""))


def test_prometheus_and_grafana_find_what_they_read():
    scraped = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())["scrape_configs"]
    targets = {each["job_name"]: each["static_configs"][0]["targets"] for each in scraped}
    assert targets == {"cheapdeep": ["guard:8642"], "cheapdeep-gateway": ["gateway:8643"]}
    (source,) = yaml.safe_load((FOLDER / "datasource.yaml").read_text())["datasources"]
    boards = yaml.safe_load((ROOT / "dashboards/provisioning/datasources/cheapdeep.yaml").read_text())["datasources"]
    (theirs,) = [each for each in boards if each["uid"] == source["uid"]]
    assert {**theirs["jsonData"], **source["jsonData"]} == theirs["jsonData"]
    assert source["url"] == "http://prometheus:9090"


@pytest.mark.parametrize("name", OWN)
def test_the_variables_are_settings_with_valid_values(name, monkeypatch):
    given = {"POSTGRES_PASSWORD": "p", "CHEAPDEEP_API_TOKENS": "t" * 40, "ANTHROPIC_API_KEY": "k"}
    image = dict(re.findall(r"(CHEAPDEEP_\w+)=(\S+)", " ".join(instructions("ENV"))))
    for variable, text in (image | SERVICES[name]["environment"]).items():
        if text is not None:  # else it is passed on from outside
            value = re.sub(r"\$\{(\w+):(\?|-)(.*?)\}", lambda found: given.get(found[1], found[3]), text)
            monkeypatch.setenv(variable, value)
    settings = Settings()
    assert settings.store_url == "postgresql://cheapdeep:p@postgres:5432/cheapdeep"
    assert settings.host == settings.gateway_host == "0.0.0.0"


def test_a_gateway_that_ends_has_the_time_that_it_takes():
    grace_s = int(SERVICES["gateway"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > Settings().gateway_stop_within_s


@pytest.fixture
def as_the_image(tmp_path):
    """Runs a command of the image as its user: the root file system is read-only, and one folder belongs to it.

    The one capability that is left lets it read a checkout that is closed to others; it cannot write with it.
    """
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("setpriv") is None:
        pytest.skip("only root can run a command as another user on a read-only file system")
    store, started = tmp_path / "store", []
    store.mkdir()
    os.chown(store, UID, UID)
    for folder in tmp_path.parents:  # another user must get as far as the store
        if folder.stat().st_uid == 0 and not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
        if folder.name.startswith("pytest-of-"):
            break
    inside = (
        'mount --bind "$1" "$1" && mount -o remount,ro,bind / && cd "$1" && shift && '
        f"exec setpriv --reuid={UID} --regid={UID} --clear-groups --no-new-privs "
        '--inh-caps=+dac_read_search --ambient-caps=+dac_read_search --bounding-set=-all,+dac_read_search "$@"'
    )

    def start(*command, **settings):
        known = known_environment(
            CHEAPDEEP_STORE_URL=f"sqlite:///{store}/cheapdeep.db", PYTHONDONTWRITEBYTECODE="1", TMPDIR=str(store),
            HOME=str(store), **settings,
        )  # fmt: skip
        run = ["unshare", "--mount", "--propagation", "private", "sh", "-c", inside, "sh", str(store)]
        process = subprocess.Popen(
            [*run, sys.executable, *command], env=known, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


@pytest.mark.thorough
def test_gateway_and_guard_run_as_another_user_on_a_read_only_file_system(as_the_image):
    written = 'import os; print(os.getuid(), os.access(".", os.W_OK), os.access("/etc", os.W_OK)); open("/etc/x", "w")'
    told, _ = as_the_image("-c", written).communicate(timeout=PATIENCE_S)
    assert told.splitlines()[0] == f"{UID} True False"
    assert "Error" in told.splitlines()[-1]
    with SimulatedAnthropic() as api:
        api.always(lambda request: Reply.triage(0.95, "Yes.") if request.is_triage else None)
        ports = {"gateway": free_port(), "serve": free_port()}
        ready = {"gateway": "/readyz", "serve": "/healthz"}
        known = {
            "ANTHROPIC_BASE_URL": api.url, "ANTHROPIC_API_KEY": "any", "CHEAPDEEP_PORT": str(ports["serve"]),
            "CHEAPDEEP_GATEWAY_PORT": str(ports["gateway"]),
        }  # fmt: skip
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        processes = {}
        for name in ("serve", "gateway"):  # the guard makes the store's tables
            processes[name] = as_the_image("-m", "cheapdeep_ops", name, **known)
            until(lambda name=name: answers(urls[name] + ready[name]), f"{name} to answer")
        asked = {"model": "claude-opus-4-7", "max_tokens": 64, "messages": [{"role": "user", "content": "Open?"}]}
        headers = {"x-api-key": "any", "anthropic-version": "2023-06-01"}
        answer = httpx2.post(f"{urls['gateway']}/v1/messages", json=asked, headers=headers)
        assert answer.json()["content"] == [{"type": "text", "text": "Yes."}]

        def counted():
            return "\ncheapdeep_fleet_calls_total{" in httpx2.get(f"{urls['serve']}/metrics").text

        until(counted, "the guard to count the call")
        for name, process in processes.items():
            process.send_signal(signal.SIGTERM)
            told, _ = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 0, (name, told)
            assert "Traceback" not in told, told
