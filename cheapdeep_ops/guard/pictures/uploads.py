"""Has pictures of incidents drawn, uploaded and deleted: beside the messages, which neither wait nor fail for them.

A picture is drawn again once the incident's message has changed, at most every five minutes. The message shows it once
the receiver has processed it; `notify/picture_edits.py` does that.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from cheapdeep_ops.errors import DeliveryError, LeaseLostError, StoreError
from cheapdeep_ops.guard.notify.sender import PictureSender, Sender
from cheapdeep_ops.guard.pictures.drawing import drawn
from cheapdeep_ops.guard.pictures.incident_chart import chart_of, description, is_plotted
from cheapdeep_ops.store import pictures
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.pictures import Picture, Wanted

_log: Final = logging.getLogger(__name__)
REDRAWN_EVERY_S: Final = 300.0
"""How often a picture of an incident is drawn again, at most."""

_LATE_S: Final = 3_600.0
"""A message that is older than this gets no picture any more."""

_AT_ONCE: Final = 3
"""How many pictures one run uploads to a receiver, so that a storm of incidents does not use up its patience."""

_REST_S: Final = (60.0, 3_600.0)
"""How long a receiver that takes no pictures is left alone: at first, and at most."""


@dataclass(frozen=True, slots=True)
class _Drawing:
    """A picture of what is wanted: a PNG, and what it shows in words."""

    of: Wanted
    content: bytes
    text: str


class Pictures:
    """Uploads the pictures that are wanted, and deletes those that are not; `run` is one round.

    Only one guard runs it at a time. What a round leaves behind when its guard is killed, the next round deletes.
    """

    def __init__(self, store: Store, senders: Mapping[str, Sender]) -> None:
        self._store = store
        self._senders = {name: each for name, each in senders.items() if isinstance(each, PictureSender)}
        self._rests: dict[str, tuple[float, float]] = {}
        """By receiver that refused a file: until when it is left alone, and for how long that was."""
        self._trouble: dict[str, str] = {}
        """The last failure at each receiver, which is logged once."""
        self._undrawn: dict[int, tuple[float, str]] = {}
        """By incident whose chart cannot be drawn: when that was tried last, and why it failed."""

    def run(self, now: float) -> int:
        """Upload and delete what is due at `now` (Unix time); returns how many pictures were uploaded.

        Raises StoreError, and LeaseLostError if another guard does this work.
        """
        # What failed long ago says nothing, and the incident is over or has changed.
        self._undrawn = {key: each for key, each in self._undrawn.items() if abs(now - each[0]) < _LATE_S}
        return sum(self._serve(name, sender, now) for name, sender in self._senders.items())

    def _serve(self, receiver: str, sender: PictureSender, now: float) -> int:
        until, waited_s = self._rests.get(receiver, (now, 0.0))
        # A longer rest is impossible, so the clock was set back.
        if 0 < until - now <= _REST_S[1]:
            return 0
        with self._store.reading() as connection:
            wanted = pictures.wanted(connection, receiver, since=now - _LATE_S)
        try:
            self._clear(receiver, sender, now)
            # Drawn one after the other, and no more than are uploaded.
            ready = islice(self._drawn(wanted, now), _AT_ONCE)
            uploaded = sum(self._upload(receiver, sender, each, now) for each in ready)
        except (LeaseLostError, StoreError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever a picture fails for, messages go on
            # Its words may hold secrets, except those of our own errors.
            why = str(error) if isinstance(error, DeliveryError) else type(error).__name__
            rest_s = min(max(2 * waited_s, _REST_S[0]), _REST_S[1])
            if isinstance(error, DeliveryError) and error.retry_after_s is not None:
                rest_s = error.retry_after_s
            self._rests[receiver] = (now + rest_s, rest_s)
            if self._trouble.get(receiver) != why:
                self._trouble[receiver] = why
                _log.warning("messages to %s have no pictures at present: %s", receiver, why)
            return 0
        if uploaded and receiver in self._trouble:
            _log.info("messages to %s have pictures again", receiver)
            del self._trouble[receiver], self._rests[receiver]
        return uploaded

    def _clear(self, receiver: str, sender: PictureSender, now: float) -> None:
        """Delete the files that no message shows."""
        with self._store.reading() as connection:
            is_left = pictures.has_unfinished(connection, receiver)
        if is_left:
            self._store.transact(lambda connection: pictures.abandon(connection, receiver))
        with self._store.reading() as connection:
            old = pictures.to_delete(connection, receiver, now=now)
        for picture in old:
            self._delete(picture, sender)

    def _delete(self, picture: Picture, sender: PictureSender) -> None:
        sender.delete_file(picture.file_id)
        self._store.transact(lambda connection: pictures.forget(connection, picture))

    def _drawn(self, wanted: Iterable[Wanted], now: float) -> Iterator[_Drawing]:
        """The pictures that are due, without those of incidents that have no chart or one that cannot be drawn."""
        for each in wanted:
            failed_at, before = self._undrawn.get(each.incident_id, (None, ""))
            if not (_is_past(each.drawn_at, now) and _is_past(failed_at, now)):
                continue
            try:
                drawing = self._draw(each, now)
            except (LeaseLostError, StoreError):
                raise
            except Exception as error:  # noqa: BLE001 - other incidents get their pictures
                # Its words may hold what a message says.
                why = type(error).__name__
                self._undrawn[each.incident_id] = (now, why)
                if why != before:
                    _log.warning("the chart of incident %s cannot be drawn: %s", each.incident_id, why)
                continue
            if drawing is not None:
                yield drawing

    def _draw(self, wanted: Wanted, now: float) -> _Drawing | None:
        """The picture of an incident; None if there is nothing to draw."""
        if not is_plotted(wanted.payload):
            return None
        with self._store.reading() as connection:
            chart = chart_of(connection, wanted.payload, now=now)
        return None if chart is None else _Drawing(wanted, drawn(chart), description(wanted.payload, chart))

    def _upload(self, receiver: str, sender: PictureSender, drawing: _Drawing, now: float) -> int:
        """Upload one picture; returns 1."""
        upload = sender.begin_upload(size=len(drawing.content), text=drawing.text)
        # On record before the file has any content.
        of, text = drawing.of, drawing.text
        self._store.transact(
            lambda connection: pictures.begin(connection, receiver, upload.file_id, of, text=text, at=now)
        )
        sender.finish_upload(upload, drawing.content)
        self._store.transact(lambda connection: pictures.ready(connection, receiver, upload.file_id))
        return 1


def _is_past(at: float | None, now: float) -> bool:
    """Whether a drawing or a failure at `at` is so old that the next one is due."""
    # By the distance, because a clock that was far ahead must not keep a picture for hours.
    return at is None or abs(now - at) >= REDRAWN_EVERY_S
