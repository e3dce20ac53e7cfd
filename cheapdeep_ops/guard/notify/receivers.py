"""The table of receivers of messages, and those that a rules file names.

A new receiver is a module beside this one that declares a `Receiver`, a row here, and its settings. The guard, `doctor`
and `alert test` read this table. A rules file with `receivers` takes its place, so that several teams have one guard.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from pydantic import SecretStr

from cheapdeep_ops.addresses import is_web_address
from cheapdeep_ops.errors import SettingsError
from cheapdeep_ops.guard.notify import slack, webhook
from cheapdeep_ops.guard.notify.log import LogSender
from cheapdeep_ops.guard.notify.sender import Receiver, Sender
from cheapdeep_ops.guard.rules.recipients import Recipient
from cheapdeep_ops.settings import Settings

RECEIVERS: Final = (slack.RECEIVER, webhook.RECEIVER)
LOG: Final = "log"
"""The name of the receiver that is used if no other is configured."""


def configured(settings: Settings, receivers: Iterable[Receiver] = RECEIVERS) -> list[Receiver]:
    """Those of `receivers` that the settings configure."""
    return [each for each in receivers if each.is_configured(settings)]


def senders_for(settings: Settings, receivers: Iterable[Receiver] = RECEIVERS) -> dict[str, Sender]:
    """A sender for each receiver that the settings configure, by the receiver's name; the log if there is none.

    Raises SettingsError if the settings of a receiver are incomplete.
    """
    senders = {each.name: each.make_sender(settings) for each in configured(settings, receivers)}
    # Beside a receiver, the log would only repeat what people read elsewhere.
    return senders or {LOG: LogSender()}


def receivers_of(recipients: Sequence[Recipient], environment: Mapping[str, str] = os.environ) -> Sequence[Receiver]:
    """The table for the receivers of a rules file; without any, that of the settings.

    `environment` has the addresses and secrets that the file names.
    """
    return [_receiver(each, environment) for each in recipients] if recipients else RECEIVERS


def bot_channels(settings: Settings, recipients: Sequence[Recipient]) -> list[str]:
    """The channels in which the bot posts, each once: those that the rules file names, or that of the settings."""
    if not recipients:
        return [settings.slack_channel] if settings.slack_channel else []
    named = [
        settings.slack_channel if each.receiver == slack.RECEIVER.name else each.slack_channel for each in recipients
    ]
    return list(dict.fromkeys(each for each in named if each))


def _receiver(recipient: Recipient, environment: Mapping[str, str]) -> Receiver:
    return Receiver(
        name=recipient.name,
        title=recipient.name,
        needs=f"the receiver {recipient.name} in the rules file",
        is_configured=lambda _settings: True,
        make_sender=partial(_sender, recipient, environment),
    )


def _sender(recipient: Recipient, environment: Mapping[str, str], settings: Settings) -> Sender:
    """The sender to the address of a recipient. Raises SettingsError, which names the receiver and what it lacks."""
    who = f"receiver {recipient.name} in the rules file"
    if recipient.receiver == LOG:
        return LogSender()
    if recipient.receiver is not None:
        (receiver,) = (each for each in RECEIVERS if each.name == recipient.receiver)
        if not receiver.is_configured(settings):
            raise SettingsError(f"{who}: {receiver.title} is not set up: set {receiver.needs}")
        return receiver.make_sender(settings)
    if recipient.slack_channel is not None:
        if settings.slack_bot_token is None:
            raise SettingsError(f"{who}: slack_channel needs CHEAPDEEP_SLACK_BOT_TOKEN, the bot that posts there")
        return slack.make_sender(_changed(settings, slack_channel=recipient.slack_channel))
    if recipient.slack_webhook is not None:
        url = _url(recipient.slack_webhook, environment, who)
        return slack.make_sender(_changed(settings, slack_bot_token=None, slack_webhook_url=url))
    url = _url(recipient.webhook or "", environment, who)
    secret = SecretStr(_variable(recipient.webhook_secret or "", environment, who))
    return webhook.make_sender(_changed(settings, webhook_url=url, webhook_secret=secret))


def _changed(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update=changes)


def _url(variable: str, environment: Mapping[str, str], who: str) -> SecretStr:
    url = _variable(variable, environment, who)
    if not is_web_address(url):
        # Without the value, which may contain a secret.
        raise SettingsError(f"{who}: the variable {variable} needs a URL of the form https://host/path, without spaces")
    return SecretStr(url)


def _variable(name: str, environment: Mapping[str, str], who: str) -> str:
    value = environment.get(name, "").strip()
    if not value:
        raise SettingsError(f"{who}: the environment variable {name} is not set")
    return value
