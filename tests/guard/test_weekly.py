"""The receipt of each week as a message: when, once, to whom, and what it says."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from pydantic import SecretStr

from cheapdeep_ops.cli import main
from cheapdeep_ops.guard.formatting import period
from cheapdeep_ops.guard.incidents.links import receipt_links
from cheapdeep_ops.guard.notify.messages import details, headline
from cheapdeep_ops.guard.notify.slack import BotSender, WebhookSender, rendered
from cheapdeep_ops.guard.reports.receipt import receipt
from cheapdeep_ops.guard.reports.weekly import enqueue_week, message_of, week_due
from cheapdeep_ops.guard.service import Service
from cheapdeep_ops.policy import PolicyAct
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import incidents, policies
from cheapdeep_ops.testing import SimulatedSlack
from tests.guard.conftest import START

MONDAY = datetime(2027, 1, 18, tzinfo=UTC).timestamp()
"""The first one after the tests' time begins."""

HOUR_S = 3_600
DAY_S = 86_400
STORM = [0.95] * 2 + [0.5] * 8
CALM = [0.95] * 9 + [0.5]
HOSTILE = "<!channel> `x` *y*\n<https://evil|z> &"


@pytest.fixture
def slack():
    with SimulatedSlack() as served:
        yield served


@pytest.fixture
def sender(slack):
    return BotSender(token=slack.token, channel="C1", base_url=slack.url)


@pytest.fixture
def town(make_town, slack, sender):
    """A town that has been asked for weekly receipts and tells a simulated Slack, over HTTP."""
    town = make_town(report_every="weekly", slack_bot_token=SecretStr(slack.token), slack_channel="C1")
    restart(town, sender)
    return town


def restart(town, sender):
    town.guard.close()
    town.inbox = sender
    town.guard = town.another_guard()


def at(town, moment):
    """Have the guard do at `moment` what its jobs would."""
    town.clock.advance(moment - town.clock())
    town.guard.step(town.clock())
    told = town.guard.report(town.clock())
    town.guard.deliver(town.clock())
    return told


def receipts(slack):
    return [post for post in slack.posts if post.text.startswith("Receipt, ")]


def words(town, **period):
    payload = message_of(town.store, town.settings, **{"since": START - 1, "until": town.clock() + 1, **period})
    return headline(payload), details(payload)


def test_the_receipt_of_a_week_is_told_on_monday_at_the_hour_and_once(town, slack):
    town.run(10, CALM)
    assert not at(town, MONDAY + 8 * HOUR_S - 1)
    assert at(town, MONDAY + 8 * HOUR_S)
    for later_s in (1, HOUR_S, 6 * DAY_S):
        assert not at(town, MONDAY + 8 * HOUR_S + later_s)
    (post,) = receipts(slack)
    assert post.text.startswith("Receipt, 2027-01-11 to 2027-01-17: saved $0.32 of $0.40 (80.0%), estimated from")


def test_restarts_and_other_guards_tell_it_no_second_time(town, slack, sender):
    town.run(10, CALM)
    for turn in range(4):
        restart(town, sender)
        at(town, MONDAY + 8 * HOUR_S + turn * 60)
    other = town.another_guard()
    town.guard.close()
    town.clock.advance(60)
    assert other.step(town.clock())
    assert not other.report(town.clock())
    assert len(receipts(slack)) == 1
    assert not town.guard.report(town.clock())


def test_guards_that_all_take_themselves_for_the_leader_tell_it_once(town, slack):
    town.run(10, CALM)
    now, guards = MONDAY + 8 * HOUR_S, 6
    ready = Barrier(guards)

    def tell(_number):
        ready.wait(timeout=60)
        return enqueue_week(town.store, town.settings, now)

    with ThreadPoolExecutor(guards) as pool:
        assert sorted(pool.map(tell, range(guards))) == [False] * (guards - 1) + [True]
    at(town, now)
    assert len(receipts(slack)) == 1


def test_each_week_has_its_own_and_what_slack_missed_comes_later(town, slack):
    town.run(10, CALM)
    with slack.outage():
        at(town, MONDAY + 9 * HOUR_S)
    at(town, MONDAY + 10 * HOUR_S)
    at(town, MONDAY + 7 * DAY_S + 8 * HOUR_S)
    assert [post.text.split(": ")[0] for post in receipts(slack)] == [
        "Receipt, 2027-01-11 to 2027-01-17",
        "Receipt, 2027-01-18 to 2027-01-24",
    ]
    assert receipts(slack)[1].text.endswith(": no calls were counted")


@pytest.mark.thorough
def test_a_guard_that_was_away_on_monday_tells_it_when_it_is_back(town, slack):
    town.run(10, CALM)
    assert at(town, MONDAY + 4 * DAY_S + 3 * HOUR_S)
    assert len(receipts(slack)) == 1


def test_nobody_hears_of_weeks_that_nobody_asked_for_or_before_the_first_call(make_town, town, slack):
    assert not at(town, MONDAY + 8 * HOUR_S)
    silent = make_town()
    silent.run(10, CALM)
    assert not at(silent, MONDAY + 8 * HOUR_S)
    assert receipts(slack) == []


def test_a_webhook_takes_it_too(town, slack):
    restart(town, WebhookSender(url=slack.webhook_url))
    town.run(10, CALM)
    at(town, MONDAY + 8 * HOUR_S)
    (post,) = receipts(slack)
    assert post.blocks[0]["text"]["text"].startswith("\N{BAR CHART} *Receipt, 2027-01-11 to 2027-01-17: ")


def test_it_says_what_the_receipt_says_and_what_happened(make_school):
    school = make_school()
    school.teach(100, 0.1)
    school.run(60, STORM, route=HOSTILE, look_every_s=5)
    title, lines = words(school)
    said = dict(line.split(": ", 1) for line in lines if ": " in line)
    whole = receipt(school.store, school.settings, since=START - 1, until=school.clock() + 1)
    assert f"saved ${whole['saved_usd']:.2f} of ${whole['saved_of_usd']:.2f} ({whole['saved_share']:.1%})" in title
    assert whole["saved_usd"] == pytest.approx(
        whole["baseline_cost_usd"] - whole["cost_usd"] - whole["grader_cost_usd"]
    )
    assert list(said)[:5] == ["Saving", "Calls", "Cost of a call", "Escalation", "False-confident rate"]
    assert said["Calls"].startswith(f"{whole['calls']:,}, ")
    low, high = whole["escalation_interval"]
    assert said["Escalation"].startswith(f"{whole['escalation_rate']:.1%}, {low:.1%} to {high:.1%}, n 700; at base ")
    assert f"n {whole['graded']}; by the grader, uncorrected" in said["False-confident rate"]
    assert "2 incidents, 2 still open:" in lines
    listed = [line for line in lines if line.startswith("\u2022 #")]
    assert len(listed) == len(whole["incident_list"]) == 2
    assert all("EscalationStorm, " in line and "not acknowledged" in line for line in listed)
    assert said["Threshold now"].startswith(
        "0.9 (base 0.8, 2 changes in the period); all routes 0.9, held by Escalation"
    )


def test_what_is_not_known_is_said_to_be_unknown(town):
    town.run(1, [])
    title, lines = words(town)
    assert title.endswith(": no calls were counted")
    assert lines == ["Threshold now: 0.8 (base 0.8, no changes in the period)"]


@pytest.mark.thorough
def test_only_incidents_that_began_in_the_period_count(town):
    began = town.clock()
    town.run(60, STORM)
    with town.store.reading() as connection:
        (row,) = incidents.within(connection, since=began, until=town.clock())
        assert not incidents.within(connection, since=began, until=row["started_at"])
        assert not incidents.within(connection, since=row["started_at"] + 1, until=town.clock())


def test_pins_and_many_scopes_are_told_in_few_words(town):
    def work(connection):
        book = policies.read_book(connection, base=0.8, raised=0.9)
        for number in range(7):
            change = policies.PolicyEdit(scope=f"r{number}", act=PolicyAct.PIN, threshold=0.7, author="ann", why="x")
            book = policies.apply(connection, book, change, at=1.0)

    town.store.transact(work)
    (said,) = [line for line in words(town)[1] if line.startswith("Threshold now: ")]
    assert said.startswith("Threshold now: 0.8 (base 0.8, no changes in the period); route r0 0.7, pinned by ann; ")
    assert said.endswith("; 2 more: cheapdeep-ops threshold show")


def test_names_stay_names_and_links_lead_to_the_period(town):
    town.settings = town.settings.model_copy(
        update={"grafana_url": "https://grafana.example/", "console_url": "http://g"}
    )
    town.run(60, STORM, route=HOSTILE)
    blocks = rendered(message_of(town.store, town.settings, since=START, until=START + 60))[1]
    texts = [block["text"]["text"] for block in blocks]
    assert len(texts) == 3
    assert not set("<>") & set("".join(texts[:2]))
    assert texts[1].count("`") % 2 == 0
    assert "&lt;!channel&gt; 'x' *y* &lt;https://evil|z&gt; &amp;" in texts[1]
    assert "from=1800000000000&amp;to=1800000060000" in texts[2]
    assert texts[2].endswith(" | <http://g|Console>")
    assert receipt_links(Settings(), since=0.0, until=1.0) == []


@pytest.mark.parametrize("hour", [0, 8, 23])
def test_a_week_is_from_monday_to_monday_and_due_from_the_hour_on(hour):
    settings = Settings(report_every="weekly", report_hour=hour)
    for hours in range(15 * 24):
        now = datetime(2024, 12, 23, tzinfo=UTC) + timedelta(hours=hours, minutes=1)
        week = week_due(settings, now.timestamp())
        assert (week is None) == (now.weekday() == 0 and now.hour < hour)
        if week is not None:
            monday = datetime.fromtimestamp(week.until, UTC)
            assert (monday.weekday(), monday.hour, monday.minute) == (0, 0, 0)
            assert timedelta(0) < now - monday < timedelta(days=7)
            assert week.until - week.since == 7 * DAY_S


def test_periods_are_days_where_they_are_whole_ones():
    assert period(0.0, DAY_S) == "1970-01-01"
    assert period(0.0, 2 * DAY_S) == "1970-01-01 to 1970-01-02"
    assert period(0.0, 60.0) == "1970-01-01 00:00:00 UTC to 1970-01-01 00:01:00 UTC"


def test_the_service_looks_for_it_only_where_it_is_asked_for(settings):
    for changes, has_it in (({}, False), ({"report_every": "weekly"}, True)):
        service = Service(settings.model_copy(update=changes))
        assert ("report" in {job.id for job in service._scheduler.get_jobs()}) == has_it
        service.stop()


def test_the_command_sends_it_at_once(capsys, monkeypatch, slack, sqlite_url):
    monkeypatch.setenv("CHEAPDEEP_STORE_URL", sqlite_url)
    assert main(["migrate"]) == 0
    assert main(["report", "--slack"]) != 0
    assert "no Slack is set up" in capsys.readouterr().err
    monkeypatch.setenv("CHEAPDEEP_SLACK_WEBHOOK_URL", slack.webhook_url)
    assert main(["report", "--slack", "--last", "7d"]) == 0
    assert len(receipts(slack)) == 1
    assert main(["report", "--slack", "--json"]) == 2
    with slack.outage():
        assert main(["report", "--slack"]) == 1
