"""Sends one message the way the guard sends, for commands that show whether it arrived."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

import typer

from cheapdeep_ops.cli.common import FAILED, fail
from cheapdeep_ops.errors import DeliveryError, SettingsError
from cheapdeep_ops.guard.notify.sender import MessageRef, Receiver, Sender
from cheapdeep_ops.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryAttempt:
    """One attempt at a receiver: by which sender, and where the message is or why it did not arrive."""

    receiver: str
    by: str
    delivered: bool
    channel: str = ""
    ts: str = ""
    error: str = ""


def deliver_to(settings: Settings, payload: Mapping[str, Any], receivers: Sequence[Receiver]) -> list[DeliveryAttempt]:
    """Send `payload` once to each of the receivers that the settings configure.

    Raises SettingsError where the settings configure none of them, or one of them in part.
    """
    senders = {each.name: each.make_sender(settings) for each in receivers if each.is_configured(settings)}
    if not senders:
        titles = " or ".join(each.title for each in receivers)
        raise SettingsError(f"no {titles} is set up: {'; or '.join(each.needs for each in receivers)}")
    return [_attempt(name, sender, payload) for name, sender in senders.items()]


def attempts_json(attempts: Sequence[DeliveryAttempt]) -> dict[str, Any]:
    """Whether all arrived, where the first one did, and each attempt as one of `receivers`."""
    first = attempts[0]
    place = {"by": first.by, "channel": first.channel, "ts": first.ts}
    return {
        "delivered": all(each.delivered for each in attempts),
        **place,
        "receivers": [asdict(each) for each in attempts],
    }


def arrival_words(attempts: Iterable[DeliveryAttempt]) -> list[str]:
    """A line for each attempt that arrived."""
    arrived = (each for each in attempts if each.delivered)
    return [f"delivered to {each.receiver} {each.channel} {each.ts}".strip() for each in arrived]


def fail_unless_delivered(attempts: Iterable[DeliveryAttempt]) -> None:
    """Write the errors to stderr. Raises typer.Exit where a receiver did not take the message."""
    failed = [each for each in attempts if not each.delivered]
    for each in failed:
        fail(DeliveryError(f"{each.receiver}: {each.error}"), FAILED)
    if failed:
        raise typer.Exit(FAILED)


def _attempt(receiver: str, sender: Sender, payload: Mapping[str, Any]) -> DeliveryAttempt:
    by = type(sender).__name__
    try:
        place = sender.send({**payload, "delivery_id": uuid4().hex}, MessageRef())
    except DeliveryError as error:
        return DeliveryAttempt(receiver=receiver, by=by, delivered=False, error=str(error))
    return DeliveryAttempt(receiver=receiver, by=by, delivered=True, channel=place.channel, ts=place.ts)
