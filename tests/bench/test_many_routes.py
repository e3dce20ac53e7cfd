"""That `many_routes.py` reads grades as the package does."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cheapdeep_ops.guard.grading.adaptive import Suspicion
from cheapdeep_ops.guard.rules.false_confidence.baseline import after_grades, alarm_level_of, learned_from, learned_on
from cheapdeep_ops.guard.rules.false_confidence.detection import NeededEvidence, SequentialTest
from cheapdeep_ops.store.grades import Baseline, DecidedGrade

np = pytest.importorskip("numpy")
sys.path.insert(0, str(Path(__file__).parent))

import many_routes  # noqa: E402
from many_routes import RULE, Routes, Way  # noqa: E402

NEEDED = NeededEvidence.of(RULE)


class Product:
    """One route, grade by grade, with the package's functions."""

    def __init__(self):
        self.baseline, self.first = Baseline(scope="a", since=0.0), []
        self.test, self.suspicion = SequentialTest(), Suspicion()

    def read(self, number, *, wrong, steered, inclusion):
        grade = DecidedGrade(
            id=number, route="a", called_at=float(number), incorrect=wrong, inclusion=inclusion, shipped=True,
            input_class="", steered=steered,
        )  # fmt: skip
        if self.baseline.rate is None:
            self.first.append(grade)
            self.baseline = learned_from(RULE, self.first, self.baseline, now=number) or self.baseline
            return
        alarm = alarm_level_of(self.baseline)
        self.suspicion = self.suspicion.after(incorrect=wrong, target=alarm.target, steered=steered)
        self.test = after_grades(
            self.test, [grade], {"a": alarm}, needed=NEEDED, oldest={"a": 0.0}, now=number, fires=False,
            taught=self.baseline,
        )  # fmt: skip
        if step := learned_on(RULE, self.baseline, self.test, now=number):
            self.baseline, self.test = step


@pytest.mark.parametrize(("rate", "seed"), [(0.03, 1), (0.1, 2), (0.005, 3)])
@pytest.mark.thorough
def test_many_routes_learn_suspect_and_test_as_the_package_does(rate, seed):
    routes = Routes(6, lambda at: np.where(at > 150_000, 1.6 * rate, rate), Way(), np.random.default_rng(seed))
    products = [Product() for _ in range(6)]
    for number in range(1, 2_500):
        graded = routes.step()
        for place, product in enumerate(products):
            if graded[place]:
                product.read(
                    number, wrong=bool(routes.wrong[place]), steered=bool(routes.steered[place]),
                    inclusion=float(routes.share[place]),
                )  # fmt: skip
        if number % 50 == 0:
            for place, product in enumerate(products):
                compare(routes, place, product)
    assert max(len(product.baseline.earlier) for product in products) >= 8
    assert any(product.suspicion.is_raised or product.test.climb.evidence > 3 for product in products)


def compare(routes, place, product):
    baseline, calm = product.baseline, product.test.calm
    if baseline.rate is None:
        assert not routes.is_awake[place]
        return
    close = SimpleNamespace(to=lambda value: pytest.approx(value, rel=1e-6, abs=1e-9))
    assert routes.target[place] == close.to(alarm_level_of(baseline).target)
    assert routes.n[place] == close.to(baseline.n)
    assert (routes.calm_n[place], routes.open_n[place]) == close.to((calm.n, calm.waiting_n))
    assert routes.limits.dispersion[place] == close.to(product.test.traffic.dispersion)
    assert routes.suspicion[place] == close.to(product.suspicion.value)
    assert routes.hindsight[place] == product.suspicion.hindsight
    if product.test.climb.total:
        assert np.log(routes.values[place].sum() / len(routes.values[place])) == close.to(product.test.climb.evidence)
        assert routes.run[place] == close.to(product.test.climb.run)


def test_alarms_are_counted_and_the_budget_is_kept():
    calm = many_routes.false_alarms(
        Routes(40, lambda at: np.full(at.shape, 0.05), Way(), np.random.default_rng(0)), 100_000
    )
    assert calm.answers >= 40 * 100_000
    assert 0.008 < calm.grades / calm.answers < 0.025
    assert calm.alarms <= 2
