"""Receivers that get another name or another address while incidents are open: who goes on with their messages.

A receiver with the former address edits the messages that stand there, whatever it is called. A message that stands
where no receiver is any more is edited once, when its incident is over.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from cheapdeep_ops.errors import DeliveryError, LeaseLostError, StoreError
from cheapdeep_ops.guard.notify.sender import MessageRef, PictureSender, Sender, Shown
from cheapdeep_ops.guard.rules.rule_text import Payload
from cheapdeep_ops.store import pictures, places
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.store.places import Place
from cheapdeep_ops.units import DAY_S

_log: Final = logging.getLogger(__name__)
_EVERY_S: Final = 60.0
"""The wait after a look without a result: such messages are rare, and the places of all incidents are searched."""

_LATEST_S: Final = float(DAY_S)
"""How long after the end of an incident its message is edited, if that fails at first."""


def hand_over(
    connection: Connection,
    former: Iterable[tuple[str, str]],
    targets: Mapping[str, str],
    *,
    wants: Callable[[str, Payload], bool],
) -> set[tuple[str, int]]:
    """Have the configured receivers go on with the messages of `former` ones, which are pairs of name and address.

    `targets` are the addresses of the configured ones by name. Of several at one address, the one goes on that `wants`
    the incident. Returns the name of each that goes on, and the incident whose newest message stands there already.
    """

    def heir_of(place: Place) -> str | None:
        at = [name for name, target in targets.items() if _is_at(place, target)]
        heirs = sorted(at, key=lambda name: not wants(name, place.payload))
        return next((name for name in heirs if not places.is_heard(connection, name, place)), None)

    before = places.left(connection)
    found = [place for name, target in former for place in places.told(connection, name, target)]
    # All leave first, because two receivers may exchange their addresses.
    for place in found:
        places.leave(connection, place)
    known: set[tuple[str, int]] = set()
    for place in (*found, *before):
        if (heir := heir_of(place)) is None:
            continue
        _log.info("incident %s: %s goes on with the message of %s", place.incident_id, heir, place.receiver)
        places.take_over(connection, place, heir)
        if place in found:
            known.add((heir, place.incident_id))
    return known


def _is_at(place: Place, target: str) -> bool:
    """Whether `target` is the address of a place; a channel of Slack has a name, with or without `#`, and an id."""
    return target != "" and (target == place.channel or target.lstrip("#") == place.target.lstrip("#"))


class FormerPlaces:
    """Edits messages that stand where no receiver is any more, once their incidents are over."""

    def __init__(self, store: Store, senders: Mapping[str, Sender]) -> None:
        self._store = store
        # They have one bot, so any of them can edit what another one has posted.
        self._sender = next((each for each in senders.values() if isinstance(each, PictureSender)), None)
        self._due_at = 0.0

    def run(self, now: float) -> None:
        """Edit one such message, if there is one at `now` (Unix time); without one, look again a minute later."""
        if self._sender is None or 0 < self._due_at - now <= _EVERY_S:
            return
        with self._store.reading() as connection:
            place = places.over(connection, since=now - _LATEST_S)
            file = pictures.file_of(connection, place.receiver, place.incident_id) if place else None
        if place is None:
            self._due_at = now + _EVERY_S
            return
        # Its examples are only the ids of calls.
        payload = {**place.payload, "examples": []}
        if file is not None:
            payload["picture"] = {"file": file[0], "text": file[1]}
        try:
            self._end(place, payload, self._sender)
        except (LeaseLostError, StoreError):
            raise
        except Exception as error:  # noqa: BLE001 - an old message must not hold up new ones
            # Its words may hold secrets, except those of our own errors.
            why = str(error) if isinstance(error, DeliveryError) else type(error).__name__
            _log.debug("the message of incident %s in %s is not edited yet: %s", place.incident_id, place.target, why)
            self._due_at = now + _EVERY_S

    def _end(self, place: Place, payload: Payload, sender: PictureSender) -> None:
        ref = MessageRef(channel=place.channel, ts=place.ts)
        result = sender.show(payload, ref)
        if result is Shown.NOT_YET and "picture" in payload:
            # The file may have been deleted.
            result = sender.show({**payload, "picture": None}, ref)
        what = "shows its end" if result is Shown.SHOWN else "cannot be edited any more"
        _log.info("the message of incident %s in %s, which was left, %s", place.incident_id, place.target, what)
        self._store.transact(lambda connection: places.forget(connection, place))
