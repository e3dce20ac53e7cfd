"""Delivers the outbox to every receiver: at least once, in order within an incident, with waits between attempts."""

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, Final
from uuid import uuid4

from cheapdeep_ops.errors import DeliveryError
from cheapdeep_ops.guard.notify.messages import headline
from cheapdeep_ops.guard.notify.sender import MessageRef, Sender
from cheapdeep_ops.store import candidates, deliveries
from cheapdeep_ops.store.deliveries import PendingDelivery
from cheapdeep_ops.store.engine import Connection, Store

_log: Final = logging.getLogger(__name__)
_BATCH: Final = 50
_PATIENCE_S: Final = 5.0
_FIRST_WAIT_S: Final = 2.0
_LONGEST_WAIT_S: Final = 300.0


class Notifier:
    """Takes messages from the outbox to the senders of all receivers, and records each delivery.

    Receivers do not depend on each other: each has its own attempts, waits and order.
    """

    def __init__(
        self,
        store: Store,
        senders: Mapping[str, Sender],
        *,
        shows_examples: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
        new_id: Callable[[], str] = lambda: uuid4().hex,
    ) -> None:
        self._store = store
        self._senders = senders
        self._shows_examples = shows_examples
        self._monotonic = monotonic
        self._new_id = new_id
        self._resting: dict[str, float] = {}
        """When each receiver that asked for a pause accepts messages again (Unix time)."""

    def deliver(self, now: float, *, patience_s: float = _PATIENCE_S) -> int:
        """Send all that is due at `now`; returns how many deliveries are done.

        A delivery is recorded after the receiver has accepted the message, so a crash in between sends it once more.
        No attempt begins after `patience_s` seconds, but one attempt may last longer. A receiver that is out of reach,
        or asks for a pause, gets no further message in this run; the rest stays due.
        """
        self._route(now)
        due = {name: delivery for name in self._senders if (delivery := self._next_due(name, now)) is not None}
        until = self._monotonic() + patience_s
        if len(due) < 2:  # noqa: PLR2004 - one receiver needs no thread
            return sum(self._drain(delivery, now, until) for delivery in due.values())
        # In threads, because a receiver that hangs would delay all others by its timeout.
        with ThreadPoolExecutor(len(due), thread_name_prefix="notify") as pool:
            return sum(pool.map(lambda delivery: self._drain(delivery, now, until), due.values()))

    def _route(self, now: float) -> None:
        """Create the deliveries of new messages, and move those to removed receivers to the configured ones."""
        with self._store.reading() as connection:
            messages = deliveries.unrouted(connection, self._senders.keys())
        if not messages.message_ids:
            return
        ids = {(message, receiver): self._new_id() for message in messages.message_ids for receiver in self._senders}

        def work(connection: Connection) -> None:
            deliveries.route(connection, messages, delivery_ids=ids, at=now)

        self._store.transact(work)

    def _drain(self, delivery: PendingDelivery | None, now: float, until: float) -> int:
        """Send `delivery` and those that follow it to its receiver; returns how many are done."""
        done = 0
        for _ in range(_BATCH):
            if delivery is None or self._monotonic() >= until:
                break
            error = self._deliver(delivery, now)
            # A refusal may be about this message only, so the next one is tried.
            if error is not None and error.is_about_all:
                break
            done += error is None
            delivery = self._next_due(delivery.receiver, now)
        return done

    def _next_due(self, receiver: str, now: float) -> PendingDelivery | None:
        # A longer pause is impossible, so the clock was set back: the pause is ignored.
        if 0 < self._resting.get(receiver, now) - now <= _LONGEST_WAIT_S:
            return None
        with self._store.reading() as connection:
            return deliveries.next_due(connection, receiver, now=now)

    def _deliver(self, delivery: PendingDelivery, now: float) -> DeliveryError | None:
        try:
            ref = self._send(delivery, self._with_examples(delivery.payload))
        except DeliveryError as error:
            self._record(delivery, error, now)
            return error
        if ref is None:
            self._store.transact(lambda connection: deliveries.skipped(connection, delivery, at=now))
            return None
        _log.info("delivered to %s: %s", delivery.receiver, headline(delivery.payload))
        self._store.transact(
            lambda connection: deliveries.delivered(connection, delivery, at=now, channel=ref.channel, ts=ref.ts)
        )
        return None

    def _with_examples(self, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """`payload` with the text of its examples, if that is still stored and the settings allow people to read it.

        Outbox and incident have only the ids of the calls, so no copy stays after a purge.
        """
        named = payload.get("examples")
        if not named:
            return payload
        if not self._shows_examples:
            return {**payload, "examples": []}
        with self._store.reading() as connection:
            stored = candidates.examples(connection, [each["call_id"] for each in named])
        return {**payload, "examples": [asdict(each) for each in stored]}

    def _send(self, delivery: PendingDelivery, payload: Mapping[str, Any]) -> MessageRef | None:
        """Where the message is now; None if the receiver shows no such message."""
        sender, ref = self._senders[delivery.receiver], MessageRef(channel=delivery.channel, ts=delivery.ts)
        try:
            if not sender.accepts(payload):
                return None
            return sender.send({**payload, "delivery_id": delivery.delivery_id}, ref)
        except DeliveryError:
            raise
        except Exception as error:  # noqa: BLE001 - a fault of one sender must not hold up all other messages
            raise DeliveryError(f"the sender failed: {type(error).__name__}") from None  # its words may hold secrets

    def _record(self, delivery: PendingDelivery, error: DeliveryError, now: float) -> None:
        """Record a failed attempt, and when the next one is due; a final failure is not retried."""
        what = f"message {delivery.message_id} to {delivery.receiver}"
        if error.is_final:
            _log.error("%s has failed and is not retried: %s", what, error)
            self._store.transact(lambda connection: deliveries.failed(connection, delivery, at=now, error=str(error)))
            return
        _log.warning("%s did not arrive (attempt %s): %s", what, delivery.attempts + 1, error)
        if error.retry_after_s is not None:
            self._resting[delivery.receiver] = now + error.retry_after_s
        wait_s = error.retry_after_s if error.retry_after_s is not None else _backoff_s(delivery.attempts)
        self._store.transact(
            lambda connection: deliveries.postponed(connection, delivery, at=now, until=now + wait_s, error=str(error))
        )


def _backoff_s(attempts: int) -> float:
    """Seconds to wait after so many failed attempts: each wait is twice the last one, up to five minutes."""
    # After 16 doublings the longest wait is reached; ever larger powers would overflow.
    return min(_FIRST_WAIT_S * 2.0 ** min(attempts, 16), _LONGEST_WAIT_S)
