"""Messages on Slack: one per incident, edited as it goes on where a bot token allows, else posted anew."""

from collections.abc import Mapping
from http.client import HTTPException
from typing import Any, Final

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.webhook import WebhookClient

from cheapdeep_ops.errors import SettingsError
from cheapdeep_ops.guard.messages import details, headline
from cheapdeep_ops.guard.notify import DeliveryError, LogSender, Place, Sender
from cheapdeep_ops.settings import Settings

_TIMEOUT_S: Final = 10
_ICONS: Final = {"started": ":rotating_light:", "changed": ":rotating_light:", "resolved": ":white_check_mark:"}
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
    """Posts with a bot token, and edits the incident's message from then on.

    Source: https://docs.slack.dev/reference/methods/chat.postMessage and chat.update
    """

    def __init__(self, *, token: str, channel: str, base_url: str) -> None:
        self._channel = channel
        # Retries are the outbox's affair: it knows how long an alert may wait, and keeps it over a restart.
        self._client = WebClient(token=token, base_url=base_url, timeout=_TIMEOUT_S, retry_handlers=[])

    def send(self, payload: Mapping[str, Any], place: Place) -> Place:
        """Post `payload`, or edit the message at `place`. Raises DeliveryError."""
        text, blocks = rendered(payload)
        try:
            if place.ts:
                self._client.chat_update(channel=place.channel, ts=place.ts, text=text, blocks=blocks)
                return place
            answer = self._client.chat_postMessage(channel=self._channel, text=text, blocks=blocks)
        except SlackApiError as error:
            raise _delivery_error(error) from None
        except (SlackClientError, OSError, HTTPException) as error:
            raise DeliveryError(f"Slack is out of reach: {error}") from None
        return Place(channel=str(answer["channel"]), ts=str(answer["ts"]))

    def check(self) -> str:
        """Ask Slack who the token belongs to. Raises SettingsError where Slack refuses it or is out of reach."""
        try:
            answer = self._client.auth_test()
        except (SlackClientError, OSError, HTTPException) as error:
            code = error.response.get("error") if isinstance(error, SlackApiError) else error
            raise SettingsError(f"Slack does not take CHEAPDEEP_SLACK_BOT_TOKEN: {code}") from None
        return f"bot {answer['user']} in {answer['team']}, channel {self._channel}"


class WebhookSender:
    """Posts through an incoming webhook, which can neither edit nor thread.

    Source: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
    """

    def __init__(self, *, url: str) -> None:
        self._client = WebhookClient(url, timeout=_TIMEOUT_S, retry_handlers=[])

    def send(self, payload: Mapping[str, Any], place: Place) -> Place:
        """Post `payload`. Raises DeliveryError."""
        text, blocks = rendered(payload)
        try:
            answer = self._client.send(text=text, blocks=blocks)
        except (SlackClientError, OSError, HTTPException) as error:
            raise DeliveryError(f"the Slack webhook is out of reach: {type(error).__name__}") from None
        if answer.status_code != 200:  # noqa: PLR2004 - HTTP's OK
            wait = _retry_after(answer.headers)
            raise DeliveryError(f"the Slack webhook answered {answer.status_code}: {answer.body}", retry_after_s=wait)
        return place


def rendered(payload: Mapping[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """The text for notifications, and the Block Kit blocks; labels of the caller's are escaped."""
    title = escaped(headline(payload))
    lines = [escaped(line) for line in details(payload)]
    head = f"{_ICONS.get(payload['kind'], ':bell:')} *{title}*"
    blocks = [_section(head)]
    if lines:
        blocks.append(_section("\n".join(lines)))
    return title, blocks


def escaped(text: str) -> str:
    """`text` without anything that Slack would read as a mention, link or entity.

    Source: https://docs.slack.dev/messaging/formatting-message-text#escaping
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text[:_TEXT_LIMIT]}}


def _delivery_error(error: SlackApiError) -> DeliveryError:
    response = error.response
    code = response.get("error") if response.data and isinstance(response.data, dict) else response.status_code
    return DeliveryError(f"Slack answered {code}", retry_after_s=_retry_after(response.headers))


def _retry_after(headers: Mapping[str, Any]) -> float | None:
    found = next((value for name, value in headers.items() if name.lower() == "retry-after"), None)
    value = found[0] if isinstance(found, list) else found
    try:
        return None if value is None else min(max(float(value), 0.0), _LONGEST_WAIT_S)
    except ValueError:
        return None
