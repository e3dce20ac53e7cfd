"""Delivering the outbox: at least once, in order within an incident, with patience where the receiver is down."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

from cheapdeep_ops.errors import DeliveryError
from cheapdeep_ops.guard.notify.messages import details, headline, is_history, links
from cheapdeep_ops.store import candidates, incidents
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.incidents import OutboxMessage

_log: Final = logging.getLogger(__name__)
_BATCH: Final = 50
_PATIENCE_S: Final = 5.0
_FIRST_WAIT_S: Final = 2.0
_LONGEST_WAIT_S: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRef:
    """Where an incident's message is; empty where there is none yet, or where it cannot be edited."""

    channel: str = ""
    ts: str = ""


class Sender(Protocol):
    """Something that can take a message to people."""

    def send(self, payload: Mapping[str, Any], place: MessageRef) -> MessageRef:
        """Deliver `payload`, editing the message at `place` where there is one, or into its thread.

        Raises DeliveryError.
        """


class LogSender:
    """Writes messages to the log: what is left where no Slack is set up."""

    def send(self, payload: Mapping[str, Any], place: MessageRef) -> MessageRef:
        """Log `payload`."""
        if is_history(payload):
            return place
        lines = [*details(payload), *(f"{name}: {address}" for name, address in links(payload))]
        _log.warning("%s | %s", headline(payload), " | ".join(lines))
        return place


class Notifier:
    """Takes messages from the outbox to a sender, and notes what became of each."""

    def __init__(
        self,
        store: Store,
        sender: Sender,
        *,
        shows_examples: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._sender = sender
        self._shows_examples = shows_examples
        self._monotonic = monotonic

    def deliver(self, now: float, *, patience_s: float = _PATIENCE_S) -> int:
        """Send what is due at `now`; returns how many messages arrived.

        A message is noted as delivered after the receiver has taken it, so a crash in between sends it again: at least
        once, never lost. No send begins after `patience_s`, nor after the receiver has shown itself out of reach or
        has asked for time; what is left stays due.
        """
        arrived, until = 0, self._monotonic() + patience_s
        for _ in range(_BATCH):
            message = self._next_due(now) if self._monotonic() < until else None
            if message is None:
                break
            error = self._deliver(message, now)
            if error is not None and error.is_about_all:
                break
            arrived += error is None
        return arrived

    def _next_due(self, now: float) -> OutboxMessage | None:
        with self._store.reading() as connection:
            return incidents.next_due(connection, now=now)

    def _deliver(self, message: OutboxMessage, now: float) -> DeliveryError | None:
        try:
            place = self._send(message, self._quoting(message.payload))
        except DeliveryError as error:
            self._postpone(message, error, now)
            return error
        _log.info("delivered: %s", headline(message.payload))
        self._store.transact(
            lambda connection: incidents.delivered(connection, message, at=now, channel=place.channel, ts=place.ts)
        )
        return None

    def _quoting(self, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """`payload` with the words of its examples, as far as they are still stored and people may read them.

        The outbox and the incident only say which calls they are, so no copy outlives what is forgotten.
        """
        named = payload.get("examples")
        if not named:
            return payload
        if not self._shows_examples:
            return {**payload, "examples": []}
        with self._store.reading() as connection:
            found = candidates.examples(connection, [each["call_id"] for each in named])
        return {**payload, "examples": [asdict(each) for each in found]}

    def _send(self, message: OutboxMessage, payload: Mapping[str, Any]) -> MessageRef:
        try:
            return self._sender.send(payload, MessageRef(channel=message.channel, ts=message.ts))
        except DeliveryError:
            raise
        except Exception as error:  # noqa: BLE001 - what a sender stumbles over must not hold up all other messages
            raise DeliveryError(f"the sender failed: {type(error).__name__}") from None  # its words may hold secrets

    def _postpone(self, message: OutboxMessage, error: DeliveryError, now: float) -> None:
        wait_s = error.retry_after_s if error.retry_after_s is not None else _backoff_s(message.attempts)
        _log.warning("message %s did not arrive (attempt %s): %s", message.id, message.attempts + 1, error)
        self._store.transact(
            lambda connection: incidents.postponed(connection, message, until=now + wait_s, error=str(error))
        )


def _backoff_s(attempts: int) -> float:
    """Seconds to wait after the given number of failed attempts: doubling, five minutes at most."""
    return min(_FIRST_WAIT_S * 2.0 ** min(attempts, 16), _LONGEST_WAIT_S)
