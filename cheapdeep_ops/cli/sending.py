"""Sending one message at once, the way the guard sends: what commands do that need an answer."""

from collections.abc import Mapping
from typing import Any

import typer

from cheapdeep_ops.cli.common import FAILED, fail
from cheapdeep_ops.errors import DeliveryError, SettingsError
from cheapdeep_ops.settings import Settings


def delivered(settings: Settings, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Send `payload` to Slack; returns by what, and where it is.

    Raises SettingsError where no Slack is set up, typer.Exit where Slack does not take it.
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


def arrival_words(found: Mapping[str, Any]) -> str:
    """The same in words."""
    return f"delivered {found['channel']} {found['ts']}".strip()
