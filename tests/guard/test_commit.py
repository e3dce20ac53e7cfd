"""What changes between an evaluation's snapshot and its commit, and what the commit holds the lock for."""

from contextlib import contextmanager

import pytest

from cheapdeep_ops.guard.actions import alerts, baselines, thresholds
from cheapdeep_ops.guard.incidents.changes import MOST_ROWS, OpenIncident, Unit, groups
from cheapdeep_ops.guard.reports import quality
from cheapdeep_ops.guard.rules.model import AlertState
from cheapdeep_ops.store import incidents, policies
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate
from tests.guard.conftest import START, town_rules
from tests.tracing import traced

SURE, UNSURE = 0.95, 0.3
STORM = "EscalationStorm"
BY_ANN = {"author": "ann", "why": "a test"}


class Interrupted(Store):
    """A store in which something happens right after a snapshot was read."""

    meanwhile = None

    @contextmanager
    def snapshot(self):
        with super().snapshot() as connection:
            yield connection
        act, self.meanwhile = self.meanwhile, None
        if act is not None:
            act()


@pytest.fixture
def store(settings):
    store = Interrupted(settings.store_url)
    migrate(store)
    yield store
    store.close()


def state_of(store, rule=STORM, scope="support"):
    with store.reading() as connection:
        rows = {(row["rule"], row["scope"]): row for row in incidents.alerts(connection)}
    return AlertState(rows[(rule, scope)]["state"]) if (rule, scope) in rows else AlertState.INACTIVE


def brew(town):
    """A storm that the next evaluation finds."""
    town.run(10, [SURE] * 4)
    for _ in range(60):
        for _ in range(4):
            town.put(UNSURE)
        town.clock.advance(1)
    town.recorder.drain(town.clock())


def pin(town):
    town.do(thresholds.pin, threshold=0.7, route="support", **BY_ANN)


def silence(town):
    town.do(alerts.silence, rule=STORM, for_s=600.0, **BY_ANN)


def test_a_pin_between_snapshot_and_commit_is_obeyed(town):
    brew(town)
    town.store.meanwhile = lambda: pin(town)
    assert not town.guard.step(town.clock())
    assert state_of(town.store) is AlertState.INACTIVE
    assert town.guard.step(town.clock())
    assert state_of(town.store) is AlertState.FIRING
    with town.store.reading() as connection:
        changes = policies.history(connection)
    assert [(each["act"], each["applied"]) for each in changes] == [("raise", False), ("pin", True)]
    assert town.threshold() == 0.7


def test_a_silence_between_snapshot_and_commit_keeps_the_message_back(town):
    brew(town)
    town.store.meanwhile = lambda: silence(town)
    assert not town.guard.step(town.clock())
    assert town.guard.step(town.clock())
    assert state_of(town.store) is AlertState.FIRING
    assert town.guard.deliver(town.clock()) == 0


def test_the_end_of_a_silence_between_snapshot_and_commit_lets_the_message_out(town):
    silence(town)
    brew(town)

    def end():
        town.do(alerts.unsilence, silence_id=1, **BY_ANN)

    town.store.meanwhile = end
    assert not town.guard.step(town.clock())
    assert town.guard.step(town.clock())
    assert town.guard.deliver(town.clock()) > 0


def test_an_acknowledgement_between_snapshot_and_commit_is_not_overwritten(town):
    brew(town)
    assert town.guard.step(town.clock())
    town.run(70, [SURE] * 3 + [UNSURE] * 4)  # the rate has moved, so that the message is to be brought up to date

    def acknowledge():
        town.do(alerts.acknowledge, incident_id=1, **BY_ANN)

    town.store.meanwhile = acknowledge
    town.clock.advance(61)
    town.guard.step(town.clock())
    town.guard.step(town.clock())
    with town.store.reading() as connection:
        said = incidents.incident(connection, 1)["announced"]
    assert said["acknowledged"]["author"] == "ann"


@pytest.mark.thorough
def test_a_baseline_that_is_to_be_learned_anew_meanwhile_is_not_overwritten(make_school):
    school = make_school()
    school.teach(250, 0.03)

    def relearn():
        school.do(baselines.relearn, route="support", **BY_ANN)

    school.store.meanwhile = relearn
    school.teach(50, 0.6)
    with school.store.reading() as connection:
        normal = quality.baselines_of(connection, school.settings)["support"]
    assert normal["author"] == "ann"


def test_a_guard_that_was_overtaken_while_it_decided_changes_nothing(town):
    brew(town)
    other = town.another_guard(town_rules())

    def overtake():
        # The first guard is frozen for so long.
        while not other.step(town.clock()):
            town.clock.advance(1)

    town.store.meanwhile = overtake
    at = town.clock()
    assert not town.guard.step(at)
    with town.store.reading() as connection:
        assert [row["started_at"] for row in incidents.incidents(connection)] in ([], [town.clock()])
    assert town.clock() > at + 5
    assert town.guard.deliver(town.clock()) == 0
    assert not town.guard.step(town.clock())
    assert other.step(town.clock())


def test_a_lease_that_ran_out_while_a_guard_decided_is_still_its_own_if_no_other_took_it(town):
    brew(town)
    town.store.meanwhile = lambda: town.clock.advance(1_000)
    assert town.guard.step(town.clock())
    assert state_of(town.store) is AlertState.FIRING


def test_what_an_evaluation_holds_the_lock_for_is_writing_alone(town):
    with traced() as tracer:
        brew(town)
        town.guard.step(town.clock())
        town.run(200, [SURE] * 4)
    assert state_of(town.store) is AlertState.INACTIVE
    mine = [each for each in tracer.transactions if any("revision" in text for text in each.texts)]
    assert len(mine) > 10
    assert any("INSERT" in text and "incident" in text for each in mine for text in each.texts)
    assert {kind for each in mine for kind in each.statements} <= {"INSERT", "UPDATE", "NOTIFY", "SELECT"}
    # A message says what people have ordered at the moment of its transaction.
    reads = [text.partition("FROM ")[2].split()[0] for each in mine for text in each.texts if text.startswith("SELECT")]
    assert {each.removeprefix("cheapdeep.") for each in reads} <= {"policy", "silence"}
    assert max(each.rows for each in mine) <= MOST_ROWS


def test_a_unit_is_never_split_and_groups_stay_small():
    units = [Unit(alert={"rule": "R", "scope": str(number)}) for number in range(2 * MOST_ROWS + 100)]
    big = Unit(opens=OpenIncident(rule="R", scope="x", started_at=START, announced_at=START), alert={"scope": "x"})
    units.insert(MOST_ROWS - 1, big)  # a row of it would fit
    found = list(groups(units))
    assert [each for group in found for each in group] == units
    assert all(sum(each.rows for each in group) <= MOST_ROWS for group in found)
    assert len(found) == 3


def test_an_evaluation_without_changes_still_has_a_group_to_renew_the_lease_with():
    assert list(groups([Unit(), Unit()])) == [[]]


@pytest.mark.thorough
def test_two_hundred_routes_that_change_at_once_are_stored_by_several_short_transactions(make_town):
    town = make_town()
    for _ in range(6):
        for number in range(200):
            for _ in range(20):
                town.put(UNSURE, route=f"route-{number}")
        town.clock.advance(1)
        town.recorder.drain(town.clock())
    with traced() as tracer:
        assert town.guard.step(town.clock())
    with town.store.reading() as connection:
        begun = incidents.incidents(connection, limit=1_000)
        book = policies.read_book(connection, base=0.8, raised=0.9)
    assert len({row["scope"] for row in begun if row["rule"] == STORM}) >= 200
    assert all(book.for_route(f"route-{number}").threshold == 0.9 for number in range(200))
    assert max(each.rows for each in tracer.transactions) <= 1_000
    assert len(tracer.transactions) > 2
