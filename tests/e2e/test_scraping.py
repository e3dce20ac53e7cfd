"""The real Prometheus scrapes a guard and two routers through a drift and a storm: no board and no alert is blind."""

import contextlib
import json
import math
import re
import time
from urllib.error import HTTPError

import pytest
import yaml

from cheapdeep_ops.resources import packaged
from cheapdeep_ops.telemetry import names
from tests.e2e import test_processes as processes
from tests.ports import free_port
from tests.prometheus import BOARDS, filled, running, targets, tool, wait_until

pytestmark = pytest.mark.thorough

api, slack, environment = processes.api, processes.slack, processes.environment
until = processes.until
ROUTES = ("support", "billing")
BRISK = {
    "EscalationStorm": {"windows": {"long": "10s", "short": "2s"}, "min_calls": 60, "keep_firing_for": "3s"},
    "FalseConfidenceClimbing": {"normal_grades": 100, "min_grades": 30, "max_grades": 240},
    "InertGate": {"min_grades": 30, "min_wrong": 5, "min_calls": 300},
}
"""How the packaged rules are changed, so that none of them takes minutes or thousands of calls."""
VARIABLES = {
    "$__rate_interval": "5m",
    "$__range": "5m",
    "$route": ".*",
    "$input_class": ".*",
    "$scope": "*",
    "$one": "support",
}
PANELS = {f"{name}: {query}": target for name, board in BOARDS.items() for query, target in targets(board)}
RULES_FILE = packaged("alerts") / "prometheus.rules.yml"
RULES = [rule for group in yaml.safe_load(RULES_FILE.read_text("utf-8"))["groups"] for rule in group["rules"]]
RECORDED = [rule["expr"] for rule in RULES if "record" in rule]
ALARMS = [(rule["alert"], rule["expr"]) for rule in RULES if "alert" in rule]
FIRING = {"CheapdeepEscalationStorm", "CheapdeepFalseConfidence"}
COMPARISON = re.compile(r" (==|>=|<=|<|>) (?!bool )")
"""Between two figures: those of labels have no spaces around them."""
SAME = {
    "cheapdeep_calls_total": "cheapdeep_fleet_calls_total",
    "cheapdeep_escalations_total": "cheapdeep_fleet_escalations_total",
    "cheapdeep_cost_USD_total": "cheapdeep_fleet_cost_usd_total",
}
"""What routers tell, each of its own calls, and the guard of all of them."""


@pytest.fixture
def brisk(environment, tmp_path):
    """The guard's environment: all packaged rules, all confident answers graded, and a budget that is soon used up."""
    rules = yaml.safe_load((packaged("alerts") / "rules.yaml").read_text("utf-8"))["rules"]
    changed = [{**rule, **BRISK.get(rule["alert"], {})} for rule in rules]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"rules": changed}))
    added = {"CHEAPDEEP_SAMPLE_RATE": "1", "CHEAPDEEP_GRADE_EVERY_S": "0.5", "CHEAPDEEP_USD_PER_DAY": "0.001"}
    return {**environment, **added}


@contextlib.contextmanager
def routers(environment, ports):
    """A router for each route, with its metrics on a port of its own."""
    with contextlib.ExitStack() as stack:
        shown = [{**environment, "OTEL_EXPORTER_PROMETHEUS_PORT": str(port)} for port in ports]
        entered = [stack.enter_context(processes.caller(*each)) for each in zip(shown, ROUTES, strict=True)]
        yield dict(zip(ROUTES, entered, strict=True))


def config(guard_port, router_ports):
    jobs = {"cheapdeep": [guard_port], "service": router_ports}
    scrapes = [
        {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
        for name, ports in jobs.items()
    ]
    often = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "1s"}
    return yaml.safe_dump({"global": often, "rule_files": [str(RULES_FILE)], "scrape_configs": scrapes})


class Watched:
    """What Prometheus has to say, since it began to look."""

    def __init__(self, server):
        self._server, self._began = server, time.time()

    def now(self, query):
        return [float(each["value"][1]) for each in self._server.at(time.time(), query)]

    def figures(self, target):
        """What a query of a board gives now, or has given since the beginning."""
        query = filled(target["expr"], VARIABLES)
        if target.get("instant"):
            return self.now(query)
        series = self._server.over(self._began, time.time(), query, step=0.5)
        return [float(value) for each in series for _, value in each["values"]]

    def firing(self):
        """The alerts whose conditions hold now."""
        return {name for name, expr in ALARMS if self.now(expr)}

    def unanswered(self):
        """The queries of boards and rules that find nothing."""
        of_boards = [name for name, target in PANELS.items() if not self.figures(target)]
        of_rules = [*RECORDED, *(unfiltered(expr) for _, expr in ALARMS)]
        return of_boards + [query for query in of_rules if not self.now(query)]


def unfiltered(alarm):
    """What an alert looks at: each of its comparisons gives 0 or 1, instead of nothing where it does not hold."""
    asked, comparisons = COMPARISON.subn(r" \1 bool ", alarm)
    assert comparisons, alarm
    return asked


def test_every_query_of_boards_and_alerts_has_data_while_guard_and_routers_are_scraped(brisk, tmp_path):
    tool("prometheus")
    database, ports = processes.Database(brisk["CHEAPDEEP_STORE_URL"]), [free_port() for _ in ROUTES]
    with routers(brisk, ports) as services:
        with processes.guard(brisk):
            until(lambda: set(ROUTES) <= learned(database), "what is normal to be learned")
            services["support"].traffic("outdated", "outdated", "faq")
            until(lambda: "FalseConfidenceClimbing" in causes(database), "the drift to be found")
            label_some(brisk)
        # A guard that starts works out at once what one that runs does every five or ten minutes.
        with processes.guard(brisk), running(tmp_path, config(brisk["CHEAPDEEP_PORT"], ports)) as server:
            watched = Watched(server)
            services["support"].traffic("legal", "legal", "outdated")
            until(lambda: watched.firing() >= FIRING, "storm and drift to fire at once")
            pin_for_a_moment(brisk, watched)
            wait_until(lambda: not watched.unanswered(), what=lambda: "\n".join(watched.unanswered()))
            figures = {name: watched.figures(target) for name, target in PANELS.items()}
            assert [name for name, found in figures.items() if any(map(math.isnan, found))] == []
            assert watched.now("up") == [1, 1, 1]
            assert_guard_and_routers_count_the_same(watched, services)


def learned(database):
    return {row["scope"] for row in database.rows("SELECT scope FROM normal WHERE rate IS NOT NULL")}


def causes(database):
    return {change["cause"] for change in database.changes()}


def label_some(environment):
    for _ in range(10):
        sample = json.loads(processes.get(environment, "/api/v1/review/next", token="s3same"))
        order = {"call_id": sample["call_id"], "verdict": "correct", "author": "ann"}
        processes.get(environment, "/api/v1/labels", method="POST", body=order, token="s3same")


def pin_for_a_moment(environment, watched):
    """A change of policy while Prometheus looks: those of the rules may have come before it did."""
    versions = watched.now(f"max({names.FLEET_POLICY_VERSION})")
    order = {"route": ROUTES[0], "author": "ann", "why": "to be seen"}
    until(lambda: is_ordered(environment, "PUT", {"threshold": 0.9, **order}), "the pin to be taken")
    until(lambda: is_ordered(environment, "DELETE", order), "the release to be taken")
    until(lambda: watched.now(f"max({names.FLEET_POLICY_VERSION})") > versions, "the change to be scraped")


def is_ordered(environment, method, order):
    """Whether an order was taken; a store that many write to may be locked for a moment."""
    try:
        processes.get(environment, "/api/v1/policy/pin", method=method, body=order, token="s3same")
    except HTTPError as error:
        if error.code != 503:
            raise
        return False
    return True


def assert_guard_and_routers_count_the_same(watched, services):
    """Each under its own names, once nobody calls any more."""
    for service in services.values():
        service.traffic()

    def sums():
        return [(watched.now(f"sum({one})"), watched.now(f"sum({other})")) for one, other in SAME.items()]

    def all_calls():
        return sum(len(service.decisions) for service in services.values())

    def are_the_same():
        found = sums()
        return found[0][0] == [all_calls()] and all(one == pytest.approx(other) for one, other in found)

    wait_until(are_the_same, what=lambda: f"{all_calls()} calls, {sums()}")
