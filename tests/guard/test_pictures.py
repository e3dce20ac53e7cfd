"""Pictures of incidents in messages on Slack: drawn, uploaded, shown, replaced and deleted beside the messages."""

import io
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cheapdeep_ops.guard.notify.notifier import Notifier
from cheapdeep_ops.guard.notify.sender import PictureSender, Shown
from cheapdeep_ops.guard.notify.slack import BotSender, WebhookSender
from cheapdeep_ops.guard.pictures.colours import BASE, INCIDENT, pale
from cheapdeep_ops.guard.pictures.drawing import Chart, Dot, Mark, drawn, ticks_of, top_of
from cheapdeep_ops.guard.pictures.incident_chart import chart_of
from cheapdeep_ops.guard.pictures.uploads import Pictures
from cheapdeep_ops.store import incidents, pictures
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate
from cheapdeep_ops.testing import FrozenClock, SimulatedSlack

NOW = 1_800_000_000.0
KINDS = ("started", "resolved")
HOUR = 3_600.0
DOTS = [Dot(at=NOW - 60 * number, rate=0.2, low=0.1, high=0.3) for number in range(60, 0, -1)]
CHART = Chart(title="t", since=NOW - HOUR, until=NOW, runs=[DOTS], limit=0.35, began=NOW - 600)
STORM = {
    "kind": "started", "about": "base_escalation_rate", "rule": "EscalationStorm", "scope": "support", "at": NOW,
    "started_at": NOW - 600, "window_s": 300.0, "keep_firing_for_s": 120.0, "threshold": "threshold 0.8 -> 0.9",
    "signal": {"rate": 0.6, "low": 0.5, "high": 0.7, "n": 500, "limit": 0.35, "actual_rate": 0.6,
               "recent_rate": 0.2, "recent_low": 0.1, "recent_high": 0.3, "recent_n": 90, "recent_window_s": 60.0},
}  # fmt: skip


class World:
    """A store, a simulated Slack whose clock stands still, and what sends messages and draws pictures."""

    def __init__(self, url):
        self.clock = FrozenClock(NOW)
        self.store = Store(url)
        migrate(self.store)
        self.slack = SimulatedSlack(clock=self.clock).start()
        self.restart()

    def restart(self):
        self.sender = BotSender(token=self.slack.token, channel="C1", base_url=self.slack.url)
        self.notifier = Notifier(self.store, {"slack": self.sender})
        self.pictures = Pictures(self.store, {"slack": self.sender})

    def close(self):
        self.slack.stop()
        self.store.close()

    def begin(self, **changes):
        opened = {"rule": "EscalationStorm", "scope": changes.get("scope", "support"), "at": self.clock()}
        self.incident = self.store.transact(lambda connection: incidents.open_incident(connection, **opened))
        self.say("started", **changes)

    def say(self, kind, **changes):
        payload = {**STORM, "incident_id": self.incident, "kind": kind, "at": self.clock(), **changes}
        said = {"incident_id": self.incident, "kind": kind, "payload": payload, "at": self.clock()}
        self.store.transact(lambda connection: incidents.enqueue(connection, **said))
        return self.notifier.deliver(self.clock())

    def later(self, seconds):
        """What the guard does after a while: it sends messages, and draws."""
        self.clock.advance(seconds)
        self.notifier.deliver(self.clock())
        drawn = self.pictures.run(self.clock())
        self.notifier.deliver(self.clock())
        return drawn

    @property
    def post(self):
        (post,) = self.slack.posts
        return post

    @property
    def rows(self):
        with self.store.reading() as connection:
            return {row.file_id: row.state for row in connection.execute(pictures._PICTURE.select())}


def shown_in(message):
    return [block["slack_file"]["id"] for block in message.blocks if block["type"] == "image"]


@pytest.fixture
def world(request, tmp_path, monkeypatch):
    monkeypatch.setattr("cheapdeep_ops.guard.pictures.uploads.chart_of", lambda *_, **__: CHART)
    is_server = getattr(request, "param", "") == "postgresql"
    world = World(request.getfixturevalue("postgresql_url") if is_server else f"sqlite:///{tmp_path / 'store.db'}")
    yield world
    world.close()


def test_a_message_is_posted_first_and_shows_its_picture_once_slack_has_processed_it(world):
    world.begin()
    assert shown_in(world.post) == []
    assert world.later(1) == 1
    (file,) = world.slack.files
    assert (file.content[:4], file.alt_text, file.channels) == (
        b"\x89PNG", "t: 20.0% now, limit 35.0%; route support", frozenset(),
    )  # fmt: skip
    assert (shown_in(world.post), len(world.post.versions)) == ([], 1), "it is still being processed"
    world.later(1)
    assert shown_in(world.post) == [file.id]
    before, after = world.post.versions
    assert [each for each in after.blocks if each["type"] != "image"] == list(before.blocks)
    assert (after.text, after.metadata) == (before.text, before.metadata)
    (seen,) = world.slack.files
    assert seen.channels == {world.post.channel_id}, "the members of the channel see it"
    assert len(world.slack.messages) == 1, "a picture is no post of its own"
    assert world.later(600) == 0, "nothing has changed"
    assert len(world.post.versions) == 2


@pytest.mark.thorough
@pytest.mark.parametrize("world", ["sqlite", "postgresql"], indirect=True)
def test_a_picture_is_replaced_at_most_every_five_minutes_and_the_old_file_goes(world):
    world.begin()
    world.later(1)
    world.later(2)
    (first,) = shown_in(world.post)
    world.clock.advance(60)
    assert world.say("changed") == 1
    assert shown_in(world.post) == [first], "an edit keeps the picture"
    assert world.later(60) == 0
    assert world.later(200) == 1
    assert {each.id for each in world.slack.files} > {first}
    world.later(2)
    world.later(2)
    (second,) = shown_in(world.post)
    assert second != first
    assert [each.id for each in world.slack.files] == [second]
    assert world.rows == {second: "shown"}
    world.clock.advance(600)
    world.say("resolved", lasted_s=1_200.0, calls=1, escalated=1, withheld=0)
    for _ in range(3):
        world.later(2)
    assert (len(world.slack.files), len(world.slack.posts)) == (1, 1)
    assert "resolved" in world.post.text


@pytest.mark.thorough
def test_without_the_scope_there_is_no_picture_and_doctor_says_so(world, caplog):
    world.slack.scopes.remove("files:write")
    assert "no pictures: give the app the scope files:write" in world.sender.check()
    world.begin()
    for seconds in (1, 30, 61):
        world.later(seconds)
    assert (shown_in(world.post), world.slack.files, world.rows) == ([], [], {})
    assert [each.message for each in caplog.records if "pictures" in each.message] == [
        "messages to slack have no pictures at present: Slack answered missing_scope"
    ]
    world.slack.scopes.add("files:write")
    world.later(HOUR / 2)
    world.later(2)
    assert len(shown_in(world.post)) == 1
    assert "pictures" not in world.sender.check()


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["files.getUploadURLExternal", "upload", "files.completeUploadExternal"])
def test_an_upload_that_fails_delays_no_message_and_leaves_no_file(world, method):
    world.begin()
    world.slack.lose_answers(method=method)
    world.later(1)
    assert world.say("changed") == 1
    world.later(70)
    world.later(2)
    world.later(2)
    assert len(world.slack.files) == 1
    assert shown_in(world.post) == [world.slack.files[0].id]
    assert set(world.rows.values()) == {"shown"}


@pytest.mark.thorough
def test_what_a_killed_guard_has_uploaded_is_deleted_by_the_next(world):
    """The guard dies after each of its requests in turn."""
    for method in ("upload", "files.completeUploadExternal"):
        world.begin()
        dying = world.sender
        finish = dying.finish_upload

        def killed(upload, content, method=method, finish=finish):
            if method == "files.completeUploadExternal":
                finish(upload, content)
            raise KeyboardInterrupt

        dying.finish_upload = killed
        with pytest.raises(KeyboardInterrupt):
            world.later(1)
        world.restart()
        for _ in range(4):
            world.later(2)
        post = world.slack.posts[-1]
        assert shown_in(post) == [world.slack.files[-1].id]
    assert len(world.slack.posts) == len(world.slack.files) == 2


@pytest.mark.thorough
def test_a_guard_killed_between_an_edit_and_its_record_leaves_one_message_and_one_file(world):
    world.begin()
    world.later(1)
    world.clock.advance(2)
    show = world.sender.show

    def killed(payload, ref):
        assert show(payload, ref) is Shown.SHOWN
        raise KeyboardInterrupt

    world.sender.show = killed
    with pytest.raises(KeyboardInterrupt):
        world.notifier.deliver(world.clock())
    assert len(shown_in(world.post)) == 1
    world.restart()
    world.say("changed")
    for _ in range(3):
        world.later(40)
    (file,) = world.slack.files
    assert shown_in(world.post) == [file.id]
    assert "still firing" in world.post.text


@pytest.mark.thorough
def test_an_edit_with_a_picture_that_arrives_late_does_not_take_news_back(world):
    world.begin()
    world.later(1)
    world.clock.advance(2)
    world.slack.delay(method="chat.update")
    world.notifier.deliver(world.clock())
    world.clock.advance(1)
    world.say("resolved", lasted_s=600.0, calls=1, escalated=1, withheld=0)
    assert "resolved" in world.post.text
    assert world.slack.apply_late() == 1
    assert "firing" in world.post.text
    for _ in range(4):
        world.later(31)
    assert "resolved" in world.post.text
    assert len(world.slack.posts) == 1


@pytest.mark.thorough
def test_a_file_that_slack_never_shows_is_given_up_and_so_is_one_without_a_message(world):
    world.slack.file_store.processing_s = 1e9
    world.begin()
    for _ in range(10):
        world.later(65)
    assert (shown_in(world.post), world.slack.files) == ([], [])
    assert set(world.rows.values()) == {"deleted"}
    assert len(world.post.versions) == 1
    world.slack.file_store.processing_s = 1.0
    world.say("changed")
    world.later(1)
    world.slack.delete(world.post)
    world.later(5)
    world.later(5)
    assert (world.slack.posts, world.slack.files) == ([], []), "no picture brings a deleted message back"


@pytest.mark.thorough
def test_a_file_that_was_deleted_does_not_keep_a_message_from_its_news(world):
    world.begin()
    world.later(1)
    world.later(2)
    world.slack.file_store.delete(*shown_in(world.post))
    world.clock.advance(60)
    assert world.say("changed") == 1
    assert shown_in(world.post) == []
    assert any(block["type"] == "header" for block in world.post.blocks), "only the picture is left out"


@pytest.mark.thorough
def test_a_chart_that_cannot_be_drawn_is_said_once_and_the_other_incidents_get_theirs(world, caplog, monkeypatch):
    def chart_of(_connection, payload, *, now):
        if payload["scope"].startswith("odd"):
            raise ValueError("what a customer wrote")
        return CHART

    monkeypatch.setattr("cheapdeep_ops.guard.pictures.uploads.chart_of", chart_of)
    # More of them than one round uploads.
    for scope in ("odd1", "odd2", "odd3", "odd4"):
        world.begin(scope=scope)
    world.begin()
    assert world.later(1) == 1
    world.later(2)
    assert len(shown_in(world.slack.posts[-1])) == 1
    for _ in range(3):
        world.later(301)
    said = [each.message for each in caplog.records if each.levelname == "WARNING"]
    assert said == [f"the chart of incident {number} cannot be drawn: ValueError" for number in range(1, 5)]
    monkeypatch.setattr("cheapdeep_ops.guard.pictures.uploads.chart_of", lambda *_, **__: CHART)
    world.later(301)
    for _ in range(6):
        world.later(2)
    assert [len(shown_in(post)) for post in world.slack.posts] == [1] * 5


def test_an_alert_without_a_rate_has_no_picture_and_a_webhook_has_none(world):
    world.begin()
    world.say("changed", about="grader_failing", signal={"why": "x"})
    assert world.later(1) == 0
    webhook = WebhookSender(url=world.slack.webhook_url)
    assert not isinstance(webhook, PictureSender)
    assert Pictures(world.store, {"slack": webhook}).run(NOW) == 0


@pytest.mark.thorough
def test_a_file_with_a_channel_would_be_a_post_of_its_own(world):
    upload = world.sender.begin_upload(size=8, text="")
    assert world.slack.file_store.receive(upload.file_id, b"\x89PNG\r\n\x1a\n") is None
    world.sender._client.files_completeUploadExternal(files=[{"id": upload.file_id}], channel_id="C1")
    assert len(world.slack.posts) == 1


# Drawing


@pytest.mark.thorough
def test_the_chart_of_a_storm_has_its_course_the_limit_its_start_and_the_raise(make_town):
    town = make_town()
    town.run(300, [0.95] * 8 + [0.5] * 2)
    town.run(150, [0.95] * 2 + [0.5] * 8)
    town.run(400, [0.95] * 8 + [0.5] * 2)
    started, over = (next(each for each in town.inbox.payloads if each["kind"] == kind) for kind in KINDS)
    with town.store.reading() as connection:
        open_one, whole = (chart_of(connection, each, now=each["at"] + 1) for each in (started, over))
    assert (open_one.limit, open_one.began, open_one.ended) == (0.35, started["started_at"], None)
    assert [mark.text for mark in open_one.marks] == ["threshold 0.8 -> 0.9"]
    assert [mark.text for mark in whole.marks] == ["threshold 0.8 -> 0.9", "threshold 0.9 -> 0.8"]
    assert whole.ended == over["at"]
    first, *_, last = open_one.runs[0]
    assert first.low < first.rate < 0.25 < last.rate
    assert max(dot.rate for run in whole.runs for dot in run) > whole.limit
    assert drawn(whole) != drawn(open_one)
    with town.store.reading() as connection:
        assert chart_of(connection, {**started, "scope": "of no calls"}, now=town.clock()) is None


def rgb(colour):
    return tuple(bytes.fromhex(colour[1:]))


def test_a_picture_is_a_small_png_with_the_line_the_band_and_the_limit():
    content = drawn(replace(CHART, marks=[Mark(at=NOW - 500, text="0.8 -> 0.9")], ended=NOW - 60, normal=0.1))
    image = Image.open(io.BytesIO(content)).convert("RGB")
    assert (image.format, image.size) == (None, (1_000, 460))
    assert len(content) < 40_000
    colours = {colour for _, colour in image.getcolors(1_000)}

    def has(wanted):
        return any(sum(abs(one - other) for one, other in zip(each, wanted, strict=True)) < 24 for each in colours)

    assert has(rgb(BASE)), "the rate"
    assert has(rgb(pale(BASE, 0.3))), "its interval"
    assert has((198, 40, 40)), "the limit"
    assert has(rgb(pale(INCIDENT, 0.15))), "the incident"


RATES = st.floats(0, 1)


@pytest.mark.thorough
@settings(max_examples=25)
@given(st.lists(st.tuples(RATES, RATES, RATES), max_size=30), RATES, st.floats(60, 3e6), st.floats(-1, 2))
def test_any_course_can_be_drawn(rates, limit, length_s, part):
    dots = [
        Dot(at=NOW + length_s * number / 30, rate=rate, low=low, high=high)
        for number, (rate, low, high) in enumerate(rates)
    ]
    began = NOW + part * length_s
    chart = replace(CHART, since=NOW, until=NOW + length_s, runs=[dots[:1], dots[1:]], limit=limit, began=began)
    assert drawn(chart).startswith(b"\x89PNG")
    assert 0 < top_of(chart) <= 1


@given(st.floats(0, 2e9), st.floats(60, 3e6))
def test_an_axis_has_few_round_ticks(since, length_s):
    ticks = ticks_of(since, since + length_s)
    assert len(ticks) <= 8
    assert all(since <= each <= since + length_s and each % 60 == 0 for each in ticks)


@pytest.mark.thorough
def test_only_drawing_loads_the_library():
    code = "import sys, cheapdeep_ops, cheapdeep_ops.guard.guard; sys.exit('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
