"""Short outages of every kind with real processes: no call is missing, and little is said. How long it takes is not."""

import importlib.util
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough
SECONDS = 14.0


def _bench():
    spec = importlib.util.spec_from_file_location("outages_bench", Path(__file__).with_name("outages.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


bench = _bench()
SAYS = {
    "sqlite-locked": "is busy",
    "sqlite-full": "has no room left on its disk",
    "sqlite-read-only": "is read-only",
    "sqlite-deleted": "cannot be opened",
    "postgresql-stopped": "cannot be reached",
    "postgresql-hung": "does not answer",
    "postgresql-read-only": "is read-only",
    "postgresql-failed-over": "cannot be reached",
    "postgresql-full": "has no room left on its disk",
    "postgresql-locked": "is busy",
    "postgresql-deleted": "lacks a table",
}


@pytest.fixture(scope="module")
def api_url():
    with bench.simulator() as url:
        yield url


@pytest.mark.parametrize("kind", bench.OUTAGES)
def test_no_call_is_missing_after_an_outage(kind, api_url):
    try:
        result = bench.run(kind, SECONDS, api_url)
    except (PermissionError, FileNotFoundError) as error:
        pytest.skip(str(error))
    assert (result.failed, result.missing) == (0, 0)
    assert result.calls > 100
    # The seconds before the last ten are gone with a store that was deleted.
    assert result.missing_in_seconds == 0 or "deleted" in kind
    assert result.missing_candidates == result.left_out
    assert result.lines <= 10
    assert SAYS[kind] in result.text
    assert "Traceback" not in result.text
