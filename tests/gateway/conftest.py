import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cheapdeep_ops.testing import SimulatedAnthropic
from tests.gateway.both import Both
from tests.gateway.processes import ClientProcess, GatewayProcess, gateway

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gateway")


@pytest.fixture(scope="session")
def _gateway(_served_api: SimulatedAnthropic, folder: Path) -> Iterator[GatewayProcess]:
    with gateway(folder, _served_api.url) as process:
        yield process


@pytest.fixture
def gateway_url(_gateway: GatewayProcess, api: SimulatedAnthropic) -> str:
    """One gateway for all tests of a worker; `api`, with nothing scripted, is behind it."""
    return _gateway.url


@pytest.fixture(scope="session")
def typescript_client() -> Iterator[ClientProcess]:
    node = shutil.which("node")
    if node is None or not (HERE / "node_modules" / "ai").is_dir():
        pytest.skip("the clients' npm packages are not installed: run npm install in tests/gateway")
    client = ClientProcess(node, HERE / "typescript_clients.mjs")
    yield client
    client.close()


@pytest.fixture(scope="session")
def _python() -> Iterator[ClientProcess]:
    client = ClientProcess(sys.executable, "-W", "ignore", HERE / "python_clients.py")
    yield client
    client.close()


@pytest.fixture(scope="session")
def _frameworks() -> Iterator[ClientProcess]:
    python = os.environ.get("FRAMEWORKS_PYTHON")
    if not python:
        pytest.skip("the frameworks are not installed: FRAMEWORKS_PYTHON names the Python of an environment with them")
    client = ClientProcess(python, "-W", "ignore", HERE / "python_clients.py")
    yield client
    client.close()


@pytest.fixture
def typescript(typescript_client: ClientProcess, api: SimulatedAnthropic, gateway_url: str) -> Both:
    return Both(typescript_client, api, gateway_url)


@pytest.fixture
def python(_python: ClientProcess, api: SimulatedAnthropic, gateway_url: str) -> Both:
    return Both(_python, api, gateway_url)


@pytest.fixture
def frameworks(_frameworks: ClientProcess, api: SimulatedAnthropic, gateway_url: str) -> Both:
    return Both(_frameworks, api, gateway_url)
