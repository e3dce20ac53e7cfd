"""What goes on beside a caller's answer, and what a call comes to once it has ended."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cheapdeep_ops.flow import Course
from cheapdeep_ops.values import Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What a call came to: its course and its decision for the record, and the seconds that each of its hops took."""

    course: Course
    decision: Decision
    hop_s: Sequence[float]


class Beside:
    """Something that goes on beside a call and has a say in its record; whoever ends last does what waits for both."""

    def __init__(self, settle: Callable[[Course], Settled]) -> None:
        self.settle = settle
        """From the caller's own course to what is recorded, once it is over."""
        self._lock = threading.Lock()
        self._is_over = False
        self._waiting: list[Callable[[], None]] = []

    def over(self) -> None:
        """It has ended, well or not; saying so again changes nothing."""
        with self._lock:
            self._is_over = True
            waiting, self._waiting = self._waiting, []
        for act in waiting:
            act()

    def then(self, act: Callable[[], None]) -> None:
        """Do `act` now if it is over, else when it is."""
        with self._lock:
            if not self._is_over:
                self._waiting.append(act)
                return
        act()
