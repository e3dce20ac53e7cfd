"""A receiver: its name, the settings that configure it, and the sender that delivers messages to it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from hashlib import blake2b
from math import isnan, nan
from typing import Final, Protocol, runtime_checkable

from cheapdeep_ops.guard.rules.rule_text import Payload
from cheapdeep_ops.settings import Settings

_MAX_WAIT_S: Final = 300.0
"""The longest pause that a receiver can ask for: an alert that waits longer is of no use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRef:
    """Where an incident's message is; empty if there is none yet, or if the receiver cannot edit messages."""

    channel: str = ""
    ts: str = ""


class Sender(Protocol):
    """Delivers messages to one receiver."""

    def accepts(self, payload: Payload) -> bool:
        """Whether the receiver shows messages like `payload`; some do not show replies in a thread."""

    def send(self, payload: Payload, ref: MessageRef) -> MessageRef:
        """Deliver `payload`: edit the message at `ref`, reply in its thread, or post a new message.

        `payload["delivery_id"]` names the delivery, and stays the same at each attempt. Returns where the message is.
        Raises DeliveryError, which says whether another attempt makes sense, and whether the message may have arrived.
        """

    def check(self) -> str:
        """Check the receiver without a message to people, as far as possible.

        Returns one line about it. Raises SettingsError if the settings or the receiver must be repaired.
        """


@runtime_checkable
class Addressed(Protocol):
    """A sender to an address that the settings name: a new address gets the open incidents."""

    target: str
    """The address, such as a channel, without any secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A message that may have arrived at a receiver without an answer."""

    delivery_ids: Collection[str]
    """The deliveries of which the receiver keeps one message: all of an incident, or that of another message."""
    ref: MessageRef
    """Where the message should be, or the message whose thread to read; empty if that is not known."""
    in_thread: bool
    age_s: float
    """Seconds since the message was created."""
    last_channel: str = ""
    """Where the receiver's newest message of any incident is: a hint, for an address that is only a name."""
    is_kept: bool = True
    """Whether one message stays; False if another message says what it says."""
    deletes: bool = True
    """Whether doubles are deleted; False while a message is being sent, when `ref` may be out of date."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The one message that a receiver keeps of a doubt, and the delivery whose content it shows."""

    ref: MessageRef
    delivery_id: str


@runtime_checkable
class Reconciler(Sender, Protocol):
    """A sender that can read what its receiver shows."""

    def reconcile(self, doubt: Doubt) -> Found | None:
        """Find the message of `doubt`, and delete its doubles if `doubt.deletes`.

        Returns None if none stays, or if the receiver cannot be read: then a message is sent at least once. Raises
        DeliveryError if the receiver cannot be read at present.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file that a receiver is about to get: its id, and the address for its content, which is a secret."""

    file_id: str
    url: str = field(repr=False)


class Shown(Enum):
    """What became of a message with a picture."""

    SHOWN = auto()
    NOT_YET = auto()
    """The receiver does not show the file, perhaps because it is still being processed. The message is as it was."""
    GONE = auto()
    """There is no message any more that could show it."""


@runtime_checkable
class PictureSender(Sender, Protocol):
    """A sender whose messages can show a picture: `payload["picture"]` has the `file` and the `text` of one.

    Every method raises DeliveryError if the receiver refuses it or is out of reach. No picture is worth a message: a
    message is sent without it first.
    """

    def begin_upload(self, *, size: int, text: str) -> Upload:
        """Announce a PNG of `size` bytes, which `text` describes."""

    def finish_upload(self, upload: Upload, content: bytes) -> None:
        """Send the content of a file. From then on the receiver has it, and no person sees it."""

    def show(self, payload: Payload, ref: MessageRef) -> Shown:
        """Edit the message at `ref` so that it shows the picture of `payload`; never posts a message."""

    def delete_file(self, file_id: str) -> None:
        """Delete a file, or leave it if it is gone already or may not be deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """One row of the table of receivers, declared by the module of the receiver.

    `name` is stored with each delivery, so a new name is a new receiver. `needs` says which settings configure it.
    `make_sender` raises SettingsError if the settings are incomplete.
    """

    name: str
    title: str
    """Its name for people."""
    needs: str
    is_configured: Callable[[Settings], bool]
    make_sender: Callable[[Settings], Sender]


def fingerprint(secret: str) -> str:
    """A short text that differs for different secrets, and tells nothing about them."""
    return blake2b(secret.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def wait_asked_for(retry_after: str | None, now: float) -> float | None:
    """The seconds that a Retry-After header asks for, from 0 to 300; None without a readable one.

    `now` is in Unix seconds. Source: https://www.rfc-editor.org/rfc/rfc9110#name-retry-after
    """
    if retry_after is None:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        seconds = _seconds_until(retry_after, now)
    # Comparisons with NaN are always false, so the bounds would not catch it.
    return None if isnan(seconds) else min(max(seconds, 0.0), _MAX_WAIT_S)


def _seconds_until(date: str, now: float) -> float:
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return nan
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now
