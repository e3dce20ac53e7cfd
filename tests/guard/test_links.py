import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops.addresses import is_web_address
from cheapdeep_ops.errors import SettingsError
from cheapdeep_ops.guard.incidents.links import BOARD, links_of, runbook_link
from cheapdeep_ops.guard.notify.messages import details
from cheapdeep_ops.guard.notify.slack import rendered
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.settings import Settings

ROOT = Path(__file__).parents[2]
PLACES = {
    "grafana_url": "https://grafana.example/",
    "console_url": "http://guard:8642",
    "runbook_url": "https://x/alerts/README.md",
}
STORM = [0.95] * 2 + [0.5] * 8


def links(scope="support", over_at=None, **places):
    settings = Settings(**(places or PLACES))
    runbook = "alerts/README.md#escalationstorm"
    return dict(
        links_of(settings, incident_id=7, scope=scope, runbook=runbook, started_at=1_800_000_000.5, over_at=over_at)
    )


def test_links_lead_to_the_window_on_the_board_the_incident_and_the_section():
    found = links(over_at=1_800_000_600.0)
    assert found["Console"] == "http://guard:8642/incidents/7"
    assert found["Runbook"] == "https://x/alerts/README.md#escalationstorm"
    where = urlsplit(found["Grafana"])
    assert (where.netloc, where.path) == ("grafana.example", f"/d/{BOARD}")
    query = parse_qs(where.query)
    assert query == {
        "from": ["1799999100500"], "to": ["1800001500000"], "var-route": ["support"], "var-scope": ["support"],
    }  # fmt: skip


def test_the_window_of_an_open_incident_goes_on_and_that_of_all_routes_has_all_of_them():
    query = parse_qs(urlsplit(links("*")["Grafana"]).query)
    assert (query["to"], query["var-route"], query["var-scope"]) == (["now"], ["$__all"], ["*"])


def test_the_board_and_its_variables_are_there():
    (board,) = [
        board
        for path in (ROOT / "dashboards").glob("*.json")
        if (board := json.loads(path.read_text()))["uid"] == BOARD
    ]
    assert {"route", "scope"} <= {variable["name"] for variable in board["templating"]["list"]}


def test_only_what_is_set_is_linked():
    assert links(console_url="https://guard.example/x/") == {"Console": "https://guard.example/x/incidents/7"}


@pytest.mark.parametrize("rule", read_rulebook().rules, ids=lambda rule: rule.alert)
def test_every_packaged_rule_leads_to_its_own_heading_of_the_runbook(rule):
    assert runbook_link("https://x/", rule.annotations["runbook"]) == f"https://x/#{rule.alert.lower()}"


def test_a_runbook_of_ones_own_is_linked_as_it_is_and_any_other_text_is_not():
    assert runbook_link(None, "https://wiki/storm") == "https://wiki/storm"
    assert runbook_link("https://x/", "ask ann") == runbook_link(None, "alerts/README.md#inertgate") == ""


@pytest.mark.parametrize("name", sorted(PLACES))
@pytest.mark.parametrize("value", ["grafana.example", "javascript:alert(1)", "https://", "https://a b"])
def test_what_is_no_web_address_is_refused(name, value):
    with pytest.raises(SettingsError, match=f"CHEAPDEEP_{name.upper()}"):
        Settings(**{name: value})


@given(st.text())
def test_no_route_leaves_its_place_in_an_address_or_its_link(route):
    found = links(route.encode(errors="replace").decode())
    assert is_web_address(found["Grafana"])
    query = parse_qs(urlsplit(found["Grafana"]).query, keep_blank_values=True)
    assert set(query) == {"from", "to", "var-route", "var-scope"}
    shown = rendered({"kind": "test", "links": [["Grafana", found["Grafana"]]]})[1][-1]["text"]["text"]
    assert shown.count("<") == shown.count(">") == shown.count("|") == 1


def test_an_address_that_would_end_its_link_does_not():
    text = rendered({"kind": "test", "links": [["Runbook", "https://x/?a=1&b=<!channel>|y"]]})[1][-1]["text"]["text"]
    assert text == "<https://x/?a=1&amp;b=%3C!channel%3E%7Cy|Runbook>"


@pytest.mark.thorough
def test_a_message_about_a_storm_has_the_links_of_its_incident(make_town):
    town = make_town(**PLACES)
    town.run(200, STORM)
    town.run(500, [0.95] * 10)
    first, last = town.inbox.payloads[0], town.inbox.payloads[-1]
    assert dict(first["links"])["Console"].endswith(f"/incidents/{first['incident_id']}")
    assert "to=now&" in dict(first["links"])["Grafana"]
    assert "to=18" in dict(last["links"])["Grafana"]
    assert not any(line.startswith("Runbook") for line in details(first))
    assert rendered(first)[1][-1]["elements"][0]["text"].count("<http") == 3
