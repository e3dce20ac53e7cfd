"""Sampling, grading and the rules on grades together, in virtual time: only the grader's API is played here."""

from dataclasses import replace
from functools import partial

import pytest
from sqlalchemy import select

from cheapdeep_ops.errors import DeliveryError, GraderError
from cheapdeep_ops.guard.actions.baselines import relearn
from cheapdeep_ops.guard.actions.thresholds import pin, release
from cheapdeep_ops.guard.grading.adaptive import MAX_RETROSPECTIVE, MAX_WAITING, Suspicion
from cheapdeep_ops.guard.grading.grader import Grader, grader_version
from cheapdeep_ops.guard.http.metrics import FleetCollector, page
from cheapdeep_ops.guard.notify.log import LogSender
from cheapdeep_ops.guard.notify.messages import details, headline
from cheapdeep_ops.guard.notify.sender import MessageRef
from cheapdeep_ops.guard.notify.slack import rendered
from cheapdeep_ops.guard.reports.quality import baselines_of, grader_of, quality_of
from cheapdeep_ops.guard.reports.receipt import receipt
from cheapdeep_ops.guard.reports.status import status
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.store import candidates, detectors, incidents, policies, sampling_rates
from cheapdeep_ops.store.tables.alert_tables import AlertRow, IncidentRow, OutboxRow
from cheapdeep_ops.store.tables.grade_tables import GradeRow
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.testing.slack.slack_wire import texts_of
from cheapdeep_ops.values import ALL_ROUTES, Exchange, GradeFailure

from .conftest import START, decided

on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
"""What is decided rests on what was read, not on the engine; a few of these run on both."""

CLIMBING, STORM = "FalseConfidenceClimbing", "EscalationStorm"
DAY_S = 86_400


def changes(school):
    with school.store.reading() as connection:
        return policies.history(connection, limit=1000)[::-1]


def acts(school):
    return [(each["act"], each["scope"], each["cause"], each["applied"]) for each in changes(school)]


def alerts(school):
    with school.store.reading() as connection:
        return {(row["rule"], row["scope"]): row for row in incidents.alerts(connection)}


def firing(school):
    return sorted(rule for (rule, _), row in alerts(school).items() if row["state"] == "firing")


def grade_rows(school):
    with school.store.reading() as connection:
        return [dict(row._mapping) for row in connection.execute(select(table_of(GradeRow)).order_by("id"))]


# What is normal, and climbing


@pytest.mark.thorough
@on_sqlite
def test_normal_is_learned_from_the_first_grades_and_goes_on_learning(school):
    school.teach(190, 0.05)
    with school.store.reading() as connection:
        assert baselines_of(connection, school.settings)["support"]["rate"] is None
    school.teach(110, 0.05, seed=1)
    with school.store.reading() as connection:
        normal = baselines_of(connection, school.settings)["support"]
    assert 200 <= normal["grades"] <= 300
    assert normal["stage"] == "first"
    assert normal["low"] < normal["rate"] < normal["high"] == pytest.approx(normal["target"])
    school.learn(600, 0.05, seed=2)
    school.learn(10, 0.05, seed=3)
    with school.store.reading() as connection:
        known = baselines_of(connection, school.settings)["support"]
    assert known["grades"] > 600
    assert known["stage"] == "learned"
    assert known["target"] <= min(known["ceiling"], known["high"]) < normal["target"]


def test_false_confidence_that_climbs_raises_tells_and_is_let_go_by_grades(school):
    school.learn(400, 0.04)
    assert changes(school) == []
    school.teach(200, 0.4, seed=1, cls="tariffs")
    assert acts(school) == [("raise", "support", CLIMBING, True)]
    (raised,) = changes(school)
    assert raised["signal"]["low"] > raised["signal"]["normal_high"]
    assert raised["signal"]["n"] >= 50
    assert school.threshold() == 0.9
    started = school.inbox.payloads[0]
    assert started["input_classes"][0][0] == "tariffs"
    assert (started["cause"]["dimension"], started["cause"]["element"]) == ("input class", "tariffs")
    assert any(line.startswith("Cause: input class tariffs: ") for line in details(started))
    assert any("of its confident answers are wrong" in line for line in details(started))
    assert "examples" not in started
    assert "the false-confident rate of route support is " in headline(started)
    assert any("0.8 -> 0.9" in line for line in details(started))
    school.teach(400, 0.04, seed=2)
    assert acts(school)[1:] == [("release", "support", CLIMBING, True)]
    assert school.threshold() == 0.8
    assert school.inbox.kinds[-1] == "resolved"
    assert {payload["cause"]["since"] for payload in school.inbox.payloads} == {started["cause"]["since"]}
    with school.store.reading() as connection:
        (incident,) = incidents.incidents(connection)
    assert incident["announced"]["cause"]["element"] == "tariffs"


@on_sqlite
@pytest.mark.thorough
def test_a_rate_that_stays_as_it_was_raises_nothing_however_high_it_is(school):
    school.teach(1_500, 0.3)
    assert changes(school) == []


@on_sqlite
def test_nothing_is_said_before_normal_is_known(school):
    school.teach(150, 0.6)
    assert changes(school) == []
    assert (CLIMBING, "support") not in alerts(school)


@pytest.mark.thorough
@on_sqlite
def test_a_limit_that_was_set_has_an_alert_of_its_own(make_school):
    school = make_school(max_false_confident_rate=0.1)
    school.teach(150, 0.5)
    assert firing(school) == ["FalseConfidenceTooHigh"]
    assert school.threshold() == 0.9
    assert "limit 10.0%" in headline(school.inbox.payloads[0])
    school.teach(500, 0.02, seed=1)
    assert firing(school) == []
    assert school.threshold() == 0.8


def raised_before(school, times):
    """So many incidents of the last hours that are over."""

    def insert(connection):
        for number in range(times):
            at = school.clock() - 3_600 * (number + 1)
            opened = incidents.open_incident(connection, rule=CLIMBING, scope="support", at=at)
            incidents.resolve_incident(connection, opened, at=at + 60)

    school.store.transact(insert)


@pytest.mark.thorough
@on_sqlite
@pytest.mark.parametrize("end", ["grades", "pin", "learn"])
def test_a_third_raise_within_a_day_waits_for_a_person(school, end):
    school.learn(700, 0.04)
    raised_before(school, 1 if end == "grades" else 2)
    school.drift()
    school.learn(800, 0.02, seed=1)
    if end == "grades":
        assert firing(school) == []
        return
    assert firing(school) == [CLIMBING]
    lines = "\n".join(details(school.inbox.payloads[0]))
    assert "raised 3 times within a day" in lines
    assert all(
        f"cheapdeep-ops {command} --route support" in lines for command in ("threshold release", "normal relearn")
    )
    school.clock.advance(DAY_S)
    school.look()
    assert school.inbox.kinds[-1] == "reminder"
    assert "raised 3 times within a day" in "\n".join(details(school.inbox.payloads[-1]))
    if end == "pin":
        school.do(pin, route="support", threshold=0.8, author="ann", why="we accept it")
        school.do(release, route="support", author="ann", why="let the rules decide")
    else:
        school.do(relearn, route="support", author="ann", why="a new kind of question")
        school.learn(300, 0.02, seed=2)
    school.learn(300, 0.02, seed=3)
    assert firing(school) == []
    assert school.threshold() == 0.8


@pytest.mark.thorough
@on_sqlite
def test_what_was_normal_is_learned_anew_only_when_a_person_says_so(school):
    school.learn(300, 0.02)
    school.teach(300, 0.3, seed=1)
    assert firing(school) == [CLIMBING]
    school.do(relearn, route="support", author="ann", why="a new kind of question")
    school.teach(300, 0.3, seed=2)
    with school.store.reading() as connection:
        assert baselines_of(connection, school.settings)["support"]["rate"] == pytest.approx(0.3, abs=0.1)
    school.teach(300, 0.3, seed=3)
    assert firing(school) == []
    assert school.threshold() == 0.8


@on_sqlite
@pytest.mark.thorough
def test_a_route_that_others_join_later_with_a_worse_normal_is_no_drift_of_all_routes(school):
    school.teach(400, 0.02, route="faq")
    school.teach(800, 0.25, seed=1, route="legal")
    school.teach(300, 0.02, seed=2, route="faq")
    assert changes(school) == []


@pytest.mark.thorough
@on_sqlite
def test_a_small_climb_on_many_routes_is_seen_in_all_of_them_together(school):
    routes = [f"r{number}" for number in range(8)]
    for seed, route in enumerate(routes):
        school.learn(210, 0.02, seed=seed, route=route)
    assert changes(school) == []
    for turn in range(6):
        for number, route in enumerate(routes):
            school.teach(40, 0.13, seed=100 + 10 * turn + number, route=route)
        if changes(school):
            break
    assert ("raise", ALL_ROUTES, CLIMBING, True) in acts(school)
    assert school.threshold("never-seen") == 0.9


# Letting go


@pytest.mark.thorough
@on_sqlite
def test_a_healthy_route_whose_answers_between_base_and_raised_are_worse_than_the_whole_is_let_go(school):
    shares, wrong = (0.95, 0.95, 0.95, 0.85), {0.95: 0.03, 0.85: 0.1}
    school.teach(400, 0, confidences=shares, wrong=wrong)
    school.teach(200, 0.5, seed=1, confidences=shares)
    assert school.threshold() == 0.9
    school.teach(800, 0, seed=2, confidences=shares, wrong=wrong)
    assert school.threshold() == 0.8
    withheld = [row for row in grade_rows(school) if not row["shipped"]]
    assert len(withheld) > 20


@on_sqlite
@pytest.mark.thorough
def test_a_route_with_nothing_between_base_and_raised_is_let_go(school):
    school.teach(400, 0.04, confidences=(0.95,))
    school.teach(200, 0.5, seed=1, confidences=(0.95,))
    assert school.threshold() == 0.9
    school.teach(600, 0.04, seed=2, confidences=(0.95,))
    assert school.threshold() == 0.8
    assert all(row["shipped"] for row in grade_rows(school))


@pytest.mark.thorough
@on_sqlite
def test_a_route_that_stays_bad_is_not_let_go_and_says_that_the_raise_does_not_help(school):
    school.teach(300, 0.04, confidences=(0.95, 0.85))
    school.teach(1_500, 0.4, seed=1, confidences=(0.95, 0.85))
    assert acts(school) == [("raise", "support", CLIMBING, True)]
    assert firing(school) == [CLIMBING]
    assert any("no sign that the raise helps" in payload["effect"] for payload in school.inbox.payloads)


@pytest.mark.thorough
@on_sqlite
def test_a_raise_that_helps_says_so(school):
    shares, drift = (0.95, 0.85), {0.95: 0.02, 0.85: 0.7}
    school.teach(300, 0.02, confidences=shares)
    school.teach(1_000, 0, seed=1, confidences=shares, wrong=drift)
    assert any(payload["effect"].startswith("the raise helps") for payload in school.inbox.payloads)
    assert firing(school) == [CLIMBING]


@pytest.mark.thorough
@on_sqlite
def test_time_alone_lets_nothing_go(school):
    school.learn(300, 0.02)
    school.teach(200, 0.5, seed=1)
    for _ in range(24 * 3):
        school.clock.advance(3_600)
        school.look()
    assert school.threshold() == 0.9
    assert alerts(school)[(CLIMBING, "support")]["state"] == "firing"


@pytest.mark.thorough
@on_sqlite
def test_a_storm_that_ends_does_not_let_go_what_false_confidence_holds(school):
    school.learn(300, 0.02)
    school.teach(200, 0.6, seed=1)
    for _ in range(120):
        for _ in range(10):
            school.answer(0.5, "correct")
        school.clock.advance(1)
        school.recorder.fold(school.clock())
    school.look()
    assert firing(school) == [STORM, CLIMBING]
    school.run(400, [0.95] * 10)
    assert firing(school) == [CLIMBING]
    assert school.threshold() == 0.9
    assert acts(school)[-1][:3] == ("release", "support", STORM)


@on_sqlite
def test_a_pin_overrides_all_and_is_obeyed(school):
    school.learn(300, 0.02)
    school.do(pin, threshold=0.8, route="support", author="ann", why="trial")
    school.teach(300, 0.6, seed=1)
    assert school.threshold() == 0.8
    assert acts(school)[-1] == ("raise", "support", CLIMBING, False)
    assert "pinned" in school.inbox.payloads[0]["threshold"]
    school.do(release, route="support", author="ann", why="")
    school.look()
    assert school.threshold() == 0.9


@on_sqlite
@pytest.mark.thorough
def test_a_raise_that_a_person_kept_off_has_no_effect_to_tell_of(school):
    school.learn(300, 0.02)
    school.do(pin, threshold=0.85, route="support", author="ann", why="trial")
    school.teach(300, 0.6, seed=1)
    assert {payload["effect"] for payload in school.inbox.payloads} == {""}


@pytest.mark.thorough
@on_sqlite
def test_wrong_answers_are_told_by_class_for_the_grades_of_the_headline(school):
    school.teach(400, 0.05, cls="faq")
    school.drift(cls="tariffs")
    started = school.inbox.payloads[0]
    wrong = sum(count for _, count in started["input_classes"])
    assert wrong == round(started["signal"]["rate"] * started["signal"]["n"])


@on_sqlite
@pytest.mark.thorough
def test_relearning_during_an_incident_tells_no_numbers_that_nobody_knows(school):
    school.learn(300, 0.02)
    school.drift()
    told = school.inbox.payloads[:]
    school.do(relearn, route="support", author="ann", why="new product")
    school.teach(150, 0.3, seed=2)
    # One message says who asked for it, with the figures that were told last.
    (asked,) = school.inbox.payloads[len(told) :]
    assert asked["ordered"]["author"] == "ann"
    assert asked["signal"] == told[-1]["signal"]
    assert school.threshold() == 0.9


@on_sqlite
@pytest.mark.thorough
def test_a_message_that_is_brought_up_to_date_still_says_who_holds_the_threshold(school):
    school.learn(300, 0.02)
    school.drift()
    school.teach(900, 0.95, seed=2)
    changed = [payload for payload in school.inbox.payloads if payload["kind"] == "changed"]
    assert changed[-1]["threshold"] == f"threshold stays at 0.9, held by {CLIMBING}"


@pytest.mark.thorough
@on_sqlite
def test_observe_mode_says_what_it_would_do(make_school):
    school = make_school(mode="observe")
    school.learn(300, 0.05)
    school.teach(200, 0.6, seed=1)
    assert acts(school) == [("raise", "support", CLIMBING, False)]
    assert school.threshold() == 0.8
    assert "observe mode" in school.inbox.payloads[0]["threshold"]
    school.teach(400, 0.02, seed=2)
    assert school.inbox.kinds[-1] == "resolved"


@pytest.mark.thorough
@on_sqlite
def test_a_raise_that_nobody_can_judge_is_brought_before_a_person_after_a_week(school):
    school.learn(300, 0.02)
    school.drift()
    for _ in range(8):
        school.clock.advance(DAY_S)
        school.teach(1, 0.02, seed=2)
    assert school.threshold() == 0.9
    assert "RaiseUndecided" in firing(school)
    asked = [payload for payload in school.inbox.payloads if payload["rule"] == "RaiseUndecided"]
    assert [payload["kind"] for payload in asked] == ["started"]
    assert "please decide" in headline(asked[0])
    school.teach(600, 0.02, seed=3)
    assert firing(school) == []


# A grader that cannot be relied on


def test_a_grader_that_nobody_may_ask_is_no_good_news(school):
    school.learn(300, 0.02)
    school.bench.error = GraderError("401 AuthenticationError: invalid x-api-key", pauses=True)
    school.teach(200, 0.6, seed=1)
    school.clock.advance(600)
    school.look()
    assert "GraderFailing" in firing(school)
    told = next(payload for payload in school.inbox.payloads if payload["rule"] == "GraderFailing")
    assert "the grader is paused: 401" in headline(told)
    found = alerts(school)[(CLIMBING, "support")]
    assert (found["level"], found["signal"]["rate"], found["signal"]["n"]) == ("no_data", None, 0)
    with school.store.reading() as connection:
        assert grader_of(connection, school.settings, school.clock())["state"] == "paused"
    school.bench.error = None
    school.clock.advance(600)
    for _ in range(3):
        school.mark()
        school.look()
    assert "GraderFailing" not in firing(school)
    assert school.threshold() == 0.9


@pytest.mark.thorough
@on_sqlite
@pytest.mark.parametrize("failure", list(GradeFailure))
def test_gradings_that_fail_are_neither_right_nor_wrong(school, failure):
    school.learn(250, 0.02)
    before = len([row for row in grade_rows(school) if row["verdict"]])
    school.bench.failure = failure
    school.teach(200, 0.6, seed=1)
    rows = grade_rows(school)
    assert len([row for row in rows if row["verdict"]]) == before
    assert {row["failure"] for row in rows if not row["verdict"]} == {failure.value}
    school.clock.advance(400)
    school.look()
    assert firing(school) == ["GraderFailing"]
    with school.store.reading() as connection:
        found = quality_of(connection, since=0, until=school.clock() + 1)
    assert found["graded"] == before
    assert found["grades"][failure.value] == len(rows) - before


@on_sqlite
@pytest.mark.thorough
def test_a_raise_is_held_while_the_grader_is_dead(school):
    school.learn(300, 0.02)
    school.teach(200, 0.6, seed=1)
    school.bench.error = GraderError("APIConnectionError")
    school.teach(1_000, 0.0, seed=2)
    assert school.threshold() == 0.9
    assert CLIMBING in firing(school)


@on_sqlite
@pytest.mark.thorough
def test_samples_that_nobody_grades_are_an_alert_even_where_nothing_fails(school):
    school.learn(300, 0.02)
    school.teach(100, 0.02, seed=1)
    for _ in range(10):
        school.answer(0.95, "correct")
    school.recorder.drain(school.clock())
    choosing = Grader(school.store, settings=school.settings.model_copy(update={"max_grader_usd_per_day": 0.0}),
                      api=school.bench)  # fmt: skip
    choosing.run(school.clock())
    for _ in range(30):
        school.clock.advance(120)
        school.look()
    assert firing(school) == ["GraderFailing"]
    assert "samples wait for a grade" in alerts(school)[("GraderFailing", ALL_ROUTES)]["signal"]["why"]


@on_sqlite
def test_before_anything_was_graded_the_rate_is_unknown_and_nothing_fires(school):
    school.run(400, [0.95] * 3)
    assert {key for key in alerts(school) if key[1] != ALL_ROUTES} == {(STORM, "support")}
    assert firing(school) == []
    with school.store.reading() as connection:
        found = quality_of(connection, since=0, until=school.clock())
    assert (found["false_confident_rate"], found["false_confident_interval"]) == (None, (0.0, 1.0))


@on_sqlite
def test_grading_that_is_switched_off_fails_nobody(make_school):
    school = make_school(sample_rate=0.0)
    school.teach(300, 0.5)
    assert school.bench.asked == 0
    assert firing(school) == []
    with school.store.reading() as connection:
        assert grader_of(connection, school.settings, school.clock())["state"] == "off"


# Sampling, and the books


@pytest.mark.thorough
def test_one_percent_is_graded_and_the_funnel_adds_up(make_school):
    school = make_school(sample_rate=0.1, sampling="uniform")
    school.teach(2_000, 0.05)
    found = receipt(school.store, school.settings, since=START - 1, until=school.clock() + 1)
    funnel = found["funnel"]
    states = ("not_sampled", "skipped", "waiting", "graded", "failed", "expired")
    assert sum(funnel[state] for state in states) == funnel["answers"] == 2_000
    assert 150 < funnel["graded"] < 250
    assert found["graded"] == funnel["graded"]
    assert {row["inclusion"] for row in grade_rows(school)} == {0.1}


@pytest.mark.thorough
def test_a_rate_that_is_changed_grades_more_of_what_was_kept_and_weighs_it_so(make_school):
    school = make_school(sample_rate=0.02, sampling="uniform")
    school.teach(1_000, 0.05)
    few = len(grade_rows(school))
    school.guard.close()
    school.guard = school.another_guard(settings=school.settings.model_copy(update={"sample_rate": 0.08}))
    school.look()
    school.mark()
    rows = grade_rows(school)
    assert len(rows) > 2 * few
    assert {row["inclusion"] for row in rows} == {0.02, 0.08}


def spent(found):
    return {kind: found[kind]["samples"] for kind in ("evenly", "suspected", "hindsight")}


@pytest.mark.thorough
def test_the_receipt_says_what_was_graded_and_why_it_was_chosen(make_school):
    school = make_school(sample_rate=0.05)
    school.teach(8_000, 0.05)
    calm = receipt(school.store, school.settings, since=START - 1, until=school.clock() + 1)["sampling"]
    school.teach(1_000, 0.6, seed=1)
    found = receipt(school.store, school.settings, since=START - 1, until=school.clock() + 1)["sampling"]
    rows = grade_rows(school)
    assert spent(found) == {
        "evenly": sum(not row["steered"] and row["inclusion"] < 1 for row in rows),
        "suspected": sum(not row["steered"] and row["inclusion"] == 1 for row in rows),
        "hindsight": sum(row["steered"] for row in rows),
    }
    assert min(spent(found).values()) > 0
    assert found["samples"] == len(rows) == sum(spent(found).values())
    assert found["spent_share"] == len(rows) / 9_000 > calm["spent_share"]
    assert found["budget"] == 0.05
    price = (10 * 5 + 25) / 1e6
    for kind in ("evenly", "suspected", "hindsight"):
        assert found[kind]["cost_usd"] == pytest.approx(price * found[kind]["samples"])
        assert found[kind]["unpriced"] == 0


@on_sqlite
def test_gradings_that_failed_were_spent_too_and_unpriced_ones_are_counted(make_school):
    school = make_school(grader_model="claude-of-another-house")
    school.bench.failure = GradeFailure.REFUSAL
    school.teach(20, 0.0)
    found = receipt(school.store, school.settings, since=START - 1, until=school.clock() + 1)["sampling"]
    assert found["spent_share"] == 1.0
    assert found["evenly"] == {"samples": 20, "cost_usd": 0.0, "unpriced": 20}
    assert spent(found) == {"evenly": 20, "suspected": 0, "hindsight": 0}


@pytest.mark.thorough
@on_sqlite
def test_status_and_receipt_say_how_soon_a_climb_of_each_route_is_found(make_school):
    school = make_school()
    now = partial(status, school.store, school.settings)
    school.teach(100, 0.05)
    assert now(school.clock())["reach"]["support"]["why"] == "the baseline is not learned yet"
    school.teach(300, 0.05, seed=1)
    reach = now(school.clock())["reach"]["support"]
    assert reach["answers_per_day"] == 400
    assert 200 <= reach["n"] <= 400
    assert reach["why"] == ""
    assert reach["smallest_in_week"] < reach["smallest_in_day"]
    found = receipt(school.store, school.settings, since=0, until=school.clock())
    assert found["reach"] == now(school.clock())["reach"]
    later = now(school.clock() + 2 * DAY_S)["reach"]["support"]
    assert later["climbs"] == []
    assert "no confident answer" in later["why"]


@on_sqlite
def test_where_no_rule_looks_for_a_climb_none_is_said_to_be_found(make_school, tmp_path):
    school = make_school()
    school.learn(300, 0.05)
    (tmp_path / "rules.yaml").write_text("rules: []")
    for file in ("rules.yaml", "missing.yaml"):
        blind = school.settings.model_copy(update={"rules_file": tmp_path / file})
        reach = status(school.store, blind, school.clock())["reach"]["support"]
        assert reach["climbs"] == []
        assert "no valid rule" in reach["why"]


@on_sqlite
def test_an_answer_of_a_pinned_route_counts_by_what_it_would_be_at_base(school):
    school.do(pin, threshold=0.9, route="support", author="ann", why="trial")
    school.look()
    school.teach(100, 0.1, confidences=(0.95, 0.85, 0.5))
    rows = grade_rows(school)
    assert {(row["confidence"], row["shipped"]) for row in rows} == {(0.95, True), (0.85, False)}
    with school.store.reading() as connection:
        found = quality_of(connection, since=0, until=school.clock() + 1)
    assert found["graded"] + found["withheld_graded"] == len(rows)


def test_status_report_and_metrics_show_the_grader_and_what_is_normal(school):
    school.teach(300, 0.05)
    state = status(school.store, school.settings, school.clock())
    assert state["grader"]["state"] == "running"
    assert state["normal"]["support"]["grades"] == 300
    found = receipt(school.store, school.settings, since=0, until=school.clock() + 1)
    assert found["graded"] == 300
    assert found["grader_cost_usd"] == pytest.approx(300 * (10 * 5 + 25) / 1e6)
    collector = FleetCollector(
        school.store, settings=school.settings, rulebook=read_rulebook(), jobs=dict,
        clock=school.clock,
    )  # fmt: skip
    shown = page(collector).decode()
    correct = found["grades"]["correct"]
    for line in (
        f'cheapdeep_fleet_grades_total{{route="support",verdict="correct"}} {correct}.0',
        'cheapdeep_false_confident_grades{route="support"} 300.0',
        "cheapdeep_grader_up 1.0",
        "cheapdeep_samples_waiting 0.0",
    ):
        assert line in shown
    assert 'cheapdeep_false_confident_normal{route="support"} 0.0' in shown


@pytest.mark.thorough
@on_sqlite
def test_a_restarted_guard_goes_on_where_the_other_stopped(school):
    school.learn(300, 0.02)
    school.teach(200, 0.6, seed=1)
    school.guard.close()
    school.guard = school.another_guard()
    school.look()
    school.teach(400, 0.02, seed=2)
    assert acts(school) == [("raise", "support", CLIMBING, True), ("release", "support", CLIMBING, True)]
    assert school.inbox.kinds.count("started") == 1


def test_a_guard_that_does_not_lead_grades_nothing(school):
    other = school.another_guard()
    school.guard.step(school.clock())
    assert not other.step(school.clock())
    school.answer(0.95, "correct")
    school.recorder.drain(school.clock())
    assert other.grade(school.clock()) == 0
    assert school.bench.asked == 0


# Found by attacking it


@on_sqlite
@pytest.mark.thorough
def test_a_route_that_recovers_raises_no_other(school):
    school.teach(300, 0.02, route="a")
    school.teach(300, 0.02, seed=1, route="b")
    school.teach(250, 0.5, seed=2, route="a")
    for turn in range(8):
        school.teach(60, 0.02, seed=10 + turn, route="a")
        school.teach(60, 0.02, seed=30 + turn, route="b")
    assert acts(school) == [("raise", "a", CLIMBING, True), ("release", "a", CLIMBING, True)]


@pytest.mark.thorough
@on_sqlite
def test_another_judge_learns_no_drift_as_normal_while_a_raise_is_held(school):
    school.learn(300, 0.04)
    school.drift()
    other = school.settings.model_copy(update={"grader_model": "claude-opus-4-8"})
    school.guard.close()
    school.guard = school.another_guard(settings=other)
    school.look()
    school.teach(600, 0.6, seed=2)
    assert school.threshold() == 0.9
    with school.store.reading() as connection:
        assert baselines_of(connection, other)["support"]["rate"] is None


@pytest.mark.thorough
@on_sqlite
def test_a_router_whose_clock_is_ahead_blinds_no_route(school):
    school.teach(100, 0.03)
    now = school.clock()
    for name in ("early-1", "early-2"):
        decision = self_dated(school, now + DAY_S)
        school.recorder.put(decision, partial(Exchange, turns=(), answer="correct", response_id=name))
    school.teach(200, 0.03, seed=1)
    school.drift()
    assert school.threshold() == 0.9


def self_dated(school, at):
    return school._named(decided(0.95, school.recorder.book.for_route("support"), at=at))


# Steering


def rates(school):
    with school.store.reading() as connection:
        return sampling_rates.latest(connection)


def steered(school):
    return [row for row in grade_rows(school) if row["steered"]]


@on_sqlite
@pytest.mark.thorough
def test_in_calm_half_of_the_budget_is_graded_once_normal_is_known(make_school):
    school = make_school(sample_rate=0.1)
    school.learn(1_300, 0.0)
    school.teach(100, 0.0)
    assert rates(school) == {"support": pytest.approx(0.05)}
    before = len(grade_rows(school))
    school.teach(2_000, 0.0, seed=1)
    assert 70 <= len(grade_rows(school)) - before <= 135
    assert steered(school) == []


@pytest.mark.thorough
@on_sqlite
def test_a_suspicion_has_answers_of_the_past_graded_and_a_climb_found_with_them(make_school):
    school = make_school(sample_rate=0.1)
    school.teach(2_600, 0.02)
    school.teach(600, 0.4, seed=1)
    assert acts(school) == [("raise", "support", CLIMBING, True)]
    found = steered(school)
    assert len(found) >= 15
    assert {row["inclusion"] for row in found} == {1.0}
    assert rates(school) == {"support": 1.0}


@on_sqlite
@pytest.mark.thorough
def test_what_was_graded_in_hindsight_is_in_no_estimate_of_a_period(make_school):
    school = make_school(sample_rate=0.1)
    school.teach(2_600, 0.02)
    school.teach(300, 0.4, seed=1)
    with school.store.reading() as connection:
        found = quality_of(connection, since=0, until=school.clock() + 1)
    plain = [row for row in grade_rows(school) if not row["steered"] and row["shipped"]]
    assert len(steered(school)) > 0
    assert found["graded"] == len(plain)


@on_sqlite
@pytest.mark.thorough
def test_uniform_sampling_grades_the_same_share_whatever_is_suspected(make_school):
    school = make_school(sample_rate=0.1, sampling="uniform")
    school.teach(2_600, 0.02)
    school.teach(300, 0.5, seed=1)
    assert steered(school) == []
    assert {row["inclusion"] for row in grade_rows(school)} == {0.1}


@on_sqlite
@pytest.mark.thorough
def test_a_small_route_gets_more_than_its_share(make_school):
    school = make_school(sample_rate=0.02)
    for turn in range(20):
        school.teach(200, 0.0, seed=turn, route="large")
        school.teach(10, 0.0, seed=turn, route="small")
    assert rates(school)["small"] > 2 * rates(school).get("large", 0.02)


@on_sqlite
@pytest.mark.thorough
def test_while_nobody_grades_a_suspicion_piles_up_no_work(make_school):
    school = make_school(sample_rate=0.1)
    school.teach(2_600, 0.02)
    before = len(steered(school))
    school.teach(60, 1.0, seed=1)
    school.bench.error = GraderError("out of order")
    for _ in range(30):
        school.clock.advance(60)
        school.mark()
        school.look()
    with school.store.reading() as connection:
        waiting = candidates.steered_waiting(connection)
    assert waiting <= 200
    assert len(steered(school)) - before <= 200


def ungraded(school):
    with school.store.reading() as connection:
        return candidates.ungraded(connection, otherwise=0.2, in_batches=True).get("support", 0)


def suspect(school, suspicion):
    """Leave `suspicion` of the route behind, as grades that are known would."""
    judge = grader_version(school.settings)

    def leave(connection):
        kept = detectors.read(connection, judge, rule="sampling")[ALL_ROUTES]
        after = replace(kept, state={"support": suspicion.row()})
        place = detectors.StoredDetector(rule="sampling", scope=ALL_ROUTES, kept=after)
        detectors.write(connection, judge, [place], now=school.clock())

    school.store.transact(leave)


@on_sqlite
@pytest.mark.thorough
def test_while_grades_are_late_no_more_waits_than_may_and_a_suspicion_that_stays_asks_again(make_school):
    school = make_school(sample_rate=0.2)
    school.learn(1_300, 0.02)
    school.teach(100, 0.02)
    suspect(school, Suspicion(value=1e6, hindsight=MAX_RETROSPECTIVE))
    school.bench.error = GraderError("out of order")
    seen = []
    for turn in range(12):
        school.teach(100, 0.05, seed=turn)
        seen.append((rates(school)["support"], ungraded(school)))
    heat = [waiting for rate, waiting in seen if rate == 1.0]
    calm = [waiting for rate, waiting in seen if rate != 1.0]
    assert heat == sorted(heat)
    assert max(heat) < MAX_WAITING <= calm[0] <= MAX_WAITING + 100, "a run's worth is chosen before the next look"
    assert seen[len(heat) :] == [(pytest.approx(0.1), waiting) for waiting in calm]
    assert calm[-1] - calm[0] < 0.2 * 100 * len(calm), "as few as in calm"
    school.bench.error = None
    school.clock.advance(700)
    school.mark()
    school.mark()
    assert changes(school) == []
    assert rates(school) == {"support": 1.0}


# Examples of wrong answers


def climbed(school):
    school.teach(300, 0.04)
    school.teach(200, 0.5, seed=1, cls="tariffs")
    assert firing(school) == [CLIMBING]


def stored_words(school):
    """All that is stored of messages, incidents and alerts, as text."""
    texts = (table_of(OutboxRow).c.payload, table_of(IncidentRow).c.announced, table_of(AlertRow).c.signal)
    with school.store.reading() as connection:
        # As tuples: a row itself shows long texts shortened.
        return str([tuple(row) for each in texts for row in connection.execute(select(each))])


@pytest.mark.thorough
@on_sqlite
def test_without_being_asked_no_content_is_in_any_message_store_or_log(school, caplog):
    caplog.set_level("DEBUG")
    climbed(school)
    for payload in school.inbox.payloads:
        LogSender().send(payload, MessageRef())
        assert "examples" not in payload
        assert "How much" not in str(rendered(payload))
    for words in (stored_words(school), str(school.inbox.payloads), caplog.text):
        assert "How much" not in words
        assert "as it says" not in words


@pytest.mark.thorough
def test_where_people_want_to_see_some_wrong_answers_of_the_culprit_are_sent_and_only_their_ids_stored(
    make_school, caplog
):
    caplog.set_level("DEBUG")
    school = make_school(show_examples=True)
    climbed(school)
    started = school.inbox.payloads[0]
    assert len(started["examples"]) == 3
    wrong = {row["call_id"] for row in grade_rows(school) if row["verdict"] == "incorrect" and row["input_class"]}
    assert {each["call_id"] for each in started["examples"]} <= wrong
    call_id = started["examples"][0]["call_id"]
    assert started["examples"][0] == {
        "call_id": call_id, "confidence": 0.95, "question": f"How much is it? {call_id}",
        "answer": "incorrect", "reason": "as it says",
    }  # fmt: skip
    numbers = [int(each["call_id"].removeprefix("call-")) for each in started["examples"]]
    assert numbers == sorted(numbers, reverse=True)
    assert f"Question: `How much is it? {call_id}`\nAnswer: `incorrect`" in str(
        [each["text"] for each in texts_of(rendered(started)[1])]
    ).replace("\\n", "\n")
    LogSender().send(started, MessageRef())
    assert "How much" not in stored_words(school) + caplog.text
    assert started["examples"][0]["call_id"] in stored_words(school)


@pytest.mark.thorough
@on_sqlite
@pytest.mark.parametrize("change", [{"show_examples": False}, {"retain_content_days": 0.0}])
def test_a_message_that_waited_quotes_nothing_where_that_is_no_longer_wanted(make_school, change):
    school = make_school(show_examples=True)
    school.inbox.failures = [DeliveryError("down")] * 100
    climbed(school)
    school.inbox.failures = []
    school.clock.advance(600)
    after = school.another_guard(settings=school.settings.model_copy(update=change))
    school.guard.close()
    school.guard = after
    school.look()
    (told,) = school.inbox.payloads
    assert told["rule"] == CLIMBING
    assert not told.get("examples")


@pytest.mark.thorough
@on_sqlite
def test_what_was_purged_is_quoted_no_more(make_school):
    school = make_school(show_examples=True)
    school.inbox.failures = [DeliveryError("down")] * 100
    climbed(school)
    school.clock.advance(600)
    school.look()
    school.inbox.failures = []
    # The newest message is the one that will be sent: it takes the place of those that wait.
    outbox = table_of(OutboxRow).c
    with school.store.reading() as connection:
        *_, waiting = connection.execute(select(outbox.payload).order_by(outbox.id)).scalars()
    first, *others = [each["call_id"] for each in waiting["examples"]]
    school.store.transact(lambda connection: candidates.forget_call(connection, first))
    school.clock.advance(600)
    school.look()
    quoted = {each["call_id"] for payload in school.inbox.payloads for each in payload.get("examples", ())}
    assert first not in quoted
    assert set(others) <= quoted
    candidates.forget(school.store, before=school.clock() + 1)
    school.teach(100, 0.04, seed=2)
    assert school.inbox.payloads[-1]["kind"] in ("changed", "resolved")
    remembered = {each["call_id"] for each in school.inbox.payloads[-1]["examples"]}
    assert not remembered & {first, *others}
