"""What people and the guard do with the names that count by themselves, and what reports show of too many."""

import dataclasses
import math
import operator
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, insert, select

from cheapdeep_ops.admission import TOLD_NAMES
from cheapdeep_ops.errors import MissingError, PolicyError
from cheapdeep_ops.guard.actions.route_labels import admit, forget
from cheapdeep_ops.guard.actions.thresholds import pin, release
from cheapdeep_ops.guard.http.metrics import FleetCollector, page
from cheapdeep_ops.guard.label_places import IDLE_S, PERIOD_S, SETTLED_S, Calls, LabelPlaces, exchanges
from cheapdeep_ops.guard.reports.receipt import receipt
from cheapdeep_ops.guard.reports.route_labels import routes_of
from cheapdeep_ops.guard.reports.status import status
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.recorder.recorder import Recorder
from cheapdeep_ops.store import counters, incidents, route_labels
from cheapdeep_ops.store.admission import Limits
from cheapdeep_ops.store.recording import prepare_counters
from cheapdeep_ops.store.tables.alert_tables import AlertRow
from cheapdeep_ops.store.tables.call_tables import Bucket
from cheapdeep_ops.store.tables.grade_tables import NormalRow
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.values import Name
from tests.guard.conftest import decided

BY = {"author": "ann"}
DAY_S = 86_400.0


@pytest.fixture
def small(town):
    """A town with room for two routes, and one class of each."""
    town.settings = town.settings.model_copy(update={"max_routes": 2, "max_input_classes": 1})
    town.recorder = Recorder(town.settings, clock=town.clock, background=False)
    town.recorder.refresh(town.clock())
    return town


def called(town, *names, times=1):
    for _ in range(times):
        for route, *cls in names:
            policy = town.recorder.book.for_route(route)
            town.recorder.put(decided(0.95, policy, route=route, cls=cls[0] if cls else "", at=town.clock()))
    town.clock.advance(1)
    town.recorder.drain(town.clock())
    town.recorder.refresh(town.clock())


def found(town):
    with town.store.reading() as connection:
        return routes_of(connection, town.settings, town.clock())


def names_of(routes):
    return {each["route"]: each["classes"] for each in routes["routes"]}


def calls(town):
    with town.store.reading() as connection:
        return {key: sums.calls for key, sums in counters.totals(connection).items()}


def watched(town):
    """The places of names, as a guard that begins now keeps them."""
    places = LabelPlaces(town.store, max_routes=town.settings.max_routes, started_at=town.clock())
    places.step(town.clock())
    return places


def step(town, places, seconds):
    """The guard's hourly and minutely work, `seconds` later."""
    town.clock.advance(seconds)
    places.step(town.clock())
    town.recorder.refresh(town.clock())


# People


def test_the_routes_are_listed_with_what_has_no_place(small):
    called(small, ("a", "x"), ("b",), times=3)
    called(small, ("c",), ("c",), ("a", "y"), ("d",))
    routes = found(small)
    assert names_of(routes) == {"a": 1, "b": 0}
    assert {each["how"] for each in routes["routes"]} == {"auto"}
    assert (routes["max_routes"], routes["folded"]) == (2, 4)
    assert routes["folded_names"] == {"c": 2, "a / y": 1, "d": 1}


def test_a_person_forgets_a_route_and_admits_another_and_its_history_stays(small):
    called(small, ("a", "x"), ("b",), ("c",))
    called(small, ("c",))
    with pytest.raises(PolicyError, match="no room for c: 2 routes"):
        small.do(admit, route="c", **BY)
    assert names_of(small.do(forget, route="b", **BY)) == {"a": 1}
    routes = small.do(admit, route="c", **BY)
    assert {each["route"]: each["how"] for each in routes["routes"]} == {"a": "auto", "c": "ann"}
    small.recorder.refresh(small.clock())
    called(small, ("b",), ("c",))
    assert calls(small) == {("a", "x"): 1, ("b", ""): 1, ("c", ""): 1, ("other", ""): 3}
    with pytest.raises(MissingError, match="b does not count by name"):
        small.do(forget, route="b", **BY)
    for route in ("*", "other"):
        with pytest.raises(PolicyError, match="no route of its own"):
            small.do(admit, route=route, **BY)


def test_one_class_is_forgotten_and_another_admitted(small):
    called(small, ("a", "x"))
    with pytest.raises(PolicyError, match="no room for a / y"):
        small.do(admit, route="a", input_class="y", **BY)
    assert names_of(small.do(forget, route="a", input_class="x", **BY)) == {"a": 0}
    assert names_of(small.do(admit, route="a", input_class="y", **BY)) == {"a": 1}
    small.recorder.refresh(small.clock())
    called(small, ("a", "x"), ("a", "y"))
    assert calls(small) == {("a", "x"): 1, ("a", "other"): 1, ("a", "y"): 1}


def test_a_pinned_route_has_a_place_beyond_the_limit_and_keeps_it(small):
    called(small, ("a",), ("b",), ("c",))
    small.do(pin, threshold=0.99, route="c", why="trial", **BY)
    assert small.threshold("c") == 0.99
    called(small, ("c",), ("d",))
    assert calls(small)["c", ""] == 1
    assert names_of(found(small)).keys() == {"a", "b", "c"}
    with pytest.raises(PolicyError, match="c is pinned: release it first"):
        small.do(forget, route="c", **BY)
    small.do(release, route="c", **BY)
    small.do(forget, route="c", **BY)


# The guard


def test_names_without_calls_for_thirty_days_free_their_places(small):
    called(small, ("a", "x"), ("b",))
    small.clock.advance(2 * DAY_S)
    called(small, ("b",))
    step(small, watched(small), IDLE_S - DAY_S)
    assert names_of(found(small)) == {"b": 0}
    called(small, ("c",))
    assert names_of(found(small)) == {"b": 0, "c": 0}


@pytest.mark.parametrize("keeper", ["pin", "alert", "normal"])
def test_a_pin_an_alert_and_a_fresh_normal_keep_a_place(small, keeper):
    called(small, ("a",), ("b",))
    now = small.clock() + IDLE_S + DAY_S
    if keeper == "pin":
        small.do(pin, threshold=0.9, route="a", why="trial", **BY)
    alert = {"rule": "EscalationStorm", "scope": "a", "state": "firing", "level": "above", "since": 0.0, "signal": {}}
    normal = {"scope": "a", "grader_model": "m", "grader_prompt": "p", "since": 0.0, "learned_at": now - DAY_S}
    row = {"alert": (AlertRow, {**alert, "updated_at": 0.0}), "normal": (NormalRow, normal)}.get(keeper)
    if row:
        defaults = {} if keeper == "alert" else {"grades": 0, "author": "", "why": ""}
        small.store.transact(lambda connection: connection.execute(insert(table_of(row[0])), {**row[1], **defaults}))
    step(small, watched(small), IDLE_S + DAY_S)
    assert names_of(found(small)).keys() == {"a"}


def test_a_busy_route_gets_the_place_of_a_rare_one(small):
    called(small, ("rare",), ("busy",))
    small.clock.advance(SETTLED_S + 1)
    places = watched(small)
    called(small, ("busy",), ("late",), times=150)
    step(small, places, 60)
    assert names_of(found(small)).keys() == {"busy", "late"}
    called(small, ("late",), ("rare",))
    assert calls(small) == {("busy", ""): 151, ("late", ""): 1, ("other", ""): 151, ("rare", ""): 1}
    called(small, ("busy",), ("rare",), times=150)
    step(small, places, 60)
    assert names_of(found(small)).keys() == {"busy", "late"}  # it has its place since a moment of this period


def test_a_route_that_was_admitted_just_before_a_period_keeps_its_place_for_that(small):
    called(small, ("new",), ("busy",))
    places = watched(small)
    called(small, ("busy",), ("late",), times=150)
    step(small, places, PERIOD_S - 120)
    assert names_of(found(small)).keys() == {"new", "busy"}
    step(small, places, 120)
    called(small, ("busy",), ("late",), times=150)
    step(small, places, 60)
    assert names_of(found(small)).keys() == {"busy", "late"}


def test_calls_of_the_past_decide_nothing(small):
    called(small, ("rare",), ("busy",))
    called(small, ("busy",), ("once",), times=150)
    small.clock.advance(SETTLED_S + 1)
    places = watched(small)
    called(small, ("once",), ("busy",), times=2)
    step(small, places, 60)
    assert names_of(found(small)).keys() == {"rare", "busy"}


def test_an_admitted_class_keeps_its_name_before_those_that_were_written_before_the_limit(small):
    called(small, ("a", "zebra"))
    values = {("a", name): 1 for name in ("", "ape", "bee", "zebra")}
    with small.store.reading() as connection:
        shown = route_labels.by_shown_name(connection, values, most=Limits(2, 1), add=operator.add)
    assert shown == {("a", ""): 1, ("a", "zebra"): 1, ("a", "other"): 2}


def test_a_busy_class_without_a_place_takes_no_route_from_its_own(small):
    called(small, ("rare",), ("busy", "x"))
    small.clock.advance(SETTLED_S + 1)
    places = watched(small)
    called(small, ("busy", "y"), ("busy", "x"), times=150)
    step(small, places, 60)
    assert names_of(found(small)) == {"rare": 0, "busy": 1}


def test_a_guard_that_retains_exchanges_places_folds_seconds_and_forgets_content(small):
    called(small, ("rare",), ("busy",))
    small.clock.advance(SETTLED_S + 1)
    assert small.guard.retain(small.clock()) >= 0
    called(small, ("busy",), ("late",), times=150)
    begun = small.clock()
    for _ in range(3):
        small.clock.advance(700)
        called(small, ("busy",))
        assert small.guard.retain(small.clock()) >= 0
    small.recorder.refresh(small.clock())
    assert names_of(found(small)).keys() == {"busy", "late"}
    with small.store.reading() as connection:
        oldest = connection.execute(select(func.min(Bucket.at))).scalar()
        assert oldest > begun
        assert counters.summed(connection, since=0, until=2**40).calls == 305


@given(
    st.dictionaries(st.text(max_size=2), st.integers(0, 5_000)),
    st.dictionaries(st.text(max_size=2), st.integers(0, 5_000)),
)
def test_an_exchange_is_always_for_a_far_busier_route(rare, folded):
    pairs = exchanges(rare, folded)
    assert len(set(pairs.values())) == len(pairs)
    assert all(folded[comes] >= max(100, 3 * rare[leaves]) for leaves, comes in pairs.items())


class Fleet:
    """Routes with about so many calls between two looks; the first have a place. One process counts them all."""

    def __init__(self, rates, places, seed):
        self.rates, self.random = rates, random.Random(seed)
        self.placed = set(list(rates)[:places])
        self.named, self.folded = Counter(), Counter()
        self.exchanges = 0

    def calls(self):
        told = dict(self.folded.most_common(TOLD_NAMES))
        return Calls(by_route=dict(self.named), folded={"process": told})

    def run(self, looks):
        """One period in which a guard looks so often."""
        before, admitted = self.calls(), set(self.placed)
        for _ in range(looks):
            for route, mean in self.rates.items():
                calls = max(round(self.random.gauss(mean, math.sqrt(mean))), 0)
                (self.named if route in self.placed else self.folded)[route] += calls
            now = self.calls()
            by_route, folded = now.by_route_since(before), now.folded_since(before)
            rare = {route: by_route.get(route, 0) for route in admitted & self.placed}
            wanted = {route: calls for route, calls in folded.items() if route not in self.placed}
            for leaves, comes in exchanges(rare, wanted).items():
                self.placed ^= {leaves, comes}
                del self.folded[comes]
                self.exchanges += 1


@pytest.mark.parametrize("rate", [3, 30, 1_000])
def test_routes_of_equal_traffic_keep_their_places(rate):
    fleet = Fleet({f"route-{number}": rate for number in range(300)}, places=200, seed=1)
    for _ in range(3):
        fleet.run(looks=36)
    assert fleet.exchanges == 0


@pytest.mark.parametrize("rate", [3, 30, 1_000])
def test_a_route_three_times_as_busy_gets_a_place_once_and_keeps_it(rate):
    rates = {f"route-{number}": rate for number in range(30)} | {"busy": 3 * rate}
    fleet = Fleet(rates, places=20, seed=1)
    fleet.run(looks=36)
    assert "busy" in fleet.placed
    for _ in range(3):
        fleet.run(looks=36)
    assert "busy" in fleet.placed
    assert fleet.exchanges == 1


def test_what_a_process_did_not_tell_of_before_counts_at_its_least():
    full = {f"name-{number}": 50 + number for number in range(TOLD_NAMES)}
    before = Calls(by_route={"a": 7}, folded={"full": full, "roomy": {"x": 40}, "restarted": {"x": 9}})
    now = Calls(
        by_route={"a": 9, "b": 3},
        folded={
            "full": {"new": 60, "name-3": 53},
            "roomy": {"new": 5, "x": 41},
            "restarted": {"x": 2},
            "late": {"y": 4},
        },
    )
    assert now.by_route_since(before) == {"a": 2, "b": 3}
    assert now.folded_since(before) == {"new": 10 + 5, "name-3": 0, "x": 1 + 2, "y": 4}


# Reports


def test_reports_show_at_most_the_limit_of_what_was_written_before_it(town):
    zero = {field.name: 0 if field.type is int else {} for field in dataclasses.fields(counters.Sums)}
    keys = [{"route": f"route-{n}", "input_class": f"c-{n % 3}", "process": "p"} for n in range(300)]
    rows = [{**zero, **key, "calls": 1, "triaged": 1, "shipped": 1} for key in keys]
    at = int(town.clock()) - 20
    town.store.transact(prepare_counters(buckets=[{**row, "at": at} for row in rows], totals=rows))
    town.store.transact(lambda connection: route_labels.admit(connection, Name("route-299"), how="auto", now=0.0))
    now = town.clock()
    shown = receipt(town.store, town.settings, since=now - DAY_S, until=now)["routes"]
    assert len(shown) == 201
    assert (shown["route-299"], shown["other"], sum(shown.values())) == (1, 100, 300)
    assert len(status(town.store, town.settings, now)["reach"]) <= 201
    collector = FleetCollector(
        town.store, settings=town.settings, rulebook=read_rulebook(), jobs=dict, clock=town.clock
    )
    lines = [line for line in page(collector).decode().splitlines() if line.startswith("cheapdeep_fleet_calls_total{")]
    assert sum(float(line.split()[-1]) for line in lines) == 300
    assert len({line.split('route="')[1].split('"')[0] for line in lines}) == 201
    town.guard.step(now)
    with town.store.reading() as connection:
        scopes = {row["scope"] for row in incidents.alerts(connection) if row["rule"] == "EscalationStorm"}
    assert len(scopes) <= 202
