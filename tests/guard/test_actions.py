import pytest

from cheapdeep_ops.errors import PolicyError
from cheapdeep_ops.guard.actions.alerts import acknowledge
from cheapdeep_ops.guard.actions.operations import OPERATIONS
from cheapdeep_ops.guard.actions.thresholds import pin


@pytest.fixture
def engine():
    return "sqlite"


def test_every_wrong_field_is_named_and_nothing_is_changed(town):
    with pytest.raises(PolicyError, match=r"^threshold: Input should be .*; why: .*; more: Extra inputs") as error:
        town.do(pin, threshold=2.0, author="ann", why=" ", more=1)
    assert str(error.value).count("; ") == 2
    assert town.threshold() == 0.8


def test_a_row_id_is_a_part_of_the_path_and_not_of_the_request():
    request, ids = acknowledge.checked({"incident_id": 7, "author": " ann ", "why": "on it"})
    assert (request.model_dump(), ids) == ({"author": "ann", "why": "on it"}, {"incident_id": 7})
    assert acknowledge.path.format(**ids) == "/api/v1/incidents/7/ack"


def test_operations_differ_and_each_says_what_it_does_in_one_paragraph():
    assert len({each.name for each in OPERATIONS}) == len({(each.method, each.path) for each in OPERATIONS}) == 10
    for each in OPERATIONS:
        assert each.description.endswith(".")
        assert "Raises" not in each.description
