"""The receipt as Markdown and as HTML, from a store that a router and a guard's grader have filled."""

import re
from html.parser import HTMLParser

import pytest

from cheapdeep_ops.cli import main
from cheapdeep_ops.cli.render.receipt_page import _literal, html_receipt, markdown_receipt
from cheapdeep_ops.guard.reports.receipt import receipt
from cheapdeep_ops.guard.reports.trends import trends
from cheapdeep_ops.policy import PolicyAct
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import policies
from tests.browser import faults_of
from tests.guard import conftest as guards
from tests.stores import migrated

HOSTILE = 'x|y<script>alert(1)</script>[a](http://b)`*_"&'

NARROW = 380
BACKGROUNDS = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}


def pin_as_the_hostile(store, settings, now):
    def work(connection):
        book = policies.read_book(connection, base=settings.base_threshold, raised=settings.raised_threshold)
        said = {"author": HOSTILE, "why": HOSTILE}
        change = policies.PolicyEdit(scope=HOSTILE, act=PolicyAct.PIN, threshold=0.7, **said)
        policies.apply(connection, book, change, at=now)

    store.transact(work)


@pytest.fixture
def found(tmp_path):
    settings = Settings(store_url=f"sqlite:///{tmp_path}/store.db", sample_rate=1.0, grade_concurrency=1)
    store = migrated(settings.store_url)
    school = guards.School(store, settings, guards.town_rules(), guards.Inbox())
    school.look()
    school.teach(120, 0.1, confidences=(0.85, 0.95, 0.99))
    school.teach(120, 0.1, route=HOSTILE)
    school.run(60, [0.95] * 2 + [0.5] * 8, route="billing", look_every_s=5)
    pin_as_the_hostile(store, settings, school.clock())
    period = {"since": guards.START - 1, "until": school.clock() + 1}
    yield receipt(store, settings, **period), trends(store, settings, **period)
    school.recorder.close()
    store.close()


class Page(HTMLParser):
    """What a page loads, and which elements it has."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.loads, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]

    def handle_data(self, data):
        self.text += data


@pytest.mark.thorough
def test_markdown_has_every_figure_and_tables_of_even_width(found):
    text = markdown_receipt(*found)
    assert text.startswith("# Saved $")
    assert (
        text.index("| false-confident rate |")
        < text.index("## 2 incidents, 2 still open")
        < text.index("## All figures")
    )
    assert "| triage model | claude-haiku-4-5 |" in text
    assert "## What confidence is worth" in text
    for block in re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE):
        widths = {len(re.split(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1


@pytest.mark.thorough
def test_names_that_callers_chose_are_names_in_both(found):
    assert HOSTILE not in markdown_receipt(*found)
    page = Page(html_receipt(*found))
    assert "script" not in page.tags
    assert "a" not in page.tags
    assert page.loads == []
    assert f"route {HOSTILE}: claims" in page.text


@pytest.mark.thorough
def test_the_page_has_its_plots_each_with_a_title_and_a_description(found):
    text = html_receipt(*found)
    page = Page(text)
    assert "h2" in page.tags[page.tags.index("svg") :]
    titles = re.findall(r"<figure><h3>(.*?)</h3>", text)
    assert titles[:3] == ["Escalation rate", "Cost of a call", "Calls in steps of 5 s"]
    assert titles[3].startswith("Why calls escalated (n ")
    assert [each.split(", ")[1][:9] for each in titles[4:7]] == ["all route", "route sup", "route x|y"]
    assert "route billing" not in "".join(titles), "no answer of it was graded, so its plot would be empty"
    assert titles[7:] == ["Is confidence worth anything?"]
    assert page.tags.count("svg") == page.tags.count("desc") == len(titles) - 1


@pytest.mark.thorough
def test_no_name_is_a_link_a_heading_or_a_list_on_github_either(found):
    text = markdown_receipt(*found)
    assert "http://" not in text
    assert "http\\://b" in text
    assert _literal("see WWW.example and www.b") == "see WWW\\.example and www\\.b"
    for line in text.splitlines():
        assert re.match(r"$|\| |#{1,2} [A-Z0-9]|- ([0-9]{4}-|\\#[0-9]|route |all routes: )|[0-9]{4}-", line), line


@pytest.mark.thorough
def test_both_list_who_changed_the_threshold_and_why(found):
    for text in (markdown_receipt(*found).replace("\\", ""), Page(html_receipt(*found)).text):
        assert "raise, all routes, 0.8 to 0.9, by EscalationStorm" in text
        assert f"pin, route {HOSTILE}, 0.9 to 0.7, by {HOSTILE}: {HOSTILE}" in text
    older = {**found[0], "policy_changes": 100}
    assert "97 older ones are not listed" in markdown_receipt(older, found[1])


@pytest.mark.thorough
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser_the_page_is_readable_fits_a_telephone_and_loads_nothing(found, page, tmp_path, scheme):
    file = tmp_path / "page.html"
    file.write_text(html_receipt(*found), encoding="utf-8")
    page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    page.send("Emulation.setDeviceMetricsOverride", width=NARROW, height=800, deviceScaleFactor=1, mobile=False)
    page.open(file.as_uri())
    assert page.run("getComputedStyle(document.body).backgroundColor") == BACKGROUNDS[scheme]
    assert page.run("document.documentElement.scrollWidth") <= NARROW
    # Headline, figures and the number of incidents are there before anybody scrolls.
    assert page.run("document.querySelector('h2').getBoundingClientRect().bottom") <= 800
    assert page.run("performance.getEntriesByType('resource').length") == 0
    assert faults_of(page) == []
    page.send("Emulation.setEmulatedMedia", media="print")
    assert page.run("getComputedStyle(document.body).backgroundColor") == BACKGROUNDS["light"]


def test_the_command_writes_markdown_or_a_file_and_never_two_things(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("CHEAPDEEP_STORE_URL", f"sqlite:///{tmp_path}/store.db")
    assert main(["migrate"]) == 0
    capsys.readouterr()
    assert main(["report", "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("# No calls were counted\n")
    page = tmp_path / "page.html"
    assert main(["report", "--html", str(page)]) == 0
    assert page.read_text().startswith("<!doctype html>")
    assert not {"svg", "figure"} & set(Page(page.read_text()).tags)
    assert main(["report", "--html", str(page), "--json"]) == 2
    assert main(["report", "--html", str(tmp_path / "nowhere" / "page.html")]) == 1
