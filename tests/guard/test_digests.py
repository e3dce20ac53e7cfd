import pytest

from cheapdeep_ops.guard.actions.alerts import acknowledge, silence
from cheapdeep_ops.guard.actions.operation import ActionContext
from cheapdeep_ops.guard.actions.thresholds import pin, release
from cheapdeep_ops.guard.notify.messages import details, digest_message, headline
from cheapdeep_ops.guard.notify.sender import MessageRef
from cheapdeep_ops.guard.notify.slack import BotSender, WebhookSender, rendered
from cheapdeep_ops.guard.rules.book import Rulebook, read_rulebook
from cheapdeep_ops.testing import SimulatedSlack
from cheapdeep_ops.units import DAY_S

STORM = [0.5] * 20
HOSTILE = "<!channel> `x` *y*\n<https://evil|z> &"
PINNED = "The threshold of route old has been pinned at 0.85 for 1 day, by ann: trial *y*"
RELEASED = "Rules do not move a pinned threshold. To end a pin: cheapdeep-ops threshold release --route NAME"
ANN = {"author": "ann", "why": "on it"}


@pytest.fixture
def make_patient(make_town):
    """A town whose storms are tickets, collected for two minutes."""

    def make(severity="ticket", digest_every_s=120.0):
        town = make_town(digest_every_s=digest_every_s)
        rule = read_rulebook().rules[0].model_copy(update={"labels": {"severity": severity}})
        town.guard.close()
        town.guard = town.another_guard(Rulebook(rules=(rule,)))
        return town

    return make


def storms(town, *routes):
    """A storm in each route, one after the other."""
    for route in routes:
        town.run(15, STORM, route=route)


def kinds(town):
    """What was told, without changes and the alert of all routes together."""
    return [payload["kind"] for payload in town.inbox.payloads if payload["kind"] != "changed"]


def test_the_first_ticket_is_told_at_once_and_what_begins_soon_after_in_one_message(make_patient):
    town = make_patient()
    storms(town, "a", "b", "c")
    assert kinds(town) == ["started"]
    town.clock.advance(60)
    town.look()
    assert kinds(town) == ["started"]
    town.clock.advance(60)
    town.look()
    assert kinds(town) == ["started", "digest"]
    found = town.inbox.payloads[-1]
    assert [(each["rule"], each["scope"]) for each in found["items"]] == [
        ("EscalationStorm", "b"),
        ("EscalationStorm", "c"),
    ]
    assert headline(found).startswith("2 more alerts since 2027-01-15 08:00:")
    assert "route b escalate at base (" in details(found)[0]


def test_a_digest_begins_the_next_period_and_each_is_told_once(make_patient):
    town = make_patient()
    storms(town, "a", "b")
    town.clock.advance(120)
    town.look()
    storms(town, "c")
    assert kinds(town) == ["started", "digest"]
    town.clock.advance(120)
    town.look()
    town.look()
    assert kinds(town) == ["started", "digest", "digest"]
    assert [each["scope"] for each in town.inbox.payloads[-1]["items"]] == ["c"]


def test_what_is_to_page_for_never_waits_and_without_digests_nothing_does(make_patient):
    for changes in ({"severity": "page"}, {"digest_every_s": 0.0}):
        town = make_patient(**changes)
        storms(town, *(f"{name}{changes}" for name in "ab"))
        assert kinds(town)[-2:] == ["started", "started"]


def test_what_is_over_before_its_digest_is_told_there_as_over_and_nowhere_else(make_patient):
    town = make_patient(digest_every_s=3_600.0)
    storms(town, "a", "b")
    town.run(480, [0.95] * 2, route="b")
    assert kinds(town) == ["started"]
    town.clock.advance(3_600)
    town.look()
    (item,) = town.inbox.payloads[-1]["items"]
    assert (kinds(town), item["scope"], item["kind"]) == (["started", "digest"], "b", "resolved")
    assert "EscalationStorm resolved" in details(town.inbox.payloads[-1])[0]


def test_a_digest_names_the_number_by_which_each_open_incident_is_acknowledged(make_patient):
    town = make_patient()
    storms(town, "a", "b")
    town.clock.advance(120)
    town.look()
    (line,) = details(town.inbox.payloads[-1])
    assert line.startswith("Incident 2: EscalationStorm firing: ")
    assert town.do(acknowledge, incident_id=2, **ANN)["scope"] == "b"


def test_a_silence_keeps_what_was_collected_back(make_patient):
    town = make_patient()
    storms(town, "a", "b")
    town.do(silence, rule="EscalationStorm", route="b", for_s=300.0, **ANN)
    town.do(acknowledge, incident_id=2, **ANN)
    town.clock.advance(200)
    town.look()
    assert kinds(town) == ["started"]
    town.clock.advance(200)
    town.look()
    assert kinds(town) == ["started", "digest"]


def test_a_digest_is_one_message_on_slack_whatever_routes_are_called(make_patient):
    town = make_patient()
    storms(town, "a", HOSTILE)
    town.clock.advance(120)
    town.look()
    payload = {**town.inbox.payloads[-1]}
    many = digest_message([payload["items"][0]] * 200, since=0.0, at=1.0)
    assert details(many)[-1] == "and 180 more: cheapdeep-ops status"
    with SimulatedSlack() as slack:
        BotSender(token=slack.token, channel="C1", base_url=slack.url).send(many, MessageRef())
        WebhookSender(url=slack.webhook_url).send(payload, MessageRef())
        assert [post.text.split(" since ")[0] for post in slack.posts] == ["200 more alerts", "1 more alert"]
    for block in rendered(many)[1]:
        assert not set("<>") & set(block["text"]["text"])
        assert block["text"]["text"].count("`") % 2 == 0


def test_a_pin_that_is_older_than_a_day_is_in_the_digest(make_patient):
    town = make_patient()
    desk = ActionContext(store=town.store, settings=town.settings, clock=town.clock)
    for route, why in (("old", "trial *y*"), ("new", "today"), ("gone", "released")):
        pin.perform(desk, route=route, threshold=0.85, author="ann", why=why)
        if route == "old":
            town.clock.advance(DAY_S - 60)
    release.perform(desk, route="gone", author="ann")
    town.clock.advance(90)
    storms(town, "a", "b")
    town.clock.advance(120)
    town.look()
    alone, found = [each for each in town.inbox.payloads if each["kind"] == "digest"]
    assert (alone["items"], alone["pins"]) == ([], found["pins"]), "it did not wait for the tickets"
    assert [(each["scope"], each["threshold"], each["author"]) for each in found["pins"]] == [("old", 0.85, "ann")]
    assert details(found)[-2:] == [PINNED, RELEASED]
    town.clock.advance(DAY_S)
    town.look()
    *_, found = [each for each in town.inbox.payloads if each["kind"] == "digest"]
    assert [each["scope"] for each in found["pins"]] == ["new"], "the other one is told already"


@pytest.mark.thorough
def test_a_pin_is_told_a_day_later_without_any_ticket_and_once_a_week(make_patient):
    town = make_patient(digest_every_s=0.0)
    desk = ActionContext(store=town.store, settings=town.settings, clock=town.clock)
    pin.perform(desk, route="old", threshold=0.85, author="ann", why="trial *y*")
    pin.perform(desk, route="short", threshold=0.85, author="ann", why="ends by itself", for_s=DAY_S + 60.0)

    def told(*, after):
        town.clock.advance(after)
        town.look()
        digests = [payload for payload in town.inbox.payloads if payload["kind"] == "digest"]
        return [[each["scope"] for each in payload["pins"]] for payload in digests]

    assert told(after=DAY_S) == []
    assert told(after=60) == [["old"]], "the other one has just ended"
    found = town.inbox.payloads[-1]
    assert (headline(found), details(found)) == (
        "1 threshold has been pinned for more than a day", [PINNED, RELEASED]
    )  # fmt: skip
    assert told(after=6 * DAY_S) == [["old"]]
    assert told(after=DAY_S) == [["old"]] * 2
    town.guard.close()
    town.guard = town.another_guard()
    assert told(after=60) == [["old"]] * 2
    pin.perform(desk, route="old", threshold=0.86, author="bob", why="still")
    assert told(after=DAY_S + 60) == [["old"]] * 3, "a pin that was made anew is another one"
    release.perform(desk, route="old", author="ann")
    assert told(after=30 * DAY_S) == [["old"]] * 3


@pytest.mark.thorough
def test_a_digest_of_pins_delays_no_ticket(make_patient):
    town = make_patient(digest_every_s=3_600.0)
    desk = ActionContext(store=town.store, settings=town.settings, clock=town.clock)
    pin.perform(desk, route="old", threshold=0.85, author="ann", why="trial *y*")
    town.clock.advance(DAY_S + 60)
    town.look()
    storms(town, "a")
    assert kinds(town) == ["digest", "started"]
