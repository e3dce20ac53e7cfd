"""Reads receivers again after attempts without an answer, until what they show is right.

A request may arrive after its sender gave it up: a post then doubles a message, an edit takes a newer state back.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Final

from cheapdeep_ops.errors import DeliveryError, LeaseLostError, StoreError
from cheapdeep_ops.guard.notify.sender import Doubt, MessageRef, Reconciler, Sender
from cheapdeep_ops.guard.rules.rule_text import Payload
from cheapdeep_ops.store import in_doubt
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.in_doubt import InDoubt

_log: Final = logging.getLogger(__name__)
_EVERY_S: Final = 30.0
"""The interval between two readings: a double is deleted within a minute after it was posted."""

_LASTS_S: Final = 300.0
"""Seconds after an attempt without an answer, after which a request is not expected to arrive any more."""


class DoubtWatch:
    """Reads what receivers show of deliveries in doubt, and corrects it: one message, with its last state."""

    def __init__(self, store: Store, *, complete: Callable[[str, Payload], Payload]) -> None:
        """`complete` adds to a stored payload what a message at that receiver shows beside it."""
        self._store = store
        self._complete = complete
        self._due_at: dict[str, float] = {}

    def run(self, receiver: str, sender: Sender, now: float) -> None:
        """Read the receiver if that is due at `now`; a failure of the receiver is tried again later."""
        due_in_s = self._due_at.get(receiver, now) - now
        # A longer wait is impossible, so the clock was set back.
        if not isinstance(sender, Reconciler) or 0 < due_in_s <= _EVERY_S:
            return
        with self._store.reading() as connection:
            doubts = in_doubt.over(connection, receiver)
            last_channel = in_doubt.last_channel(connection, receiver) if doubts else ""
        if not doubts:
            return
        self._due_at[receiver] = now + _EVERY_S
        reading = _Reading(self._store, self._complete, receiver, sender, last_channel, now)
        by_incident = sorted(doubts, key=lambda each: (each.incident_id or 0, each.message_id))
        for incident_id, group in groupby(by_incident, key=lambda each: each.incident_id):
            try:
                reading.settle(incident_id, list(group))
            except DeliveryError as error:
                _log.debug("%s cannot be read at present: %s", receiver, error)
                return
            except (LeaseLostError, StoreError):
                raise
            except Exception as error:  # noqa: BLE001 - a message that a sender stumbles over must not hide the others
                # Its words may hold secrets.
                _log.warning("%s shows a message that cannot be corrected: %s", receiver, type(error).__name__)

    def hasten(self, receiver: str) -> None:
        """Read the receiver at the next run, because there is a new doubt."""
        self._due_at.pop(receiver, None)


@dataclass(frozen=True, slots=True)
class _Reading:
    """One reading of a receiver at `now`."""

    store: Store
    complete: Callable[[str, Payload], Payload]
    receiver: str
    sender: Reconciler
    last_channel: str
    now: float

    def settle(self, incident_id: int | None, doubts: Sequence[InDoubt]) -> None:
        """Correct what the receiver shows of one incident, or of messages about none; and forget old doubts."""
        for each in doubts:
            if incident_id is None or (each.in_thread and each.ts):
                self._settle_alone(each)
        if incident_id is not None:
            self._settle_message(incident_id, doubts)
        # By the distance, because a clock that was far ahead must not keep a doubt for hours.
        old = [each for each in doubts if abs(self.now - each.in_doubt_at) > _LASTS_S]
        if old:
            self.store.transact(lambda connection: in_doubt.clear(connection, self.receiver, old))

    def _settle_alone(self, message: InDoubt) -> None:
        """Leave one reply, or one message about no incident."""
        self.sender.reconcile(
            Doubt(
                delivery_ids={message.delivery_id},
                ref=MessageRef(channel=message.channel, ts=message.ts),
                in_thread=message.in_thread,
                age_s=self.now - message.created_at,
                last_channel=self.last_channel,
                # The lines of a digest that was superseded are in the one that took its place.
                is_kept=message.in_thread or message.state != "superseded",
            )
        )

    def _settle_message(self, incident_id: int, doubts: Sequence[InDoubt]) -> None:
        """Leave one message of the incident, record its place, and give it its last state."""
        with self.store.reading() as connection:
            ids = in_doubt.delivery_ids(connection, self.receiver, incident_id)
            newest = in_doubt.newest(connection, self.receiver, incident_id)
        ref = MessageRef(channel=doubts[0].channel, ts=doubts[0].ts)
        age_s = self.now - min(each.created_at for each in doubts)
        found = self.sender.reconcile(
            Doubt(delivery_ids=ids, ref=ref, in_thread=False, age_s=age_s, last_channel=self.last_channel)
        )
        if found is None:
            return
        place = found.ref
        # What waits is sent soon, and edits the message then.
        if newest is not None and not newest.is_waiting and found.delivery_id != newest.delivery_id:
            payload = {**self.complete(self.receiver, newest.payload), "delivery_id": newest.delivery_id}
            place = self.sender.send(payload, place)
            _log.info("incident %s at %s showed an old state and is edited again", incident_id, self.receiver)
        if place != ref:
            _log.info("incident %s at %s goes on with another message, ts %s", incident_id, self.receiver, place.ts)
            moved = partial(in_doubt.move, channel=place.channel, ts=place.ts)
            self.store.transact(lambda connection: moved(connection, self.receiver, incident_id))
