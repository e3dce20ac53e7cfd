"""Watching the watchers: each alert fires, resolves, and is left alone by no data."""

from dataclasses import replace

import pytest

from cheapdeep_ops.claude.clients import make_client_for
from cheapdeep_ops.claude.model_info import RetirementInfo, retirement_info
from cheapdeep_ops.errors import DeliveryError
from cheapdeep_ops.guard import lifecycle_check
from cheapdeep_ops.guard.http.metrics import FleetCollector, page
from cheapdeep_ops.guard.lifecycle_check import check_models, request_lifecycles
from cheapdeep_ops.guard.notify.messages import details, headline
from cheapdeep_ops.guard.rules.alert_set import AlertSet
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.guard.rules.model import Action, AlertState, Level, ScopedAlert
from cheapdeep_ops.guard.rules.self_monitoring import fleet
from cheapdeep_ops.guard.rules.self_monitoring.fleet import Fleet, ModelLifecycle, Outbox, RouterHeartbeat
from cheapdeep_ops.guard.rules.self_monitoring.rule import WatchRule
from cheapdeep_ops.guard.rules.self_monitoring.undecided import UndecidedReader
from cheapdeep_ops.policy import PolicyAct
from cheapdeep_ops.store import incidents, model_lifecycles, policies, processes
from cheapdeep_ops.store.policies import PolicyEdit
from cheapdeep_ops.testing.messages_api.models import MODELS
from cheapdeep_ops.values import ALL_ROUTES

NOW, DAY_S = 1_800_000_000.0, 86_400.0
SIGN = RouterHeartbeat(process="a" * 32, name="web-1:17", seen_at=NOW, base_threshold=0.8, policy_version=4, dropped=0)
CALM = [0.95] * 10


def fleet_of(*heartbeats, **changes):
    return Fleet(**{"heartbeats": heartbeats, "is_known": True, "base_threshold": 0.8, "flush_every_s": 1.0, **changes})


def at(seconds_ago, **changes):
    return replace(SIGN, seen_at=NOW - seconds_ago, **changes)


# Pure


@pytest.mark.parametrize(
    ("ago", "level"), [(0, "below"), (29, "below"), (31, "above"), (DAY_S, "above"), (DAY_S + 1, "below")]
)
def test_a_router_is_silent_from_half_a_minute_until_a_day(ago, level):
    assert fleet.silent_routers(fleet_of(at(ago)), NOW).level == level


def test_slow_flushes_make_for_more_patience_and_nobody_is_missed_where_nobody_ever_was():
    assert fleet.silent_routers(fleet_of(at(90), flush_every_s=10.0), NOW).level is Level.BELOW
    assert fleet.silent_routers(fleet_of(is_known=False), NOW).level is Level.NO_DATA


@pytest.mark.parametrize(
    ("sign", "level"),
    [
        (at(0), "below"),
        (at(0, policy_version=3), "above"),
        (at(0, base_threshold=0.7), "above"),
        (at(100, policy_version=3), "no_data"),
    ],
)
def test_a_living_router_must_follow(sign, level):
    found = fleet.outdated_routers(fleet_of(sign, newest=4, newest_at=NOW - 31), NOW)
    assert found.level == level
    assert bool(found.signal["why"]) == (level == "above")


def test_a_router_is_given_time_to_follow():
    late = fleet_of(at(0, policy_version=3), newest=4, newest_at=NOW - 29)
    assert fleet.outdated_routers(late, NOW).level is Level.BELOW


def test_drops_fire_when_they_rise_and_not_for_having_been():
    before = {"total": 5, "rose_at": None, "rose": 0}
    quiet, loud = fleet_of(at(0, dropped=5)), fleet_of(at(0, dropped=8))
    assert fleet.dropping(quiet, 5, before, NOW).level is Level.BELOW
    rose = fleet.dropping(loud, 8, before, NOW)
    assert (rose.level, rose.signal["why"]) == (Level.ABOVE, "3 decisions were made and not counted")
    assert fleet.dropping(loud, 8, rose.signal, NOW + 299).level is Level.ABOVE
    assert fleet.dropping(fleet_of(replace(SIGN, seen_at=NOW + 301)), 8, rose.signal, NOW + 301).level is Level.BELOW
    assert fleet.dropping(fleet_of(), 8, rose.signal, NOW + 301).level is Level.NO_DATA


def test_what_a_living_router_dropped_before_anyone_looked_is_news_and_what_dead_ones_did_is_not():
    assert fleet.dropping(fleet_of(at(0, dropped=2)), 2, {}, NOW).level is Level.ABOVE
    assert fleet.dropping(fleet_of(at(0)), 2, {}, NOW).level is Level.BELOW


@pytest.mark.parametrize(
    ("outbox", "level"),
    [
        (Outbox(is_used=False, waiting=0, oldest=None, attempts=0, error=""), "no_data"),
        (Outbox(is_used=True, waiting=0, oldest=None, attempts=0, error=""), "below"),
        (Outbox(is_used=True, waiting=1, oldest=NOW - 60, attempts=2, error=""), "below"),
        (Outbox(is_used=True, waiting=1, oldest=NOW - 121, attempts=0, error=""), "above"),
        (Outbox(is_used=True, waiting=1, oldest=NOW, attempts=3, error="down"), "above"),
        (Outbox(is_used=True, waiting=0, oldest=None, attempts=0, error="", refusal="answered 401"), "above"),
    ],
)
def test_messages_that_wait_long_or_fail_often_or_are_refused(outbox, level):
    assert fleet.undelivered(outbox, NOW).level == level


@pytest.mark.parametrize(
    ("last", "every_s", "level"),
    [(None, 5, "below"), (59, 5, "below"), (61, 5, "above"), (301, 60, "below"), (361, 60, "above"), (-9, 5, "below")],
)
def test_a_gap_between_two_evaluations(last, every_s, level):
    before = {} if last is None else {"evaluated_at": NOW - last}
    assert fleet.unwatched(before, every_s, NOW).level == level


@pytest.mark.parametrize(
    ("last", "started", "every_s", "level"),
    [
        (64, 5, 5, "below"),  # down for 59 s, and then the first interval
        (70, 5, 5, "above"),
        (300, 299, 60, "below"),  # the next guard takes over only after an interval
        (65, 64, 5, "above"),  # a guard that cannot evaluate is no guard that starts
        (61, 100, 5, "above"),
        (59, 100, 5, "below"),
        (61, -3, 5, "above"),  # a start in the future is a wrong clock
    ],
)
def test_a_guard_that_starts_has_the_whole_patience_again(last, started, every_s, level):
    found = fleet.unwatched({"evaluated_at": NOW - last}, every_s, NOW, started_at=NOW - started)
    assert found.level == level


def test_a_gap_of_sixty_days_is_told_in_days():
    found = fleet.unwatched({"evaluated_at": NOW - 86_406 * 60}, 5.0, NOW)
    assert found.signal["why"].startswith("no rule was evaluated for 60 days, from 2026-11-16 ")
    waiting = Outbox(is_used=True, waiting=2, oldest=NOW - 86_406 * 60, attempts=0, error="")
    assert fleet.undelivered(waiting, NOW).signal["why"] == "2 messages wait, the oldest for 60 days"
    ahead = at(0, host="web-1", clock_ahead_s=86_406 * 60)
    assert fleet.skewed(fleet_of(ahead), NOW).signal["why"].endswith("web-1 is 60 days ahead")


@pytest.mark.parametrize(
    ("ago", "ahead", "level"),
    [(0, 0, "below"), (0, 29, "below"), (0, 31, "above"), (0, -31, "above"), (500, 31, "no_data")],
)
def test_a_host_whose_clock_differs(ago, ahead, level):
    assert fleet.skewed(fleet_of(at(ago, clock_ahead_s=ahead)), NOW).level == level


def test_each_host_whose_clock_differs_is_named_once():
    processes = [at(0, process=str(n), host=f"web-{n // 2}", clock_ahead_s=300 - 600 * (n // 2)) for n in range(4)]
    said = fleet.skewed(fleet_of(*processes), NOW).signal["why"]
    assert said == "clocks of hosts differ from the store's time: web-0 is 5 min ahead, web-1 is 5 min behind"


@pytest.mark.parametrize(
    ("life", "level"),
    [
        (("active", None, 0), "below"),
        (("deprecated", None, 0), "below"),
        (("deprecated", 61, 0), "below"),
        (("deprecated", 59, 0), "above"),
        (("active", -1, 0), "above"),
        (("retired", None, 0), "above"),
        (("active", None, 8), "no_data"),
        (("deprecated", 59, 8), "above"),
    ],
)
def test_a_model_that_is_about_to_retire(life, level):
    lifecycle, days, age = life
    ends = None if days is None else NOW + days * DAY_S
    found = ModelLifecycle(model="m", lifecycle=lifecycle, retires_at=ends, checked_at=NOW - age * DAY_S)
    assert fleet.retiring(["m"], [found], NOW).level == level
    assert fleet.retiring(["other"], [found], NOW).level is Level.NO_DATA


def test_a_model_that_the_api_does_not_know_is_named():
    found = ModelLifecycle(
        model="m", lifecycle="unknown", retires_at=None, checked_at=NOW, problem="the API does not know it"
    )
    assert fleet.retiring(["m"], [found], NOW).signal["why"] == "m is unknown: the API does not know it"


def test_another_schema_is_above():
    assert [fleet.other_schema(found, "0003").level.value for found in ("0003", "0004", None)] == [
        "below", "above", "above",
    ]  # fmt: skip


def test_every_watcher_tells_and_none_raises():
    rules = [rule for rule in read_rulebook().rules if isinstance(rule, WatchRule)]
    assert len(rules) == 12
    assert all(rule.actions == {Action.NOTIFY} for rule in rules)
    assert all(rule.annotations["runbook"] == f"alerts/README.md#{rule.alert.lower()}" for rule in rules)


# Through a guard and a real store


def state(town, rule):
    with town.store.reading() as connection:
        rows = {(row["rule"], row["scope"]): row for row in incidents.alerts(connection)}
    return rows.get((rule, ALL_ROUTES), {"state": "unknown"})["state"]


def told(town, rule):
    return [(payload["kind"], headline(payload)) for payload in town.inbox.payloads if payload["rule"] == rule]


def pass_by(town, seconds, *, drain=True):
    """Time goes by, and the guard looks; routers beat or do not."""
    for _ in range(0, seconds, 5):
        town.clock.advance(5)
        if drain:
            town.recorder.drain(town.clock())
        town.guard.step(town.clock())
        town.guard.deliver(town.clock())


def beat(town, **changes):
    sign = {
        "process": "other", "kind": "router", "started_at": town.clock(), "seen_at": town.clock(),
        "base_threshold": 0.8, **changes,
    }  # fmt: skip
    town.store.transact(lambda connection: processes.beat(connection, processes.Heartbeat(**sign)))


def test_a_router_that_dies_is_told_and_forgotten_when_it_signs_off(town):
    town.run(10, CALM)
    assert state(town, "RouterSilent") == "inactive"
    beat(town)
    pass_by(town, 30)
    assert state(town, "RouterSilent") == "inactive"
    pass_by(town, 40)
    assert state(town, "RouterSilent") == "firing"
    assert "1 router stopped without signing off" in told(town, "RouterSilent")[0][1]
    town.store.transact(lambda connection: processes.mark_stopped(connection, "other"))
    pass_by(town, 5)
    assert [kind for kind, _ in told(town, "RouterSilent")] == ["started", "resolved"]


@pytest.mark.thorough
def test_a_dead_router_is_forgotten_after_a_day(town):
    beat(town)
    pass_by(town, 70, drain=False)
    assert state(town, "RouterSilent") == "firing"
    town.clock.advance(DAY_S)
    pass_by(town, 5, drain=False)
    assert state(town, "RouterSilent") == "inactive"


def test_without_a_router_nothing_is_said_of_routers(town):
    pass_by(town, 100, drain=False)
    for rule in ("RouterSilent", "RouterOutdated", "RecorderDropping", "ClockSkewed", "ModelRetiring"):
        assert state(town, rule) == "unknown"
    assert town.inbox.payloads == []


def test_a_router_with_another_base_is_told_until_it_is_mended_and_silence_mends_nothing(town):
    beat(town, base_threshold=0.5)
    pass_by(town, 25, drain=False)
    beat(town, base_threshold=0.5)
    pass_by(town, 10, drain=False)
    assert state(town, "RouterOutdated") == "firing"
    assert "base threshold 0.5, the guard has 0.8" in told(town, "RouterOutdated")[0][1]
    pass_by(town, 200, drain=False)
    assert state(town, "RouterOutdated") == "firing"
    beat(town)
    pass_by(town, 5, drain=False)
    assert state(town, "RouterOutdated") == "inactive"


def test_a_router_that_does_not_take_a_change_in_is_told(town):
    change = PolicyEdit(scope="support", act=PolicyAct.PIN, threshold=0.9, author="a person", why="to see")
    pass_by(town, 5)
    with town.store.reading() as connection:
        book = policies.read_book(connection, base=0.8, raised=0.9)
    town.store.transact(lambda connection: policies.apply(connection, book, change, at=town.clock()))
    pass_by(town, 90)
    assert state(town, "RouterOutdated") == "firing"
    assert "did not load change 1" in told(town, "RouterOutdated")[0][1]
    town.recorder.refresh(town.clock())
    pass_by(town, 15)
    assert state(town, "RouterOutdated") == "inactive"


@pytest.mark.thorough
def test_decisions_that_are_dropped_are_told_and_five_minutes_later_it_is_over(town):
    town.run(10, CALM)
    town.recorder._drop(7, "the recorder's queue is full")
    pass_by(town, 15)
    assert state(town, "RecorderDropping") == "firing"
    assert "7 decisions were made and not counted" in told(town, "RecorderDropping")[0][1]
    pass_by(town, 330)
    assert state(town, "RecorderDropping") == "inactive"


@pytest.mark.thorough
def test_names_without_a_place_are_told_once_with_examples_and_an_hour_later_it_is_over(town):
    town.run(10, CALM)
    beat(town, folded=12, folded_names={"chat/a": 9, "chat/b": 3})
    pass_by(town, 10)
    beat(town, folded=2_000, folded_names={"chat/a": 1_990, "chat/b": 10})
    pass_by(town, 60)
    assert state(town, "LabelsFolded") == "firing"
    (kind, text), *later = told(town, "LabelsFolded")
    assert (kind, later) == ("started", [])
    assert "12 calls so far count as 'other'" in text
    assert "chat/a, chat/b" in text
    for _ in range(40):
        town.clock.advance(95)
        pass_by(town, 5)
    assert state(town, "LabelsFolded") == "inactive"
    assert [kind for kind, _ in told(town, "LabelsFolded")] == ["started", "resolved"]


@pytest.mark.thorough
def test_a_receiver_that_is_down_is_an_alert_and_its_message_comes_when_it_is_back(town):
    with town.store.engine.begin() as connection:
        incidents.enqueue(connection, incident_id=None, kind="test", payload={"kind": "test"}, at=town.clock())
    town.inbox.failures = [DeliveryError("Slack is down", unreachable=True)] * 6
    while town.inbox.failures:
        pass_by(town, 5, drain=False)
        if state(town, "NotificationsFailing") == "firing":
            break
    assert state(town, "NotificationsFailing") == "firing"
    assert town.inbox.payloads == []
    pass_by(town, 3_600, drain=False)
    assert state(town, "NotificationsFailing") == "inactive"
    said = [payload for payload in town.inbox.payloads if payload.get("rule") == "NotificationsFailing"]
    assert [payload["kind"] for payload in said] == ["started", "resolved"]
    assert "messages wait" in headline(said[0])
    assert all(details(payload) for payload in said)


@pytest.mark.thorough
def test_a_time_without_evaluations_is_told_by_the_guard_that_comes_after(town):
    first = town.another_guard(read_rulebook())
    first.step(town.clock())
    first.close()
    town.clock.advance(900)
    second = town.another_guard(read_rulebook())
    second.step(town.clock())
    assert state(town, "SchedulerStalled") == "firing"
    second.deliver(town.clock())
    ((_, said),) = told(town, "SchedulerStalled")
    assert "for 15 min, from 2027-01-15 08:00:00 UTC to 2027-01-15 08:15:00 UTC" in said
    for _ in range(130):
        town.clock.advance(5)
        second.step(town.clock())
    assert state(town, "SchedulerStalled") == "inactive"
    second.deliver(town.clock())
    assert [kind for kind, _ in told(town, "SchedulerStalled")] == ["started", "resolved"]


@pytest.mark.thorough
@pytest.mark.parametrize("every_s", [5.0, 30.0])
@pytest.mark.parametrize("is_killed", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_guard_that_is_restarted_in_time_pages_nobody(make_town, every_s, is_killed, share):
    town = make_town(evaluate_every_s=every_s)
    first = town.another_guard(read_rulebook())
    for _ in range(3):
        first.step(town.clock.advance(every_s))
    if not is_killed:
        first.close()
    town.clock.advance(share * max(6 * every_s, 60.0))
    second = town.another_guard(read_rulebook())
    for _ in range(8):
        second.step(town.clock.advance(every_s))
        second.deliver(town.clock())
    assert second.last_evaluation == town.clock()
    assert (state(town, "SchedulerStalled"), town.inbox.payloads) == ("inactive", [])


def test_a_guard_that_starts_tells_prometheus_when_rules_were_last_evaluated(town):
    rulebook = read_rulebook()

    def shown():
        collector = FleetCollector(town.store, settings=town.settings, rulebook=rulebook, jobs=dict, clock=town.clock)
        name = "cheapdeep_guard_last_evaluation_timestamp_seconds"
        return [float(line.split()[1]) for line in page(collector).decode().splitlines() if line.startswith(name)]

    first = town.another_guard(rulebook)
    assert shown() == []
    first.step(town.clock.advance(5))
    evaluated_at = town.clock()
    assert shown() == [evaluated_at]
    first.close()
    town.clock.advance(30)
    second = town.another_guard(rulebook)
    assert shown() == [evaluated_at]
    second.step(town.clock.advance(5))
    assert shown() == [town.clock()]


@pytest.mark.thorough
def test_the_hold_time_of_a_watcher_begins_again_with_the_guard(town):
    first = town.another_guard(read_rulebook())
    incidents_at = town.clock()
    with town.store.engine.begin() as connection:
        incidents.enqueue(connection, incident_id=None, kind="test", payload={"kind": "test"}, at=incidents_at)
    town.inbox.failures = [DeliveryError("Slack is down", unreachable=True)] * 3
    while state(town, "NotificationsFailing") != "pending":
        first.step(town.clock.advance(5))
        first.deliver(town.clock())
    # Until the second guard delivers, the message waits, though the receiver is back.
    town.inbox.failures = []
    town.clock.advance(50)
    second = town.another_guard(read_rulebook())
    for _ in range(70):
        second.step(town.clock.advance(5))
        assert state(town, "NotificationsFailing") != "firing"
        second.deliver(town.clock())
    assert [payload["kind"] for payload in town.inbox.payloads] == ["test"]


def test_a_clock_that_runs_ahead_is_told_until_it_is_set(town):
    beat(town, clock_ahead_s=-3_600)
    pass_by(town, 29)
    beat(town, clock_ahead_s=-3_600)
    pass_by(town, 20)
    assert state(town, "ClockSkewed") == "firing"
    assert "is 1 h behind" in told(town, "ClockSkewed")[0][1]
    beat(town)
    pass_by(town, 70)
    assert state(town, "ClockSkewed") == "inactive"


def test_a_recorder_whose_clock_was_set_back_leaves_nobody_to_be_missed(town):
    town.put(0.95)
    town.recorder.drain(town.clock() + 600)
    pass_by(town, 40, drain=False)
    town.put(0.95)
    pass_by(town, 200)
    assert state(town, "RouterSilent") == "inactive"


def test_a_newer_schema_under_a_guard_that_runs(town, monkeypatch):
    pass_by(town, 5)
    assert state(town, "SchemaChanged") == "inactive"
    monkeypatch.setattr("cheapdeep_ops.guard.rules.self_monitoring.reader.HEAD", "0002")
    pass_by(town, 5)
    assert state(town, "SchemaChanged") == "firing"


def test_a_pinned_scope_is_not_asked_about():
    rule = next(rule for rule in read_rulebook().rules if rule.alert == "FalseConfidenceClimbing")
    firing = ScopedAlert(rule=rule.alert, scope="support", state=AlertState.FIRING)
    alerts = AlertSet({(rule.alert, "support"): firing}, signals={})
    question = ScopedAlert(rule="RaiseUndecided", scope="support")
    for is_pinned, level in ((False, Level.ABOVE), (True, Level.BELOW)):
        sense = UndecidedReader([rule], alerts, lambda _scope, pinned=is_pinned: pinned)
        assert sense.scopes == (set() if is_pinned else {"support"})
        assert sense.finding({"support"}, question).level is level


# Models


@pytest.fixture
def client(api):
    with make_client_for(api.url, api_key="simulated") as client:
        yield client


def test_the_api_is_asked_for_lifecycle_and_date(client):
    assert retirement_info(client, "claude-opus-4-7") == RetirementInfo(model="claude-opus-4-7", lifecycle="active")
    old = retirement_info(client, "claude-sonnet-4-5")
    assert (old.lifecycle, old.retires_at) == ("deprecated", 1_796_000_000 - 3_200)
    assert retirement_info(client, "claude-0").problem == "the API does not know it"


@pytest.mark.parametrize(
    "name", ["us.anthropic.claude-haiku-4-5-20251001-v1:0", "anthropic/claude-haiku-4.5", "claude-haiku-4-5@20251001"]
)
def test_a_platforms_own_name_says_nothing_to_the_api(client, name):
    assert retirement_info(client, name) is None


def test_a_gateway_without_the_endpoint_or_a_wrong_key_says_nothing(api):
    with make_client_for(api.url + "/gateway", api_key="simulated") as client:
        assert retirement_info(client, "claude-opus-4-7") is None
    with make_client_for("http://127.0.0.1:9", api_key="simulated") as client:
        assert retirement_info(client, "claude-opus-4-7") is None


def test_a_retiring_model_is_told_until_the_api_says_otherwise(town, settings):
    def ask(names):
        assert names == ("claude-haiku-4-5", "claude-opus-4-7")
        return [RetirementInfo(model=names[0], lifecycle="deprecated", retires_at=town.clock() + 30 * DAY_S)]

    assert check_models(town.store, settings, town.clock(), ask) == 1
    pass_by(town, 5)
    assert state(town, "ModelRetiring") == "firing"
    assert "claude-haiku-4-5 retires in 30 days" in told(town, "ModelRetiring")[0][1]
    check_models(town.store, settings, town.clock(), lambda _names: [])
    pass_by(town, 5)
    assert state(town, "ModelRetiring") == "firing"
    alive = RetirementInfo(model="claude-haiku-4-5", lifecycle="active")
    check_models(town.store, settings, town.clock(), lambda _names: [alive])
    pass_by(town, 5)
    assert state(town, "ModelRetiring") == "inactive"


def test_without_a_key_the_api_is_not_asked(town, settings, monkeypatch, api):
    monkeypatch.setattr(lifecycle_check, "make_client", lambda: pytest.fail("no key is set"))
    assert check_models(town.store, settings, town.clock()) == 0
    monkeypatch.undo()
    monkeypatch.setenv("ANTHROPIC_API_KEY", "simulated")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
    assert [found.model for found in request_lifecycles(("claude-opus-4-7", MODELS[0].id))] == [
        "claude-opus-4-7",
        MODELS[0].id,
    ]
    with town.store.reading() as connection:
        assert model_lifecycles.lifecycles(connection) == []


# What an evaluation writes


@pytest.mark.thorough
def test_an_evaluation_stores_what_has_changed_with_one_statement(town, monkeypatch):
    saved = []
    original = incidents.save_alerts
    monkeypatch.setattr(
        incidents, "save_alerts", lambda connection, rows: saved.append(len(rows)) or original(connection, rows)
    )
    for number in range(30):
        town.run(1, CALM, route=f"route-{number}")
    pass_by(town, 400)
    saved.clear()
    pass_by(town, 60)
    assert 0 < len(saved) <= 2, "of twelve evaluations, those store alerts in which one has changed or is a minute old"
    assert sum(saved) <= 10
