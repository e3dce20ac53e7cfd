"""The boards against a JSON schema made from Grafana's own TypeScript types; tests/grafana says how."""

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from tests.prometheus import BOARDS, Json

FOLDER = Path(__file__).parent / "grafana"
SCHEMA = json.loads((FOLDER / "boards.schema.json").read_text("utf-8"))
DASHBOARD, PANELS = SCHEMA["properties"]["dashboard"], SCHEMA["properties"]["panels"]["properties"]
PANEL = DASHBOARD["properties"]["panels"]["items"]["anyOf"][0]["properties"]
FIELD = PANEL["fieldConfig"]["properties"]["defaults"]["properties"]

# What Grafana reads and its types leave out, because it belongs to a data source or to one kind of variable.
BEYOND_THE_TYPES = {
    "annotations": {
        "target",  # Prometheus' query; the type knows Grafana's own annotations alone
        "expr", "step", "tagKeys", "titleFormat", "textFormat", "useValueForTime",  # Prometheus' own way of writing it
    },
    "templating": {"definition"},  # of query variables: what the list of variables in the settings shows
}  # fmt: skip


def known(board: Json) -> Json:
    """The board without what the types leave out."""
    found = deepcopy(board)
    for part, names in BEYOND_THE_TYPES.items():
        for each in found[part]["list"]:
            for name in names:
                each.pop(name, None)
    return found


def faults(board: Json) -> list[str]:
    """What Grafana's types do not allow, each with its place; none where all is well."""
    found = [*_faults("board", DASHBOARD, known(board))]
    for panel in board["panels"]:
        found += _faults_of_panel(panel)
    return found


def _faults_of_panel(panel: Json) -> Iterator[str]:
    kind, title = PANELS[panel["type"]]["properties"], panel["title"]
    yield from _faults(f"{title}: options", kind["options"], panel["options"])
    yield from _faults(f"{title}: custom", kind["custom"], panel["fieldConfig"]["defaults"].get("custom", {}))
    for override in panel["fieldConfig"]["overrides"]:
        for each in override["properties"]:
            yield from _faults_of_override(f"{title}: {override['matcher']['options']}", kind["custom"], each)


def _faults_of_override(place: str, custom: Json, each: Json) -> Iterator[str]:
    name = each["id"].removeprefix("custom.")
    schema = (FIELD if name == each["id"] else custom["properties"]).get(name)
    if schema is None:
        yield f"{place}: {each['id']} is no property"
    else:
        yield from _faults(f"{place}: {each['id']}", schema, each["value"])


def _faults(place: str, schema: Mapping[str, Any], value: object) -> Iterator[str]:
    for error in Draft7Validator(schema).iter_errors(value):
        yield f"{place} {error.json_path}: {error.message}"


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())
def test_grafanas_types_allow_the_board(board):
    assert faults(board) == []


def test_the_schema_is_of_the_version_that_is_pinned():
    pinned = json.loads((FOLDER / "package.json").read_text("utf-8"))["dependencies"]
    assert f"@grafana/schema {pinned['@grafana/schema']} (Apache-2.0" in SCHEMA["$comment"]
    ours = {version for name, version in pinned.items() if name.startswith("@grafana/")}
    assert len(ours) == 1, "what is checked is what is drawn"


def test_nothing_is_excused_that_no_board_has():
    used = {
        part: {name for board in BOARDS.values() for each in board[part]["list"] for name in each if name in names}
        for part, names in BEYOND_THE_TYPES.items()
    }
    assert used == BEYOND_THE_TYPES


def panel_of(board: Json, kind: str) -> Json:
    return next(panel for panel in board["panels"] if panel["type"] == kind)


def lines_with_overrides(board: Json) -> list[Json]:
    return next(panel["fieldConfig"]["overrides"] for panel in board["panels"] if panel["fieldConfig"]["overrides"])


SPOILT = {
    "a misspelt option": lambda board: panel_of(board, "stat")["options"].update(colourMode="background"),
    "a wrong word": lambda board: panel_of(board, "stat")["options"].update(colorMode="loud"),
    "a width in words": lambda board: board["panels"][0]["gridPos"].update(w="4"),
    "a key that no board has": lambda board: board.update(colour="green"),
    "a missing colour mode": lambda board: panel_of(board, "stat")["options"].pop("colorMode"),
    "a line style that there is not": lambda board: panel_of(board, "timeseries")["fieldConfig"]["defaults"][
        "custom"
    ].update(drawStyle="lines"),
    "an override of nothing": lambda board: lines_with_overrides(board)[0]["properties"].append(
        {"id": "custom.colour", "value": 1}
    ),
    "an override with a wrong value": lambda board: lines_with_overrides(board)[0]["properties"].append(
        {"id": "custom.axisPlacement", "value": "east"}
    ),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT.keys())
def test_a_spoilt_board_is_refused(spoil):
    board = deepcopy(BOARDS["routing"])
    spoil(board)
    assert len(faults(board)) == 1
