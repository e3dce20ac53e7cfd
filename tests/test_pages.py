"""The receipt as Markdown and as HTML, from a store that a router and a guard's grader have filled."""

import re
from html.parser import HTMLParser

import pytest

from cheapdeep_ops.cli import main
from cheapdeep_ops.cli.pages import html_receipt, markdown_receipt, reliability_plot
from cheapdeep_ops.guard.receipt import receipt
from cheapdeep_ops.settings import Settings
from tests.guard import conftest as guards

HOSTILE = 'x|y<script>alert(1)</script>[a](http://b)`*_"&'


@pytest.fixture
def found(tmp_path):
    settings = Settings(store_url=f"sqlite:///{tmp_path}/store.db", sample_rate=1.0, grade_concurrency=1)
    store = guards.Store(settings.store_url)
    guards.migrate(store)
    school = guards.School(store, settings, guards.town_rules(), guards.Inbox())
    school.look()
    school.teach(120, 0.1, confidences=(0.85, 0.95, 0.99))
    school.teach(120, 0.1, route=HOSTILE)
    yield receipt(store, settings, since=guards.START - 1, until=school.clock() + 1)
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


def test_markdown_has_every_figure_and_tables_of_even_width(found):
    text = markdown_receipt(found)
    assert "| triage model | claude-haiku-4-5 |" in text
    assert "## What confidence is worth" in text
    for block in re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE):
        widths = {len(re.split(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1


def test_names_that_callers_chose_are_names_in_both(found):
    assert HOSTILE not in markdown_receipt(found)
    page = Page(html_receipt(found))
    assert "script" not in page.tags
    assert "a" not in page.tags
    assert page.loads == []
    assert f"route {HOSTILE}: claims" in page.text


def test_the_page_is_whole_and_has_the_diagram(found):
    page = Page(html_receipt(found))
    assert page.tags.count("svg") == 1
    assert page.tags.count("circle") == len(found["confidence"]["*"]["bins"]) == 3
    assert page.tags.index("svg") > page.tags.index("h2")


def test_a_dot_lies_where_claimed_and_right_meet():
    plot = reliability_plot([{"claims": 0.9, "is_right": 0.5, "is_right_interval": (0.25, 0.75), "share": 0.25}])
    assert '<circle cx="288.0" cy="160.0" r="6.0"/>' in plot
    assert 'y1="240.0" y2="80.0"' in plot
    assert reliability_plot([]) == ""


def test_the_command_writes_markdown_or_a_file_and_never_two_things(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("CHEAPDEEP_STORE_URL", f"sqlite:///{tmp_path}/store.db")
    assert main(["migrate"]) == 0
    capsys.readouterr()
    assert main(["report", "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("# Receipt, ")
    page = tmp_path / "page.html"
    assert main(["report", "--html", str(page)]) == 0
    assert page.read_text().startswith("<!doctype html>")
    assert "svg" not in Page(page.read_text()).tags
    assert main(["report", "--html", str(page), "--json"]) == 2
    assert main(["report", "--html", str(tmp_path / "nowhere" / "page.html")]) == 1
