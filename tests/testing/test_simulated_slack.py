import threading
import urllib.error
from http.client import RemoteDisconnected

import httpx2
import pytest
from slack_sdk import WebClient, WebhookClient
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from cheapdeep_ops.testing import FrozenClock, SimulatedSlack

SECTION = {"type": "section", "text": {"type": "mrkdwn", "text": "*storm*"}}


@pytest.fixture
def web(slack):
    return WebClient(token=slack.token, base_url=slack.url, retry_handlers=[])


@pytest.fixture
def webhook(slack):
    return WebhookClient(slack.webhook_url, retry_handlers=[])


def error_of(failure):
    return failure.value.response["error"]


def test_post_keeps_the_message_and_returns_its_place(slack, web):
    response = web.chat_postMessage(channel="#alerts", text="storm", blocks=[SECTION])
    (message,) = slack.messages
    assert (message.channel, message.text, message.via) == ("#alerts", "storm", "api")
    assert message.blocks == (SECTION,)
    assert (response["channel"], response["ts"]) == (message.channel_id, message.ts)
    assert response["message"]["text"] == "storm"
    assert message.thread_ts is None


def test_ts_is_unique_and_increases_while_the_clock_stands_still():
    with SimulatedSlack(clock=FrozenClock(1_700_000_000.0)) as slack:
        web = WebClient(token=slack.token, base_url=slack.url)
        sent = [web.chat_postMessage(channel="C01", text=str(n))["ts"] for n in range(3)]
    assert sent == ["1700000000.000100", "1700000000.000200", "1700000000.000300"]


def test_update_edits_in_place(slack, web):
    posted = web.chat_postMessage(channel="#alerts", text="firing")
    web.chat_update(channel=posted["channel"], ts=posted["ts"], text="resolved")
    (message,) = slack.messages
    assert message.text == "resolved"
    assert [version.text for version in message.versions] == ["firing", "resolved"]
    assert [version.text for version in message.updates] == ["resolved"]


def test_update_of_an_unknown_message_or_by_channel_name(slack, web):
    posted = web.chat_postMessage(channel="#alerts", text="firing")
    with pytest.raises(SlackApiError) as failure:
        web.chat_update(channel=posted["channel"], ts="1.000001", text="x")
    assert error_of(failure) == "message_not_found"
    with pytest.raises(SlackApiError) as failure:
        web.chat_update(channel="#alerts", ts=posted["ts"], text="x")
    assert error_of(failure) == "channel_not_found"


def test_thread(slack, web):
    parent = web.chat_postMessage(channel="C01", text="incident")
    reply = web.chat_postMessage(channel="C01", text="detail", thread_ts=parent["ts"])
    assert slack.messages[1].thread_ts == parent["ts"]
    assert reply["message"]["thread_ts"] == parent["ts"]
    other = web.chat_postMessage(channel="C02", text="another channel's", thread_ts=parent["ts"])
    (post,) = slack.posts
    assert post.text == "incident"
    assert [each.text for each in slack.thread(post)] == ["detail"]
    assert other["ts"] > reply["ts"]


def test_auth_and_its_failures(slack, web):
    assert web.auth_test()["bot_id"] == "B0SIMULATED"
    with pytest.raises(SlackApiError) as failure:
        WebClient(token="xoxb-other", base_url=slack.url).auth_test()
    assert error_of(failure) == "invalid_auth"
    assert httpx2.post(f"{slack.url}auth.test").json() == {"ok": False, "error": "not_authed"}


def test_content_that_slack_refuses(slack, web):
    with pytest.warns(UserWarning, match="text"), pytest.raises(SlackApiError) as failure:
        web.chat_postMessage(channel="C01", text="")
    assert error_of(failure) == "no_text"
    too_long = {"type": "header", "text": {"type": "plain_text", "text": "x" * 151}}
    for blocks in ([SECTION] * 51, [too_long]):
        with pytest.raises(SlackApiError) as failure:
            web.chat_postMessage(channel="C01", text="x", blocks=blocks)
        assert error_of(failure) == "invalid_blocks"
    assert slack.messages == []


def test_channels_may_be_given():
    with SimulatedSlack(channels=["#alerts"]) as slack:
        web = WebClient(token=slack.token, base_url=slack.url)
        assert web.chat_postMessage(channel="alerts", text="x")["ok"]
        with pytest.raises(SlackApiError) as failure:
            web.chat_postMessage(channel="#other", text="x")
        assert error_of(failure) == "channel_not_found"


def code_of(call, **arguments):
    """Slack's code for a call that it refuses."""
    with pytest.raises(SlackApiError) as failure:
        call(**arguments)
    return error_of(failure)


@pytest.mark.parametrize(
    "case",
    [
        ("archive", "unarchive", "is_archived", "is_inactive", (410, "channel_is_archived")),
        ("leave", "join", "not_in_channel", "not_in_channel", (200, "ok")),
        ("delete", None, "channel_not_found", "channel_not_found", (404, "channel_not_found")),
    ],
)
def test_a_channel_that_takes_no_messages(slack, web, webhook, case):
    change, undo, post, edit, hook = case
    posted = web.chat_postMessage(channel="#alerts", text="firing")
    there = {"channel": posted["channel"], "text": "x"}
    for channel in ("alerts", "webhook"):
        getattr(slack.channels, change)(channel)
    assert code_of(web.chat_postMessage, channel="#alerts", text="x") == post
    assert code_of(web.chat_postMessage, thread_ts=posted["ts"], **there) == post
    assert code_of(web.chat_update, ts=posted["ts"], **there) == edit
    response = webhook.send(text="x")
    assert (response.status_code, response.body) == hook
    assert web.chat_postMessage(channel="#other", text="x")["ok"]
    if undo:
        getattr(slack.channels, undo)("#alerts")
        assert web.chat_update(ts=posted["ts"], **there)["ok"]
    else:
        slack.channels.create("#alerts")
        assert web.chat_postMessage(channel="#alerts", text="x")["channel"] != posted["channel"]


def test_a_renamed_channel_keeps_its_id_and_frees_its_name(slack, web):
    posted = web.chat_postMessage(channel="#alerts", text="firing")
    slack.channels.rename("#alerts", "#ops")
    assert web.chat_update(channel=posted["channel"], ts=posted["ts"], text="x")["ok"]
    assert web.chat_postMessage(channel="#ops", text="x")["channel"] == posted["channel"]
    assert code_of(web.chat_postMessage, channel="#alerts", text="x") == "channel_not_found"
    slack.clear()
    assert web.chat_postMessage(channel="#alerts", text="x")["ok"]


def test_a_person_may_delete_a_message(slack, web):
    posted = web.chat_postMessage(channel="#alerts", text="firing")
    slack.delete(slack.messages[0])
    there = {"channel": posted["channel"], "ts": posted["ts"], "text": "x"}
    assert code_of(web.chat_update, **there) == "message_not_found"


def test_form_bodies_are_read_like_json(slack):
    form = {"token": slack.token, "channel": "C01", "text": "hi", "blocks": '[{"type": "divider"}]'}
    assert httpx2.post(f"{slack.url}chat.postMessage", data=form).json()["ok"]
    assert slack.messages[0].blocks == ({"type": "divider"},)
    unreadable = httpx2.post(f"{slack.url}chat.postMessage", content=b"{", headers={"content-type": "application/json"})
    assert unreadable.json()["error"] == "invalid_json"


def test_unknown_method(web):
    with pytest.raises(SlackApiError) as failure:
        web.api_call("chat.sing")
    assert error_of(failure) == "unknown_method"


def test_webhook(slack, webhook):
    response = webhook.send(text="storm", blocks=[SECTION])
    assert (response.status_code, response.body) == (200, "ok")
    assert (slack.messages[0].text, slack.messages[0].via) == ("storm", "webhook")
    assert webhook.send(text="").body == "no_text"
    assert httpx2.post(slack.webhook_url, data={"payload": '{"text": "form"}'}).text == "ok"
    assert httpx2.post(slack.webhook_url, data={"payload": "{"}).text == "invalid_payload"


async def test_async_client(slack):
    web = AsyncWebClient(token=slack.token, base_url=slack.url)
    posted = await web.chat_postMessage(channel="C01", text="one")
    await web.chat_update(channel=posted["channel"], ts=posted["ts"], text="two")
    assert slack.messages[0].text == "two"


def test_wait_for_sees_posts_and_updates_of_another_thread(slack, web):
    def work():
        posted = web.chat_postMessage(channel="C01", text="firing")
        web.chat_update(channel=posted["channel"], ts=posted["ts"], text="resolved")

    thread = threading.Thread(target=work)
    thread.start()
    found = slack.wait_for(lambda message: message.text == "resolved", timeout_s=60)
    thread.join()
    assert len(found.updates) == 1


def test_wait_for_gives_up(slack):
    with pytest.raises(TimeoutError, match="no such message"):
        slack.wait_for(lambda _: True, timeout_s=0.01)


def test_rate_limit(slack, web, webhook):
    slack.rate_limit(2, retry_after_s=7)
    with pytest.raises(SlackApiError) as failure:
        web.chat_postMessage(channel="C01", text="x")
    assert (failure.value.response.status_code, error_of(failure)) == (429, "ratelimited")
    assert failure.value.response.headers["retry-after"] == "7"
    assert webhook.send(text="x").status_code == 429
    assert web.chat_postMessage(channel="C01", text="x")["ok"]


def test_fail_with_a_code(slack, web, webhook):
    slack.fail_with("channel_is_archived", times=2)
    with pytest.raises(SlackApiError) as failure:
        web.chat_postMessage(channel="C01", text="x")
    assert error_of(failure) == "channel_is_archived"
    response = webhook.send(text="x")
    assert (response.status_code, response.body) == (410, "channel_is_archived")
    with pytest.raises(ValueError, match="times must be 1 or more"):
        slack.fail_with("x", times=0)


def test_outage(slack, web, webhook):
    slack.down = True
    with pytest.raises(SlackApiError) as failure:
        web.auth_test()
    assert failure.value.response.status_code == 503
    slack.down = False
    with slack.outage():
        assert slack.down
        assert webhook.send(text="x").status_code == 503
    assert web.auth_test()["ok"]


def test_outage_that_closes_connections(slack, web, webhook):
    with slack.outage(close_connections=True):
        for call in (web.auth_test, lambda: webhook.send(text="x")):
            with pytest.raises((RemoteDisconnected, urllib.error.URLError, ConnectionError)):
                call()
    assert web.auth_test()["ok"]


def test_clear_forgets_messages_and_faults(slack, web):
    web.chat_postMessage(channel="C01", text="x")
    slack.fail_with("x")
    slack.down = True
    slack.clear()
    assert slack.messages == []
    assert web.auth_test()["ok"]


def event(number):
    return {"event_type": "a_test", "event_payload": {"number": number}}


def pages_of(call, **arguments):
    """The texts of each page, following the cursor."""
    pages, cursor = [], None
    while cursor is None or cursor:
        answer = call(cursor=cursor, **arguments)
        pages.append([each["text"] for each in answer["messages"]])
        cursor = (answer.get("response_metadata") or {}).get("next_cursor", "")
        assert answer["has_more"] is bool(cursor)
    return pages


def test_history_comes_newest_first_in_pages_without_replies(slack, web):
    posts = [web.chat_postMessage(channel="#alerts", text=str(number)) for number in range(5)]
    web.chat_postMessage(channel="#alerts", text="reply", thread_ts=posts[1]["ts"])
    web.chat_postMessage(channel="#other", text="elsewhere")
    there = posts[0]["channel"]
    assert pages_of(web.conversations_history, channel=there, limit=2) == [["4", "3"], ["2", "1"], ["0"]]
    assert pages_of(web.conversations_history, channel=there, oldest=posts[2]["ts"]) == [["4", "3"]]
    bounds = {"oldest": posts[1]["ts"], "latest": posts[2]["ts"], "inclusive": True}
    (page,) = [web.conversations_history(channel=there, **bounds)["messages"]]
    assert [each.get("reply_count") for each in page] == [None, 1]
    assert pages_of(web.conversations_replies, channel=there, ts=posts[1]["ts"]) == [["1", "reply"]]
    for call, arguments, code in (
        (web.conversations_history, {"channel": "#alerts"}, "channel_not_found"),
        (web.conversations_history, {"channel": there, "cursor": "x"}, "invalid_cursor"),
        (web.conversations_history, {"channel": there, "oldest": "now"}, "invalid_ts_oldest"),
        (web.conversations_replies, {"channel": there, "ts": "1.000001"}, "thread_not_found"),
    ):
        assert code_of(call, **arguments) == code
    slack.channels.leave("#alerts")
    assert code_of(web.conversations_history, channel=there) == "not_in_channel"


def test_metadata_are_read_where_asked_for_and_stay_over_an_edit_without_them(slack, web):
    posted = web.chat_postMessage(channel="C01", text="one", metadata=event(1))
    place = {"channel": posted["channel"], "ts": posted["ts"]}
    web.chat_update(**place, text="two")
    (plain,) = web.conversations_history(channel="C01")["messages"]
    (full,) = web.conversations_history(channel="C01", include_all_metadata=True)["messages"]
    assert "metadata" not in plain
    assert full["metadata"] == event(1)
    web.chat_update(**place, text="three", metadata=event(3))
    assert slack.messages[0].metadata == event(3)
    web.chat_update(**place, text="four", metadata={})
    assert slack.messages[0].metadata == {}
    refused = {"channel": "C01", "text": "x", "metadata": {"event_type": "a_test"}}
    assert code_of(web.chat_postMessage, **refused) == "invalid_metadata_format"


def test_delete_takes_only_what_the_bot_has_posted(slack, web, webhook):
    posted = web.chat_postMessage(channel="webhook", text="mine")
    place = {"channel": posted["channel"], "ts": posted["ts"]}
    webhook.send(text="of another bot")
    other = slack.messages[1]
    assert code_of(web.chat_delete, channel=other.channel_id, ts=other.ts) == "cant_delete_message"
    assert code_of(web.chat_delete, channel="webhook", ts=posted["ts"]) == "channel_not_found"
    assert web.chat_delete(**place)["ts"] == posted["ts"]
    assert code_of(web.chat_delete, **place) == "message_not_found"
    assert slack.messages == [other]


def test_scopes_are_told_and_needed(slack, web):
    slack.scopes = {"chat:write", "groups:history"}
    assert web.auth_test().headers["x-oauth-scopes"] == "chat:write,groups:history"
    with pytest.raises(SlackApiError) as failure:
        web.conversations_history(channel="C01")
    assert (error_of(failure), failure.value.response["needed"]) == ("missing_scope", "channels:history")
    assert web.conversations_history(channel="G01")["messages"] == []


def test_an_answer_that_is_lost_a_call_that_is_late_and_one_that_is_held(slack, web):
    slack.lose_answers(method="chat.postMessage")
    slack.lose_answers(method="chat.postMessage", status=500)
    slack.delay(method="chat.postMessage")
    assert web.auth_test()["ok"]
    for text in ("lost", "failed", "late"):
        with pytest.raises((RemoteDisconnected, ConnectionError, SlackApiError)):
            web.chat_postMessage(channel="C01", text=text)
    assert [each.text for each in slack.messages] == ["lost", "failed"]
    assert (slack.apply_late(), slack.apply_late()) == (1, 0)
    assert slack.messages[2].text == "late"
    for moment, seen in (("before", 3), ("after", 5)):
        hold = slack.hold("chat.postMessage", moment)
        caller = threading.Thread(target=web.chat_postMessage, kwargs={"channel": "C01", "text": moment})
        caller.start()
        assert hold.reached.wait(60)
        assert len(slack.messages) == seen
        hold.release()
        caller.join()


# People, buttons and forms

BUTTON = {"type": "button", "action_id": "go", "text": {"type": "plain_text", "text": "Go"}, "value": "7"}
INPUT = {"type": "plain_text_input", "action_id": "why", "initial_value": "as before"}
FORM = {
    "type": "modal",
    "callback_id": "form",
    "private_metadata": "kept",
    "title": {"type": "plain_text", "text": "Form"},
    "submit": {"type": "plain_text", "text": "Go"},
    "blocks": [{"type": "input", "block_id": "why", "label": {"type": "plain_text", "text": "Why"}, "element": INPUT}],
}


@pytest.fixture
def clicked(slack, web):
    """A click on a button that no app hears of."""
    slack.people.add("U1", "Ann")
    web.chat_postMessage(channel="C1", text="x", blocks=[{"type": "actions", "elements": [BUTTON]}])
    yield slack.click(slack.messages[0], "go", "U1")
    slack.people.users.clear()


def test_a_click_that_no_app_hears_is_not_acknowledged_and_opens_one_form(slack, web, clicked):
    assert not clicked.is_acknowledged
    opened = web.views_open(trigger_id=clicked.payload["trigger_id"], view=FORM)["view"]
    assert slack.opened(clicked, 1.0) == opened
    with pytest.raises(SlackApiError) as failure:
        web.views_open(trigger_id=clicked.payload["trigger_id"], view=FORM)
    assert error_of(failure) == "exchanged_trigger_id"
    submitted = slack.submit(opened, {}, "U1").payload
    assert submitted["view"]["state"]["values"] == {"why": {"why": {"type": "plain_text_input", "value": "as before"}}}
    with pytest.raises(LookupError, match="there is no button stop"):
        slack.click(slack.messages[0], "stop", "U1")


def test_people_channels_and_groups_are_told_in_pages(slack, web, clicked):
    slack.people.add("U2", "Bob", channels=("C2",), is_restricted=True)
    slack.people.add("U3", "Cid")
    slack.people.groups["S1"] = ["U3"]
    first = web.conversations_members(channel="C1", limit=1)
    cursor = first["response_metadata"]["next_cursor"]
    second = web.conversations_members(channel="C1", limit=1, cursor=cursor)
    assert (first["members"], second["members"]) == (["U1"], ["U3"])
    assert web.users_info(user="U2")["user"]["is_restricted"]
    assert web.usergroups_users_list(usergroup="S1")["users"] == ["U3"]
    with pytest.raises(SlackApiError) as failure:
        web.chat_postEphemeral(channel="C1", user="U2", text="x")
    assert error_of(failure) == "user_not_in_channel"


def test_only_the_app_token_opens_socket_mode_and_each_address_serves_once(slack, web):
    assert web.apps_connections_open(app_token=slack.app_token)["url"].startswith("ws://127.0.0.1")
    with pytest.raises(SlackApiError) as failure:
        web.apps_connections_open(app_token=slack.token)
    assert error_of(failure) == "not_allowed_token_type"
    with pytest.raises(SlackApiError) as failure:
        WebClient(token=slack.app_token, base_url=slack.url).auth_test()
    assert error_of(failure) == "not_allowed_token_type"
