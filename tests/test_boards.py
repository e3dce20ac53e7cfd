import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from pathlib import Path

import pytest

from cheapdeep_ops.resources import packaged
from cheapdeep_ops.telemetry import names
from tests.prometheus import BOARDS, ROUTERS, Json, Prometheus, filled, running, targets, tool

Growth = Callable[[float], float | None]
"""A series' value, by minutes since the history began; None where it does not exist yet."""

FLEET = {value for name, value in vars(names).items() if name.startswith("FLEET_")}
LABELS = {names.GEN_AI_REQUEST_MODEL.replace(".", "_")}
VARIABLES = {
    "$__rate_interval": "5m",
    "$__range": "50m",
    "$route": ".*",
    "$input_class": ".*",
    "$scope": "*",
    "$one": "support",
}
START = 1_760_000_400
END = START + 3600
STEP = 15

each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())


def _filled(expr: str) -> str:
    return filled(expr, VARIABLES)


def test_there_are_four_boards_that_find_each_other():
    assert {name: board["uid"] for name, board in BOARDS.items()} == {
        name: f"cheapdeep-{name}" for name in ("health", "money", "quality", "routing")
    }
    for board in BOARDS.values():
        assert board["tags"] == ["cheapdeep"]
        (link,) = board["links"]
        assert (link["type"], link["tags"]) == ("dashboards", ["cheapdeep"])
        assert link["includeVars"]
        assert link["keepTime"]


def test_the_boards_are_what_the_code_makes(tmp_path):
    script = packaged("dashboards") / "build.py"
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = {path.name: path.read_text("utf-8") for path in tmp_path.glob("*.json")}
    kept = {path.name: path.read_text("utf-8") for path in packaged("dashboards").glob("*.json")}
    assert made == kept, "python dashboards/build.py writes them anew"


@each_board
def test_every_board_lets_choose_data_source_route_and_input_class(board):
    chosen = [variable["name"] for variable in board["templating"]["list"]]
    assert chosen[:3] == ["datasource", "route", "input_class"]
    text = json.dumps(board)
    assert not [name for name in chosen[3:] if f"${name}" not in text], "a variable that nothing reads"


def test_uids_are_unique():
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS)


@each_board
def test_panel_ids_and_titles_are_unique(board):
    for key in ("id", "title"):
        values = [panel[key] for panel in board["panels"]]
        assert len(set(values)) == len(values)


@each_board
def test_every_panel_explains_itself(board):
    for panel in board["panels"]:
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["noValue"], panel["title"]


@each_board
def test_what_is_unknown_has_no_colour_of_what_is_known(board):
    for panel in board["panels"]:
        if panel["type"] == "stat":
            defaults = panel["fieldConfig"]["defaults"]
            (nothing,) = (each["options"] for each in defaults["mappings"] if each["type"] == "special")
            assert (nothing["match"], nothing["result"]["text"]) == ("null+nan", defaults["noValue"])
            is_bad = panel["title"] in {"Age of last evaluation", "Guards seen"}
            assert nothing["result"]["color"] == ("red" if is_bad else "#6e7280"), panel["title"]


@each_board
def test_every_query_asks_the_chosen_data_source(board):
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    assert all(target["datasource"] == chosen for _, target in targets(board))
    assert all(panel["datasource"] == chosen for panel in board["panels"])


@each_board
def test_targets_of_a_panel_have_their_own_letters(board):
    for panel in board["panels"]:
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters), panel["title"]


@each_board
def test_panels_fit_the_grid_and_do_not_overlap(board):
    places = [panel["gridPos"] for panel in board["panels"]]
    assert all(0 <= at["x"] < at["x"] + at["w"] <= 24 and at["h"] > 0 for at in places)
    assert not [pair for pair in combinations(places, 2) if _overlap(*pair)]


def _overlap(one: Mapping[str, int], other: Mapping[str, int]) -> bool:
    return all(
        one[start] < other[start] + other[size] and other[start] < one[start] + one[size]
        for start, size in (("x", "w"), ("y", "h"))
    )


@each_board
def test_every_metric_has_a_name_of_ours(board):
    queries = [target["expr"] for _, target in targets(board)]
    queries += [each["definition"] for each in board["templating"]["list"] if each["type"] == "query"]
    used = {name for query in queries for name in re.findall(r"(?:cheapdeep|gen_ai)_[a-z_0-9]+", query)}
    assert used
    assert {name.removesuffix("_total").removesuffix("_bucket") for name in used} <= FLEET | ROUTERS | LABELS


@each_board
def test_low_traffic_is_never_clamped_away(board):
    assert not [name for name, target in targets(board) if "clamp" in target["expr"]]


@each_board
def test_no_constant_line_hides_that_a_panel_is_empty(board):
    assert not [name for name, target in targets(board) if "vector(" in target["expr"]]


@each_board
def test_annotations_read_the_same_in_older_grafanas(board):
    assert all(each["expr"] == each["target"]["expr"] for each in board["annotations"]["list"])


@each_board
def test_promtool_parses_every_query(board, tmp_path):
    promtool = tool("promtool")
    queries = [_filled(target["expr"]) for _, target in targets(board)]
    rules = [{"record": f"board:query:{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


def _by_minute(calls: float) -> Growth:
    return lambda minute: int(calls * minute)


def _always(value: float) -> Growth:
    return lambda minute: value


def _stepping(before: float | None, after: float) -> Growth:
    return lambda minute: before if minute < 30 else after


def _traffic(route: str, *, calls: float) -> Iterator[tuple[str, str, Growth]]:
    labels = f'route="{route}",input_class="refund"'
    for name, share in (
        (names.FLEET_CALLS, 1.0),
        (names.FLEET_TRIAGED, 1.0),
        (names.FLEET_SHIPPED, 0.75),
        (names.FLEET_UNPRICED, 0.0),
        (names.FLEET_ERRORS, 0.0),
        (names.FLEET_WITHHELD, 0.05 if route == "support" else 0.0),
    ):
        yield f"{name}_total", labels, _by_minute(calls * share)
    yield f"{names.FLEET_COST}_total", labels, lambda minute: 0.006 * calls * minute
    yield f"{names.FLEET_BASELINE_COST}_total", labels, lambda minute: 0.010 * calls * minute
    yield f"{names.FLEET_TRIAGE_COST}_total", labels, lambda minute: 0.0004 * calls * minute
    yield f"{names.FLEET_GRADER_COST}_total", f'route="{route}"', lambda minute: 0.0005 * calls * minute
    for edge, share in (("0.59", 0), ("0.79", 0.25), ("0.89", 0.75), ("0.94", 0.75), ("0.98", 1), ("+Inf", 1)):
        bucket = f'route="{route}",le="{edge}"'
        yield f"{names.FLEET_CONFIDENCE}_bucket", bucket, _by_minute(calls * share)


def _escalations() -> Iterator[tuple[str, str, Growth]]:
    labels = 'route="support",input_class="refund"'
    low = f'{labels},reason="low_confidence"'
    yield f"{names.FLEET_BASE_ESCALATIONS}_total", low, _by_minute(12)
    yield f"{names.FLEET_ESCALATIONS}_total", low, _by_minute(12)
    yield f"{names.FLEET_ESCALATIONS}_total", f'{labels},reason="raised_threshold"', _by_minute(3)
    yield f"{names.FLEET_ESCALATIONS}_total", f'{labels},reason="bypass"', _by_minute(20)


def _signals() -> Iterator[tuple[str, str, Growth]]:
    storm = 'rule="EscalationStorm",scope="*"'
    for name, value in (
        (names.FLEET_SIGNAL, 0.20),
        (names.FLEET_SIGNAL_LOW, 0.16),
        (names.FLEET_SIGNAL_HIGH, 0.25),
        (names.FLEET_SIGNAL_CALLS, 305),
    ):
        yield name, storm, _always(value)
    yield names.FLEET_ALERT, storm, _stepping(0, 1)
    yield names.FLEET_ALERT, 'rule="RouterSilent",scope="*"', _always(0)
    yield names.FLEET_LIMIT, 'rule="EscalationStorm"', _always(0.35)
    for labels, evidence, needed in ((storm, 22, 11), ('rule="FalseConfidenceClimbing",scope="support"', 6, 12)):
        yield names.FLEET_EVIDENCE, labels, _always(evidence)
        yield names.FLEET_EVIDENCE_LIMIT, labels, _always(needed)


def _guard() -> Iterator[tuple[str, str, Growth]]:
    yield names.FLEET_THRESHOLD, 'route="*"', _stepping(0.8, 0.9)
    yield names.FLEET_THRESHOLD, 'route="support"', _stepping(0.8, 0.9)
    yield names.FLEET_POLICY_VERSION, 'scope="*"', _stepping(1, 2)
    yield names.FLEET_POLICY_VERSION, 'scope="support"', _stepping(None, 3)
    yield f"{names.FLEET_DROPPED}_total", "", _always(0)
    yield f"{names.FLEET_NOTIFICATIONS}_total", 'outcome="delivered"', _by_minute(0.1)
    yield f"{names.FLEET_JOBS}_total", 'task="evaluate",outcome="done"', _by_minute(12)
    yield names.FLEET_PENDING_NOTIFICATIONS, "", _always(0)
    yield names.FLEET_ROUTERS, "", _always(2)
    yield names.FLEET_LAST_EVALUATION, "", lambda minute: START + 60 * minute - 4


def _series() -> Iterator[tuple[str, str, Growth]]:
    for route, calls in (("support", 60), ("quiet", 1), ("idle", 0)):
        yield from _traffic(route, calls=calls)
    yield from _escalations()
    yield from _signals()
    yield from _guard()


def _history() -> Iterator[str]:
    """An hour as two guards on one store would tell it: whatever is counted must be counted once."""
    for name, labels, value in _series():
        for instance in ("one", "two"):
            inner = ",".join(filter(None, (labels, f'instance="{instance}"')))
            for at in range(START, END + 1, STEP):
                sample = value((at - START) / 60)
                if sample is not None:
                    yield f"{name}{{{inner}}} {sample} {at}\n"
    yield "# EOF\n"


def _backfill(data: Path) -> None:
    history = data.with_suffix(".om")
    history.write_text("".join(_history()))
    command = [tool("promtool"), "tsdb", "create-blocks-from", "openmetrics", history, data]
    subprocess.run(command, check=True, capture_output=True, timeout=300)


class History:
    """The hour, asked of the real Prometheus."""

    def __init__(self, server: Prometheus) -> None:
        self._server = server

    def at_end(self, expr: str) -> list[Json]:
        return self._server.at(END, _filled(expr))

    def over_time(self, expr: str) -> list[Json]:
        return self._server.over(START, END, _filled(expr), step=60)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    folder = tmp_path_factory.mktemp("prometheus")
    _backfill(folder / "data")
    with running(folder, "global: {}\n") as server:
        yield History(server)


def _target_of(title: str, ref: str = "A", *, board: str = "routing") -> str:
    return next(target["expr"] for name, target in targets(BOARDS[board]) if name == f"{title} {ref}")


def _numbers(result: list[Json], label: str) -> dict[str, float]:
    return {each["metric"].get(label, ""): float(each["value"][1]) for each in result}


@pytest.mark.parametrize(
    ("title", "support"),
    [("Base escalation rate by route", 0.20), ("Actual escalation rate by route", 0.25)],
)
def test_rates_are_those_of_triaged_calls(prometheus, title, support):
    rates = _numbers(prometheus.at_end(_target_of(title)), "route")
    assert rates == {"support": pytest.approx(support, rel=0.02), "quiet": 0.0}, "no rate for a route without calls"


@pytest.mark.parametrize(
    ("board", "title", "figure"),
    [
        ("routing", "Alerts firing", 1),
        ("routing", "Base escalation", 12 / 61),
        ("routing", "Actual escalation", 15 / 61),
        ("routing", "Saving", 0.4),
        ("routing", "Calls", 61 * 50),
        ("routing", "Highest threshold now", 0.9),
        ("routing", "Confidence of first answers", 1.0),
        ("money", "Cost per call against all-deep", 0.006),
        ("money", "Spent on routing", 0.006 * 61 * 50),
        ("money", "Saving after grading", 0.4 - 0.05),
        ("money", "Triage waste", 0.0004 * 15 * 50),
        ("money", "Grading cost", 0.0005 * 61 * 50),
        ("quality", "Withheld", 3 * 50),
        ("health", "Age of last evaluation", 4),
        ("health", "Routers seen", 2),
        ("health", "Decisions dropped", 0),
    ],
)
def test_two_guards_count_once(prometheus, board, title, figure):
    found = _numbers(prometheus.at_end(_target_of(title, board=board)), "")
    assert found == {"": pytest.approx(figure, rel=0.03)}


def test_saving_is_shown_after_grading_also_where_nothing_was_graded(prometheus):
    expr = _target_of("Saving after grading", board="money")
    without = expr.replace(names.FLEET_GRADER_COST, "cheapdeep_not_there")
    assert _numbers(prometheus.at_end(without), "") == {"": pytest.approx(0.4, rel=0.03)}


def test_evidence_is_shown_as_a_share_of_what_its_own_rule_needs(prometheus):
    found = _numbers(prometheus.at_end(_target_of("Evidence as a share of the alarm line", board="quality")), "rule")
    assert found == {"EscalationStorm": pytest.approx(2.0), "FalseConfidenceClimbing": pytest.approx(0.5)}


def test_shares_of_confidence_are_read_at_whole_hundredths(prometheus):
    shares = {ref: prometheus.at_end(_target_of("Confidence of first answers", ref)) for ref in "ABCDE"}
    figures = {ref: float(found[0]["value"][1]) for ref, found in shares.items()}
    expected = {"A": 1.0, "B": 0.75, "C": 0.25, "D": 0.25, "E": 0.0}
    assert figures == {ref: pytest.approx(share, abs=0.01) for ref, share in expected.items()}


@pytest.mark.parametrize(
    ("board", "title", "figure"),
    [
        ("routing", "Base escalation rate by route", 0.0),
        ("money", "Cost per call by route", 0.006),
        ("money", "Saving by route", 0.4),
        ("money", "Triage waste by route", 0.0),
    ],
)
def test_one_call_a_minute_never_leaves_a_gap(prometheus, board, title, figure):
    series = prometheus.over_time(_target_of(title, board=board))
    quiet = next(each["values"] for each in series if each["metric"]["route"] == "quiet")
    assert len(quiet) >= 58
    assert float(quiet[-1][1]) == pytest.approx(figure, rel=0.03)
    assert not [each for each in series if each["metric"]["route"] == "idle"], "no calls: a gap, no zero"


def test_policy_changes_are_marked_when_they_happen(prometheus):
    annotation = BOARDS["routing"]["annotations"]["list"][0]
    marks = {each["metric"]["scope"]: each["values"] for each in prometheus.over_time(annotation["expr"])}
    assert set(marks) == {"*", "support"}, "also the scope whose first policy this is"
    for values in marks.values():
        assert START + 1800 <= values[0][0] <= values[-1][0] <= START + 1800 + 300


def test_alerts_are_marked_where_they_begin(prometheus):
    annotation = BOARDS["routing"]["annotations"]["list"][1]
    (marks,) = prometheus.over_time(annotation["expr"])
    assert marks["metric"] == {"rule": "EscalationStorm", "scope": "*"}
    assert START + 1800 <= marks["values"][0][0] <= marks["values"][-1][0] <= START + 1800 + 300


@pytest.mark.parametrize(("board", "title"), [("routing", "Alerts"), ("health", "Alerts of all scopes")])
def test_timelines_show_the_alerts_that_fired_and_whether_anybody_looked(prometheus, board, title):
    (rule,) = prometheus.over_time(_target_of(title, "B", board=board))
    assert rule["metric"] == {"rule": "EscalationStorm", "scope": "*"}, "not the one that never fired"
    assert {value for _, value in rule["values"]} == {"0", "1"}
    assert len(rule["values"]) == 61, "all the time, not only while it fires"
    (any_alert,) = prometheus.over_time(_target_of(title, board=board))
    assert any_alert["values"] == rule["values"]
