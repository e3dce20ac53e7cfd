"""What a receiver gets after its messages had to wait: how things stand now, without the steps that led there.

Each incident keeps its newest message. An incident that began and ended in that time becomes a line of a digest.
Receivers that are new, or have a new address, get a message for each open incident.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from cheapdeep_ops.guard.notify.messages import digest_message, joined_digest
from cheapdeep_ops.store import backlogs
from cheapdeep_ops.store.backlogs import KeptMessage, WaitingMessage
from cheapdeep_ops.store.engine import Connection

BACKLOG_S: Final = 120.0
"""A message that has waited for so long is late: what is left to say is said instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatchUp:
    """The messages that wait for one receiver: which to keep, which are superseded, and which go into a digest."""

    kept: Sequence[KeptMessage]
    superseded: Sequence[int]
    over: Sequence[KeptMessage]
    """The last messages of the incidents of which the receiver has heard neither the beginning nor the end."""
    digests: Sequence[KeptMessage]
    """Digests of earlier such incidents that wait too."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes."""
        return not (self.superseded or self.over)


def catch_up(messages: Iterable[WaitingMessage], *, now: float) -> CatchUp:
    """Plan what takes the place of messages that have waited for `BACKLOG_S`, in incidents that have one. Pure."""
    ordered = sorted(messages, key=lambda each: (each.incident_id or 0, each.message_id))
    kept: list[KeptMessage] = []
    superseded: list[int] = []
    over: list[KeptMessage] = []
    for incident_id, group in groupby(ordered, key=lambda each: each.incident_id):
        waiting = list(group)
        if incident_id is None or min(each.since for each in waiting) > now - BACKLOG_S:
            continue
        last = _last(waiting)
        stay = [last, *_reply_to(last, waiting)]
        superseded += [each.message_id for each in waiting if each not in stay]
        if last.kind == "resolved" and not last.is_told:
            over.append(_in_place_of(waiting, last))
            superseded += [each.message_id for each in stay]
        elif len(waiting) > len(stay):
            kept += [_in_place_of(waiting, each) for each in stay]
    digests = [_in_place_of([each], each) for each in ordered if each.kind == backlogs.KIND] if over else []
    return CatchUp(kept=kept, superseded=superseded, over=over, digests=digests)


def _last(waiting: Sequence[WaitingMessage]) -> WaitingMessage:
    """The newest message of an incident; a reply in its thread only if nothing else waits."""
    return next((each for each in reversed(waiting) if not each.in_thread), waiting[-1])


def _reply_to(last: WaitingMessage, waiting: Sequence[WaitingMessage]) -> list[WaitingMessage]:
    """The reply that tells the thread of the newest message; none if the receiver has no thread of the incident yet."""
    if last.in_thread or not last.is_told:
        return []
    replies = (each for each in waiting if each.in_thread and each.message_id > last.message_id)
    return [each for each in replies if each.kind == last.kind][:1]


def _in_place_of(waiting: Sequence[WaitingMessage], message: WaitingMessage) -> KeptMessage:
    return KeptMessage(
        message_id=message.message_id,
        since=min(each.since for each in waiting),
        attempts=max(each.attempts for each in waiting),
        error=next((each.error for each in waiting if each.error), ""),
    )


def store_catch_up(connection: Connection, receiver: str, plan: CatchUp, *, delivery_id: str, now: float) -> None:
    """Store what takes the place of the messages that wait for `receiver`."""
    backlogs.supersede(connection, receiver, plan.superseded)
    for message in plan.kept:
        backlogs.keep(connection, receiver, message, at=now)
    if plan.over:
        _store_digest(connection, receiver, plan, delivery_id=delivery_id, now=now)


def _store_digest(connection: Connection, receiver: str, plan: CatchUp, *, delivery_id: str, now: float) -> None:
    """Enqueue one digest of what is over, with the lines of those that wait already."""
    ended = [dict(each) for each in backlogs.payloads(connection, [each.message_id for each in plan.over])]
    earlier = backlogs.payloads(connection, [each.message_id for each in plan.digests])
    since = min(each.get("started_at", now) for each in ended)
    payload = {**joined_digest([*earlier, digest_message(ended, since=since, at=now)]), "late": True}
    backlogs.supersede(connection, receiver, [each.message_id for each in plan.digests])
    message_id = backlogs.enqueue_for(
        connection, receiver, delivery_id=delivery_id, incident_id=None, kind=backlogs.KIND, payload=payload, at=now
    )
    everything = [*plan.over, *plan.digests]
    backlogs.keep(
        connection,
        receiver,
        KeptMessage(
            message_id=message_id,
            since=min(each.since for each in everything),
            attempts=max(each.attempts for each in everything),
            error=next((each.error for each in everything if each.error), ""),
        ),
        at=now,
    )


def tell_of_open(
    connection: Connection,
    receiver: str,
    *,
    wants: Callable[[Mapping[str, Any]], bool] = lambda _announced: True,
    has: Collection[int] = (),
    new_id: Callable[[], str],
    now: float,
) -> None:
    """Enqueue the present state of each open incident that a receiver wants, which is new or has a new address.

    It `has` a message of some of them already, at its address.
    """
    backlogs.make_due(connection, receiver, at=now)
    for incident_id, announced in backlogs.untold(connection, receiver, at=now):
        if incident_id in has or not wants(announced):
            continue
        payload: Mapping[str, Any] = {**announced, "kind": "changed", "late": True}
        backlogs.enqueue_for(
            connection,
            receiver,
            delivery_id=new_id(),
            incident_id=incident_id,
            kind="changed",
            payload=payload,
            at=now,
        )
