"""A guard as a recorder's destination: flushes and candidates over HTTP, so that a service needs no database."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from cheapdeep_ops.admission import Admitted
from cheapdeep_ops.budgets import Slice, SliceRequest, Slices
from cheapdeep_ops.errors import RowError, StoreError
from cheapdeep_ops.recorder.destination import AskedToWaitError, News
from cheapdeep_ops.recorder.guard_connection import Answer, GuardConnection
from cheapdeep_ops.recorder.policy_follower import PolicyFollower, refusal
from cheapdeep_ops.recorder.wire import (
    CANDIDATES_PATH,
    FLUSHES_PATH,
    LARGEST_SENT,
    NAMES_PATH,
    SLICES_PATH,
    VERSION_HEADER,
    admitted_in,
    compact,
    encoded,
    packed,
)
from cheapdeep_ops.store.clock import steady
from cheapdeep_ops.values import Name

if TYPE_CHECKING:
    from cheapdeep_ops.recorder.wake import Wake
    from cheapdeep_ops.store.recording import Heartbeat, Rejected, Rows

_TIMEOUT_S: Final = 3.0
"""How long a request waits for the guard: less than closing a recorder may take."""

_OK: Final = 200
_NOT_FOUND: Final = 404
_THE_GUARDS: Final = frozenset({"process", "kind", "seen_at"})
"""What a guard says of a heartbeat itself."""


@dataclass(slots=True)
class _Sender:
    """One process as the guard knows it, and the number of the last flush that was sent."""

    process: str
    secret: str = field(repr=False)
    fingerprint_key: bytes = field(repr=False)
    number: int = 0


class GuardDestination:
    """The guard at `url`; see `Destination` for the methods. `on_news` is called when policies may have changed.

    The guard gives each process of the recorder an id of its own, so the names here are not those in the store.
    `clock` is the store's time in Unix seconds, and `steady` a clock that never steps.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str,
        clock: Callable[[], float],
        on_news: Callable[[], None],
        steady: Callable[[], float] = steady,
    ) -> None:
        self._connection = GuardConnection(url, token=token)
        self._follower = PolicyFollower(url, token=token, clock=clock, on_change=on_news)
        self._steady = steady
        self._senders: dict[str, _Sender] = {}
        self._beat: Heartbeat | None = None
        self._rests_until = 0.0  # on the monotonic clock

    @property
    def shown_url(self) -> str:
        """The URL, which has no secrets."""
        return self._connection.shown_url

    def read(self) -> News:
        """The newest known policies, without a request. Raises StoreError if the guard could not be asked."""
        return self._follower.newest()

    def await_news(self, wake: "Wake", seconds: float) -> bool:
        """See `Destination.await_news`; `on_news` sets `wake` when there are news."""
        wake.wait(seconds)
        return True  # a read sends nothing

    def admit(self, names: Sequence[Name], now: float) -> Admitted:
        """Have `names` admitted in their order while there is room; returns all admitted names."""
        answer = self._post(NAMES_PATH, encoded({"names": names}))
        if _is_unknown(answer):
            # A guard of an older version bounds no names, and counts must not wait for it.
            known = self._follower.admitted
            return replace(known, called={**known.called, **dict.fromkeys(names, now)})
        self._require_success(answer)
        admitted = admitted_in(answer.body)
        # Under its own name, a call that the token may not send is refused with the cause.
        refused = {Name(*each): now for each in answer.body.get("refused", ())}
        return replace(admitted, called={**admitted.called, **refused}) if refused else admitted

    def write_counters(self, *, buckets: "Rows", totals: "Rows", beat: "Heartbeat") -> "Rejected":
        """Send the present counters, in several flushes if they are long; returns the buckets that are rejected."""
        self._beat = beat
        total_of = {(row["route"], row["input_class"]): row for row in totals}
        # After a store was made anew, totals are sent without seconds too.
        alone = total_of.keys() - {(row["route"], row["input_class"]) for row in buckets}
        return self._send_buckets(buckets, total_of, beat, alone=sorted(alone))

    def write_candidates(self, rows: "Rows") -> "Rejected":
        """Send answers for grading; returns those that are rejected."""
        sender = self._known_sender()
        body = encoded({"process": sender.process, "secret": sender.secret, "rows": rows})
        if len(body) > LARGEST_SENT and len(rows) > 1:
            half = len(rows) // 2
            return [*self.write_candidates(rows[:half]), *self.write_candidates(rows[half:])]
        answer = self._post(CANDIDATES_PATH, body)
        if _is_unknown(answer) and self._beat is not None:
            self._forget(self._beat.process)
        self._require_success(answer)
        by_id = {row["call_id"]: row for row in rows}
        return [(by_id[name], RowError(why)) for name, why in answer.body["rejected"] if name in by_id]

    def fingerprint_key(self) -> bytes:
        """The key that came with the id of this process; empty if there was none. Raises StoreError."""
        return self._known_sender().fingerprint_key

    def ask_budgets(self, now: float, holder: str, number: int, asks: Sequence[SliceRequest]) -> Slices:  # noqa: ARG002 - the guard knows the time
        """See `Destination.ask_budgets`. A guard of an older version sets no limits, and grants nothing."""
        body = {"holder": holder, "number": number, "asks": [each._asdict() for each in asks]}
        answer = self._post(SLICES_PATH, encoded(body))
        if _is_unknown(answer) and not asks:
            return Slices([], {})
        self._require_success(answer)
        return Slices([Slice(*each) for each in answer.body["granted"]], answer.body["limits"])

    def sign_off(self, process: str) -> None:
        """Mark the process as stopped, if the guard knows it."""
        sender, beat = self._senders.get(process), self._beat
        if sender is not None and beat is not None:
            self._flush(sender, _body(replace(beat, process=process), (), {}, is_last=True))
            self._senders.pop(process)

    def close(self) -> None:
        """Close all connections, and end the thread that follows the policies; the next use opens them again."""
        self._follower.stop()
        self._connection.close()

    def _send_buckets(
        self,
        buckets: "Rows",
        total_of: Mapping[tuple[str, str], Mapping[str, Any]],
        beat: "Heartbeat",
        *,
        alone: Sequence[tuple[str, str]] = (),
    ) -> "Rejected":
        """Send buckets with their totals, and those `alone`; returns the buckets that are rejected."""
        body = _body(beat, buckets, total_of, alone=alone)
        if len(encoded(body)) > LARGEST_SENT and len(buckets) > 1:
            half = len(buckets) // 2
            first = self._send_buckets(buckets[:half], total_of, beat, alone=alone)
            return [*first, *self._send_buckets(buckets[half:], total_of, beat)]
        answer = self._flush(self._sender(beat), body)
        if _is_unknown(answer):
            # The store was made anew. What it lacks is sent again under a new id.
            self._forget(beat.process)
            answer = self._flush(self._sender(beat), body)
        self._require_success(answer)
        by_key = {(row["route"], row["input_class"], row["at"]): row for row in buckets}
        return [(by_key[tuple(key)], RowError(why)) for *key, why in answer.body["rejected"] if tuple(key) in by_key]

    def _known_sender(self) -> _Sender:
        if self._beat is None:
            raise StoreError("answers can be sent after the first counters only")
        return self._sender(self._beat)

    def _sender(self, beat: "Heartbeat") -> _Sender:
        """The process as the guard knows it, which is registered first if it is new. Raises StoreError."""
        sender = self._senders.get(beat.process)
        if sender is None:
            answer = self._post(FLUSHES_PATH, encoded({"beat": _about(beat)}))
            self._require_success(answer)
            # A guard of an older version gives no key.
            key = bytes.fromhex(answer.body.get("fingerprint_key", ""))
            sender = self._senders[beat.process] = _Sender(answer.body["process"], answer.body["secret"], key)
        return sender

    def _forget(self, process: str) -> None:
        self._senders.pop(process, None)
        self._follower.store_changed()

    def _flush(self, sender: _Sender, body: Mapping[str, Any]) -> Answer:
        """Send one flush under the next number. A flush that was stored already counts as sent."""
        answer = self._send_numbered(sender, body)
        # The guard knows a later flush of this process. What is sent now is newer still.
        if answer.status == _OK and answer.body["number"] > sender.number:
            sender.number = answer.body["number"]
            answer = self._send_numbered(sender, body)
        return answer

    def _send_numbered(self, sender: _Sender, body: Mapping[str, Any]) -> Answer:
        # A number is used once, also if no answer comes: the next flush may have other counts.
        sender.number += 1
        identity = {"process": sender.process, "secret": sender.secret, "number": sender.number}
        asked_at = self._steady()
        answer = self._post(FLUSHES_PATH, encoded({**identity, "knows": self._follower.etag, **body}))
        if answer.status == _OK:
            self._follower.note(answer.body["news"], asked_at=asked_at, answered_at=self._steady())
        return answer

    def _post(self, path: str, body: bytes) -> Answer:
        """The response to a request. Raises AskedToWaitError, without a request while the guard asked to wait."""
        left_s = self._rests_until - time.monotonic()
        if left_s > 0:
            raise AskedToWaitError(f"the guard at {self.shown_url} asked to wait", retry_after_s=left_s)
        content, headers = packed(body)
        try:
            return self._connection.ask("POST", path, body=content, headers=headers, timeout_s=_TIMEOUT_S)
        except AskedToWaitError as error:
            self._rests_until = time.monotonic() + error.retry_after_s
            raise

    def _require_success(self, answer: Answer) -> None:
        if answer.status != _OK:
            raise StoreError(refusal(self._connection, answer))


def _is_unknown(answer: Answer) -> bool:
    """Whether a guard does not know the process or the path that a request names."""
    # A proxy says "not found" too while the guard restarts, and then the store has all that it had.
    return answer.status == _NOT_FOUND and VERSION_HEADER in answer.headers


def _body(
    beat: "Heartbeat",
    buckets: "Rows",
    total_of: Mapping[tuple[str, str], Mapping[str, Any]],
    *,
    alone: Sequence[tuple[str, str]] = (),
    is_last: bool = False,
) -> dict[str, Any]:
    touched = dict.fromkeys([*((row["route"], row["input_class"]) for row in buckets), *alone])
    return {
        "beat": _about(beat),
        "buckets": compact(buckets),
        "totals": compact([total_of[key] for key in touched]),
        "is_last": is_last,
    }


def _about(beat: "Heartbeat") -> dict[str, Any]:
    return {name: value for name, value in asdict(beat).items() if name not in _THE_GUARDS}
