import pytest

from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate
from tests.bench.cause import answers, table

pytestmark = pytest.mark.thorough


def test_the_culprit_of_a_storm_is_named_first_in_47_of_50(sqlite_url):
    store = Store(sqlite_url)
    migrate(store)
    found = list(answers(store, many=50))
    store.close()
    assert sum(each.is_right for each in found) >= 47, table(found)
    assert sum(each.is_right_kind for each in found) >= 47, table(found)
