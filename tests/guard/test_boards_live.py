"""Every query of a board on the guard's figures, asked of the real Prometheus that scrapes its page under traffic.

What boards ask of routers' own figures is asked in tests/e2e/test_scraping.py, where there are real ones.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn

from cheapdeep_ops.guard.actions.labels import label
from cheapdeep_ops.guard.http.api import make_api
from cheapdeep_ops.guard.http.grader_metrics import KEPT_S
from cheapdeep_ops.guard.http.metrics import FleetCollector
from cheapdeep_ops.guard.reports.review import next_sample
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.telemetry import names
from tests.ports import free_port
from tests.prometheus import BOARDS, ROUTERS, Prometheus, filled, running, targets, wait_until

pytestmark = pytest.mark.thorough

STORM = [0.95] * 2 + [0.5] * 6 + [None, 0.85]
CONFIG = """
global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}
scrape_configs: [{{job_name: cheapdeep, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]
"""
SEEN = 3
"""So often must a figure have been scraped that a query in steps cannot miss it."""

VARIABLES = {
    "$__rate_interval": "5m",
    "$__range": "5m",
    "$route": ".*",
    "$input_class": ".*",
    "$scope": "*",
    "$one": "support",
}


class Watched:
    """A school whose guard's page is scraped, and the Prometheus that does it."""

    def __init__(self, school, prometheus: Prometheus) -> None:
        self._school, self._prometheus = school, prometheus
        self.began = time.time()

    def value(self, query: str) -> float:
        found = self._prometheus.at(time.time(), query)
        return float(found[0]["value"][1]) if found else math.nan

    def is_taken_in(self) -> None:
        """Wait until Prometheus has seen all calls so far."""
        calls = f"sum(max by (route, input_class) ({names.FLEET_CALLS}_total))"
        wait_until(lambda: self.value(calls) == len(self._school.decisions))

    def values(self, target) -> list[float]:
        """What a query of a board gives now, or since the school began."""
        query = filled(target["expr"], VARIABLES)
        if target.get("instant"):
            return [float(each["value"][1]) for each in self._prometheus.at(time.time(), query)]
        series = self._prometheus.over(self.began, time.time(), query, step=0.5)
        return [float(value) for each in series for _, value in each["values"]]


@contextmanager
def serving(api) -> Iterator[int]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(api, port=port, log_level="warning", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield port
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def watched(make_school, tmp_path):
    school = make_school()
    jobs = Counter({("evaluate", "done"): 0, ("deliver", "done"): 0})
    collector = FleetCollector(
        school.store, settings=school.settings, rulebook=read_rulebook(), jobs=lambda: jobs,
        clock=school.clock,
    )  # fmt: skip
    api = make_api(school.store, settings=school.settings, collector=collector, is_ready=lambda: "", clock=school.clock)
    with serving(api) as port, running(tmp_path, CONFIG.format(port=port)) as prometheus:
        found = Watched(school, prometheus)
        live_through(school, found)
        yield found


def live_through(school, found: Watched) -> None:
    """Calm in which normal is learned, a storm in one route, a drift in another, labels, and traffic to the end.

    Each kind of calls comes twice: a rate is not seen before the second time that a counter is.
    """
    for _ in range(2):
        school.teach(150, 0.05, confidences=(0.95, 0.85, 0.99), cls="invoice")
        found.is_taken_in()
    for _ in range(2):
        school.run(45, STORM, route="billing")
        found.is_taken_in()
    assert school.threshold("billing") == 0.9
    school.drift(confidences=(0.95, 0.85), cls="tariffs")
    found.is_taken_in()
    label_some(school)
    school.clock.advance(KEPT_S)
    for _ in range(2):
        school.teach(50, 0.5, confidences=(0.95, 0.85), cls="tariffs")
        found.is_taken_in()
    for figure in (names.FLEET_JUDGE_KAPPA, f'{names.FLEET_AUROC}{{route="support"}}'):
        wait_until(lambda asked=figure: found.value(f"count_over_time({asked}[5m])") >= SEEN)


def label_some(school) -> None:
    for _ in range(20):
        with school.store.reading() as connection:
            sample = next_sample(connection, school.settings)
        school.do(label, call_id=sample.call_id, verdict=sample.answer, author="ann")


def asks_routers(query: str) -> bool:
    return any(f"{name}_bucket" in query for name in ROUTERS)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_every_query_of_every_board_returns_figures_under_storm_drift_grades_and_labels(watched):
    found = {f"{name}: {query}": target for name, board in BOARDS.items() for query, target in targets(board)}
    asked = {query: target for query, target in found.items() if not asks_routers(target["expr"])}
    answers = {query: watched.values(target) for query, target in asked.items()}
    assert len(answers) > 100
    assert [query for query, values in answers.items() if not values] == [], "the queries that are empty"
    assert [query for query, values in answers.items() if any(map(math.isnan, values))] == []
