"""Answers on their way to the store: chosen by hash, told, redacted, and waiting; bounded in number."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from cheapdeep_ops.recorder.candidate_rows import KeptCall, candidate_row, lies_within
from cheapdeep_ops.redaction import Redact
from cheapdeep_ops.values import Decision, Exchange

_LEAVE_S: Final = 2.0
"""How long `close` waits for texts that are being redacted."""

_REST: Final = 9.0
"""How much longer the redactor rests than it works: texts are long, and the interpreter is the caller's."""

_MOST: Final = 500
"""How many answers wait at most; one that finds no room is left out of the sample."""

Tell = Callable[[], Exchange | None]
"""Says what a call was about; asked for the few calls only whose answer is kept."""

Complain = Callable[..., None]
"""Takes a topic, a message and its values; says each topic once."""


class CandidateQueue:
    """What one process keeps for grading. Its owner takes `rows`, stores them, and says how many by `taken`.

    With `background`, a thread of its own redacts, so that a hook that is slow or hangs holds up nothing but samples;
    without, `redact_all` does.
    """

    def __init__(self, *, share: float, redact: Redact, background: bool, complain: Complain) -> None:
        self._share = share
        self._redact = redact
        self._background = background
        self._complain = complain
        self._kept: deque[KeptCall] = deque()
        self._rows: deque[dict[str, Any]] = deque()
        self._has_kept = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self.is_watched = True
        """Whether a guard wrote a heartbeat lately: only a guard grades answers, and removes their content later."""

    def offer(self, decision: Decision, tell: Tell) -> None:
        """Keep the answer, if it is one of those that are kept and there is room for it; never raises."""
        if not self.is_watched or not lies_within(decision, self._share):
            return
        if len(self._kept) + len(self._rows) >= _MOST:
            self._complain("candidates", "too many answers wait for the store: some are left out of the sample")
            return
        try:
            exchange = tell()
        except Exception as error:  # noqa: BLE001 - a sample must never cost an answer
            self._complain("exchange", "an answer could not be kept for grading: %r", error)
            return
        if exchange is not None:
            self._keep(KeptCall(decision=decision, exchange=exchange))

    def redact_all(self) -> None:
        """Redact what was kept, where no thread does."""
        while self._kept and not self._background:
            self._redact_one()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What is ready for the store, oldest first."""
        return list(self._rows)

    @property
    def waits(self) -> bool:
        """Whether anything is ready for the store."""
        return bool(self._rows)

    def taken(self, count: int) -> None:
        """The oldest `count` rows are stored, or given up."""
        for _ in range(count):
            self._rows.popleft()

    def close(self, *, within_s: float = _LEAVE_S) -> None:
        """Redact what is left, without rest and within this time."""
        self._closing.set()
        self._has_kept.set()
        if self._thread is not None:
            self._thread.join(min(within_s, _LEAVE_S))

    def _keep(self, kept: KeptCall) -> None:
        self._kept.append(kept)
        self._has_kept.set()
        if self._background and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="cheapdeep-redactor", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while not self._closing.is_set() or self._kept:
            self._has_kept.wait()
            self._has_kept.clear()
            while self._kept:
                begun = time.monotonic()
                self._redact_one()
                self._closing.wait(min((time.monotonic() - begun) * _REST, _LEAVE_S))

    def _redact_one(self) -> None:
        self._rows.append(candidate_row(self._kept.popleft(), share=self._share, redact=self._redact))
