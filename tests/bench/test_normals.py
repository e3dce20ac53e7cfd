"""What the tables of `normals.py` must show, on a small part of them."""

import sys
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
sys.path.insert(0, str(Path(__file__).parent))

import normals  # noqa: E402
from many_routes import Routes, Way, false_alarms  # noqa: E402

pytestmark = pytest.mark.thorough


def test_a_learned_normal_finds_a_climb_nearly_as_soon_as_a_known_one():
    learned = normals.waited("learned", normals.climbs(0.03, 0.10, 60_000), 60_000, Way(), runs=600)
    known = normals.waited("known", normals.climbs(0.03, 0.10, 20_000), 20_000, Way(), runs=600, target=0.03)
    assert learned.mean < 5_000 + learned.error
    assert known.mean < 3_500 + known.error
    # 36 million calm answers at 0.3 to 0.5 false alarms per ten million: one or two are expected.
    assert learned.early <= 5


def test_a_small_climb_is_found_at_much_traffic_as_at_little():
    rate = normals.climbs(0.02, 0.05, 20_000)
    small, large = (
        normals.waited("", rate, 20_000, Way(per_day=per_day), runs=600, target=0.02)
        for per_day in (normals.SMALL, normals.LARGE)
    )
    assert large.mean - large.error < small.mean + small.error < 12_000


def test_late_grades_delay_a_climb_by_little_more_than_they_are_late():
    rate, late = normals.climbs(0.03, 0.10, 60_000), Way(late=1_375)
    found = normals.waited("late", rate, 60_000, late, runs=200)
    assert found.mean < 10_000


def test_in_calm_hardly_anything_is_found():
    calm = false_alarms(Routes(150, normals.steady(0.03), Way(), np.random.default_rng(0)), 200_000)
    assert calm.routes <= 2  # the alarms of one route are not independent
    assert calm.grades < 0.016 * calm.answers  # a tenth of it is the time in which normal is learned


def test_a_raise_is_held_while_the_rate_stays_and_let_go_when_it_is_back():
    found = {name: value for name, value, _ in normals.release_rows(runs=150)}
    stays = [found[f"{rate:.0%} stays: let go within 100,000"] for rate in normals.HELD]
    assert stays[0] <= 0.05
    assert stays[1] <= 0.08
    assert stays[2] <= 0.25
    assert all(value <= 3_500 for name, value in found.items() if "median" in name)
