from itertools import pairwise

import pytest

from cheapdeep_ops.errors import SettingsError
from cheapdeep_ops.guard.actions.alerts import acknowledge, silence
from cheapdeep_ops.guard.notify.log import LogSender
from cheapdeep_ops.guard.notify.messages import headline, history
from cheapdeep_ops.guard.notify.sender import MessageRef
from cheapdeep_ops.guard.notify.slack import BotSender, WebhookSender
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.testing import SimulatedSlack

CALM = [0.95] * 8 + [0.5] * 2
STORM = [0.95] * 2 + [0.5] * 8
ANN = {"author": "ann", "why": "on it"}


@pytest.fixture
def hasty(make_town):
    """A town that reminds every minute."""
    return make_town(renotify_every_s=60.0)


def reminders(town):
    return [payload for payload in town.inbox.payloads if payload["kind"] == "reminder"]


@pytest.mark.thorough
def test_an_open_incident_is_told_of_again_every_so_often_until_it_is_over(hasty):
    hasty.run(220, STORM)
    found = reminders(hasty)
    assert len(found) == 3
    assert all(60 <= later["at"] - earlier["at"] <= 65 for earlier, later in pairwise(found))
    assert found[0]["started_at"] == hasty.inbox.payloads[0]["at"]
    hasty.run(500, CALM)
    over = hasty.inbox.kinds.index("resolved")
    assert "reminder" not in hasty.inbox.kinds[over:]


@pytest.mark.thorough
def test_a_reminder_says_since_when_and_what_is_so_now(hasty):
    hasty.run(400, CALM)
    hasty.run(85, STORM)
    (found,) = reminders(hasty)
    assert headline(found).startswith("EscalationStorm still firing since 2027-01-15 08:0")
    assert "UTC: 80.0% of the calls of route support escalate at base (" in headline(found)
    assert headline(found).endswith(" an hour more than usual")
    assert len(history(found)) == 1
    assert found["signal"]["n"] > hasty.inbox.payloads[0]["signal"]["recent_n"]


@pytest.mark.parametrize("changes", [{"renotify_every_s": 0.0}, {"renotify_every_s": 7 * 86_400.0}])
def test_nobody_is_reminded_before_the_time_nor_where_that_is_off(make_town, changes):
    town = make_town(**changes)
    town.run(150, STORM)
    assert reminders(town) == []


def test_nobody_is_reminded_of_what_somebody_looks_after(hasty):
    hasty.run(50, STORM)
    hasty.do(acknowledge, incident_id=1, **ANN)
    hasty.run(150, STORM)
    assert reminders(hasty) == []


def test_a_silence_keeps_reminders_back_and_the_late_start_is_none(hasty):
    hasty.do(silence, rule="EscalationStorm", for_s=120.0, **ANN)
    hasty.run(175, STORM)
    assert hasty.inbox.kinds.count("started") == 1
    assert reminders(hasty) == []
    hasty.run(20, STORM)
    assert len(reminders(hasty)) == 1


def test_nobody_is_reminded_of_a_ticket(hasty):
    rules = hasty.guard._rulebook.model_copy(
        update={"rules": (hasty.guard._rulebook.rules[0].model_copy(update={"labels": {"severity": "ticket"}}),)}
    )
    hasty.guard.close()
    hasty.guard = hasty.another_guard(rules)
    hasty.run(150, STORM)
    assert hasty.inbox.kinds[0] == "started"
    assert reminders(hasty) == []


def test_a_restart_neither_repeats_nor_forgets_a_reminder(hasty):
    hasty.run(85, STORM)
    hasty.guard.close()
    hasty.guard = hasty.another_guard()
    hasty.run(30, STORM)
    assert len(reminders(hasty)) == 1
    hasty.run(40, STORM)
    assert len(reminders(hasty)) == 2


def test_a_reminder_is_a_reply_or_else_a_message(hasty, caplog):
    hasty.run(85, STORM)
    told, (found,) = hasty.inbox.payloads[0], reminders(hasty)
    with SimulatedSlack() as slack:
        bot = BotSender(token=slack.token, channel="C1", base_url=slack.url)
        place = bot.send(told, MessageRef())
        assert bot.send(found, place) == place
        (post,) = slack.posts
        assert "still firing since" in slack.thread(post)[0].text
        assert len(post.versions) == 1
        assert bot.send(found, MessageRef()).ts == slack.posts[-1].ts != place.ts
        WebhookSender(url=slack.webhook_url).send(found, MessageRef())
        assert slack.messages[-1].via == "webhook"
    LogSender().send(found, MessageRef())
    assert "still firing since" in caplog.text


@pytest.mark.parametrize("value", [-1.0, 7 * 86_400.0 + 1])
def test_reminders_lie_a_week_apart_at_most(value):
    with pytest.raises(SettingsError, match="CHEAPDEEP_RENOTIFY_EVERY_S"):
        Settings(renotify_every_s=value)
    assert Settings().renotify_every_s == 14_400
