"""Messages on Slack: one per incident, edited as it goes on, its history in the thread; by webhook posted anew."""

import logging
import re
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any, Final
from urllib.error import URLError

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.webhook import WebhookClient, WebhookResponse

from cheapdeep_ops.errors import DeliveryError, SettingsError
from cheapdeep_ops.guard.formatting import LONGEST_LABEL, plain
from cheapdeep_ops.guard.notify.messages import details, headline, history, is_history, is_reply, links, quotes
from cheapdeep_ops.guard.notify.notifier import LogSender, MessageRef, Sender
from cheapdeep_ops.settings import Settings

_TIMEOUT_S: Final = 5
_OUT_OF_REACH: Final = (OSError, HTTPException)
_FAILURES: Final = (SlackClientError, *_OUT_OF_REACH, ValueError, AttributeError, LookupError)
"""What slack_sdk and urllib raise, also for URLs that are none and for replies that are no JSON object."""

_GONE: Final = frozenset({"message_not_found", "edit_window_closed", "cant_update_message"})
"""Source: https://docs.slack.dev/reference/methods/chat.update#errors"""

_NO_REPLY: Final = _GONE | {
    "thread_not_found",
    "cannot_reply_to_message",
    "restricted_action_non_threadable_channel",
    "restricted_action_thread_locked",
}
"""Why a message takes no reply, however often one is tried.

Source: https://docs.slack.dev/reference/methods/chat.postMessage#errors
"""

_SILENT: Final = logging.Logger("slack_sdk", level=logging.CRITICAL + 1)  # noqa: LOG001 - out of reach on purpose
"""For slack_sdk, which logs whole URLs: it has no parent and no handler, and nobody can reach it by name."""

_SHOWN: Final = 200
_WEBHOOK_CODE: Final = re.compile(r"[a-z_]{1,60}")
_SERVER_ERROR: Final = 500
_ICONS: Final = {
    "started": ":red_circle:",
    "changed": ":large_orange_circle:",
    "acknowledged": ":large_orange_circle:",
    "reminder": ":red_circle:",
    "resolved": ":large_green_circle:",
    "report": ":bar_chart:",
}
_TEXT_LIMIT: Final = 3_000
_LONGEST_WAIT_S: Final = 300.0
"""However long Slack asks for: an alert that waits longer is of no use."""


def sender_for(settings: Settings) -> Sender:
    """The sender that the settings ask for: a bot, a webhook, or the log.

    Raises SettingsError where a bot token comes without a channel.
    """
    if settings.slack_bot_token is not None:
        if not settings.slack_channel:
            raise SettingsError("CHEAPDEEP_SLACK_BOT_TOKEN needs CHEAPDEEP_SLACK_CHANNEL, the channel to post to")
        return BotSender(
            token=settings.slack_bot_token.get_secret_value(),
            channel=settings.slack_channel,
            base_url=settings.slack_base_url,
        )
    if settings.slack_webhook_url is not None:
        return WebhookSender(url=settings.slack_webhook_url.get_secret_value())
    return LogSender()


class BotSender:
    """Posts with a bot token, edits the incident's message from then on, and replies to it with what has happened.

    Source: https://docs.slack.dev/reference/methods/chat.postMessage and chat.update
    """

    def __init__(self, *, token: str, channel: str, base_url: str) -> None:
        self._channel = channel
        # Retries are the outbox's affair: it knows how long an alert may wait, and keeps it over a restart.
        self._client = WebClient(token=token, base_url=base_url, timeout=_TIMEOUT_S, retry_handlers=[], logger=_SILENT)

    def send(self, payload: Mapping[str, Any], place: MessageRef) -> MessageRef:
        """Post `payload`, edit the message at `place`, or reply to it; where that is gone, post anew, or leave it.

        Raises DeliveryError.
        """
        text, blocks = rendered(payload)
        try:
            if is_reply(payload) and (place.ts or is_history(payload)):
                return self._replied(place, text, blocks)
            if place.ts and self._edited(place, text, blocks):
                return place
            return self._posted(text, blocks)
        except SlackApiError as error:
            raise _refusal(error) from None
        except _FAILURES as error:
            raise _failure("Slack", error) from None

    def _edited(self, place: MessageRef, text: str, blocks: list[dict[str, Any]]) -> bool:
        try:
            self._client.chat_update(channel=place.channel, ts=place.ts, text=text, blocks=blocks)
        except SlackApiError as error:
            if _code(error) in _GONE:
                return False
            raise
        return True

    def _replied(self, place: MessageRef, text: str, blocks: list[dict[str, Any]]) -> MessageRef:
        """History is worth a try; what cannot have any must not hold up what comes after."""
        if not place.ts:
            return place
        try:
            self._client.chat_postMessage(channel=place.channel, thread_ts=place.ts, text=text, blocks=blocks)
        except SlackApiError as error:
            if _code(error) not in _NO_REPLY:
                raise
        return place

    def _posted(self, text: str, blocks: list[dict[str, Any]]) -> MessageRef:
        answer = self._client.chat_postMessage(channel=self._channel, text=text, blocks=blocks)
        channel, ts = answer.get("channel"), answer.get("ts")
        if not channel or not ts:
            raise DeliveryError("Slack took a message but did not say where it is")
        return MessageRef(channel=str(channel), ts=str(ts))

    def check(self) -> str:
        """Ask Slack who the token belongs to. Raises SettingsError where Slack refuses it or is out of reach."""
        try:
            answer = self._client.auth_test()
        except _FAILURES as error:
            code = _code(error) if isinstance(error, SlackApiError) else _name(error)
            raise SettingsError(f"Slack does not take CHEAPDEEP_SLACK_BOT_TOKEN: {code}") from None
        return f"bot {answer['user']} in {answer['team']}, channel {self._channel}"


class WebhookSender:
    """Posts through an incoming webhook, which can neither edit nor thread.

    Source: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
    """

    def __init__(self, *, url: str) -> None:
        self._client = WebhookClient(url, timeout=_TIMEOUT_S, retry_handlers=[], logger=_SILENT)

    def send(self, payload: Mapping[str, Any], place: MessageRef) -> MessageRef:
        """Post `payload`, unless it is for a thread or an edit only. Raises DeliveryError."""
        if is_history(payload) or payload["kind"] == "acknowledged":  # worth an edit, but no message of its own
            return place
        text, blocks = rendered(payload)
        try:
            answer = self._client.send(text=text, blocks=blocks)
        except _FAILURES as error:
            raise _failure("the Slack webhook", error) from None
        if answer.status_code != 200:  # noqa: PLR2004 - HTTP's OK
            raise self._refusal(answer)
        return place

    def _refusal(self, answer: WebhookResponse) -> DeliveryError:
        # Slack's own words are short codes; a proxy's page may repeat what was sent, or the path, which is a secret.
        said = f": {answer.body}" if _WEBHOOK_CODE.fullmatch(answer.body) else ""
        return DeliveryError(
            f"the Slack webhook answered {answer.status_code}{said}",
            retry_after_s=_retry_after(answer.headers),
            unreachable=answer.status_code >= _SERVER_ERROR,
        )


def rendered(payload: Mapping[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """The text for notifications, and the Block Kit blocks; labels of the caller's are shown as they are."""
    if is_reply(payload):
        return _rendered_history(payload)
    title = escaped(headline(payload, label=_code_span))
    lines = [escaped(line) for line in details(payload, label=_code_span)]
    blocks = [_section(f"{_icon(payload)} *{title}*")]
    if payload["kind"] == "digest":
        blocks += map(_section, lines)  # together they may be more than one section takes
    elif lines:
        blocks.append(_section("\n".join(lines)))
    blocks += [_section("\n".join(map(escaped, quote))) for quote in quotes(payload, _code_span)]
    if leads := links(payload):
        blocks.append(_section(" | ".join(_link(name, address) for name, address in leads)))
    return title, blocks


def _rendered_history(payload: Mapping[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    title, *lines = map(escaped, history(payload, label=_code_span))
    return title, [_section("\n".join([f"{_icon(payload)} {title}", *lines]))]


def _icon(payload: Mapping[str, Any]) -> str:
    return _ICONS.get(payload["kind"], ":bell:")


def escaped(text: str) -> str:
    """`text` without anything that Slack would read as a mention, link or entity.

    Source: https://docs.slack.dev/messaging/formatting-message-text#escaping
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _code_span(label: str, longest: int = LONGEST_LABEL) -> str:
    """`label` where mrkdwn has no other meaning for it; a code span knows no escape for its own end."""
    inside = plain(label, longest).replace("`", "'")
    return f"`{inside}`"


def _link(name: str, address: str) -> str:
    """A link; an address must not hold what would end it early.

    Source: https://docs.slack.dev/messaging/formatting-message-text#linking-urls
    """
    closed = address.replace("|", "%7C").replace("<", "%3C").replace(">", "%3E")
    return f"<{escaped(closed)}|{escaped(name)}>"


def _section(text: str) -> dict[str, Any]:
    # verbatim: no link out of a bare URL, see https://docs.slack.dev/reference/block-kit/composition-objects/text-object
    return {"type": "section", "text": {"type": "mrkdwn", "text": text[:_TEXT_LIMIT], "verbatim": True}}


def _code(error: SlackApiError) -> str:
    """Slack's word for what is wrong, else the HTTP status."""
    data = error.response.data
    return str(data.get("error") if data and isinstance(data, dict) else error.response.status_code)[:_SHOWN]


def _refusal(error: SlackApiError) -> DeliveryError:
    return DeliveryError(
        f"Slack answered {_code(error)}",
        retry_after_s=_retry_after(error.response.headers),
        unreachable=error.response.status_code >= _SERVER_ERROR,
    )


def _failure(receiver: str, error: Exception) -> DeliveryError:
    """Only names the kind of `error`: its words may hold a URL or a token."""
    is_out_of_reach = isinstance(error, _OUT_OF_REACH)
    trouble = "is out of reach" if is_out_of_reach else "cannot be asked, or gave no sense for an answer"
    return DeliveryError(f"{receiver} {trouble}: {_name(error)}", unreachable=is_out_of_reach)


def _name(error: Exception) -> str:
    cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
    return type(cause).__name__


def _retry_after(headers: Mapping[str, Any]) -> float | None:
    found = next((value for name, value in headers.items() if name.lower() == "retry-after"), None)
    value = found[0] if isinstance(found, list) else found
    try:
        return None if value is None else min(max(float(value), 0.0), _LONGEST_WAIT_S)
    except ValueError:
        return None
