import pytest

from tests.bench.climb import answers, table

pytestmark = pytest.mark.thorough


def test_the_culprit_of_a_climb_is_named_first_in_45_of_50_and_more_often_than_the_largest_share_is_its():
    found = list(answers(many=50))
    guilty, innocent = (
        [each for each in found if bool(each.change.element) is is_guilty] for is_guilty in (True, False)
    )
    right = sum(each.is_right for each in guilty)
    assert right >= 45, table(found)
    assert right > sum(each.is_naively_right for each in guilty), table(found)
    assert sum(each.is_wrong for each in guilty) <= 2, table(found)
    assert sum(each.is_right for each in innocent) >= 22, table(found)
