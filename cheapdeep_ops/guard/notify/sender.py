"""What a receiver is: a name, the settings that configure it, and the sender that takes messages to it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from math import isnan, nan
from typing import Any, Final, Protocol

from cheapdeep_ops.settings import Settings

_MAX_WAIT_S: Final = 300.0
"""However long a receiver asks for: an alert that waits longer is of no use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRef:
    """Where an incident's message is; empty where there is none yet, or where it cannot be edited."""

    channel: str = ""
    ts: str = ""


class Sender(Protocol):
    """Takes messages to one receiver."""

    def takes(self, payload: Mapping[str, Any]) -> bool:
        """Whether the receiver shows a message like `payload` at all, such as a reply in a thread."""

    def send(self, payload: Mapping[str, Any], ref: MessageRef) -> MessageRef:
        """Deliver `payload`, by an edit of the message at `ref` where there is one, or into its thread.

        `payload["delivery_id"]` names the delivery, and is the same at each attempt. Returns where the message is now.
        Raises DeliveryError, which says whether another attempt makes sense.
        """

    def check(self) -> str:
        """Ask the receiver, as far as that can be done without a message, whether it would take one.

        Returns what there is to say about it. Raises SettingsError where something must be mended.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """One row of the table of receivers, declared by the module of the receiver.

    `name` is stored with each delivery, so a new name is a new receiver. `needs` says which settings configure it.
    `make_sender` raises SettingsError where the settings are incomplete.
    """

    name: str
    title: str
    """Its name for people."""
    needs: str
    is_configured: Callable[[Settings], bool]
    make_sender: Callable[[Settings], Sender]


def wait_asked_for(retry_after: str | None, now: float) -> float | None:
    """The seconds that a Retry-After header asks for, from 0 to 300; None where it asks for none.

    `now` is in Unix seconds. Source: https://www.rfc-editor.org/rfc/rfc9110#name-retry-after
    """
    if retry_after is None:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        seconds = _seconds_until(retry_after, now)
    return None if isnan(seconds) else min(max(seconds, 0.0), _MAX_WAIT_S)


def _seconds_until(date: str, now: float) -> float:
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return nan
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now
