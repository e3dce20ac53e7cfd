"""A short run with every fault at least once: counts only, no times."""

import pytest

from tests.chaos.__main__ import run
from tests.postgres import packages

pytestmark = pytest.mark.thorough


def test_no_call_fails_nothing_is_lost_and_each_incident_has_one_message_under_every_fault(tmp_path):
    if packages() is None:
        pytest.skip("PostgreSQL's programs are not installed; the extra dev has them")
    found = run(tmp_path, seconds=90, seed=1, rate=4)
    assert found.wrong == [], found.figures
