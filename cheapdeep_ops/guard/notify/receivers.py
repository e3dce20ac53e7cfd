"""The table of receivers of messages.

A new receiver is a module beside this one that declares a `Receiver`, a row here, and its settings. The guard, `doctor`
and `alert test` read this table.
"""

from collections.abc import Iterable
from typing import Final

from cheapdeep_ops.guard.notify import slack, webhook
from cheapdeep_ops.guard.notify.log import LogSender
from cheapdeep_ops.guard.notify.sender import Receiver, Sender
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
