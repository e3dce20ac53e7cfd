"""A bounded queue of answers for grading: chosen by hash, redacted, then ready for the store."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from cheapdeep_ops.recorder.candidate_rows import KeptCall, candidate_row, is_kept
from cheapdeep_ops.recorder.destination import Destination
from cheapdeep_ops.recorder.fingerprints import digest_of, fingerprint_of
from cheapdeep_ops.recorder.trouble_log import TroubleLog, loggable
from cheapdeep_ops.redaction import Redact
from cheapdeep_ops.store.clock import corrected
from cheapdeep_ops.values import Decision, Exchange, Name

_LEAVE_S: Final = 2.0
"""How long `close` waits for texts that are being redacted."""

_REST: Final = 9.0
"""Seconds of rest for each second of redaction: long texts must not take the interpreter from the caller's threads."""

_CAPACITY: Final = 500
"""The largest number of waiting answers."""

_ROOMY: Final = 250
"""Up to so many waiting answers, the whole share is kept."""

_HALVED_EVERY: Final = 25
"""Beyond that, so many more waiting answers halve the share.

A burst or an outage is so sampled ever more thinly, and each answer has a known chance. Without it, the first answers
would fill the queue, and no estimate could cover the later ones. At 100 confident answers a second and 30% kept it
lasts for 14 minutes. A sample of 1% loses nothing during the first four halves.
"""

ReadExchange = Callable[[], Exchange | None]
"""Returns a call's questions and answer; it is used only for calls whose answer is kept."""


class _Redacted(NamedTuple):
    """The row of a redacted answer, and the hash of its turns before redaction; empty if it cannot be graded."""

    row: dict[str, Any]
    digest: bytes


class CandidateQueue:
    """One process's answers for grading. The owner calls `save` to store them.

    With `background`, a thread redacts, so that a slow hook delays only samples. Without it, `redact_all` does. An
    answer that comes without a hook of its own is redacted with `redact`.
    """

    def __init__(self, *, share: float, redact: Redact, background: bool, troubles: TroubleLog) -> None:
        self._share = share
        self._redact = redact
        self._background = background
        self._troubles = troubles
        # Deques, because two threads append and remove without a lock.
        self._kept: deque[tuple[KeptCall, Redact]] = deque()
        self._rows: deque[_Redacted] = deque()
        self._has_kept = threading.Event()
        self._is_done = threading.Event()
        self._hurried = threading.Event()
        self._is_closed = False
        self._thread: threading.Thread | None = None
        self.left_out = 0
        """How many answers of the whole share were not kept, because many waited."""
        self.offset_s = 0.0
        """What to add to this host's clock for the store's time."""
        self.is_watched = True
        """Whether a guard wrote a heartbeat lately: only a guard grades answers and removes their content."""

    def offer(self, decision: Decision, read_exchange: ReadExchange, redact: Redact | None = None) -> None:
        """Keep the answer for grading if its hash chooses it for the share in force; never raises."""
        if not self.is_watched or not is_kept(decision, self._share):
            return
        share = self._share_in_force()
        if not is_kept(decision, share):
            self.left_out += 1
            self._troubles.warn(
                "candidates", "too many answers wait for the store: some of the further ones are left out of the sample"
            )
            return
        try:
            exchange = read_exchange()
        except Exception as error:  # noqa: BLE001 - a sample must never cost an answer
            self._troubles.warn("exchange", "an answer could not be kept for grading: %r", error)
            return
        if exchange is not None:
            # The hook stays with its answer: a queue that kept it would keep the router alive to which it may belong.
            self._keep(KeptCall(decision=decision, exchange=exchange, share=share), redact or self._redact)

    def _share_in_force(self) -> float:
        """The share of answers to keep, from 0 to 1: less if many wait. It does not depend on the answer."""
        waiting = self.waiting
        if waiting >= _CAPACITY:
            return 0.0
        return self._share * 0.5 ** -(-max(waiting - _ROOMY, 0) // _HALVED_EVERY)

    def redact_all(self) -> None:
        """Redact all kept answers; does nothing if a background thread redacts."""
        while self._kept and not self._background:
            self._redact_one()

    @property
    def has_rows(self) -> bool:
        """Whether any row is ready for the store."""
        return bool(self._rows)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The redacted answers, as rows of the store without fingerprints."""
        return [each.row for each in self._rows]

    @property
    def waiting(self) -> int:
        """The number of answers that are not stored yet."""
        return len(self._kept) + len(self._rows)

    def save(self, destination: Destination, stored: Callable[[Name], Name]) -> None:
        """Store the redacted answers; a row that is rejected is left out. Raises StoreError.

        `stored` gives the name under which a route and an input class are stored.
        """
        waiting = list(self._rows)
        if not waiting:
            return
        key = destination.fingerprint_key()
        rows = [
            {
                **row,
                **stored(Name(row["route"], row["input_class"]))._asdict(),
                "fingerprint": fingerprint_of(digest, key) if digest and key else "",
            }
            for row, digest in waiting
        ]
        rejected = destination.write_candidates(rows)
        for _ in rows:
            self._rows.popleft()
        if self.left_out:
            self._troubles.warn(
                "samples left out", "%d answers were left out of the sample while too many waited", self.left_out
            )
            self.left_out = 0
        if rejected:
            self._troubles.warn(
                "samples",
                "%s answers were left out of the sample: the store rejected them (%s)",
                len(rejected),
                loggable(rejected[0][1]),
            )

    def hurry(self, *, within_s: float = _LEAVE_S) -> None:
        """Redact the answers that wait, without rest; returns when that is done, or after `within_s` seconds."""
        if self._thread is None:
            return
        self._hurried.set()
        self._is_done.wait(min(within_s, _LEAVE_S))
        if not self._is_closed:
            self._hurried.clear()

    def close(self, *, within_s: float = _LEAVE_S) -> None:
        """Redact the remaining answers without rest; waits at most `within_s` seconds for the thread."""
        self._is_closed = True
        self._hurried.set()
        self._has_kept.set()
        if self._thread is not None:
            self._thread.join(min(within_s, _LEAVE_S))

    def _keep(self, kept: KeptCall, redact: Redact) -> None:
        self._is_done.clear()
        self._kept.append((kept, redact))
        self._has_kept.set()
        # Started at the first kept answer: a process that keeps none needs no thread.
        if self._background and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="cheapdeep-redactor", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while not self._is_closed or self._kept:
            self._has_kept.wait()
            self._has_kept.clear()
            while self._kept:
                begun = time.monotonic()
                self._redact_one()
                # The wait ends early when somebody waits for the answers.
                self._hurried.wait(min((time.monotonic() - begun) * _REST, _LEAVE_S))
            self._is_done.set()

    def _redact_one(self) -> None:
        kept, redact = self._kept.popleft()
        row = candidate_row(kept, redact=redact)
        at = corrected(kept.decision.started_at, self.offset_s)
        # Here, in the background: few answers are kept, and their callers do not wait for a hash.
        digest = b"" if row["why"] else digest_of(kept.exchange.turns)
        self._rows.append(_Redacted({**row, "at": at}, digest))
