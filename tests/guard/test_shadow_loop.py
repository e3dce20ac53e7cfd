"""Shadow mode from the call to the receipt: what a team sees before it turns routing on."""

import pytest

from cheapdeep_ops import Router
from cheapdeep_ops.claude.clients import make_client_for
from cheapdeep_ops.cli.render.terminal import receipt_facts
from cheapdeep_ops.guard.http.metrics import FleetCollector, page
from cheapdeep_ops.guard.notify.receipt_figures import saving_line
from cheapdeep_ops.guard.reports.receipt import receipt
from cheapdeep_ops.guard.reports.status import status
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.testing import Reply

from .conftest import START

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
SMALL, LARGE = {"input_tokens": 300, "output_tokens": 40}, {"input_tokens": 400, "output_tokens": 50}
DEEP_USD, TRIAGE_USD = (400 * 5 + 50 * 25) / 1e6, (300 * 1 + 40 * 5) / 1e6


@pytest.fixture
def school(make_school):
    return make_school(mode="shadow", shadow_share=1.0, sampling="uniform")


@pytest.fixture
def route_all(api, school):
    """Sends one call for each cheap reply through a router in shadow mode, and has the guard look on until graded."""

    def run(replies):
        api.always(Reply.text("Deep.", usage=LARGE), model=OPUS)
        with (
            make_client_for(api.url, api_key="any") as client,
            Router(client=client, recorder=school.recorder, settings=school.settings, clock=school.clock) as router,
        ):
            for reply in replies:
                api.always(reply, model=HAIKU)
                assert router.ask("hello", route="support").text == "Deep."
                router._readers.join(60)  # the next reply is for the next call
                school.clock.advance(1)
        for _ in range(4):
            school.mark()
            school.look()
            school.clock.advance(61)

    return run


@pytest.mark.thorough
def test_a_team_sees_escalation_saving_and_false_confidence_before_it_routes(school, route_all):
    # The bench grades an answer by its own text.
    right, wrong = (Reply.triage(0.95, grade, usage=SMALL) for grade in ("correct", "incorrect"))
    route_all([right] * 27 + [wrong] * 3 + [Reply.triage(0.3, None, usage=SMALL)] * 10)
    found = receipt(school.store, school.settings, since=START - 1, until=school.clock() + 1)
    assert (found["calls"], found["triaged"], found["shipped"], found["bypassed"]) == (40, 40, 0, 0)
    assert found["base_escalation_rate"] == 0.25
    routed = (40 * TRIAGE_USD + 10 * DEEP_USD) / 40
    assert found["shadow"]["calls"] == 40
    assert found["shadow"]["cost_per_call_usd"] == pytest.approx(routed)
    assert found["shadow"]["baseline_per_call_usd"] == pytest.approx(DEEP_USD)
    assert found["shadow"]["saving"] == pytest.approx(1 - routed / DEEP_USD)
    assert found["cost_per_call_usd"] == pytest.approx(TRIAGE_USD + DEEP_USD)
    assert (found["graded"], found["false_confident_rate"]) == (30, pytest.approx(0.1))
    assert "routing would have saved 59.6%" in receipt_facts(found)["in shadow"]
    assert saving_line(found).startswith("Shadow mode: routing would have saved $")
    assert saving_line(found).endswith(" (59.6%), by 40 calls that triage was tried on")


def test_a_storm_is_told_and_changes_nothing(school, route_all):
    route_all([Reply.triage(0.3, None, usage=SMALL)] * 120)
    storm = next(payload for payload in school.inbox.payloads if payload["rule"] == "EscalationStorm")
    assert "shadow mode: the threshold stays at 0.8, it would be 0.9" in storm["threshold"]
    assert school.threshold() == 0.8
    assert status(school.store, school.settings, school.clock())["mode"] == "shadow"


def test_metrics_tell_what_was_tried(school, route_all):
    route_all([Reply.triage(0.95, "correct", usage=SMALL)] * 4)
    collector = FleetCollector(
        school.store, settings=school.settings, rulebook=read_rulebook(), jobs=dict,
        clock=school.clock,
    )  # fmt: skip
    shown = page(collector).decode()
    assert 'cheapdeep_fleet_shadowed_total{input_class="none",route="support"} 4.0' in shown
    assert f'cheapdeep_fleet_shadow_cost_usd_total{{input_class="none",route="support"}} {4 * TRIAGE_USD:g}' in shown


def test_a_receipt_without_shadow_mode_says_nothing_of_it(make_school):
    school = make_school()
    school.teach(20, 0.0)
    found = receipt(school.store, school.settings, since=START - 1, until=school.clock() + 1)
    assert found["shadow"] is None
    assert "in shadow" not in receipt_facts(found)
