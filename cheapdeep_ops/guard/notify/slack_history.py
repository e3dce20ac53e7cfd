"""What a Slack channel shows of a message that may have been posted without an answer, and how doubles are deleted.

Each post has metadata with the id of its delivery, so that no message of another store, app or person is touched.
Source: https://docs.slack.dev/messaging/message-metadata
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.web import SlackResponse

from cheapdeep_ops.guard.notify.sender import Doubt, Found, MessageRef
from cheapdeep_ops.guard.rules.rule_text import Payload

_ERROR_CODE: Final = re.compile(r"[a-z_]{1,60}")
_log: Final = logging.getLogger(__name__)

EVENT_TYPE: Final = "cheapdeep_message"
SCOPES: Final = frozenset({"channels:history", "groups:history"})
"""One of these scopes is needed: the first for a public channel, the second for a private one."""

_PAGE: Final = 200
"""Messages of one request. Slack asks for no more. Source: https://docs.slack.dev/apis/web-api/pagination"""

_MOST_PAGES: Final = 20
_SLACK_S: Final = 600.0
"""How much earlier than the message the reading begins, because the clocks of two guards may differ."""

_CHANNEL_ID: Final = re.compile(r"[CDG][A-Z0-9]+")
_DELETED: Final = frozenset({"message_not_found"})
_STAYS: Final = frozenset({"cant_delete_message", "compliance_exports_prevent_deletion"})
"""The codes with which Slack keeps a message. Source: https://docs.slack.dev/reference/methods/chat.delete#errors"""

_NO_THREAD: Final = frozenset({"thread_not_found", "message_not_found"})
Message = Mapping[str, Any]


def metadata_of(payload: Payload) -> dict[str, Any] | None:
    """The metadata of a message; None for a message without a delivery, such as a test."""
    if not payload.get("delivery_id"):
        return None
    event: dict[str, Any] = {"delivery_id": payload["delivery_id"], "kind": payload["kind"]}
    if payload.get("incident_id") is not None:
        event["incident_id"] = payload["incident_id"]
    return {"event_type": EVENT_TYPE, "event_payload": event}


def is_channel_id(channel: str) -> bool:
    """Whether it is a channel's id: the history is read by the id, but a message is also posted by the name."""
    return _CHANNEL_ID.fullmatch(channel) is not None


def reconcile(client: WebClient, doubt: Doubt, *, channel: str) -> Found | None:
    """Find the message of `doubt` in the channel with this id, and delete its doubles if it says so; None without any.

    Raises SlackApiError, and what else slack_sdk and urllib raise.
    """
    own = [each for each in _messages(client, doubt, channel) if _delivery_id(each) in doubt.delivery_ids]
    kept = _kept(client, own, doubt, channel) if doubt.is_kept else None
    doubles = [each for each in own if kept is None or each["ts"] != kept["ts"]]
    for double in doubles if doubt.deletes else ():
        _delete(client, channel, double["ts"])
    if kept is None:
        return None
    return Found(ref=MessageRef(channel=channel, ts=kept["ts"]), delivery_id=_delivery_id(kept))


def history_trouble(client: WebClient, channel: str, scopes: str | None) -> str:
    """Why the history of `channel` cannot be read, as Slack's code; empty if it can, or if that is not known.

    `scopes` are those of the token, as Slack lists them. Raises what slack_sdk and urllib raise.
    """
    if not is_channel_id(channel):
        return "" if scopes is None or SCOPES & set(re.split(r"[\s,]+", scopes)) else "missing_scope"
    try:
        client.conversations_history(channel=channel, limit=1)
    except SlackApiError as error:
        is_busy = error.response.status_code == HTTPStatus.TOO_MANY_REQUESTS
        return "" if is_busy else code_of(error)
    return ""


def code_of(error: SlackApiError) -> str:
    """Slack's error code, or else the HTTP status."""
    # A proxy may answer with an error of its own that repeats the request's headers, and so the token.
    data = error.response.data
    code = str(data.get("error")) if isinstance(data, dict) else ""
    return code if _ERROR_CODE.fullmatch(code) else str(error.response.status_code)


def header(headers: Mapping[str, Any], name: str) -> str | None:
    """The value of a header, whose name has any case; None without it."""
    values = next((value for key, value in headers.items() if key.lower() == name), None)
    value = values[0] if isinstance(values, list) else values
    return None if value is None else str(value)


def _messages(client: WebClient, doubt: Doubt, channel: str) -> Iterator[Message]:
    """The messages of the channel, or of the thread, since `doubt` arose; a channel's newest first."""
    place = {"channel": channel, "include_all_metadata": True, "limit": _PAGE, **_since(client, doubt.age_s)}
    if not doubt.in_thread:
        yield from _pages(client.conversations_history, place)
        return
    try:
        yield from _pages(client.conversations_replies, {**place, "ts": doubt.ref.ts})
    except SlackApiError as error:
        # The thread's message was deleted: a new one takes its place.
        if code_of(error) not in _NO_THREAD:
            raise


def _pages(call: Callable[..., SlackResponse], arguments: Mapping[str, Any]) -> Iterator[Message]:
    cursor: dict[str, str] = {}
    for _ in range(_MOST_PAGES):
        response = call(**arguments, **cursor)
        yield from response.get("messages") or ()
        following = (response.get("response_metadata") or {}).get("next_cursor")
        if not following:
            return
        cursor = {"cursor": following}


def _since(client: WebClient, age_s: float) -> dict[str, str]:
    """The argument `oldest` for what is `age_s` old by Slack's own clock; none if Slack does not say its time."""
    # A `ts` is by Slack's clock, from which this host's may differ by hours.
    date = header(client.auth_test().headers, "date")
    try:
        now = None if date is None else parsedate_to_datetime(date).timestamp()
    except ValueError:
        now = None
    return {} if now is None else {"oldest": f"{max(now - max(age_s, 0.0) - _SLACK_S, 0.0):.6f}"}


def _kept(client: WebClient, own: Sequence[Message], doubt: Doubt, channel: str) -> Message | None:
    """The message that stays: the one of the record, else one with replies, else the oldest; None without any."""
    if doubt.ref.ts and not doubt.in_thread:
        recorded = next((each for each in own if each["ts"] == doubt.ref.ts), None) or _at(client, doubt.ref, channel)
        if recorded is not None:
            return recorded
    return min(own, key=lambda each: (not each.get("reply_count"), Decimal(each["ts"])), default=None)


def _at(client: WebClient, ref: MessageRef, channel: str) -> Message | None:
    """The message at `ref`; None if it is gone.

    Source: https://docs.slack.dev/messaging/retrieving-messages#individual_messages
    """
    if ref.channel != channel:
        return None
    moment: dict[str, Any] = {"oldest": ref.ts, "latest": ref.ts, "inclusive": True, "limit": 1}
    response = client.conversations_history(channel=channel, include_all_metadata=True, **moment)
    return next((each for each in response.get("messages") or () if each["ts"] == ref.ts), None)


def _delete(client: WebClient, channel: str, ts: str) -> None:
    try:
        client.chat_delete(channel=channel, ts=ts)
        _log.info("a message that was posted twice is deleted: channel %s, ts %s", channel, ts)
    except SlackApiError as error:
        if code_of(error) in _STAYS:
            _log.info("Slack keeps a message that was posted twice: %s", code_of(error))
        elif code_of(error) not in _DELETED:
            raise


def _delivery_id(message: Message) -> str:
    """The id of the delivery whose content a message shows; empty for a message of anyone else."""
    metadata = message.get("metadata") or {}
    if metadata.get("event_type") != EVENT_TYPE:
        return ""
    return str((metadata.get("event_payload") or {}).get("delivery_id") or "")
