"""The demonstration: once as a command in a process of its own, then its checks, its receipt and its panel."""

import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest
from rich.console import Console

from cheapdeep_ops.cli.render import runs
from cheapdeep_ops.cli.render.live import LiveView, PlainView, panel, view_for
from cheapdeep_ops.demo import environment, show
from cheapdeep_ops.demo.report import FinishedCall, month_of
from cheapdeep_ops.demo.show import CLIMBING, PHASES, STORM, Snapshot, Timeline, checks_of, run_demo
from cheapdeep_ops.guard.rules.book import Rulebook, read_rulebook
from cheapdeep_ops.policy import EffectivePolicy
from cheapdeep_ops.recorder import Recorder
from cheapdeep_ops.router import Routed
from cheapdeep_ops.testing import FrozenClock, Reply
from tests.guard.conftest import decided
from tests.tracing import traced

NAMES = ["calm", "storm", "recovery", "drift", "recovery from drift"]
SNAPSHOT = Snapshot(
    phase="storm", at=1_790_000_300.0, lasted_s=300.0, real_s=10.0, calls=600, base_rate=0.5, actual_rate=0.2,
    wrong_rate=0.01, graded=300, threshold=0.9, firing=(STORM,), slack=f"{STORM} firing: 52.1% [of] the calls",
)  # fmt: skip
PROGRESS = re.compile(r"Real HTTP .*|== .*|[0-9]{2}:[0-9]{2}:[0-9]{2} +[0-9]+ calls  .*")


def shown_by(show_it: Callable[[Console], None], *, width: int, is_terminal: bool) -> str:
    file = io.StringIO()
    show_it(Console(file=file, width=width, force_terminal=is_terminal, color_system=None, highlight=False))
    return file.getvalue()


@pytest.mark.thorough
def test_the_command_shows_storm_and_drift_and_their_ends_and_what_a_team_would_see():
    """One run for everything that needs a whole one: it takes half a minute of a processor."""
    done = subprocess.run(
        [sys.executable, "-m", "cheapdeep_ops", "demo", "--json"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CHEAPDEEP_BASE_THRESHOLD": "0.5", "CHEAPDEEP_SLACK_WEBHOOK_URL": "http://127.0.0.1:9/no"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert_nothing_but_progress(done.stderr)
    assert_all_happened(found)
    assert_the_range_of_usual_traffic(found)
    for width in (64, 80, 120):
        assert_no_word_breaks(found, width)
    plain = shown_by(lambda out: runs.show_demo(out, found), width=200, is_terminal=False)
    assert "FAIL" not in plain
    assert re.fullmatch(r"saving +\$[0-9,]+ a month \(\$[0-9,]+ to \$[0-9,]+\), .*%.*", plain.splitlines()[-1])


@pytest.mark.thorough
def test_no_write_transaction_does_more_than_write_and_check_what_it_rests_on():
    """By what is done under the lock and not by a clock: a busy machine would make any time long."""
    with traced() as tracer:
        assert all(run_demo(Unseen())["checks"].values())
    usual = [each for each in tracer.transactions if not each.statements["CREATE"]]  # the first one makes the tables
    assert len(usual) > 500
    assert {kind for each in usual for kind in each.statements} <= {"INSERT", "UPDATE", "DELETE", "SELECT"}
    # A new receiver is told once of the incidents that are open, whose states may not move meanwhile.
    told = [each for each in usual if any('INSERT INTO "receiver"' in text for text in each.texts)]
    assert len(told) == 1
    assert max(each.statements["SELECT"] for each in usual if each not in told) <= 2
    assert told[0].statements["SELECT"] <= 7
    assert max(each.rows for each in usual) <= 1_000
    assert max(each.statements.total() for each in usual) <= 60


class Unseen:
    """A view that shows nothing."""

    def begin(self, phase: Any) -> None:
        pass

    def update(self, snapshot: Any) -> None:
        pass


def assert_nothing_but_progress(err: str) -> None:
    lines = err.splitlines()
    assert [line for line in lines if not PROGRESS.fullmatch(line)] == []
    assert [line for line in lines if line.startswith("== ")] == [f"== {each.name}: {each.what}" for each in PHASES]
    assert "100% of the confident answers are graded" in err
    assert "the threshold is now 0.9" in err


def assert_all_happened(found: dict[str, Any]) -> None:
    assert found["checks"] == dict.fromkeys(checks_of(NOTHING), True)
    assert [phase["name"] for phase in found["phases"]] == NAMES
    assert all(phase["seconds"] > 0 for phase in found["phases"])
    assert sum(phase["calls"] for phase in found["phases"]) == found["calls"]
    assert (found["windows_shortened_by"], found["sample_rate"]) == (1.0, 1.0)
    assert sum(found["reasons"].values()) == found["escalated"]
    assert found["shipped"] + found["escalated"] == found["calls"]
    assert [(each["to"], each["cause"]) for each in found["policy_changes"]] == [
        (0.9, STORM), (0.8, STORM), (0.9, CLIMBING), (0.8, CLIMBING),
    ]  # fmt: skip
    low, high = found["false_confident_interval"]
    assert low <= found["true_false_confident_rate"] <= high


def assert_the_range_of_usual_traffic(found: dict[str, Any]) -> None:
    month, calm = found["month"], found["phases"][0]
    assert (month["calls"], month["n"]) == (1_000_000, calm["calls"])
    assert 0.1 <= calm["escalation_rate"] <= 0.2
    assert 0.003 <= month["cost_per_call_usd"] <= 0.005
    assert 0.6 <= month["saving_interval"][0] < month["saving"] < month["saving_interval"][1] <= 0.75
    assert month["saving_usd"] == pytest.approx(month["baseline_cost_usd"] - month["cost_usd"])
    assert month["grading_usd"] < 0.02 * month["saving_usd"]
    assert found["saving"] < month["saving"], "storm and drift cost more"


def assert_no_word_breaks(found: dict[str, Any], width: int) -> None:
    def show_all(out: Console) -> None:
        out.print(panel(SNAPSHOT, PHASES[1].what))
        runs.show_demo(out, found)

    shown = shown_by(show_all, width=width, is_terminal=True)
    assert max(map(len, shown.splitlines())) <= width
    words = set(re.split(r"[\s│]+", shown))
    for whole in (STORM, f"({CLIMBING})", "escalates", "uncorrected", "confident", "gradings", "message,", "released"):
        assert whole in words


class Silent:
    """Watches without a word."""

    def begin(self, phase: show.Phase) -> None:
        pass

    def update(self, snapshot: Snapshot) -> None:
        pass


@pytest.fixture
def shorter(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Two phases, of which the storm ends after 160 calls at the latest."""
    calm, storm = PHASES[:2]
    monkeypatch.setattr(show, "PHASES", (replace(calm, min_calls=60, max_calls=60), replace(storm, max_calls=160)))
    return monkeypatch


@pytest.mark.thorough
def test_what_happens_depends_on_the_seed_alone_and_not_on_how_fast_the_machine_is(shorter: pytest.MonkeyPatch):
    first = run_demo(Silent())
    shorter.setattr(show, "Simulators", slow)
    second = run_demo(Silent())
    for found in (first, second):
        for phase in found["phases"]:
            del phase["seconds"]
    assert first == second
    assert [change["cause"] for change in first["policy_changes"]] == [STORM]


def slow(**options: Any) -> environment.Simulators:
    made = environment.Simulators(**options)
    made.api.latency_s = 0.02
    return made


def test_the_interval_of_the_saving_narrows_with_the_number_of_calls_and_holds_what_all_of_them_save():
    calls = [answered(number, cost=0.002 if number % 7 else 0.018, baseline=0.0125) for number in range(700)]
    whole = month_of(calls, 0.02, graded=2)
    assert whole["saving"] == pytest.approx(1 - (0.002 * 6 + 0.018) / 7 / 0.0125)
    assert whole["grading_usd"] == pytest.approx(1_000_000 * 0.01 * 0.01)
    few = month_of(calls[:175], 0.02, graded=2)
    widths = [high - low for low, high in (whole["saving_interval"], few["saving_interval"])]
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.05)
    # By hand: 1.96 x 0.0056 (the standard deviation of the costs) / sqrt(700) / 0.0125.
    assert widths[0] / 2 == pytest.approx(0.0332, rel=0.01)
    assert "saving" not in month_of(calls[:1], 0.0, graded=0)


def test_a_month_without_a_grade_does_not_know_what_grading_costs():
    assert month_of([answered(number) for number in range(3)], 0.0, graded=0)["grading_usd"] is None


# Each check fails where its guardrail does


def answered(
    number: int, threshold: float = 0.8, version: int = 0, *, cost: float = 0.002, baseline: float = 0.01
) -> FinishedCall:
    decision = replace(
        decided(0.95, EffectivePolicy(threshold=threshold, version=version)), cost_usd=cost, baseline_cost_usd=baseline
    )
    routed = Routed(message=cast("Any", None), decision=decision)
    return FinishedCall(routed=routed, begun_at=float(number), finished_at=float(number), correct=True)


def change(at: float, act: str, cause: str, version: int) -> dict[str, Any]:
    return {"at": at, "act": act, "cause": cause, "version": version, "to_threshold": 0.9 if act == "raise" else 0.8}


NOTHING = Timeline(failures=0, outcomes=[], changes=[], messages=[])
RIGHT = Timeline(
    failures=0,
    # A call at the very moment of a change comes before it.
    outcomes=[
        *(answered(number) for number in range(11)),
        *(answered(number, 0.9, 1) for number in range(11, 21)),
        *(answered(number, 0.8, 2) for number in range(21, 31)),
        *(answered(number, 0.9, 3) for number in range(31, 41)),
        *(answered(number, 0.8, 4) for number in range(41, 51)),
    ],
    changes=[
        change(10, "raise", STORM, 1),
        change(20, "release", STORM, 2),
        change(30, "raise", CLIMBING, 3),
        change(40, "release", CLIMBING, 4),
    ],
    messages=[[f"{rule} firing: ...", f"{rule} resolved: ..."] for rule in (STORM, CLIMBING)],
)
Spoil = Callable[[Timeline], Timeline]


def without(place: int) -> Spoil:
    return lambda found: replace(found, changes=[*found.changes[:place], *found.changes[place + 1 :]])


def decided_at(threshold: float, version: int, which: slice) -> Spoil:
    def spoil(found: Timeline) -> Timeline:
        outcomes = list(found.outcomes)
        for place in range(len(outcomes))[which]:
            outcomes[place] = answered(place, threshold, version)
        return replace(found, outcomes=outcomes)

    return spoil


RAISED = "the storm raised the threshold, its end released it"
CLIMBED = "climbing false confidence raised it, and graded answers released it"
HELD = "every call begun after a change was decided by it"
TOLD = "Slack was told of each in one message, and of nothing else"
EDITED = "those messages were edited when it was over"


@pytest.mark.parametrize(
    ("spoil", "failing"),
    [
        (lambda found: replace(found, failures=1), {"every call was answered"}),
        (without(0), {RAISED, CLIMBED}),
        (without(1), {RAISED, CLIMBED, HELD}),
        (without(2), {CLIMBED, HELD}),
        (without(3), {CLIMBED, HELD}),
        (lambda found: replace(found, changes=[*found.changes, change(50, "raise", STORM, 5)]), {CLIMBED}),
        (decided_at(0.8, 4, slice(None)), {"calls were decided at 0.9 meanwhile", HELD}),
        (decided_at(0.9, 3, slice(-1, None)), {"calls are decided at 0.8 again", HELD}),
        (decided_at(0.8, 0, slice(11, 12)), {HELD}),
        (decided_at(0.9, 3, slice(11, 12)), {HELD}),
        (lambda found: replace(found, messages=found.messages[:1]), {TOLD}),
        (lambda found: replace(found, messages=[*found.messages, ["InertGate firing"]]), {TOLD, EDITED}),
        (lambda found: replace(found, messages=[*found.messages, found.messages[0]]), {TOLD}),
        (lambda found: replace(found, messages=[texts[:1] for texts in found.messages]), {EDITED}),
        (lambda found: replace(found, messages=[texts[1:] for texts in found.messages]), {EDITED}),
        (lambda found: replace(found, messages=[]), {TOLD, EDITED}),
    ],
)
def test_each_check_fails_with_what_it_checks(spoil: Spoil, failing: set[str]):
    found = checks_of(spoil(RIGHT))
    assert {name for name, passed in found.items() if not passed} == failing


def test_all_checks_pass_where_all_went_right_and_the_last_phase_was_reached():
    assert all(checks_of(RIGHT).values())
    assert not checks_of(RIGHT, is_complete=False)["each phase brought what it waited for"]


def test_nothing_that_happened_passes_no_check_but_that_of_completeness():
    assert [name for name, passed in checks_of(NOTHING).items() if passed] == ["each phase brought what it waited for"]


def failed(found: dict[str, Any]) -> set[str]:
    assert [phase["is_done"] for phase in found["phases"]] == [True, False]
    return {name for name, passed in found["checks"].items() if not passed}


LATER = {CLIMBED, "each phase brought what it waited for"}
"""What fails in any case where the storm is the last phase and has brought nothing."""


@pytest.mark.thorough
def test_rules_that_raise_nothing_fail(shorter: pytest.MonkeyPatch):
    def toothless(_path: object) -> Rulebook:
        rules = read_rulebook().rules
        return Rulebook(rules=tuple(rule.model_copy(update={"actions": ("notify",)}) for rule in rules))

    shorter.setattr(environment, "read_rulebook", toothless)
    assert failed(run_demo(Silent())) == LATER | {RAISED, HELD, EDITED, TOLD, "calls were decided at 0.9 meanwhile"}


class Spoiled(environment.Simulators):
    """Simulators that something happens to once they have begun anew."""

    def __init__(self, spoil: Callable[[environment.Simulators], None], **options: Any) -> None:
        super().__init__(**options)
        self._spoil = spoil

    def reset(self) -> FrozenClock:
        clock = super().reset()
        self._spoil(self)
        return clock


@pytest.mark.thorough
def test_a_slack_that_is_down_fails(shorter: pytest.MonkeyPatch):
    def close(made: environment.Simulators) -> None:
        made.slack.down = True

    shorter.setattr(show, "Simulators", partial(Spoiled, close))
    assert {TOLD, EDITED} <= failed(run_demo(Silent()))


@pytest.mark.thorough
def test_a_router_that_does_not_read_the_policy_fails(shorter: pytest.MonkeyPatch):
    shorter.setattr(Recorder, "refresh", lambda _self, _now: None)
    assert {HELD, "calls were decided at 0.9 meanwhile"} <= failed(run_demo(Silent()))


def test_a_call_that_is_not_answered_fails(shorter: pytest.MonkeyPatch):
    def refuse(made: environment.Simulators) -> None:
        for model in ("claude-haiku-4-5", "claude-opus-4-7"):
            made.api.enqueue(Reply.error(400), model=model)

    shorter.setattr(show, "PHASES", (replace(PHASES[0], min_calls=10, max_calls=10),))
    shorter.setattr(show, "Simulators", partial(Spoiled, refuse))
    assert not run_demo(Silent())["checks"]["every call was answered"]


# What there is to see


def test_the_panel_fits_on_one_screen_whatever_slack_says():
    drawn = panel(replace(SNAPSHOT, slack="word " * 60), "word " * 20)
    shown = shown_by(lambda out: out.print(drawn), width=80, is_terminal=True)
    assert len(shown.splitlines()) <= 20  # below the three lines that say what this is


def test_what_is_logged_while_the_panel_is_shown_goes_through_it(capsys: pytest.CaptureFixture[str]):
    out = Console(file=io.StringIO(), width=80, force_terminal=True)
    before = logging.getLogger().handlers
    with LiveView(out) as view:
        view.begin(PHASES[1])
        view.update(SNAPSHOT)
        logging.getLogger("cheapdeep_ops.guard").warning("message 1 did not arrive [attempt 1]")
    assert logging.getLogger().handlers == before
    assert isinstance(out.file, io.StringIO)
    assert "message 1 did not arrive [attempt 1]" in out.file.getvalue()
    assert capsys.readouterr() == ("", "")


def test_the_panel_is_for_terminals_that_can_draw_it(monkeypatch: pytest.MonkeyPatch):
    assert isinstance(view_for(Console(file=io.StringIO())), PlainView)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(view_for(Console(file=io.StringIO(), force_terminal=True)), PlainView)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(view_for(Console(file=io.StringIO(), force_terminal=True)), LiveView)
