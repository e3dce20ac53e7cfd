import re

import pytest

from cheapdeep_ops.guard.api import Access

pytest.importorskip("nicegui", reason="NiceGUI is not installed; the extra dev has it")

from nicegui import Client
from nicegui.testing import user_simulation

from cheapdeep_ops.guard.console.desk import Desk
from cheapdeep_ops.guard.console.pages import add_pages

CALM = [0.95] * 9 + [0.5]
STORM = [0.95] * 2 + [0.5] * 8
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>'\"`${1}{{1}}"
PAGES = ("/", "/incidents", "/incidents/1", "/policy")


@pytest.fixture
def engine():
    return "sqlite"


@pytest.fixture
async def visit(town):
    """Opens the console as a browser would, without one: `await visit("/")` is a user who sees that page."""
    changes = {}

    async with user_simulation() as user:

        async def opened(path, **settings):
            changed = town.settings.model_copy(update=settings)
            if settings or not changes:
                changes.update(settings, opened=True)
                access = Access(changed)
                add_pages(Desk(store=town.store, settings=changed, clock=town.clock, access=access, refresh_s=0.02))
            await user.open(path)
            return user

        yield opened
        # NiceGUI would forget the modules of the pages, and others hold on to them.
        Client.page_routes.clear()


async def html_of(visit, path):
    user = await visit(path)
    return (await user.http_client.get(path)).text


async def test_the_first_page_says_what_is_so_with_interval_and_n(town, visit):
    town.run(60, CALM)
    user = await visit("/")
    await user.should_see("No alert fires.")
    await user.should_see("10.0% (7.8% to 12.7%, n 600)")
    await user.should_see("unknown: n 0; in the judge's eyes, uncorrected")


async def test_a_storm_is_seen_with_its_cause_and_leads_to_its_incident(town, visit):
    town.run(200, STORM, cls="invoice")
    user = await visit("/")
    await user.should_see("EscalationStorm firing")
    await user.should_see("Cause:")
    await user.should_see("0.9, held by EscalationStorm")
    user = await visit("/incidents")
    await user.should_see("1 EscalationStorm")
    user = await visit("/incidents/1")
    await user.should_see("What was said")
    await user.should_see("raise")


async def test_what_changes_is_seen_without_loading_the_page_again(town, visit):
    user = await visit("/")
    await user.should_see("No alert fires.")
    town.run(200, STORM)
    await user.should_see("EscalationStorm firing", retries=20)


async def test_the_history_says_who_changed_what_and_why(town, visit):
    town.run(200, STORM)
    user = await visit("/policy")
    await user.should_see("held by EscalationStorm")
    await user.should_see("0.8")


@pytest.mark.parametrize("number", ["0", "-1", "77", str(2**70)])
async def test_an_incident_that_is_not_there_is_said_not_to_be(visit, number):
    user = await visit(f"/incidents/{number}")
    await user.should_see("There is no such incident.")


async def test_what_callers_write_is_shown_and_never_read_as_html(town, visit):
    town.run(200, STORM, route=EVIL, cls=EVIL)
    for path in PAGES:
        html = await html_of(visit, path)
        assert "alert(1)" in html, path
        assert "<script>alert" not in html, path
        assert "<img" not in html, path
        assert "`${1}" not in html, path


async def test_no_page_names_another_host(town, visit):
    town.run(200, STORM)
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
    await user.should_see("failed:")
