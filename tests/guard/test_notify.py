import json
import re
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops.errors import DeliveryError, SettingsError
from cheapdeep_ops.guard.formatting import duration, waiting_time, without_markup
from cheapdeep_ops.guard.notify.log import LogSender
from cheapdeep_ops.guard.notify.messages import details, done, explanation, figures, headline, title
from cheapdeep_ops.guard.notify.sender import MessageRef
from cheapdeep_ops.guard.notify.slack import BotSender, WebhookSender, make_sender
from cheapdeep_ops.guard.notify.slack_blocks import escaped, rendered
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.testing import SimulatedSlack
from cheapdeep_ops.testing.slack.slack_wire import Version, content_error, texts_of

PAYLOAD = {
    "kind": "started", "about": "base_escalation_rate", "rule": "EscalationStorm", "scope": "support",
    "summary": "Too many", "runbook": "README", "severity": "page", "window_s": 300.0, "keep_firing_for_s": 120.0,
    "signal": {
        "rate": 0.42, "low": 0.38, "high": 0.46, "n": 512, "limit": 0.35, "recent_rate": 0.5, "recent_n": 100,
        "recent_low": 0.4, "recent_high": 0.6, "recent_window_s": 60.0,
        "actual_rate": 0.44,
    },
    "threshold": "threshold 0.8 -> 0.9", "reasons": [["low_confidence", 3], ["malformed", 1]],
    "input_classes": [["invoice", 4]],
}  # fmt: skip
RESOLVED = {**PAYLOAD, "kind": "resolved", "lasted_s": 600.0, "calls": 1000, "escalated": 400, "withheld": 100}


@pytest.fixture
def slack():
    with SimulatedSlack() as slack:
        yield slack


@pytest.fixture
def bot(slack):
    return BotSender(token=slack.token, channel="C1", base_url=slack.url)


def test_a_headline_has_rate_interval_n_window_and_limit():
    assert headline(PAYLOAD) == (
        "EscalationStorm firing: 42.0% of the calls of route support escalate at base (38.0% to 46.0%, 512 calls in "
        "5 min; limit 35.0%)"
    )


def test_details_say_what_was_done_what_it_is_made_of_and_when_it_lets_go():
    text = "\n".join(details(PAYLOAD))
    for part in ("0.8 -> 0.9", "low_confidence 3 (75%)", "invoice 4 (100%)", "2 min", "44.0%"):
        assert part in text


def test_the_end_says_how_long_it_lasted_and_what_it_took():
    assert "back to 50.0%" in headline(RESOLVED)
    assert "Lasted 10 min: 1000 calls, 400 escalated, 100 of them only because of the raise" in details(RESOLVED)


def test_unknown_rates_are_said_to_be_unknown():
    assert "unknown" in headline({**PAYLOAD, "signal": {**PAYLOAD["signal"], "rate": None}})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (0.5, "0.5 s"), (59, "59 s"), (60, "1 min"), (90, "1.5 min"), (3_599, "1 h"), (7_200, "2 h"),
        (86_400, "1 day"), (129_600, "1.5 days"), (172_800, "2 days"), (86_406 * 60, "60 days"),
        (1_000 * 86_400, "1,000 days"), (36_500 * 86_400, "36,500 days"), (-5, "-5 s"),
    ],
)  # fmt: skip
def test_durations_in_words(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "less than a minute"), (59, "less than a minute"), (119, "1 min"), (86_406 * 60, "60 days")],
)
def test_a_wait_in_words_changes_once_a_minute(seconds, text):
    assert waiting_time(seconds) == text


def test_labels_of_the_caller_cannot_mention_link_or_break_the_message():
    nasty = {**PAYLOAD, "scope": "<!channel> & <https://evil|x>", "input_classes": [["<@U1>", 1]]}
    text, blocks = rendered(nasty)
    assert "<" not in text
    assert "<" not in str(blocks)
    assert escaped("a<b>&c") == "a&lt;b&gt;&amp;c"


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("a\n*Threshold* released\r\tby ann", "`a *Threshold* released by ann`"),
        ("_x_ ~y~ `z` ```w```", "`_x_ ~y~ 'z' '''w'''`"),
        ("https://evil.example", "`https://evil.example`"),
        ("a\u2028b\u202ec", "`a b c`"),
        ("\n", "`?`"),
        ("x" * 500, f"`{'x' * 80}`"),
    ],
)
def test_labels_of_the_caller_are_shown_literally_on_one_line(label, shown):
    nasty = {**PAYLOAD, "scope": label, "input_classes": [[label, 4]]}
    text, blocks = rendered(nasty, has_thread=False)
    assert f"route {shown} escalate" in text
    lines = blocks[-1]["text"]["text"].splitlines()
    assert f"By input class: {shown} 4 (100%)" in lines
    assert len(lines) == len(explanation(PAYLOAD))
    assert all(each["verbatim"] for each in texts_of(blocks) if each["type"] == "mrkdwn")
    assert "\n" not in headline(nasty)
    assert "\n" not in blocks[0]["text"]["text"]


def test_labels_never_grow_a_message_beyond_what_slack_takes():
    nasty = {**PAYLOAD, "scope": "&" * 500, "input_classes": [["&" * 500, 10**9]] * 5}
    assert all(each["text"].count("`") % 2 == 0 for each in texts_of(rendered(nasty, has_thread=False)[1]))


def test_a_card_says_what_where_since_when_how_much_and_what_was_done():
    numbered = {**PAYLOAD, "incident_id": 12, "started_at": 1_772_447_400.0, "measured_at": 1_772_447_460.0}
    header, measured_ones, said, context = rendered(numbered)[1]
    assert header["text"]["text"] == "\N{LARGE RED CIRCLE} Escalation storm on support since 10:30 UTC"
    assert [each["text"] for each in measured_ones["fields"]] == [
        "*Rate at base, 10:31 UTC*\n42.0% (38.0% to 46.0%)", "*Limit*\n35.0%", "*Calls*\n512 in 5 min",
    ]  # fmt: skip
    until = "until the base rate has been at the limit or below for 2 min"
    meant = "meanwhile more calls go to the deep tier, as intended: doubtful answers do not ship"
    assert said["text"]["text"] == f"*Done:* threshold raised from 0.8 to 0.9, {until}; {meant}"
    began = "began <!date^1772447400^{date_short_pretty} {time}|2026-03-02 10:30:00 UTC>"
    measured = "figures of <!date^1772447460^{time}|2026-03-02 10:31:00 UTC>"
    assert [each["text"] for each in context["elements"]] == [
        f"Incident 12 \N{MIDDLE DOT} {began} \N{MIDDLE DOT} {measured}",
        "Incident 12 is not acknowledged: cheapdeep-ops alert ack 12 --why TEXT",
    ]


def test_what_a_raise_means_is_said_while_it_lasts_and_only_then():
    assert "deep tier" in done({**PAYLOAD, "threshold": "threshold stays at 0.9, held by EscalationStorm"})
    for others in ("threshold 0.9 -> 0.8", "shadow mode: the threshold stays at 0.8, it would be 0.9", ""):
        assert "deep tier" not in done({**PAYLOAD, "threshold": others})
    assert "deep tier" not in done(RESOLVED)


def test_a_rate_of_another_day_than_the_start_names_its_day():
    started = 1_772_447_400.0
    ((name, _), *_) = figures({**PAYLOAD, "started_at": started, "measured_at": started + 86_400})
    assert name == "Rate at base, 3 Mar 10:30 UTC"


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"scope": "*"}, "Escalation storm on all routes"),
        ({"rule": "HTTPStorm", "started_at": 1_772_447_400.0, "at": 1_772_533_800.0},
         "HTTP storm on support since 2 Mar 10:30 UTC"),
        ({"rule": "my_rule"}, "my_rule on support"),
        ({"rule": "GraderFailing", "about": "grader_failing", "scope": "*"}, "Grader failing"),
        ({"kind": "resolved"}, "Escalation storm on support is over"),
        ({"kind": "resolved", "started_at": 1_772_447_400.0, "lasted_s": 600.0},
         "Escalation storm on support is over: 10:30 to 10:40 UTC"),
        ({"kind": "resolved", "started_at": 1_772_447_400.0, "lasted_s": 86_400.0},
         "Escalation storm on support is over: 10:30 to 3 Mar 10:30 UTC"),
        ({"scope": "x" * 200, "started_at": 1_772_447_400.0},
         f"Escalation storm on {'x' * 41}… since 10:30 UTC"),
    ],
)  # fmt: skip
def test_a_title_says_what_where_and_when(changes, shown):
    assert title({**PAYLOAD, **changes}, longest=78) == shown


def test_the_first_reply_has_the_details_and_repeats_nothing_of_the_card():
    started = {**PAYLOAD, "at": 1_772_447_460.0}
    card = {line for each in texts_of(rendered(started)[1]) for line in each["text"].splitlines()}
    text, (reply,) = rendered({**started, "in_thread": True})
    first, *lines = reply["text"]["text"].splitlines()
    assert first == "\N{LARGE RED CIRCLE} Details at 2026-03-02 10:31:00 UTC"
    assert "By reason: low_confidence 3 (75%), malformed 1 (25%)" in lines
    assert not card & set(lines)
    assert "threshold" not in reply["text"]["text"]
    assert text == f"2026-03-02 10:31:00 UTC: {rendered(PAYLOAD)[0]}"


def test_a_webhook_has_the_details_in_the_message_and_so_has_a_late_message():
    for blocks in (rendered(PAYLOAD, has_thread=False)[1], rendered({**PAYLOAD, "late": True})[1]):
        assert "By input class: `invoice` 4 (100%)" in blocks[-1]["text"]["text"]


class TestLimits:
    """Whatever a payload says, Slack takes its form, and what is cut shows it."""

    LONG = st.text(st.sampled_from("a`<&> \n*_|…é"), max_size=9_000) | st.text(max_size=60)

    @staticmethod
    def check(blocks):
        assert content_error(Version(text="x", blocks=tuple(blocks))) is None
        for each in texts_of(blocks):
            if each["type"] == "mrkdwn":
                assert not re.search(r"&(?!amp;|lt;|gt;)", each["text"])
                assert len(re.findall("<", each["text"])) == len(re.findall(">", each["text"]))

    @given(st.tuples(LONG, LONG, LONG, LONG), st.integers(0, 80), st.booleans())
    def test_of_an_incident(self, words, count, in_thread):
        scope, text, why, address = words
        payload = {
            **PAYLOAD, "scope": scope, "rule": text or "x", "threshold": text, "runbook": why, "at": 1.0,
            "cause": {"kind": "unknown", "why": why}, "effect": text, "incident_id": 1, "started_at": 1.0,
            "input_classes": [[why, 3]] * count, "links": [["Console", f"https://x.example/{address}"]] * count,
            "acknowledged": {"author": scope, "why": why, "at": 2.0},
            "examples": [
                {"call_id": why, "confidence": 0.9, "question": text, "answer": why, "reason": scope}
            ] * count,
            "picture": {"file": "F0123456789", "text": text},
        }  # fmt: skip
        for form in (rendered(payload), rendered(payload, has_thread=False)):
            self.check(form[1])
        self.check(rendered({**payload, "in_thread": in_thread, "kind": "changed"})[1])

    @given(LONG, st.integers(0, 70))
    def test_of_a_digest(self, text, count):
        item = {**PAYLOAD, "scope": text, "incident_id": 3, "started_at": 1.0}
        digest = {"kind": "digest", "rule": "Digest", "since": 1.0, "count": count, "items": [item] * count}
        self.check(rendered(digest)[1])

    def test_a_cut_is_seen_and_closed(self):
        many = {**PAYLOAD, "input_classes": [["x" * 70, 3]] * 60}
        (text,) = [each["text"] for each in texts_of(rendered(many, has_thread=False)[1]) if "…" in each["text"]]
        assert len(text) <= 3_000
        assert text.endswith("…")
        assert text.count("`") % 2 == 0


def test_a_bot_posts_once_and_edits_from_then_on(bot, slack):
    place = bot.send(PAYLOAD, MessageRef())
    again = bot.send(RESOLVED, place)
    assert again == place
    (message,) = slack.messages
    assert "resolved" in message.text
    assert len(message.versions) == 2
    assert message.channel == "C1"


def test_a_webhook_posts_each_message(slack):
    sender = WebhookSender(url=slack.webhook_url)
    assert sender.send(PAYLOAD, MessageRef()) == MessageRef()
    sender.send(RESOLVED, MessageRef())
    assert [message.via for message in slack.messages] == ["webhook", "webhook"]


@pytest.mark.parametrize("kind", ["bot", "webhook"])
def test_slack_asking_for_time_is_told_to_the_outbox(slack, bot, kind):
    sender = bot if kind == "bot" else WebhookSender(url=slack.webhook_url)
    slack.rate_limit(retry_after_s=7)
    with pytest.raises(DeliveryError) as caught:
        sender.send(PAYLOAD, MessageRef())
    assert caught.value.retry_after_s == 7


@pytest.mark.parametrize("kind", ["bot", "webhook"])
@pytest.mark.parametrize("close", [False, True])
def test_slack_being_down_is_a_delivery_error_without_secrets(slack, bot, kind, close):
    sender = bot if kind == "bot" else WebhookSender(url=slack.webhook_url)
    with slack.outage(close_connections=close), pytest.raises(DeliveryError) as caught:
        sender.send(PAYLOAD, MessageRef())
    assert slack.token not in str(caught.value)
    assert "/services/" not in str(caught.value)


def test_a_refusal_names_slacks_reason(bot, slack):
    slack.fail_with("channel_not_found")
    with pytest.raises(DeliveryError, match="channel_not_found"):
        bot.send(PAYLOAD, MessageRef())


def test_the_sender_to_slack_is_a_bot_before_a_webhook(slack):
    bot, webhook = {"slack_bot_token": slack.token, "slack_channel": "C1"}, {"slack_webhook_url": slack.webhook_url}
    assert isinstance(make_sender(Settings(**webhook)), WebhookSender)
    assert isinstance(make_sender(Settings(**bot)), BotSender)
    assert isinstance(make_sender(Settings(**bot, **webhook)), BotSender)
    with pytest.raises(SettingsError, match="CHEAPDEEP_SLACK_CHANNEL"):
        make_sender(Settings(slack_bot_token=slack.token))
    with pytest.raises(SettingsError, match="CHEAPDEEP_SLACK_WEBHOOK_URL"):
        make_sender(Settings())


def test_without_slack_messages_go_to_the_log(caplog):
    assert LogSender().send(PAYLOAD, MessageRef()) == MessageRef()
    assert "42.0%" in caplog.text


def quoting(**words):
    example = {"call_id": "c1", "confidence": 0.95, "question": "q", "answer": "a", "reason": "r"}
    return {**PAYLOAD, "examples": [{**example, **words}]}


HOSTILE = (
    "<!channel> <http://x|y> <@U1> &lt;!here&gt; ``` `end` *bold*\n> quoted\r\n\0 \u202egnihton\u2066 \u2028 @channel"
)


def test_a_wrong_answer_is_quoted_with_its_confidence_its_call_and_what_the_grader_says():
    (*_, quote) = rendered(quoting(question="How much?", answer="42", reason="It is 43."))[1]
    assert quote["text"]["text"].splitlines() == [
        "Wrong answer with confidence 0.95, call `c1`",
        "Question: `How much?`",
        "Answer: `42`",
        "The grader: `It is 43.`",
    ]
    assert quote["text"]["verbatim"]


@pytest.mark.parametrize("field", ["call_id", "question", "answer", "reason"])
def test_a_quote_can_mention_nobody_link_nowhere_and_leave_no_code_span(field):
    (*_, block) = rendered(quoting(**{field: HOSTILE}))[1]
    text = block["text"]["text"]
    assert len(text.splitlines()) == 4
    assert not set("<>\0\r\u202e\u2066\u2028") & set(text)
    assert text.count("`") == 8
    for line in text.splitlines():
        before, inside, after = line.split("`")
        assert inside
        assert after == ""
        assert "channel" not in before


def test_a_quote_is_short_and_fits_into_a_block_whatever_it_is_made_of():
    (*_, block) = rendered(quoting(call_id="&" * 500, question="&" * 500, answer="<" * 500, reason="&" * 500))[1]
    text = block["text"]["text"]
    assert len(text) < 3_000
    assert text.count("&lt;") == 200
    assert text.endswith("&amp;`")


@given(st.text(), st.text())
def test_no_text_breaks_a_quote(question, answer):
    (*_, block) = rendered(quoting(question=question, answer=answer))[1]
    assert len(block["text"]["text"].splitlines()) == 4
    assert block["text"]["text"].count("`") == 8


def test_examples_without_words_are_not_shown_and_never_logged(caplog):
    assert rendered({**PAYLOAD, "examples": [{"call_id": "c1", "confidence": 0.95}]}) == rendered(PAYLOAD)
    LogSender().send(quoting(question="How much?"), MessageRef())
    assert "How much?" not in caplog.text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "Slack answered channel_not_found for channel #on_call",
            "Slack answered channel_not_found for channel #on_call",
        ),
        ("_x_ *y* ~z~ `w` a_ _b a__b", "x y z 'w' a b a b"),
    ],
)
def test_codes_of_others_stay_whole_and_their_markup_goes(text, shown):
    assert without_markup(text) == shown


class _Proxy(BaseHTTPRequestHandler):
    """Refuses every request with a JSON error that repeats the request's headers."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        body = json.dumps({"ok": False, "error": f"denied: {self.headers['Authorization']}"}).encode()
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


def test_what_a_proxy_repeats_of_a_request_is_in_no_error():
    with HTTPServer(("127.0.0.1", 0), _Proxy) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            bot = BotSender(token="xoxb-SECRET", channel="C1", base_url=f"http://127.0.0.1:{server.server_port}/")
            with pytest.raises(DeliveryError) as failed:
                bot.send(PAYLOAD, MessageRef())
            with pytest.raises(SettingsError) as refused:
                bot.check()
        finally:
            server.shutdown()
            thread.join()
    assert str(failed.value) == "Slack answered 403"
    assert str(refused.value) == "Slack refuses CHEAPDEEP_SLACK_BOT_TOKEN: 403"
