import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

import pytest

from cheapdeep_ops.resources import packaged
from cheapdeep_ops.telemetry import names

Json = dict[str, Any]
Growth = Callable[[float], float | None]
"""A series' value, by minutes since the history began; None where it does not exist yet."""

BOARDS = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(packaged("dashboards").glob("*.json"))}
FLEET = {value for name, value in vars(names).items() if name.startswith("FLEET_")}
VARIABLES = {
    "$__rate_interval": "5m",
    "$__range": "50m",
    "$route": ".*",
    "$input_class": ".*",
    "$scope": "*",
}
START = 1_760_000_400
END = START + 3600
STEP = 15

each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())


def _targets(board: Json) -> Iterator[tuple[str, Json]]:
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target
    for annotation in board["annotations"]["list"]:
        yield annotation["name"], annotation["target"]


def _filled(expr: str) -> str:
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    assert "$" not in expr
    return expr


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian package prometheus)")
    return found


def test_there_is_a_routing_board():
    assert BOARDS["routing"]["uid"] == "cheapdeep-routing"
    assert BOARDS["routing"]["title"] == "cheapdeep: routing"


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
def test_every_query_asks_the_chosen_data_source(board):
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    assert all(target["datasource"] == chosen for _, target in _targets(board))
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
    queries = [target["expr"] for _, target in _targets(board)]
    queries += [each["definition"] for each in board["templating"]["list"] if each["type"] == "query"]
    used = {name for query in queries for name in re.findall(r"cheapdeep_[a-z_]+", query)}
    assert used
    assert {name.removesuffix("_total") for name in used} <= FLEET


@each_board
def test_low_traffic_is_never_clamped_away(board):
    assert not [name for name, target in _targets(board) if "clamp" in target["expr"]]


@each_board
def test_annotations_read_the_same_in_older_grafanas(board):
    assert all(each["expr"] == each["target"]["expr"] for each in board["annotations"]["list"])


@each_board
def test_promtool_parses_every_query(board, tmp_path):
    promtool = _tool("promtool")
    queries = [_filled(target["expr"]) for _, target in _targets(board)]
    rules = [{"record": f"board:query:{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, check=False, timeout=10)
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
    ):
        yield f"{name}_total", labels, _by_minute(calls * share)
    yield f"{names.FLEET_COST}_total", labels, lambda minute: 0.006 * calls * minute
    yield f"{names.FLEET_BASELINE_COST}_total", labels, lambda minute: 0.010 * calls * minute


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
    yield names.FLEET_LIMIT, 'rule="EscalationStorm"', _always(0.35)


def _guard() -> Iterator[tuple[str, str, Growth]]:
    yield names.FLEET_THRESHOLD, 'route="*"', _stepping(0.8, 0.9)
    yield names.FLEET_THRESHOLD, 'route="support"', _stepping(0.8, 0.9)
    yield names.FLEET_POLICY_VERSION, 'scope="*"', _stepping(1, 2)
    yield names.FLEET_POLICY_VERSION, 'scope="support"', _stepping(None, 3)
    yield f"{names.FLEET_DROPPED}_total", "", _always(0)
    yield f"{names.FLEET_NOTIFICATIONS}_total", 'outcome="delivered"', _by_minute(0.1)
    yield f"{names.FLEET_JOBS}_total", 'job="guard",task="evaluate",outcome="done"', _by_minute(12)
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


class Prometheus:
    """A Prometheus server on loopback, asked over HTTP."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._open = build_opener(ProxyHandler({})).open

    def is_ready(self) -> bool:
        try:
            with self._open(f"{self.url}/-/ready", timeout=1) as answer:
                return answer.status == 200
        except (URLError, ConnectionError, TimeoutError):
            return False

    def at_end(self, expr: str) -> list[Json]:
        """The instant vector that `expr` gives when the history ends."""
        return self._ask("query", query=_filled(expr), time=END)

    def over_time(self, expr: str) -> list[Json]:
        """The matrix that `expr` gives over the history."""
        return self._ask("query_range", query=_filled(expr), start=START, end=END, step=60)

    def _ask(self, what: str, **params: object) -> list[Json]:
        with self._open(f"{self.url}/api/v1/{what}?{urlencode(params)}", timeout=5) as answer:
            body = json.load(answer)
        assert body["status"] == "success"
        assert not body.get("warnings")
        return body["data"]["result"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _backfill(data: Path) -> None:
    history = data.with_suffix(".om")
    history.write_text("".join(_history()))
    command = [_tool("promtool"), "tsdb", "create-blocks-from", "openmetrics", history, data]
    subprocess.run(command, check=True, capture_output=True, timeout=10)


def _wait_until_ready(server: Prometheus, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 8
    while not server.is_ready():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    command, folder, port = _tool("prometheus"), tmp_path_factory.mktemp("prometheus"), _free_port()
    config, data, log = folder / "prometheus.yml", folder / "data", folder / "log"
    config.write_text("global: {}\n")
    _backfill(data)
    flags = [f"--config.file={config}", f"--storage.tsdb.path={data}", f"--web.listen-address=127.0.0.1:{port}"]
    with log.open("wb") as out, subprocess.Popen([command, *flags], stdout=out, stderr=out) as process:
        try:
            server = Prometheus(port)
            _wait_until_ready(server, process, log)
            yield server
        finally:
            process.kill()


@each_board
def test_every_query_returns_data(board, prometheus):
    for name, target in _targets(board):
        ask = prometheus.at_end if target.get("instant") else prometheus.over_time
        assert ask(target["expr"]), name


def _target_of(title: str, ref: str = "A") -> str:
    return next(target["expr"] for name, target in _targets(BOARDS["routing"]) if name == f"{title} {ref}")


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
    ("title", "figure"),
    [
        ("Alerts firing", 1),
        ("Base escalation, whole period", 12 / 61),
        ("Actual escalation, whole period", 15 / 61),
        ("Saving, whole period", 0.4),
        ("Calls, whole period", 61 * 50),
        ("Highest threshold now", 0.9),
        ("Cost per call against all-deep", 0.006),
        ("Guard: age of last evaluation", 4),
        ("Guard: routers seen", 2),
    ],
)
def test_two_guards_count_once(prometheus, title, figure):
    assert _numbers(prometheus.at_end(_target_of(title)), "") == {"": pytest.approx(figure, rel=0.03)}


def test_one_call_a_minute_never_leaves_a_gap(prometheus):
    series = prometheus.over_time(_target_of("Base escalation rate by route"))
    quiet = next(each["values"] for each in series if each["metric"]["route"] == "quiet")
    assert len(quiet) >= 58


def test_policy_changes_are_marked_when_they_happen(prometheus):
    annotation = BOARDS["routing"]["annotations"]["list"][0]
    marks = {each["metric"]["scope"]: each["values"] for each in prometheus.over_time(annotation["expr"])}
    assert set(marks) == {"*", "support"}, "also the scope whose first policy this is"
    for values in marks.values():
        assert START + 1800 <= values[0][0] <= values[-1][0] <= START + 1800 + 300
