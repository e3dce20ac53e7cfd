"""Sends one message the way the guard sends, for commands that show whether it arrived."""

from collections.abc import Mapping
from typing import Any

import typer

from cheapdeep_ops.cli.common import FAILED, fail
from cheapdeep_ops.errors import DeliveryError, SettingsError
from cheapdeep_ops.settings import Settings


def delivered(settings: Settings, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Send `payload` to Slack; returns the sender and the message's place.

    Raises SettingsError where no Slack is set up, typer.Exit where Slack refuses the message.
    """
    from cheapdeep_ops.guard.notify.notifier import LogSender, MessageRef
    from cheapdeep_ops.guard.notify.slack import sender_for

    sender = sender_for(settings)
    if isinstance(sender, LogSender):
        raise SettingsError(
            "no Slack is set up: CHEAPDEEP_SLACK_BOT_TOKEN with CHEAPDEEP_SLACK_CHANNEL, or CHEAPDEEP_SLACK_WEBHOOK_URL"
        )
    try:
        place = sender.send(payload, MessageRef())
    except DeliveryError as error:
        raise typer.Exit(fail(error, FAILED)) from None
    return {"delivered": True, "by": type(sender).__name__, "channel": place.channel, "ts": place.ts}


def arrival_words(arrival: Mapping[str, Any]) -> str:
    """What `delivered` returns, in words."""
    return f"delivered {arrival['channel']} {arrival['ts']}".strip()
