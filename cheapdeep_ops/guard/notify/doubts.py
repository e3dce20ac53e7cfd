"""Reads receivers again after attempts without an answer, until what they show is right.

A request may arrive after its sender gave it up: a post then doubles a message, an edit takes a newer state back.
"""

import logging
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Final

from cheapdeep_ops.errors import DeliveryError
from cheapdeep_ops.guard.notify.sender import Doubt, MessageRef, Reconciler, Sender
from cheapdeep_ops.guard.rules.rule_text import Payload
from cheapdeep_ops.store import in_doubt
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.store.in_doubt import InDoubt

_log: Final = logging.getLogger(__name__)
_EVERY_S: Final = 30.0
"""The interval between two readings: a double is deleted within a minute after it was posted."""

_LASTS_S: Final = 300.0
"""Seconds after an attempt without an answer, after which a request is not expected to arrive any more."""


class DoubtWatch:
    """Reads what receivers show of deliveries in doubt, and corrects it: one message, with its last state."""

    def __init__(self, store: Store, *, complete: Callable[[Payload], Payload]) -> None:
        """`complete` adds to a stored payload what a message shows beside it."""
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
        if not doubts:
            return
        self._due_at[receiver] = now + _EVERY_S
        by_incident = sorted(doubts, key=lambda each: (each.incident_id or 0, each.message_id))
        for incident_id, group in groupby(by_incident, key=lambda each: each.incident_id):
            try:
                self._settle(receiver, sender, incident_id, list(group), now)
            except DeliveryError as error:
                _log.debug("%s cannot be read at present: %s", receiver, error)
                return

    def hasten(self, receiver: str) -> None:
        """Read the receiver at the next run, because there is a new doubt."""
        self._due_at.pop(receiver, None)

    def _settle(
        self, receiver: str, sender: Reconciler, incident_id: int | None, doubts: Sequence[InDoubt], now: float
    ) -> None:
        """Correct what the receiver shows of one incident, or of messages about none; and forget old doubts."""
        for each in doubts:
            ref = MessageRef(channel=each.channel, ts=each.ts)
            if incident_id is None or (each.in_thread and ref.ts):
                # The lines of a digest that was superseded are in the one that took its place.
                is_kept = incident_id is not None or each.state != "superseded"
                ids, age_s = {each.delivery_id}, now - each.created_at
                doubt = Doubt(delivery_ids=ids, ref=ref, in_thread=each.in_thread, age_s=age_s, is_kept=is_kept)
                sender.reconcile(doubt)
        if incident_id is not None:
            self._settle_message(receiver, sender, incident_id, doubts, now)
        # By the distance, because a clock that was far ahead must not keep a doubt for hours.
        old = [each for each in doubts if abs(now - each.in_doubt_at) > _LASTS_S]
        if old:
            self._store.transact(lambda connection: in_doubt.clear(connection, receiver, old))

    def _settle_message(
        self, receiver: str, sender: Reconciler, incident_id: int, doubts: Sequence[InDoubt], now: float
    ) -> None:
        """Leave one message of the incident, record its place, and give it its last state."""
        with self._store.reading() as connection:
            ids = in_doubt.delivery_ids(connection, receiver, incident_id)
            newest = in_doubt.newest(connection, receiver, incident_id)
        ref = MessageRef(channel=doubts[0].channel, ts=doubts[0].ts)
        age_s = now - min(each.created_at for each in doubts)
        found = sender.reconcile(Doubt(delivery_ids=ids, ref=ref, in_thread=False, age_s=age_s))
        if found is None:
            return
        now_at = found.ref
        # What waits is sent soon, and edits the message then.
        if newest is not None and not newest.is_waiting and found.delivery_id != newest.delivery_id:
            payload = {**self._complete(newest.payload), "delivery_id": newest.delivery_id}
            now_at = sender.send(payload, found.ref)
        if now_at != ref:

            def move(connection: Connection) -> None:
                in_doubt.move(connection, receiver, incident_id, channel=now_at.channel, ts=now_at.ts)

            self._store.transact(move)
