from collections.abc import Iterator

import anthropic
import pytest

from cheapdeep_ops.testing import SimulatedAnthropic, SimulatedSlack


@pytest.fixture
def api() -> Iterator[SimulatedAnthropic]:
    with SimulatedAnthropic() as api:
        yield api


@pytest.fixture
def client(api: SimulatedAnthropic) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=api.url, api_key="any", max_retries=0, open_telemetry=False) as client:
        yield client


@pytest.fixture
def slack() -> Iterator[SimulatedSlack]:
    with SimulatedSlack() as slack:
        yield slack
