"""Sends one message with the guard's senders, for commands that show whether it arrived."""

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
    """One attempt to deliver: the receiver, the sender, and the place of the message or the error."""

    receiver: str
    by: str
    delivered: bool
    channel: str = ""
    ts: str = ""
    error: str = ""


def deliver_to(settings: Settings, payload: Mapping[str, Any], receivers: Sequence[Receiver]) -> list[DeliveryAttempt]:
    """Send `payload` once to each receiver that the settings configure.

    Raises SettingsError if the settings configure no receiver, or one of them only in part.
    """
    senders = {each.name: each.make_sender(settings) for each in receivers if each.is_configured(settings)}
    if not senders:
        titles = " or ".join(each.title for each in receivers)
        raise SettingsError(f"no {titles} is set up: {'; or '.join(each.needs for each in receivers)}")
    return [_attempt(name, sender, payload) for name, sender in senders.items()]


def attempts_json(attempts: Sequence[DeliveryAttempt]) -> dict[str, Any]:
    """All attempts as JSON: whether all were delivered, the place of the first, and a list."""
    # The first receiver has keys of its own, for programs that expect only one.
    first = attempts[0]
    place = {"by": first.by, "channel": first.channel, "ts": first.ts}
    return {
        "delivered": all(each.delivered for each in attempts),
        **place,
        "receivers": [asdict(each) for each in attempts],
    }


def arrival_words(attempts: Iterable[DeliveryAttempt]) -> list[str]:
    """A line for each delivered message."""
    arrived = (each for each in attempts if each.delivered)
    return [f"delivered to {each.receiver} {each.channel} {each.ts}".strip() for each in arrived]


def fail_unless_delivered(attempts: Iterable[DeliveryAttempt]) -> None:
    """Print each error on standard error. Raises typer.Exit if a receiver did not get the message."""
    failed = [each for each in attempts if not each.delivered]
    for each in failed:
        fail(DeliveryError(f"{each.receiver}: {each.error}"), FAILED)
    if failed:
        raise typer.Exit(FAILED)


def _attempt(receiver: str, sender: Sender, payload: Mapping[str, Any]) -> DeliveryAttempt:
    by = type(sender).__name__
    try:
        # A new delivery id, because a receiver ignores one that it has seen before.
        place = sender.send({**payload, "delivery_id": uuid4().hex}, MessageRef())
    except DeliveryError as error:
        return DeliveryAttempt(receiver=receiver, by=by, delivered=False, error=str(error))
    return DeliveryAttempt(receiver=receiver, by=by, delivered=True, channel=place.channel, ts=place.ts)
