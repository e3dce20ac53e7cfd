"""Slack: one message for each incident, edited in place, with its history in the thread.

A bot token is preferred to an incoming webhook, which can neither edit nor reply: there each message is new.
"""

import logging
import re
from collections.abc import Callable, Mapping
from http.client import HTTPException
from socket import gaierror
from typing import Any, Final, TypeVar
from urllib.error import URLError

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web import SlackResponse
from slack_sdk.webhook import WebhookClient, WebhookResponse

from cheapdeep_ops.errors import DeliveryError, SettingsError
from cheapdeep_ops.guard.notify.messages import is_history, is_reply
from cheapdeep_ops.guard.notify.sender import (
    Doubt,
    Found,
    MessageRef,
    Receiver,
    Sender,
    Shown,
    Upload,
    fingerprint,
    wait_asked_for,
)
from cheapdeep_ops.guard.notify.slack_blocks import rendered, without_picture
from cheapdeep_ops.guard.notify.slack_files import SCOPE, begin_upload, delete_file, finish_upload
from cheapdeep_ops.guard.notify.slack_history import (
    code_of,
    header,
    history_trouble,
    is_channel_id,
    metadata_of,
    reconcile,
)
from cheapdeep_ops.guard.rules.rule_text import Payload
from cheapdeep_ops.settings import Settings

_log: Final = logging.getLogger(__name__)
_TIMEOUT_S: Final = 5
_OUT_OF_REACH: Final = (OSError, HTTPException)
_FAILURES: Final = (SlackClientError, *_OUT_OF_REACH, ValueError, AttributeError, LookupError)
"""All that slack_sdk and urllib raise, also for malformed URLs and for replies without a JSON object."""

_GONE: Final = frozenset({"message_not_found", "edit_window_closed", "cant_update_message"})
"""The codes with which Slack refuses every edit of a message.

Source: https://docs.slack.dev/reference/methods/chat.update#errors
"""

_NO_CHANNEL: Final = frozenset({
    "channel_not_found", "is_archived", "is_inactive", "not_in_channel", "restricted_action",
    "restricted_action_read_only_channel", "restricted_action_thread_only_channel", "channel_type_not_supported",
    "external_channel_migrating", "messages_tab_disabled",
})  # fmt: skip
"""The codes with which Slack refuses every message in a channel, such as one that was archived, deleted or left.

Source: https://docs.slack.dev/reference/methods/chat.postMessage#errors
"""

_NO_ACCESS: Final = frozenset({
    "not_authed", "invalid_auth", "account_inactive", "token_revoked", "token_expired", "missing_scope",
    "no_permission", "not_allowed_token_type", "access_denied", "accesslimited", "org_login_required",
    "ekm_access_denied", "team_access_not_granted", "team_added_to_org", "enterprise_is_restricted",
    "two_factor_setup_required", "ratelimited", "rate_limited", "message_limit_exceeded", "service_unavailable",
})  # fmt: skip
"""The codes with which Slack refuses every message of the bot. Source: as above"""

_NO_WEBHOOK: Final = frozenset({
    "action_prohibited", "posting_to_general_channel_denied", "channel_not_found", "channel_is_archived",
    "invalid_token", "no_active_hooks", "no_service", "no_service_id", "no_team", "team_disabled",
})  # fmt: skip
"""The codes with which a webhook refuses every message.

Source: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks#handling_errors
"""

_NO_BLOCKS: Final = frozenset({"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long"})
"""The codes with which Slack refuses the form of a message, but not its text."""

_NO_METADATA: Final = frozenset({
    "invalid_metadata_format", "invalid_metadata_schema", "metadata_must_be_sent_from_app", "metadata_too_large",
})  # fmt: skip
"""The codes with which Slack refuses the metadata of a message, such as those of a token without an app.

Source: https://docs.slack.dev/reference/methods/chat.postMessage#errors
"""

_MAYBE: Final = frozenset({"fatal_error", "internal_error"})
"""The codes of calls that may have taken effect before they failed. Source: as above"""

_PASSING: Final = _MAYBE | {"ratelimited", "rate_limited", "service_unavailable", "request_timeout"}
"""The codes of failures that pass."""

_NEVER_SENT: Final = (ConnectionRefusedError, gaierror)
"""What is raised before a request is sent."""

_NO_REPLY: Final = _GONE | {
    "thread_not_found",
    "cannot_reply_to_message",
    "restricted_action_non_threadable_channel",
    "restricted_action_thread_locked",
}
"""The codes with which Slack refuses every reply to a message.

Source: https://docs.slack.dev/reference/methods/chat.postMessage#errors
"""

_SILENT: Final = logging.Logger("slack_sdk", level=logging.CRITICAL + 1)  # noqa: LOG001 - no other code can set it up
"""A logger without parent and handler for slack_sdk, which logs whole URLs, and so secrets."""

_WEBHOOK_CODE: Final = re.compile(r"[a-z_]{1,60}")
_OK: Final = 200
_SERVER_ERROR: Final = 500
_TOO_MANY: Final = 429
_T = TypeVar("_T")
Content = Mapping[str, Any]
"""The arguments of a call that are a message's content: text, blocks and metadata."""


def is_configured(settings: Settings) -> bool:
    """Whether the settings name a bot or an incoming webhook."""
    return settings.slack_bot_token is not None or settings.slack_webhook_url is not None


def make_sender(settings: Settings) -> Sender:
    """The sender that the settings ask for: a bot, or else an incoming webhook.

    Raises SettingsError if a bot token comes without a channel, or if there is neither.
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
    raise SettingsError(f"Slack is not configured: {RECEIVER.needs}")


RECEIVER: Final = Receiver(
    name="slack",
    title="Slack",
    needs="CHEAPDEEP_SLACK_BOT_TOKEN with CHEAPDEEP_SLACK_CHANNEL, or CHEAPDEEP_SLACK_WEBHOOK_URL",
    is_configured=is_configured,
    make_sender=make_sender,
)


class BotSender:
    """Posts with a bot token, edits the incident's message, and adds its history to the thread.

    Source: https://docs.slack.dev/reference/methods/chat.postMessage and chat.update
    """

    def __init__(self, *, token: str, channel: str, base_url: str, timeout_s: float = _TIMEOUT_S) -> None:
        """`timeout_s` is the longest wait for an answer, in seconds."""
        self.target = self._channel = channel
        self._channel_id = ""
        """The channel's id, once Slack has told it: a channel keeps its id when it gets another name."""
        # The outbox retries, not the client: it keeps messages over a restart, and knows how long one may wait.
        self._client = WebClient(token=token, base_url=base_url, retry_handlers=[], logger=_SILENT)
        self._client.timeout = timeout_s  # type: ignore[assignment]  # an int by its type, but passed on to a socket
        self._unreadable: set[str] = set()
        """The codes with which Slack refused to show the history, each of which is logged once."""

    def accepts(self, payload: Payload) -> bool:  # noqa: ARG002 - the bot has a form for everything
        """Every message."""
        return True

    def send(self, payload: Payload, ref: MessageRef) -> MessageRef:
        """Post `payload`, edit the message at `ref`, or reply to it.

        Posts again if the message at `ref` cannot be edited, or its channel takes no messages any more. Drops a reply
        to a message that takes none. Raises DeliveryError.
        """
        self._channel_id = ref.channel or self._channel_id
        content = _content(payload)
        try:
            if is_reply(payload) and (ref.ts or is_history(payload)):
                is_there = not ref.ts or self._replied(content, ref)
                return ref if is_there else self._posted(_content({**payload, "in_thread": False}))
            if ref.ts and self._edited(content, ref):
                return ref
            return self._posted(content)
        except SlackApiError as error:
            raise self._refusal(error) from None
        except _FAILURES as error:
            raise _failure("Slack", error) from None

    def _edited(self, content: Content, ref: MessageRef) -> bool:
        """Edit the message at `ref`; returns False if a new one must take its place."""
        try:
            self._call(self._client.chat_update, content, channel=ref.channel, ts=ref.ts)
        except SlackApiError as error:
            if code_of(error) in _GONE or self._may_post_instead(error, ref):
                return False
            raise
        return True

    def _replied(self, content: Content, ref: MessageRef) -> bool:
        """Reply in the thread; returns False if a new message must take its place.

        A reply that Slack refuses for good is dropped, so that later messages are sent.
        """
        try:
            self._call(self._client.chat_postMessage, content, channel=ref.channel, thread_ts=ref.ts)
        except SlackApiError as error:
            if self._may_post_instead(error, ref):
                return False
            if code_of(error) not in _NO_REPLY:
                raise
        return True

    def _may_post_instead(self, error: SlackApiError, ref: MessageRef) -> bool:
        """Whether the configured channel may take a message: it may be another one, perhaps with an equal name."""
        is_same = ref.channel == self._channel
        return code_of(error) in _NO_CHANNEL - ({"channel_not_found"} if is_same else set())

    def _posted(self, content: Content) -> MessageRef:
        try:
            response = self._call(self._client.chat_postMessage, content, channel=self._channel)
        except SlackApiError as error:
            # A channel that was renamed is not found by its old name any more, but still by its id.
            if code_of(error) != "channel_not_found" or self._channel_id in {"", self._channel}:
                raise
            response = self._posted_by_id(content, error)
        channel, ts = response.get("channel"), response.get("ts")
        if not channel or not ts:
            raise DeliveryError("Slack accepted a message but did not return its place", may_be_sent=True)
        self._channel_id = str(channel)
        return MessageRef(channel=str(channel), ts=str(ts))

    def _posted_by_id(self, content: Content, refusal: SlackApiError) -> SlackResponse:
        try:
            return self._call(self._client.chat_postMessage, content, channel=self._channel_id)
        except SlackApiError as error:
            raise (refusal if code_of(error) in _NO_CHANNEL else error) from None

    def _call(self, method: Callable[..., SlackResponse], content: Content, **place: str) -> SlackResponse:
        """Call `method` with the message, without the part of it that Slack refuses."""
        try:
            return method(**content, **place)
        except SlackApiError as error:
            if code_of(error) not in _NO_BLOCKS | _NO_METADATA:
                raise
            plain = without_picture(content["blocks"])
            if code_of(error) in _NO_BLOCKS and len(plain) < len(content["blocks"]):
                # The file of a picture may have been deleted.
                return self._call(method, {**content, "blocks": plain}, **place)
            # An alert without its form is better than none. An edit without blocks would keep the old ones.
            without: Content = {"blocks": []} if code_of(error) in _NO_BLOCKS else {"metadata": None}
            return method(**{**content, **without}, **place)

    def begin_upload(self, *, size: int, text: str) -> Upload:
        """Announce a picture, which no channel shows by itself. Raises DeliveryError."""
        return self._file_call(begin_upload, size=size, text=text)

    def finish_upload(self, upload: Upload, content: bytes) -> None:
        """Send the content of a picture. Raises DeliveryError."""
        self._file_call(finish_upload, upload=upload, content=content)

    def delete_file(self, file_id: str) -> None:
        """Delete a picture. Raises DeliveryError."""
        self._file_call(delete_file, file_id=file_id)

    def show(self, payload: Payload, ref: MessageRef) -> Shown:
        """Edit the message at `ref` so that it shows a picture. Raises DeliveryError.

        Slack refuses a file that it has not processed yet with `invalid_blocks`, and says when only to those with the
        scope `files:read`: so the edit itself finds out.

        Source: https://docs.slack.dev/reference/block-kit/composition-objects/slack-file-object
        """
        try:
            self._client.chat_update(**_content(payload), channel=ref.channel, ts=ref.ts)
        except SlackApiError as error:
            if code_of(error) in _NO_BLOCKS:
                return Shown.NOT_YET
            if code_of(error) in _GONE | _NO_CHANNEL:
                return Shown.GONE
            raise self._refusal(error) from None
        except _FAILURES as error:
            raise _failure("Slack", error) from None
        return Shown.SHOWN

    def _file_call(self, call: Callable[..., _T], **given: object) -> _T:
        try:
            return call(self._client, **given)
        except SlackApiError as error:
            raise self._refusal(error, may_be_sent=False) from None
        except _FAILURES as error:
            raise _failure("Slack", error, may_be_sent=False) from None

    def reconcile(self, doubt: Doubt) -> Found | None:
        """Find the message of `doubt` in the channel or the thread, and delete its doubles if `doubt.deletes`.

        Returns None if there is none, if the channel's id is not known yet, or if the bot may not read the history: it
        lacks the scope `channels:history` or `groups:history`, or is no member. Raises DeliveryError.

        Source: https://docs.slack.dev/reference/methods/conversations.history and conversations.replies
        """
        known = self._channel if is_channel_id(self._channel) else self._channel_id or doubt.last_channel
        channel = doubt.ref.channel or known
        if not is_channel_id(channel):
            return None
        try:
            return reconcile(self._client, doubt, channel=channel)
        except SlackApiError as error:
            if code_of(error) in _PASSING or error.response.status_code != _OK:
                raise self._refusal(error, may_be_sent=False) from None
            self._note_unreadable(code_of(error))
            return None
        except _FAILURES as error:
            raise _failure("Slack", error, may_be_sent=False) from None

    def _note_unreadable(self, code: str) -> None:
        if code not in self._unreadable:
            self._unreadable.add(code)
            _log.warning("after an answer that was lost, a message may come twice: %s", _unread(code))

    def _refusal(self, error: SlackApiError, *, may_be_sent: bool = True) -> DeliveryError:
        code, status = code_of(error), error.response.status_code
        where = f" for channel {self._channel}" if code in _NO_CHANNEL else ""
        return DeliveryError(
            f"Slack answered {code}{where}",
            retry_after_s=_retry_after(error.response.headers),
            unreachable=code in _NO_CHANNEL | _NO_ACCESS or status >= _SERVER_ERROR or status == _TOO_MANY,
            may_be_sent=may_be_sent and (code in _MAYBE or status >= _SERVER_ERROR),
        )

    def check(self) -> str:
        """Ask Slack for the owner of the token, and whether the bot may read the channel's history.

        Raises SettingsError if Slack refuses the token or is out of reach.
        """
        try:
            response = self._client.auth_test()
            scopes = header(response.headers, "x-oauth-scopes")
            trouble = history_trouble(self._client, self._channel, scopes)
        except _FAILURES as error:
            code = code_of(error) if isinstance(error, SlackApiError) else _name(error)
            raise SettingsError(f"Slack refuses CHEAPDEEP_SLACK_BOT_TOKEN: {code}") from None
        doubles = f"; after an answer that is lost, a message may come twice: {_unread(trouble)}" if trouble else ""
        has_pictures = scopes is None or SCOPE in re.split(r"[\s,]+", scopes)
        pictures = "" if has_pictures else f"; messages have no pictures: give the app the scope {SCOPE}"
        return f"bot {response['user']} in {response['team']}, channel {self._channel}{doubles}{pictures}"


class WebhookSender:
    """Posts through an incoming webhook, which can neither edit nor thread.

    Source: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
    """

    def __init__(self, *, url: str) -> None:
        self.target = fingerprint(url)
        self._client = WebhookClient(url, timeout=_TIMEOUT_S, retry_handlers=[], logger=_SILENT)

    def accepts(self, payload: Payload) -> bool:
        """All but replies that repeat an earlier message, and acknowledgements, which are worth an edit only."""
        return not is_history(payload) and payload["kind"] != "acknowledged"

    def send(self, payload: Payload, ref: MessageRef) -> MessageRef:
        """Post `payload`, unless `accepts` excludes it. Raises DeliveryError."""
        if not self.accepts(payload):
            return ref
        # Slack does not tell where the message is, so a click on it would name no incident.
        text, blocks = rendered({**payload, "buttons": None}, has_thread=False)
        try:
            response = self._client.send(text=text, blocks=blocks)
            if response.body in _NO_BLOCKS:
                response = self._client.send(text=text)
        except _FAILURES as error:
            raise _failure("the Slack webhook", error) from None
        if response.status_code != _OK:
            raise self._refusal(response)
        return ref

    def check(self) -> str:
        """Say that a webhook is set: Slack offers no check of a webhook without a message."""
        return "a webhook is set; cheapdeep-ops alert test sends a message to it. It can neither edit nor read messages"

    def _refusal(self, response: WebhookResponse) -> DeliveryError:
        # Slack answers with a short code; a proxy's page may repeat the message, or the path, which is a secret.
        code, status = f": {response.body}" if _WEBHOOK_CODE.fullmatch(response.body) else "", response.status_code
        return DeliveryError(
            f"the Slack webhook answered {status}{code}",
            retry_after_s=_retry_after(response.headers),
            unreachable=response.body in _NO_WEBHOOK or status >= _SERVER_ERROR or status == _TOO_MANY,
        )


def _content(payload: Payload) -> Content:
    """What `rendered` says, and the metadata by which the message is found again."""
    text, blocks = rendered(payload)
    return {"text": text, "blocks": blocks, "metadata": metadata_of(payload)}


def _unread(code: str) -> str:
    """Why the history cannot be read, and what to do."""
    repairs = {
        "missing_scope": "give the app the scope channels:history, or groups:history for a private channel",
        "not_in_channel": "invite the bot",
    }
    repair = f"; {repairs[code]}" if code in repairs else ""
    return f"Slack does not show the channel's history ({code}){repair}"


def _failure(receiver: str, error: Exception, *, may_be_sent: bool = True) -> DeliveryError:
    """The failure by the type of `error` alone: its text may contain a URL or a token."""
    is_out_of_reach = isinstance(error, _OUT_OF_REACH)
    why = "is out of reach" if is_out_of_reach else "cannot be called, or sent an answer that cannot be read"
    return DeliveryError(
        f"{receiver} {why}: {_name(error)}",
        unreachable=is_out_of_reach,
        may_be_sent=may_be_sent and not isinstance(_cause(error), _NEVER_SENT),
    )


def _cause(error: Exception) -> Exception:
    return error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error


def _name(error: Exception) -> str:
    return type(_cause(error)).__name__


def _retry_after(headers: Mapping[str, Any]) -> float | None:
    # Slack sends seconds. Only a proxy sends a date, which counts as the longest wait.
    return wait_asked_for(header(headers, "retry-after"), now=0.0)
