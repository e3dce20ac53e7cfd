import asyncio
import re
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from functools import partial

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from cheapdeep_ops.access.token_file import with_token, without_token
from cheapdeep_ops.access.token_writer import change
from cheapdeep_ops.access.tokens import Role, Token, hash_of
from cheapdeep_ops.guard.actions.thresholds import pin, release
from cheapdeep_ops.guard.formatting import plain
from cheapdeep_ops.guard.grading.version import grader_version
from cheapdeep_ops.guard.http.access import Access
from cheapdeep_ops.guard.http.api import make_api
from cheapdeep_ops.guard.incidents.attention import active_silences
from cheapdeep_ops.guard.reports.quality import baselines_of
from cheapdeep_ops.guard.service import NO_CONSOLE, Service
from cheapdeep_ops.store import incidents, labels, policies
from cheapdeep_ops.store.stories import story

pytest.importorskip("nicegui", reason="NiceGUI is not installed; the extra dev has it")

from nicegui import Client, ui
from nicegui.testing import user_simulation
from nicegui.testing.general import nicegui_reset_globals

from cheapdeep_ops.guard.console.door import COOKIE, ConsoleDoor
from cheapdeep_ops.guard.console.incident_text import incident_card, timeline
from cheapdeep_ops.guard.console.layout import ConsoleContext
from cheapdeep_ops.guard.console.pages import add_pages
from cheapdeep_ops.guard.console.session import SESSIONS

pytestmark = pytest.mark.thorough

CALM = [0.95] * 9 + [0.5]
STORM = [0.95] * 2 + [0.5] * 8
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>'\"`${1}{{1}}"
PAGES = ("/", "/charts", "/incidents", "/incidents/1", "/policy")


@pytest.fixture
def engine():
    return "sqlite"


@pytest.fixture
async def visit(town):
    """Opens the console as a browser would, without one: `await visit("/")` is a user who sees that page."""
    async with visiting(town) as opened:
        yield opened


@pytest.fixture
async def visit_school(school):
    async with visiting(school) as opened:
        yield opened


@asynccontextmanager
async def visiting(town):
    async with user_simulation() as user:
        # The simulated browser passes the console's door, where it gets its cookie.
        user.http_client._transport.app = ConsoleDoor(user.http_client._transport.app, SESSIONS)
        # A busy machine needs longer than three looks.
        user.should_see = partial(type(user).should_see, user, retries=200)

        async def opened(path, ticks=time.monotonic, patience_s=60.0, refresh_s=0.02, **changes):
            if changes or not Client.page_routes:
                settings = town.settings.model_copy(update=changes)
                access = Access(settings, monotonic=ticks)
                desk = ConsoleContext(
                    store=town.store, settings=settings, clock=town.clock, access=access,
                    refresh_s=refresh_s, patience_s=patience_s,
                )  # fmt: skip
                add_pages(desk)
            await user.open(path)
            return user

        yield opened
        # NiceGUI would forget the modules of the pages, and others hold on to them.
        Client.page_routes.clear()


async def sign_in(visit, path, token="s3same", name="ann", **changes):
    user = await visit(path, **{"api_tokens": (SecretStr("s3same"),), **changes})
    await user.should_see("Sign in")
    user.find("Your name").type(name)
    user.find("Token").type(token)
    user.find("Sign in").click()
    return user


def changes_of(town):
    with town.store.reading() as connection:
        return [(each["act"], each["scope"], each["author"], each["why"]) for each in policies.history(connection)]


async def html_of(visit, path):
    user = await visit(path)
    return (await user.http_client.get(path)).text


async def test_the_first_page_says_what_is_so_with_interval_and_n(town, visit):
    town.run(60, CALM)
    user = await visit("/")
    await user.should_see("No alert fires.")
    await user.should_see("All well")
    await user.should_see("10.0%")
    await user.should_see("each route's limit 35.0%")
    await user.should_see("no answer was graded in 24 hours")
    (row,) = routes_of(user)
    assert (row["route"], row["calls"], row["base_text"]) == ("support", 600, "10.0% (7.8% to 12.7%, n 600)")
    assert (row["threshold"], row["base_over"], row["wrong_text"]) == ("0.8", False, "not graded")


def routes_of(user):
    (table,) = user.find(kind=ui.table).elements
    return table.rows


async def test_a_route_leads_to_what_each_rule_waits_for(town, visit):
    town.run(60, CALM)
    assert "/why/support" in await html_of(visit, "/")
    user = await visit("/why/support")
    await user.should_see("EscalationStorm of route support: inactive")
    await user.should_see("A climb to 67.5% would fire it")


async def test_a_storm_is_seen_with_its_cause_and_leads_to_its_incident(town, visit):
    town.run(60, STORM, cls="invoice")
    user = await visit("/")
    await user.should_see("Escalation storm on support")
    await user.should_see("acknowledge incident 1.")
    await user.should_see("Why")
    await user.should_see("0.9 on support; else 0.8")
    await user.should_see("doubtful answers do not ship")
    (row,) = routes_of(user)
    assert (row["threshold"], row["base_over"]) == ("0.9, held by EscalationStorm", True)
    user = await visit("/incidents")
    await user.should_see("1 EscalationStorm")
    user = await visit("/incidents/1")
    await user.should_see("Incident 1: Escalation storm on support")
    await user.should_see("Timeline")
    await user.should_see("invoice")
    # What is found is a set, in no order.
    shown = sorted(user.find(kind=ui.timeline_entry).elements, key=lambda each: each.id)
    titles = [each.props["title"] for each in shown]
    assert "Threshold 0.8 \u2192 0.9" in titles
    assert "Said: started" in titles
    with town.store.reading() as connection:
        told = story(connection, 1)
    entries = timeline(told)
    assert titles == [each.title for each in entries]
    assert [each.at for each in entries] == sorted((each.at for each in entries), reverse=True)
    # With threads, the store has each message and the reply that repeats it.
    replies = [{**each, "payload": {**each["payload"], "in_thread": True}} for each in told["messages"]]
    assert timeline({**told, "messages": [*told["messages"], *replies]}) == entries


async def test_a_card_links_its_runbook(town, visit):
    town.run(60, STORM)
    user = await visit("/")
    await user.should_see("Escalation storm on support")
    await user.should_not_see("Runbook")
    with town.store.reading() as connection:
        (incident,) = incidents.incidents(connection)
    linked = {**incident["announced"], "links": [["Console", "https://c"], ["Runbook", "https://r"]]}
    assert incident_card({**incident, "announced": linked}).runbook == "https://r"


async def test_figures_of_an_incident_are_those_of_now_and_not_those_of_its_message(town, visit):
    town.run(60, STORM)
    town.run(45, [0.5] * 10)
    user = await visit("/")
    with town.store.reading() as connection:
        (alert,) = [each for each in incidents.alerts(connection) if each["state"] == "firing"]
        (incident,) = incidents.incidents(connection)
    now, said = (f"{each['signal']['rate']:.1%} of the calls" for each in (alert, incident["announced"]))
    assert now != said
    await user.should_see(now)
    await user.should_not_see(said)
    # The cost is older than the rate, so it does not stand beside it, and its time does.
    card = incident_card(incident, alert=alert)
    assert "cost unknown" in incident_card(incident).figures
    assert "cost" not in card.figures
    assert card.facts["Cost"].startswith("Unknown")
    assert card.facts_at == incident["announced_at"] < card.figures_at == alert["updated_at"]
    await user.should_see("Cause and cost are of")


async def test_an_incident_offers_to_release_the_pin_in_force_and_only_that(town, visit):
    town.run(60, STORM)
    user = await sign_in(visit, "/policy")
    await user.should_see("Signed in as ann")
    user = await visit("/")
    await user.should_see(marker="pin-threshold-incident-1")
    await user.should_not_see(marker="release-pin-incident-1")
    await user.should_not_see("Learn as normal")
    said = {"author": "bob", "why": "for the release"}
    town.do(pin, threshold=0.8, route="*", **said)
    await user.should_see(marker="release-pin-incident-1")
    user.find(marker="release-pin-incident-1").click()
    await user.should_see("Release the pin of all routes")
    town.do(pin, threshold=0.85, route="*", **said)
    user.find("Release it").click()
    await user.should_see("the threshold was changed meanwhile, and nothing was done")
    assert [act for act, *_ in changes_of(town)].count("unpin") == 0
    town.do(pin, threshold=0.87, route="support", **said)
    user.find("Cancel").click()
    await user.should_see("0.87 on support")
    user.find(marker="release-pin-incident-1").click()
    await user.should_see("Release the pin of route support")
    user.find(marker="release-why").type("it is over")
    user.find("Release it").click()
    await user.should_see("Released: the rules decide again")
    assert changes_of(town)[0] == ("unpin", "support", "ann", "it is over")
    town.do(release, route="*", **said)
    await user.should_see("0.9 on support; else 0.8")
    await user.should_not_see(marker="release-pin-incident-1")


async def test_false_confidence_is_learned_as_normal_after_a_question_and_only_by_those_who_may(
    school, visit_school, tmp_path
):
    school.learn(400, 0.04)
    school.teach(200, 0.4, seed=1)
    path = tmp_path / "tokens.toml"
    for name, roles in (("reader", {Role.READ}), ("bob", {Role.READ, Role.ACT})):
        token = Token(name=name, hash=hash_of(name), roles=frozenset(roles))
        change(path, lambda text, token=token: with_token(text, token), creates=True)
    known = {"api_tokens_file": path, "api_tokens": (), "refresh_s": 3_600.0}
    with school.store.reading() as connection:
        (number,) = [each["id"] for each in incidents.incidents(connection)]
    for name in ("reader", "bob"):
        user = await sign_in(visit_school, "/policy", token=name, **known)
        await user.should_see(f"Signed in as {name} (ann)")
        user = await visit_school("/")
        await user.should_see(marker=f"learn-as-normal-incident-{number}")
        user.find(marker=f"learn-as-normal-incident-{number}").click()
        await user.should_see("Learn as normal: route support")
        if name == "reader":
            await user.should_see("does not have the role act")
            await user.should_not_see("Learn it")
    await user.should_see("The route is blind until 200 of its answers are graded again: about ")
    await user.should_see("Is this not a problem?")
    user.find(marker="relearn-dialog-why").type("new tariffs")
    user.find("Learn it").click()
    await user.should_see("Learning again, from calls that begin now")
    with school.store.reading() as connection:
        normal = baselines_of(connection, school.settings)["support"]
    assert (normal["author"], normal["why"]) == ("bob (ann)", "new tariffs")


async def test_every_page_says_when_the_guard_has_stopped_evaluating(town, visit):
    town.run(60, STORM)
    user = await visit("/")
    await user.should_see("Escalation storm on support")
    await user.should_not_see("No guard evaluates")
    town.clock.advance(120)
    await user.should_see("The guard does not evaluate")
    await user.should_see("1 alert fired then")
    town.look()
    await user.should_see("Escalation storm on support")


async def test_a_page_says_in_which_environment_it_is(town, visit):
    user = await visit("/", environment="staging")
    await user.should_see("staging")


async def test_what_changes_is_seen_without_loading_the_page_again(town, visit):
    user = await visit("/")
    await user.should_see("No alert fires.")
    town.run(60, STORM)
    await user.should_see("Escalation storm on support")


@pytest.mark.thorough
async def test_the_history_says_who_changed_what_and_why(town, visit):
    town.run(60, STORM)
    user = await visit("/policy")
    await user.should_see("held by EscalationStorm")
    await user.should_see("0.8")


@pytest.mark.thorough
@pytest.mark.parametrize("number", ["0", "-1", "77", str(2**70)])
async def test_an_incident_that_is_not_there_is_said_not_to_be(visit, number):
    user = await visit(f"/incidents/{number}")
    await user.should_see("There is no such incident.")


async def test_what_callers_write_is_shown_and_never_read_as_html(town, visit):
    town.run(60, STORM, route=EVIL, cls=EVIL)
    for path in PAGES:
        html = await html_of(visit, path)
        assert "alert(1)" in html, path
        assert "<script>alert" not in html, path
        assert "<img" not in html, path
        assert "`${1}" not in html, path


async def test_no_page_names_another_host(town, visit):
    town.run(60, STORM)
    for path in PAGES:
        html = await html_of(visit, path)
        assert re.findall(r"(?:src|href)=[\"']?(?:https?:)?//[^\"' >]+", html) == [], path
        assert not re.search(r"(?<!w3\.org/)\bhttps?://(?!test\b|www\.w3\.org)", html), path


async def test_a_store_out_of_reach_is_said_in_place_of_figures(town, visit, tmp_path):
    await visit("/")
    town.store.close()
    (tmp_path / "store.db").write_text("this is no database any more" * 100)
    for leftover in ("store.db-wal", "store.db-shm"):
        (tmp_path / leftover).unlink(missing_ok=True)
    user = await visit("/incidents")
    await user.should_see("is no SQLite file")
    await user.should_see("The console cannot read the store")
    await user.should_see("cheapdeep-ops doctor says what is wrong")


async def test_a_page_with_a_slow_store_says_that_it_loads_until_it_has_read(town, visit):
    town.look()
    user = await visit("/", patience_s=0.0, environment="test")
    await user.should_see("Loading...")
    await user.should_see("All well")
    await user.should_not_see("Loading...")


async def test_charts_show_a_route_over_a_period_that_is_chosen(town, visit):
    town.run(200, STORM)
    town.run(60, CALM, route="billing")
    user = await visit("/charts")
    await user.should_see("Escalation rate, in percent")
    canvas = canvases(user)[0]
    assert lines_of(canvas)["at base"][-1] == pytest.approx(10, abs=1)
    limit, raised = canvas.options["series"][0]["markLine"]["data"]
    assert (limit["yAxis"], raised["label"]["formatter"]) == (35.0, "threshold 0.9")
    ((begun, _),) = canvas.options["series"][0]["markArea"]["data"]
    assert begun["label"]["formatter"] == "#1"
    low, width = (lines_of(canvas)[name] for name in ("", "95% interval"))
    assert low[-1] < 10 < low[-1] + width[-1]
    await user.should_see("set by a rule")
    (route,) = [each for each in user.find(kind=ui.select).elements if each.value == "*"]
    route.set_value("support")
    await seen(lambda: lines_of(canvas)["at base"][-1] is None)
    assert {each for each in lines_of(canvas)["at base"] if each is not None} == {80.0}


def canvases(user):
    return sorted(user.find(kind=ui.echart).elements, key=lambda each: each.id)


def lines_of(canvas):
    return {line["name"]: [value for _, value in line["data"]] for line in canvas.options["series"]}


async def seen(is_so):
    for _ in range(200):
        if is_so():
            return
        await asyncio.sleep(0.01)
    pytest.fail("was never so")


async def test_a_person_pins_and_releases_with_name_and_reason(town, visit):
    town.run(2, [0.95], route="support")
    user = await sign_in(visit, "/policy", name=" ann ")
    await user.should_see("Signed in as ann")
    choose(user, "pin-route", "support")
    user.find(marker="pin-threshold").elements.pop().set_value(0.7)
    user.find(marker="do-pin").click()
    await user.should_see("why: Value error")
    assert changes_of(town) == []
    user.find(marker="pin-why").type("checking refunds")
    user.find(marker="do-pin").click()
    await user.should_see("0.7, pinned by ann")
    assert town.threshold() == 0.7
    user.find(marker="release-the-pin-of-route-support").click()
    await user.should_see("Release the pin of route support")
    user.find("Release it").click()
    await user.should_see("unpin")
    assert town.threshold() == 0.8
    assert changes_of(town) == [("unpin", "support", "ann", ""), ("pin", "support", "ann", "checking refunds")]


def choose(user, marker, route):
    (select,) = user.find(marker=marker).elements
    assert route in select.options
    select.set_value(route)


async def test_a_person_pins_the_threshold_where_the_incident_is_told(town, visit):
    town.run(60, STORM)
    user = await sign_in(visit, "/policy")
    await user.should_see("Signed in as ann")
    user = await visit("/")
    user.find(marker="pin-threshold-incident-1").click()
    await user.should_see("Pin the threshold of route support")
    user.find(marker="pin-choice").elements.pop().set_value(0.8)
    user.find(marker="pin-dialog-why").type("a known prompt")
    user.find(marker="pin-dialog-for").type("4h")
    user.find("Pin it").click()
    await user.should_see("Pinned: the rules only report")
    with town.store.reading() as connection:
        (made,) = policies.pins(connection)
    assert made.until == town.clock() + 4 * 3_600
    assert changes_of(town)[0] == ("pin", "support", "ann", "a known prompt")
    assert town.threshold() == 0.8


async def test_a_route_that_no_call_has_named_is_pinned_by_a_deliberate_act_alone(town, visit):
    town.run(2, [0.95], route="support")
    user = await sign_in(visit, "/policy")
    await user.should_see("Signed in as ann")
    (select,) = user.find(marker="pin-route").elements
    assert dict(select.options) == {"*": "all routes", "support": "support"}
    user.find(marker="pin-new-name").type("suport")
    user.find(marker="pin-why").type("trial")
    user.find(marker="do-pin").click()
    await user.should_see("no call has named the route suport: did you mean support?")
    assert changes_of(town) == []
    user.find(marker="pin-is-new").click()
    user.find(marker="do-pin").click()
    await user.should_see("no call has named the route suport yet")
    assert changes_of(town) == [("pin", "suport", "ann", "trial")]


@pytest.mark.thorough
@pytest.mark.parametrize("threshold", [None, 1.5, -0.1])
async def test_a_threshold_that_is_none_is_refused(town, visit, threshold):
    user = await sign_in(visit, "/policy")
    await user.should_see("Signed in")
    user.find(marker="pin-threshold").elements.pop().set_value(threshold)
    user.find(marker="pin-why").type("trial")
    user.find(marker="do-pin").click()
    await user.should_see("threshold: Input should be")
    assert changes_of(town) == []


async def test_nothing_is_changed_without_a_token_of_the_guard(town, visit):
    user = await visit("/policy")
    await user.should_see("Set CHEAPDEEP_API_TOKENS")
    await user.should_not_see("Sign in")
    for wrong in ("", "wrong", "s3same2"):
        user = await sign_in(visit, "/policy", token=wrong)
        await user.should_see("This token is wrong")
        await user.should_not_see("Pin")
    user = await sign_in(visit, "/policy", name=" ")
    await user.should_see("name: ")
    await user.should_not_see("Signed in")


@pytest.mark.thorough
async def test_a_named_token_opens_what_its_role_allows_and_its_revocation_ends_the_session(town, visit, tmp_path):
    path = tmp_path / "tokens.toml"
    for name, roles, routes in (
        ("reader", {Role.READ}, None),
        ("bob", {Role.READ, Role.ACT}, None),
        ("team", {Role.READ, Role.ACT}, frozenset({"support"})),
    ):
        token = Token(name=name, hash=hash_of(name), roles=frozenset(roles), routes=routes)
        change(path, lambda text, token=token: with_token(text, token), creates=True)
    # the file is looked at anew at each check
    known = {"host": "0.0.0.0", "api_tokens_file": path, "api_tokens": (), "ticks": iter(range(10**9)).__next__}
    user = await sign_in(visit, "/policy", token="never", **known)
    await user.should_see("This token is wrong")
    for name, refusal in (("reader", "does not have the role act"), ("team", "is limited to other routes")):
        # A page whose session ends loads itself again, and here that would replace the next page.
        user = await sign_in(visit, "/policy", token=name, **known, refresh_s=3_600.0)
        await user.should_see(f"Signed in as {name} (ann): this token {refusal}")
        await user.should_not_see(marker="pin-why")
    user.http_client.cookies.clear()
    user = await sign_in(visit, "/policy", token="bob", name="mallory", **known)
    await user.should_see("Signed in as bob")
    user.find(marker="pin-why").type("trial")
    user.find(marker="do-pin").click()
    await user.should_see("0.8, pinned by bob (mallory)")
    assert changes_of(town) == [("pin", "*", "bob (mallory)", "trial")]
    change(path, lambda text: without_token(text, "bob"))
    user.find(marker="pin-why").type("trial")
    user.find(marker="do-pin").click()
    await user.should_see("Please load this page again and sign in")
    user = await visit("/review")
    await user.should_see("Sign in")
    assert len(changes_of(town)) == 1


async def test_a_form_that_outlives_its_session_changes_nothing(town, visit):
    user = await sign_in(visit, "/policy")
    await user.should_see("Signed in as ann")
    SESSIONS.end(user.http_client.cookies[COOKIE])
    user.find(marker="pin-why").type("trial")
    user.find(marker="do-pin").click()
    await user.should_see("Please load this page again and sign in")
    assert changes_of(town) == []


@pytest.mark.thorough
async def test_off_loopback_nothing_at_all_is_shown_without_a_token(town, visit):
    town.run(60, STORM, route="hush")
    for path in (*PAGES, "/review"):
        user = await visit(path, host="0.0.0.0", api_tokens=(SecretStr("s3same"),))
        await user.should_see("Sign in")
        await user.should_not_see("hush")
        assert "hush" not in (await user.http_client.get(path)).text, path
    user = await sign_in(visit, "/", host="0.0.0.0")
    await user.should_see("0.9 on hush")


async def test_content_needs_a_token_and_is_labelled_without_the_judges_verdict(school, visit_school):
    school.teach(40, 0.5)
    user = await visit_school("/review", api_tokens=(SecretStr("s3same"),))
    await user.should_see("Sign in")
    await user.should_not_see("How much is it?")
    user = await sign_in(visit_school, "/review")
    await user.should_see("How much is it?")
    await user.should_see(marker="text-answer")
    await user.should_see("no labels yet")
    user.find("Skip").click()
    user.find("Incorrect").click()
    await user.should_see("Labelled incorrect")
    await user.should_see("1, by ann")
    with school.store.reading() as connection:
        (vote,) = labels.votes(connection, grader_version(school.settings))
    assert vote.verdict == "incorrect"


def silences_of(town):
    with town.store.reading() as connection:
        return [
            (each["rule"], each["route"], each["author"], each["why"])
            for each in active_silences(connection, town.clock())
        ]


@pytest.mark.parametrize("path", ["/incidents/1", pytest.param("/", marks=pytest.mark.thorough)])
async def test_a_person_acknowledges_an_incident_where_it_is_told(town, visit, path):
    town.run(60, STORM)
    user = await sign_in(visit, "/policy")
    await user.should_see("Signed in as ann")
    user = await visit(path)
    await user.should_see("Not acknowledged")
    (button,) = user.find(marker="acknowledge-incident-1").elements
    assert "title" not in button.props
    user.find(marker="acknowledge-incident-1").click()
    await user.should_see("Acknowledge incident 1")
    user.find("Acknowledge it").click()
    await user.should_see("why: Value error")
    user.find(marker="ack-why").type(EVIL)
    user.find("Acknowledge it").click()
    await user.should_see("Acknowledged by ann: ")
    await user.should_see(plain(EVIL, 240))
    with town.store.reading() as connection:
        (found,) = incidents.incidents(connection)
    assert (found["acknowledged"]["author"], found["acknowledged"]["why"]) == ("ann", EVIL)
    user = await visit("/incidents")
    await user.should_see("ann")


@pytest.mark.parametrize("path", ["/", pytest.param("/incidents/1", marks=pytest.mark.thorough)])
async def test_a_person_silences_what_fires_and_ends_the_silence(town, visit, path):
    town.run(60, STORM)
    user = await sign_in(visit, "/policy")
    await user.should_see("Signed in as ann")
    user = await visit(path)
    await user.should_see("Not acknowledged")
    user.find(marker="silence-incident-1").click()
    await user.should_see("Silence it")
    user.find(marker="silence-why").type("new prompt")
    user.find(marker="silence-for").clear().type("soon")
    user.find("Silence it").click()
    await user.should_see("for_s: Value error, 'soon' is not a duration")
    user.find(marker="silence-for").clear().type("31d")
    user.find("Silence it").click()
    await user.should_see("for_s: Input should be less than or equal to 2592000")
    assert silences_of(town) == []
    user.find(marker="silence-for").clear().type("90m")
    user.find(marker="silence-until-over").click()
    user.find("Silence it").click()
    await user.should_see("EscalationStorm in route support is silenced by ann: new prompt; until incident 1 is over")
    assert silences_of(town) == [("EscalationStorm", "support", "ann", "new prompt")]
    user.find(marker="end-silence-1").click()
    await user.should_see("End silence 1")
    user.find("End it").click()
    await user.should_see("Silence 1 has ended")
    assert silences_of(town) == []


@pytest.mark.thorough
async def test_a_silence_of_every_route_is_made_ahead_and_ends_by_itself(town, visit):
    user = await sign_in(visit, "/policy")
    await user.should_see("Signed in as ann")
    user = await visit("/")
    await user.should_see("No rule is silenced.")
    user.find(marker="silence-a-rule").click()
    await user.should_see("Silence it")
    user.find(marker="silence-why").type("deploying")
    user.find("Silence it").click()
    await user.should_see("EscalationStorm in all routes is silenced by ann: deploying; until")
    assert silences_of(town) == [("EscalationStorm", None, "ann", "deploying")]
    town.clock.advance(7_200)
    await user.should_see("No rule is silenced.")


@pytest.mark.thorough
async def test_what_is_over_is_told_without_buttons(town, visit):
    town.run(60, STORM)
    town.run(500, CALM)
    user = await visit("/incidents/1")
    await user.should_see("Not acknowledged")
    await user.should_see("Back to ")
    await user.should_not_see(marker="acknowledge-incident-1")
    await user.should_not_see(marker="silence-incident-1")


async def test_a_rules_file_that_has_gone_is_said_where_a_rule_would_be_silenced(town, visit, tmp_path):
    user = await visit("/", rules_file=tmp_path / "gone.yaml", api_tokens=(SecretStr("s3same"),))
    user.find(marker="silence-a-rule").click()
    await user.should_see("gone.yaml")


async def test_nothing_is_acknowledged_or_silenced_without_signing_in(town, visit):
    town.run(60, STORM)
    user = await visit("/", api_tokens=(SecretStr("s3same"),))
    (button,) = user.find(marker="acknowledge-incident-1").elements
    assert "asks for a token first" in button.props["title"]
    user.find(marker="acknowledge-incident-1").click()
    await user.should_see("Sign in")
    await user.should_not_see("Acknowledge it")
    user = await visit("/", api_tokens=())
    user.find(marker="silence-a-rule").click()
    await user.should_see("Set CHEAPDEEP_API_TOKENS")
    await user.should_not_see("Silence it")


async def test_what_is_normal_is_learned_anew_on_request(school, visit_school):
    school.teach(40, 0.0)
    user = await sign_in(visit_school, "/policy")
    await user.should_see("being learned: 40 grades")
    await user.should_see("Signed in as ann")
    choose(user, "relearn-route", "support")
    user.find(marker="relearn-why").type("new product line")
    user.find("Relearn what is normal").click()
    await user.should_see("being learned: 0 grades")
    await user.should_see("new product line")


@pytest.fixture
def client(town, inbox):
    """The whole application, as `serve` has it."""
    service = Service(town.settings, senders={"inbox": inbox})
    with nicegui_reset_globals():
        api = make_api(town.store, settings=town.settings, collector=service._collector, is_ready=str)
        service._add_console(api)
        with TestClient(api, base_url="http://localhost") as client:
            yield client
        Client.page_routes.clear()
    service.store.close()


def test_the_console_stands_beside_the_api_and_guards_its_name_as_well(client):
    assert "The guard does not evaluate" in client.get("/").text
    assert client.get("/api/v1/status").json()["policy"]["threshold"] == 0.8
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/nosuch").status_code == 404
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400
    assert "/charts" not in client.get("/openapi.json").json()["paths"]


def test_without_the_extra_the_first_page_says_how_to_get_it(town, inbox, monkeypatch):
    monkeypatch.setitem(sys.modules, "nicegui", None)
    service = Service(town.settings, senders={"inbox": inbox})
    api = make_api(town.store, settings=town.settings, collector=service._collector, is_ready=str)
    service._add_console(api)
    assert TestClient(api, base_url="http://localhost").get("/").text == NO_CONSOLE
    service.store.close()


@pytest.mark.thorough
def test_neither_router_nor_guard_load_it_before_they_serve():
    script = "import sys, cheapdeep_ops, cheapdeep_ops.guard.service; sys.exit('nicegui' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
