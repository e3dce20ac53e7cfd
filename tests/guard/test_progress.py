"""Why a rule does not fire: what it has found, what is missing, and how long that takes."""

from unittest.mock import patch

import pytest
from rich.console import Console

from cheapdeep_ops.cli.render.why import show_why
from cheapdeep_ops.guard.actions.thresholds import pin
from cheapdeep_ops.guard.incidents.evaluation import Evaluation
from cheapdeep_ops.guard.progress_text import progress_lines, progress_summary
from cheapdeep_ops.guard.reports.why import why
from cheapdeep_ops.guard.rules.escalation.progress import storm_progress
from cheapdeep_ops.guard.rules.false_confidence.progress import quality_progress
from cheapdeep_ops.guard.rules.model import Finding, Level
from cheapdeep_ops.guard.rules.progress import Pace
from cheapdeep_ops.store import incidents
from tests.guard.conftest import town_rules

CALM, STORM = [0.95] * 9 + [0.5], [0.95] * 2 + [0.5] * 8
PACE = Pace(calls=10.0, grades=0.01, known_grades=150)


@pytest.fixture
def engine():
    return "sqlite"


def rule(alert):
    return next(each for each in town_rules().rules if each.alert == alert)


def storm(**changes):
    signal = {
        "rate": 0.2, "recent_rate": 0.2, "n": 3_000, "limit": 0.35, "evidence": 1.5, "evidence_limit": 14.5,
        "dispersion": 1.0, **changes,
    }  # fmt: skip
    return Finding(level=Level.BELOW, signal=signal)


def test_a_rate_below_the_limit_has_an_example_and_no_wait():
    progress = storm_progress(rule("EscalationStorm"), storm(), PACE)
    assert (progress.wait_s, progress.have, progress.missing) == (None, 3_000, "At this rate it does not fire.")
    assert "A climb to 67.5% would fire it after about" in progress.example


def test_a_rate_above_the_limit_has_a_wait_at_the_present_pace():
    progress = storm_progress(rule("EscalationStorm"), storm(rate=0.45, recent_rate=0.45), PACE)
    more = progress.needed - progress.have
    assert 400 < more < 800
    assert progress.wait_s == pytest.approx(more / 10, rel=0.01)
    slower = storm_progress(rule("EscalationStorm"), storm(rate=0.45, recent_rate=0.45, dispersion=4.0), PACE)
    assert slower.wait_s == pytest.approx(4 * progress.wait_s)


def test_few_calls_say_how_many_are_missing():
    progress = storm_progress(
        rule("EscalationStorm"), Finding(level=Level.NO_DATA, signal={**storm(n=40).signal}), PACE
    )
    assert (progress.have, progress.needed, progress.wait_s) == (40, 100, 6.0)


def test_a_normal_that_is_being_learned_says_how_many_grades_are_missing():
    quality = rule("FalseConfidenceClimbing")
    progress = quality_progress(quality, Finding(level=Level.NO_DATA), PACE)
    assert (progress.have, progress.needed) == (150, quality.normal_grades)
    assert progress.wait_s == pytest.approx((quality.normal_grades - 150) / 0.01)


def test_a_route_is_explained_on_one_screen_and_nothing_is_stored(town, capsys):
    town.run(60, CALM, look_every_s=30)
    found = why(town.store, town.settings, route="support", now=town.clock())
    (storms,) = [each for each in found["rules"] if each["rule"] == "EscalationStorm" and each["scope"] == "support"]
    assert (storms["state"], storms["level"], storms["have"]) == ("inactive", "below", 600)
    assert storms["evidence"] < storms["evidence_limit"]
    show_why(Console(width=100), found)
    printed = capsys.readouterr().out
    assert "route support: threshold 0.8" in printed
    assert "10.0% of 600 calls; it finds a rate above 35.0%." in printed
    assert "to learn what is normal, and has 0." in printed
    assert len(printed.splitlines()) <= 40


def test_an_unknown_route_waits_for_data(town):
    found = why(town.store, town.settings, route="nowhere", now=town.clock())
    lines = [line for _, rule_lines in progress_lines(found) for line in rule_lines]
    assert any("It needs 100 calls within" in line and "has 0" in line for line in lines)
    assert next(iter(progress_summary(found))) == "route nowhere: threshold 0.8"


@pytest.mark.parametrize(
    ("pinned", "mode", "said"),
    [
        ("*", "enforce", "threshold 0.95; a person has pinned it, so rules only report"),
        ("support", "enforce", "threshold 0.95; a person has pinned it, so rules only report"),
        ("shop", "enforce", "threshold 0.8"),
        ("shop", "observe", "threshold 0.8; the mode is observe, so rules only report"),
        ("*", "shadow", "threshold 0.95; a person has pinned it and the mode is shadow, so rules only report"),
    ],
)
def test_it_says_why_rules_only_report(town, pinned, mode, said):
    town.do(pin, threshold=0.95, route=pinned, new_route=True, author="ann", why="a trial")
    found = why(town.store, town.settings.model_copy(update={"mode": mode}), route="support", now=town.clock())
    assert next(iter(progress_summary(found))) == f"route support: {said}"


def test_no_other_route_is_evaluated_for_it(town):
    for route in ("support", "shop", "billing"):
        town.run(10, CALM, route=route, look_every_s=10)
    with patch.object(Evaluation, "_evaluate", autospec=True, side_effect=Evaluation._evaluate) as evaluated:
        found = why(town.store, town.settings, route="support", now=town.clock())
    assert {call.args[3] for call in evaluated.call_args_list} == {"support", "*"}
    (joint,) = [each for each in found["rules"] if (each["rule"], each["scope"]) == ("EscalationStorm", "*")]
    assert joint["have"] == 300


def test_an_unknown_route_and_all_routes_are_explained(town):
    town.run(10, CALM, look_every_s=10)
    first = {
        route: list(progress_summary(why(town.store, town.settings, route=route, now=town.clock())))[1]
        for route in ("support", "suport", "*")
    }
    assert "Is the name right?" in first["suport"]
    assert "Is the name right?" not in first["support"]
    assert first["*"].startswith("Rules judge all routes together where two of them or more have data")


def test_with_one_route_nothing_is_said_of_all_routes_that_is_so_of_the_route_alone(town):
    town.run(10, CALM, look_every_s=10)
    found = why(town.store, town.settings, route="*", now=town.clock())
    assert not [each for each in found["rules"] if each["unit"]]


def test_a_rule_that_fires_says_what_would_end_it(town):
    town.run(30, STORM, look_every_s=15)
    town.run(400, CALM[:2], look_every_s=400)
    found = why(town.store, town.settings, route="support", now=town.clock())
    (storms,) = [each for each in found["rules"] if (each["rule"], each["scope"]) == ("EscalationStorm", "support")]
    assert (storms["state"], storms["missing"]) == ("firing", "The rate is back, so it resolves after its hold time.")


def test_a_rate_that_varies_by_itself_needs_as_many_times_the_grades_and_says_so():
    steady = {"target": 0.04, "n": 800, "rate": 0.1, "evidence": 2.0, "evidence_limit": 11.7, "dispersion": 1.0}
    plain, varied = (
        quality_progress(
            rule("FalseConfidenceClimbing"),
            Finding(level=Level.UNCLEAR, signal={**steady, "dispersion": dispersion}),
            PACE,
        )
        for dispersion in (1.0, 5.0)
    )
    assert varied.wait_s == pytest.approx(5 * plain.wait_s)
    assert "Its rate varies 5.0 times as much as by chance" in varied.example
    assert "varies" not in plain.example


def test_the_dispersion_of_a_test_is_in_its_finding(school):
    school.learn(700, 0.05)
    with school.store.reading() as connection:
        (alert,) = [
            each for each in incidents.alerts(connection)
            if (each["rule"], each["scope"]) == ("FalseConfidenceClimbing", "support")
        ]  # fmt: skip
    assert alert["signal"]["dispersion"] >= 1.0


def test_grades_that_are_not_read_say_why_and_no_number_is_missing():
    signal = {"target": 0.04, "n": 0, "why": "not read while JudgeDrifted fires: the grader has changed"}
    progress = quality_progress(rule("FalseConfidenceClimbing"), Finding(level=Level.NO_DATA, signal=signal), PACE)
    assert (progress.found, progress.missing, progress.wait_s) == (signal["why"], "It reads no grades now.", None)


def test_a_route_is_explained_as_the_guard_reads_it_while_the_grader_has_changed(town):
    with patch("cheapdeep_ops.guard.reports.why.Evaluation", wraps=Evaluation) as evaluation:
        why(town.store, town.settings, route="support", now=town.clock())
    assert "JudgeDrifted" in {each.alert for each in evaluation.call_args.kwargs["rulebook"].rules}
