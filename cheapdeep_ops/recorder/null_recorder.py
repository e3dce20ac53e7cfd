"""The recorder of a router with CHEAPDEEP_RECORD off."""

from typing import TYPE_CHECKING

from cheapdeep_ops.policy import blank_book
from cheapdeep_ops.recorder.candidate_queue import ReadExchange
from cheapdeep_ops.recorder.spending import NO_SPENDING
from cheapdeep_ops.values import Decision

if TYPE_CHECKING:
    from cheapdeep_ops.settings import Settings


class NullRecorder:
    """Records nothing and reads no policy: every call is decided at the base threshold."""

    def __init__(self, settings: "Settings") -> None:
        self.book = blank_book(base=settings.base_threshold, raised=settings.raised_threshold)

        self.spending = NO_SPENDING

    def put(self, decision: Decision, tell: ReadExchange | None = None) -> None:
        """Ignore the decision."""

    def close(self) -> None:
        """Do nothing."""
