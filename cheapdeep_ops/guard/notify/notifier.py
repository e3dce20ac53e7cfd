"""Delivers the outbox to every receiver: at least once, in order within an incident, with waits between attempts.

Each attempt is recorded before anything is sent. A receiver that can be read is read after an attempt without a result:
a message that is already there is taken over.

A receiver that is out of reach, refuses every message or asks for a pause rests as a whole. After each rest, one
message shows whether it accepts messages again.
"""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Final
from uuid import uuid4

from cheapdeep_ops.errors import DeliveryError
from cheapdeep_ops.guard.notify.backlog import BACKLOG_S, catch_up, store_catch_up, tell_of_open
from cheapdeep_ops.guard.notify.doubts import DoubtWatch
from cheapdeep_ops.guard.notify.messages import headline, is_reply
from cheapdeep_ops.guard.notify.picture_edits import PictureEdits
from cheapdeep_ops.guard.notify.sender import Addressed, Doubt, MessageRef, PictureSender, Reconciler, Sender
from cheapdeep_ops.guard.notify.succession import FormerPlaces, hand_over
from cheapdeep_ops.guard.rules.recipients import Recipient, part_for, told
from cheapdeep_ops.guard.rules.rule_text import Payload
from cheapdeep_ops.store import backlogs, candidates, deliveries, in_doubt, pictures, receivers
from cheapdeep_ops.store.deliveries import PendingDelivery
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.store.receivers import KnownReceiver

_log: Final = logging.getLogger(__name__)
_BATCH: Final = 50
_GOES_ON: Final = frozenset({"changed", "acknowledged"})
"""The kinds of messages about an incident that goes on."""

_PATIENCE_S: Final = 5.0
_FIRST_WAIT_S: Final = 2.0
_LONGEST_WAIT_S: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """The pause of a receiver or of one message after `failures` in a row, in Unix seconds.

    A pause that a receiver asked for is no failure.
    """

    since: float
    until: float
    failures: int


class _OvertakenError(Exception):
    """Another guard has begun to send a delivery, or a person has dropped it."""


class Notifier:
    """Takes messages from the outbox to the senders of all receivers, and records each delivery.

    Receivers do not depend on each other: each has its own attempts, waits and order. `recipients` say which messages
    each one gets; without them, each gets all.
    """

    def __init__(
        self,
        store: Store,
        senders: Mapping[str, Sender],
        *,
        shows_examples: bool = False,
        recipients: Sequence[Recipient] = (),
        monotonic: Callable[[], float] = time.monotonic,
        new_id: Callable[[], str] = lambda: uuid4().hex,
    ) -> None:
        self._store = store
        self._senders = senders
        self._targets = {name: each.target if isinstance(each, Addressed) else "" for name, each in senders.items()}
        """The address of each receiver: a receiver with a new one gets the open incidents."""
        self._shows_examples = shows_examples
        self._recipients = tuple(each for each in recipients if each.name in senders)
        self._monotonic = monotonic
        self._new_id = new_id
        self._doubts = DoubtWatch(store, complete=self._complete)
        self._pictures = PictureEdits(store, complete=self._complete)
        self._former = FormerPlaces(store, senders)
        self._rests: dict[tuple[str, int | None], Rest] = {}
        """The pauses of receivers as a whole (None), and of single messages that a receiver refused, by their ids.

        Those that a receiver asked for are stored too, so that a restart keeps them.
        """

    def deliver(self, now: float, *, patience_s: float = _PATIENCE_S) -> int:
        """Send all that is due at `now`; returns how many deliveries are done.

        A delivery is recorded after the receiver has accepted the message. After a crash in between, a receiver that
        can be read keeps that message, and any other gets it once more.

        No attempt begins after `patience_s` seconds, but one attempt may last longer. A receiver that is out of reach,
        or asks for a pause, gets no further message in this run; the rest stays due.
        """
        # What failed long ago says nothing: this guard may have had no lease meanwhile, or the message is gone.
        self._rests = {key: rest for key, rest in self._rests.items() if now - rest.until <= _LONGEST_WAIT_S}
        known = self._route(now)
        active = [name for name in self._senders if not self._is_resting(name, known.get(name), now)]
        for name in active:
            self._catch_up(name, now)
        due = {name: delivery for name in active if (delivery := self._next_due(name, now)) is not None}
        until = self._monotonic() + patience_s
        done = self._drain_all(due, now, until)
        for name in active:
            if not self._is_resting(name, known.get(name), now):
                self._doubts.run(name, self._senders[name], now)
                # Last, because messages matter more.
                self._pictures.run(name, self._senders[name], now)
        self._former.run(now)
        return done

    def _drain_all(self, due: Mapping[str, PendingDelivery], now: float, until: float) -> int:
        if len(due) < 2:  # noqa: PLR2004 - one receiver needs no thread
            return sum(self._drain(delivery, now, until) for delivery in due.values())
        # In threads, because a receiver that hangs would delay all others by its timeout.
        with ThreadPoolExecutor(len(due), thread_name_prefix="notify") as pool:
            return sum(pool.map(lambda delivery: self._drain(delivery, now, until), due.values()))

    def _route(self, now: float) -> Mapping[str, KnownReceiver]:
        """Create the deliveries of new messages, and move those to removed receivers to the configured ones.

        A receiver that is new, or has a new address, gets the open incidents. Returns the receivers of the last run.
        """
        with self._store.reading() as connection:
            known = receivers.known(connection)
        added = {name: target for name, target in self._targets.items() if not _is_at(known.get(name), target)}
        removed = known.keys() - self._senders.keys()
        former = [(name, known[name].target) for name in (*removed, *added) if name in known]
        going_on: Collection[tuple[str, int]] = ()
        if former or added:
            # First, because then it is known who was told of the incidents of the messages below.
            going_on = self._store.transact(
                lambda connection: hand_over(connection, former, self._targets, wants=self._wants)
            )
        with self._store.reading() as connection:
            messages = deliveries.unrouted(connection, self._senders.keys())
        if not messages.message_ids and not added and not removed:
            return known
        of = self._told(messages.message_ids)
        ids = {(message, receiver): self._new_id() for message in messages.message_ids for receiver in of(message)}

        def work(connection: Connection) -> None:
            deliveries.route(connection, messages, delivery_ids=ids, receivers=self._senders.keys(), at=now)
            receivers.replace(connection, added=added, removed=removed, at=now)
            for name in added:
                has = {incident_id for heir, incident_id in going_on if heir == name}
                tell_of_open(connection, name, wants=partial(self._wants, name), has=has, new_id=self._new_id, now=now)

        self._store.transact(work)
        return {name: receiver for name, receiver in known.items() if name not in added}

    def _told(self, message_ids: Sequence[int]) -> Callable[[int], Collection[str]]:
        """Who gets each of these messages."""
        if not self._recipients:
            return lambda _message: self._senders.keys()
        with self._store.reading() as connection:
            payloads = deliveries.contents(connection, message_ids)
            before = deliveries.told_of(connection, message_ids)
        # A receiver of an incident's begin gets its end too, also if the rules file has changed meanwhile.
        return lambda message: (
            {*told(self._recipients, payloads.get(message, {})), *before.get(message, ())} & self._senders.keys()
        )

    def _wants(self, receiver: str, payload: Payload) -> bool:
        """Whether a receiver gets the messages of an incident."""
        return not self._recipients or receiver in told(self._recipients, payload)

    def _catch_up(self, receiver: str, now: float) -> None:
        """Replace messages that have waited too long by how things stand now."""
        with self._store.reading() as connection:
            if not backlogs.has_waited(connection, receiver, before=now - BACKLOG_S):
                return
            plan = catch_up(backlogs.waiting(connection, receiver), now=now)
        if not plan.is_empty:
            late = "messages to %s are late: %s are left out, and %s incidents that are over are lines of a digest"
            _log.info(late, receiver, len(plan.superseded), len(plan.over))
            delivery_id = self._new_id()
            self._store.transact(
                lambda connection: store_catch_up(connection, receiver, plan, delivery_id=delivery_id, now=now)
            )

    def _is_resting(self, receiver: str, known: KnownReceiver | None, now: float) -> bool:
        rest = self._rests.get((receiver, None))
        if rest is not None and known is not None and (known.retried_at or 0.0) > rest.since:
            del self._rests[receiver, None]
            rest = None
        ends = (rest.until if rest else now, known.resting_until or now if known else now)
        # A longer pause is impossible, so the clock was set back: the pause is ignored.
        return any(0 < end - now <= _LONGEST_WAIT_S for end in ends)

    def _drain(self, delivery: PendingDelivery | None, now: float, until: float) -> int:
        """Send `delivery` and those that follow it to its receiver; returns how many are done."""
        done = 0
        for _ in range(_BATCH):
            if delivery is None or self._monotonic() >= until:
                break
            try:
                error = self._deliver(delivery, now)
            except _OvertakenError:
                _log.info("message %s to %s is another guard's now", delivery.message_id, delivery.receiver)
                break
            # A refusal may be about this message only, so the next one is tried.
            if error is not None and error.is_about_all:
                break
            done += error is None
            delivery = self._next_due(delivery.receiver, now)
        return done

    def _next_due(self, receiver: str, now: float) -> PendingDelivery | None:
        with self._store.reading() as connection:
            return deliveries.next_due(connection, receiver, now=now)

    def _deliver(self, delivery: PendingDelivery, now: float) -> DeliveryError | None:
        if not isinstance(self._senders[delivery.receiver], Reconciler):
            # Nothing but another attempt can end the doubt.
            delivery = replace(delivery, in_doubt_at=None, is_in_doubt=False)
        attempt = self._store.transact(lambda connection: deliveries.begin(connection, delivery, at=now))
        if attempt is None:
            raise _OvertakenError
        try:
            payload = _as_told_now(self._not_outdated(attempt), now)
            ref = self._send(attempt, self._complete(attempt.receiver, payload), now)
        except DeliveryError as error:
            self._record(attempt, error, now)
            return error
        for message_id in (None, attempt.message_id):
            self._rests.pop((attempt.receiver, message_id), None)
        if ref is None:
            self._store.transact(lambda connection: deliveries.skipped(connection, attempt, at=now))
            return None
        _log.info("delivered to %s: %s", attempt.receiver, headline(attempt.payload))
        self._store.transact(
            lambda connection: deliveries.delivered(connection, attempt, at=now, channel=ref.channel, ts=ref.ts)
        )
        if attempt.is_in_doubt:
            self._doubts.hasten(attempt.receiver)
        return None

    def _not_outdated(self, delivery: PendingDelivery) -> PendingDelivery:
        """The delivery with the newest content, if a person sends an old message of an incident again.

        Otherwise an incident that has ended would be shown as firing again.
        """
        if not delivery.is_told or is_reply(delivery.payload):
            return delivery
        with self._store.reading() as connection:
            newer = deliveries.newer_told(connection, delivery)
        return delivery if newer is None else replace(delivery, payload=newer)

    def _complete(self, receiver: str, payload: Payload) -> Payload:
        """The part of `payload` for `receiver`, with what its message shows beside it: examples and the picture."""
        payload = self._with_examples(part_for(self._recipients, payload, receiver))
        number = payload.get("incident_id")
        if number is None or is_reply(payload) or not isinstance(self._senders[receiver], PictureSender):
            return payload
        with self._store.reading() as connection:
            shown = pictures.file_of(connection, receiver, number)
        return payload if shown is None else {**payload, "picture": {"file": shown[0], "text": shown[1]}}

    def _with_examples(self, payload: Payload) -> Payload:
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

    def _send(self, attempt: PendingDelivery, payload: Payload, now: float) -> MessageRef | None:
        """Where the message is now; None if the receiver shows no such message."""
        sender = self._senders[attempt.receiver]
        try:
            if not sender.accepts(payload):
                return None
            ref, is_there = self._place(sender, attempt, now)
            return ref if is_there else sender.send({**payload, "delivery_id": attempt.delivery_id}, ref)
        except DeliveryError:
            raise
        except Exception as error:  # noqa: BLE001 - a fault of one sender must not hold up all other messages
            why = f"the sender failed: {type(error).__name__}"  # its words may hold secrets
            raise DeliveryError(why, may_be_sent=True) from None

    def _place(self, sender: Sender, attempt: PendingDelivery, now: float) -> tuple[MessageRef, bool]:
        """Where the incident's message is, and whether this delivery has already arrived there."""
        ref = MessageRef(channel=attempt.channel, ts=attempt.ts)
        if not attempt.is_in_doubt or not isinstance(sender, Reconciler):
            return ref, False
        ids, incident_id = frozenset({attempt.delivery_id}), attempt.incident_id
        is_alone, in_thread = incident_id is None or is_reply(attempt.payload), is_reply(attempt.payload) and ref.ts
        with self._store.reading() as connection:
            since = in_doubt.since(connection, attempt.receiver, message_id=attempt.message_id, incident_id=incident_id)
            last_channel = in_doubt.last_channel(connection, attempt.receiver)
            if incident_id is not None and not is_alone:
                ids = in_doubt.delivery_ids(connection, attempt.receiver, incident_id)
        age_s = now - (attempt.since if since is None else since)
        where = Doubt(
            delivery_ids=ids,
            ref=ref,
            in_thread=bool(in_thread),
            age_s=age_s,
            last_channel=last_channel,
            # A guard that was frozen may have an old record. If two guards keep different messages, none may stay.
            deletes=False,
        )
        found = sender.reconcile(where)
        if found is None:
            return ref, False
        if found.ref != ref:
            taken_over = "message %s to %s: an earlier post without an answer is there and is taken over, ts %s"
            _log.info(taken_over, attempt.message_id, attempt.receiver, found.ref.ts)
        return (ref if in_thread else found.ref), found.delivery_id == attempt.delivery_id

    def _record(self, attempt: PendingDelivery, error: DeliveryError, now: float) -> None:
        """Record a failed attempt, and when the next one is due; a final failure is not retried."""
        what = f"message {attempt.message_id} to {attempt.receiver}"
        if error.is_final:
            _log.error("%s has failed and is not retried: %s", what, error)
            self._store.transact(lambda connection: deliveries.failed(connection, attempt, at=now, error=str(error)))
            return
        _log.warning("%s did not arrive (attempt %s): %s", what, attempt.attempts, error)
        # A message must not wait for minutes because the receiver as a whole was down at its earlier attempts.
        until = self._pause((attempt.receiver, None if error.is_about_all else attempt.message_id), error, now)

        def work(connection: Connection) -> None:
            sent = error.may_be_sent
            deliveries.postponed(connection, attempt, at=now, until=until, error=str(error), may_be_sent=sent)
            if error.retry_after_s is not None:
                receivers.rest(connection, attempt.receiver, until=until)

        self._store.transact(work)

    def _pause(self, what: tuple[str, int | None], error: DeliveryError, now: float) -> float:
        """Let a receiver, or one message to it, rest; returns until when."""
        before = self._rests.get(what)
        failures = before.failures if before else 0
        if error.retry_after_s is None:
            rest = Rest(since=now, until=now + _backoff_s(failures), failures=failures + 1)
        else:
            rest = Rest(since=now, until=now + error.retry_after_s, failures=failures)
        self._rests[what] = rest
        return rest.until


def _is_at(known: KnownReceiver | None, target: str) -> bool:
    return known is not None and known.target == target


def _as_told_now(delivery: PendingDelivery, now: float) -> Payload:
    """The payload as it is sent now: the first message of an incident to this receiver, or a late one."""
    payload = delivery.payload
    if delivery.incident_id is None:
        return payload
    changes: dict[str, object] = {}
    if not delivery.is_told and payload["kind"] in _GOES_ON and not is_reply(payload):
        changes["kind"] = "started"
    if now - delivery.since >= BACKLOG_S:
        changes["late"] = True
    return {**payload, **changes}


def _backoff_s(failures: int) -> float:
    """Seconds to wait after so many earlier failures: each wait is twice the last one, up to five minutes."""
    # After 16 doublings the longest wait is reached; ever larger powers would overflow.
    return min(_FIRST_WAIT_S * 2.0 ** min(failures, 16), _LONGEST_WAIT_S)
