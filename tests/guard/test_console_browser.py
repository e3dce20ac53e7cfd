from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from cheapdeep_ops.guard.grading.version import grader_version
from cheapdeep_ops.guard.incidents.attention import active_silences
from cheapdeep_ops.guard.service import Service
from cheapdeep_ops.store import incidents, labels, policies, processes
from tests.browser import faults_of
from tests.console import serving_console

pytest.importorskip("nicegui", reason="NiceGUI is not installed; the extra dev has it")

from nicegui import ui
from nicegui.functions.download import download
from nicegui.functions.navigate import Navigate
from nicegui.functions.notify import notify
from nicegui.testing.general import nicegui_reset_globals

pytestmark = pytest.mark.thorough

STORM = [0.95] * 2 + [0.5] * 8
NARROW = 380


@pytest.fixture
def engine():
    return "sqlite"


@pytest.fixture
def school(make_school):
    return make_school(api_tokens=(SecretStr("s3same"),))


@pytest.fixture
def own_ways(monkeypatch) -> None:
    """NiceGUI's own functions: those of a simulated user, from a test before, may outlive it."""
    for name, function in {"navigate": Navigate(), "notify": notify, "download": download}.items():
        monkeypatch.setattr(ui, name, function)


@pytest.fixture
def url(school, inbox, own_ways) -> Iterator[str]:
    """Where the school's console is, served by a real server."""
    service = Service(school.settings, senders={"inbox": inbox})
    parts = (school.store, school.settings, school.clock, service._collector)
    with nicegui_reset_globals(), serving_console(*parts) as url:
        yield url
    service.store.close()


def sign_in(page):
    page.fill("Your name", "ann")
    page.press("Tab", 9)
    page.send("Input.insertText", text="s3same")
    page.press("Enter", 13)


def acknowledge(page):
    page.click("ACKNOWLEDGE")
    sign_in(page)
    page.wait("!document.querySelector('[role=dialog]')")
    page.see("Not acknowledged")
    page.click("ACKNOWLEDGE")
    page.fill("Why", "looking <b>into</b> it")
    page.see("Signed in as ann")
    assert faults_of(page) == []
    page.click("ACKNOWLEDGE IT")
    page.see("Acknowledged by ann: looking <b>into</b> it")


def silence_for_a_moment(page):
    page.click("SILENCE")
    page.fill("Duration (30m, 2h, 7d)", "90m")
    page.fill("Why", "new prompt")
    # A note that is about to go has too little contrast.
    page.wait("!document.querySelector('.q-notification')")
    assert faults_of(page) == []
    page.click("SILENCE IT")
    page.see("EscalationStorm in route support is silenced by ann: new prompt; until")
    page.click("END")
    page.click("END IT")
    page.see("No rule is silenced.")
    assert faults_of(page) == []


def test_in_a_browser_a_storm_is_seen_live_and_a_person_acknowledges_pins_labels_and_releases(school, url, page):
    school.teach(40, 0.5)
    page.open(f"{url}/")
    page.see("All well")
    page.see("Live, ")
    page.send("Emulation.setTimezoneOverride", timezoneId="Asia/Kolkata")
    page.see("Times: UTC+5:30")
    page.send("Emulation.setTimezoneOverride", timezoneId="")
    school.run(120, STORM)
    page.see("Escalation storm on support")
    page.see("0.9, held by EscalationStorm")
    page.see("Not acknowledged")
    page.wait("document.querySelector('[role=img] canvas')")
    assert faults_of(page) == []
    acknowledge(page)
    silence_for_a_moment(page)
    page.open(f"{url}/incidents/1")
    page.see("Acknowledged by ann: ")
    page.see("Incident 1: Escalation storm on support")
    page.wait("document.title.startsWith('Incident 1: Escalation storm on support')")
    assert faults_of(page) == []
    page.open(f"{url}/charts")
    page.wait("document.querySelectorAll('canvas').length === 4")
    assert faults_of(page) == []
    page.open(f"{url}/policy")
    page.see("Signed in as ann")
    page.see("Signed in: ann")
    page.fill("Threshold", "0.85")
    page.fill("Why", "checking <b>refunds</b>")
    page.click("PIN")
    page.see("0.85, pinned by ann")
    page.see("checking <b>refunds</b>")
    page.click("RELEASE")
    page.click("RELEASE IT")
    page.see("unpin")
    assert faults_of(page) == []
    page.open(f"{url}/review")
    for number, verdict in enumerate(("CORRECT", "INCORRECT", "UNSURE"), 1):
        page.see("How much is it?")
        page.click(verdict)
        page.see(f"Labelled {verdict.lower()}")
        page.see(f"{min(number, 2)}, by ann")
    assert faults_of(page) == []
    with school.store.reading() as connection:
        acts = [(each["act"], each["author"]) for each in policies.history(connection) if each["author"]]
        (incident,) = incidents.incidents(connection)
        votes = labels.votes(connection, grader_version(school.settings))
    assert acts == [("unpin", "ann"), ("pin", "ann")]
    assert (incident["acknowledged"]["author"], incident["acknowledged"]["why"]) == ("ann", "looking <b>into</b> it")
    assert sorted((each.author, each.verdict) for each in votes) == [
        ("ann", "correct"), ("ann", "incorrect"), ("ann", "unsure"),
    ]  # fmt: skip


def sort_by_keyboard(page):
    head = "[...document.querySelectorAll('th')].find(each => each.innerText.includes('calls,'))"
    page.wait(head)
    for wanted in ("ascending", "descending"):
        page.run(f"{head}.focus()")
        page.press("Enter", 13)
        page.wait(f"{head}.ariaSort === '{wanted}'")


def test_in_a_browser_data_turn_grey_and_are_called_stale_while_no_guard_evaluates(school, url, page):
    school.run(30, STORM)
    page.open(f"{url}/")
    page.see("Live, ")
    grey = "getComputedStyle(document.querySelector('.fades')).filter === 'grayscale(1)'"
    page.wait(f"!({grey})")
    school.clock.advance(300)
    # A guard whose evaluations fail goes on beating.
    school.store.transact(lambda connection: processes.beat(connection, school.guard._heartbeat(school.clock())))
    page.see("Stale, 5 min ago")
    page.see("The guard does not evaluate")
    page.wait(grey)
    assert faults_of(page) == []
    school.look()
    page.see("Live, ")
    page.wait(f"!({grey})")


def test_in_a_browser_times_are_in_the_readers_zone_with_utc_on_hover(school, url, page):
    school.run(60, STORM)
    page.send("Emulation.setTimezoneOverride", timezoneId="Asia/Kolkata")
    page.open(f"{url}/incidents")
    page.wait("document.querySelector('td time')?.innerText.endsWith(' ago)')")
    shown, said = page.run("(each => [each.innerText, each.title])(document.querySelector('td time'))")
    utc = datetime.fromtimestamp(alert_of(school)["started_at"], UTC)
    assert said == f"{utc:%Y-%m-%d %H:%M:%S} UTC"
    assert f"{utc + timedelta(hours=5.5):%H:%M} (" in shown


def alert_of(school):
    with school.store.reading() as connection:
        return incidents.incidents(connection)[0]


def test_in_a_browser_an_alert_is_silenced_by_keyboard_alone(school, url, page):
    school.run(120, STORM)
    page.open(f"{url}/policy")
    sign_in(page)
    page.see("Signed in as ann")
    page.open(f"{url}/")
    button = "[...document.querySelectorAll('button')].find(each => each.innerText.trim() === 'SILENCE')"
    page.wait(button)
    sort_by_keyboard(page)
    page.run(f"{button}.focus()")
    page.press("Enter", 13)
    page.wait("document.activeElement.ariaLabel === 'Why'")
    page.press("Escape", 27)
    page.wait("!document.querySelector('[role=dialog]')")
    page.wait(f"document.activeElement === {button}")
    page.press("Enter", 13)
    page.wait("document.activeElement.ariaLabel === 'Why'")
    page.send("Input.insertText", text="by hand")
    page.press("Tab", 9)
    page.press("Enter", 13)
    page.see("EscalationStorm in route support is silenced by ann: by hand; until")
    with school.store.reading() as connection:
        (found,) = active_silences(connection, school.clock())
    assert (found["author"], found["why"]) == ("ann", "by hand")


def test_in_a_browser_pages_are_dark_where_asked_narrow_where_needed_and_load_nothing_from_elsewhere(school, url, page):
    school.run(120, STORM)
    for number in range(199):
        school.put(0.95, route=f"team-{number:03}-with-a-long-name")
    school.clock.advance(1)
    school.look()
    page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    page.send("Emulation.setDeviceMetricsOverride", width=NARROW, height=800, deviceScaleFactor=1, mobile=False)
    for path in ("/", "/charts", "/incidents", "/incidents/1", "/policy"):
        page.open(f"{url}{path}")
        page.wait("document.body.classList.contains('body--dark')")
        assert page.run("document.documentElement.scrollWidth") <= NARROW, path
        assert faults_of(page) == [], path
        hosts = page.run("performance.getEntriesByType('resource').map(each => new URL(each.name).host)")
        assert hosts
        assert set(hosts) == {url.removeprefix("http://")}
    page.open(f"{url}/")
    page.wait("document.querySelectorAll('.q-table tbody tr').length >= 200")
    assert page.run("document.documentElement.scrollWidth") <= NARROW
    top = "document.querySelector('.{}').getBoundingClientRect().top"
    assert page.run(top.format("incidents")) < page.run(top.format("tiles")), "an open incident comes first"
    page.send("Emulation.setDeviceMetricsOverride", width=1_200, height=800, deviceScaleFactor=1, mobile=False)
    page.wait(f"{top.format('incidents')} > {top.format('tiles')}")


MOVING = """[...document.querySelectorAll('*')].filter(each => {
  const style = getComputedStyle(each);
  return style.animationName !== 'none' || style.transitionDuration.split(',').some(each => parseFloat(each) > 0);
}).length"""
PRINTED = """(each => [each.ink, each.page, ...each.hidden])({
  ink: getComputedStyle(document.querySelector('h1')).color,
  page: getComputedStyle(document.body).backgroundColor,
  hidden: [...document.querySelectorAll('.pages, .no-print, button, .q-field')].map(
    each => each.checkVisibility()).filter(Boolean),
})"""


def test_in_a_browser_a_page_is_printed_black_on_white_without_controls_and_moves_only_where_wished(school, url, page):
    school.run(60, STORM)
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    page.send("Emulation.setEmulatedMedia", features=[dark])
    page.open(f"{url}/incidents/1")
    page.see("Escalation storm on support")
    page.wait("document.body.classList.contains('body--dark')")
    assert page.run(MOVING) > 0
    page.send("Emulation.setEmulatedMedia", features=[dark, {"name": "prefers-reduced-motion", "value": "reduce"}])
    assert page.run(MOVING) == 0
    ink, *_, shown = page.run(PRINTED)
    assert (ink, shown) == ("rgb(230, 235, 240)", True)
    page.send("Emulation.setEmulatedMedia", media="print", features=[dark])
    assert page.run(PRINTED) == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
    assert page.run("document.body.innerText.includes('Escalation storm on support')")


def test_in_a_browser_two_tabs_of_one_session_act_at_once_and_see_what_the_other_does(school, url, page):
    school.run(120, STORM)
    page.open(f"{url}/policy")
    sign_in(page)
    page.see("Signed in as ann")
    with page.another() as other:
        other.open(f"{url}/incidents/1")
        other.see("Signed in: ann")
        page.open(f"{url}/")
        page.click("ACKNOWLEDGE")
        other.click("SILENCE")
        page.fill("Why", "looking into it")
        other.fill("Why", "known since noon")
        page.click("ACKNOWLEDGE IT")
        other.click("SILENCE IT")
        for tab in (page, other):
            tab.see("Acknowledged by ann: looking into it")
            tab.see("EscalationStorm in route support is silenced by ann: known since noon; until")
        other.open(f"{url}/policy")
        other.click("SIGN OUT")
        other.see("Enter a token of this guard")
        page.click("PIN THRESHOLD")
        page.see("Enter a token of this guard")
