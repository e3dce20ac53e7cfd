"""Edits messages so that they show pictures that were uploaded beside them.

It runs where messages are sent, after them, so that an edit with a picture and one with news never cross. Before an
edit, the message is put in doubt: if the answer is lost, the message is read until it shows its last state.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from cheapdeep_ops.errors import DeliveryError, LeaseLostError, StoreError
from cheapdeep_ops.guard.notify.sender import MessageRef, PictureSender, Sender, Shown
from cheapdeep_ops.guard.rules.rule_text import Payload
from cheapdeep_ops.store import in_doubt, pictures
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.store.in_doubt import Newest
from cheapdeep_ops.store.pictures import Picture

_log: Final = logging.getLogger(__name__)
_MOST_TRIES: Final = 7
"""How often a receiver is asked to show a file: for two minutes, with twice the wait after each time."""

_AFTER_FAILURE_S: Final = 60.0


class PictureEdits:
    """Shows the pictures that are ready; a picture that a receiver does not show is given up."""

    def __init__(self, store: Store, *, complete: Callable[[str, Payload], Payload]) -> None:
        """`complete` adds to a stored payload what a message at that receiver shows beside it."""
        self._store = store
        self._complete = complete

    def run(self, receiver: str, sender: Sender, now: float) -> None:
        """Show the picture that is due at `now` (Unix time): one in a run, so that the next message waits for one."""
        if not isinstance(sender, PictureSender):
            return
        with self._store.reading() as connection:
            due = pictures.to_show(connection, receiver, now=now)
        for picture in due:
            try:
                if self._show(picture, sender, now):
                    return
            except (LeaseLostError, StoreError):
                raise
            except DeliveryError as error:
                _log.debug("%s shows no picture at present: %s", receiver, error)
                self._postpone(picture, now + (error.retry_after_s or _AFTER_FAILURE_S))
                return
            except Exception as error:  # noqa: BLE001 - a picture must not hold up messages
                # Its words may hold secrets.
                _log.warning("a picture cannot be shown at %s: %s", receiver, type(error).__name__)
                self._postpone(picture, now + _AFTER_FAILURE_S)
                return

    def _show(self, picture: Picture, sender: PictureSender, now: float) -> bool:
        """Ask for one edit; returns whether one was asked for."""
        receiver, incident_id = picture.receiver, picture.incident_id
        with self._store.reading() as connection:
            newest = in_doubt.newest(connection, receiver, incident_id)
            channel, ts = in_doubt.place(connection, receiver, incident_id)
        if newest is None or not ts:
            self._store.transact(lambda connection: pictures.give_up(connection, picture))
            return False
        # What waits is sent first: it would be overtaken by its own picture.
        if newest.is_waiting:
            return False
        before = self._store.transact(
            lambda connection: in_doubt.doubt(connection, receiver, newest.message_id, at=now)
        )
        settle = partial(
            in_doubt.settle, receiver=receiver, message_id=newest.message_id, doubted_at=now, before=before
        )
        try:
            result = sender.show(self._payload(picture, newest), MessageRef(channel=channel, ts=ts))
        except DeliveryError as error:
            if not error.may_be_sent:
                self._store.transact(settle)
            raise

        def work(connection: Connection) -> None:
            settle(connection)
            _note(connection, picture, result, now)

        self._store.transact(work)
        return True

    def _payload(self, picture: Picture, newest: Newest) -> Payload:
        shown = {"file": picture.file_id, "text": picture.text}
        payload = self._complete(picture.receiver, newest.payload)
        return {**payload, "picture": shown, "delivery_id": newest.delivery_id}

    def _postpone(self, picture: Picture, until: float) -> None:
        self._store.transact(lambda connection: pictures.postpone(connection, picture, until=until))


def _note(connection: Connection, picture: Picture, result: Shown, now: float) -> None:
    """Record what became of a picture."""
    if result is Shown.SHOWN:
        pictures.shown(connection, picture)
    elif result is Shown.GONE or picture.tries + 1 >= _MOST_TRIES:
        _log.info("a picture of incident %s at %s is not shown", picture.incident_id, picture.receiver)
        pictures.give_up(connection, picture)
    else:
        pictures.postpone(connection, picture, until=now + 2.0**picture.tries)
