"""The values of one call: what was asked, its record, and what goes back to the caller."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cheapdeep_ops.flow import Bypass, CascadeResult
from cheapdeep_ops.policy import PolicyBook
from cheapdeep_ops.recorder.spending import Spending
from cheapdeep_ops.router.label_limits import CallLabels
from cheapdeep_ops.router.provider import Message, Params
from cheapdeep_ops.router.refusals import RefusedParts
from cheapdeep_ops.values import Decision, Exchange, Tier


class Sink(Protocol):
    """Where decisions go and policies come from."""

    @property
    def book(self) -> PolicyBook:
        """The policies in force."""

    def put(self, decision: Decision, tell: Callable[[], Exchange | None]) -> None:
        """Take a decision. `tell` gives the text of the call, if it is to be stored. Never blocks, never raises."""

    def close(self) -> None:
        """Store all decisions that were put."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """The answer to one call, and the decision that explains it."""

    message: Message
    decision: Decision

    @property
    def text(self) -> str:
        """All text of the answer."""
        return "".join(block.text for block in self.message.content if block.type == "text")


@dataclass(slots=True, kw_only=True)
class Call:
    """One call in progress.

    `started_at` is in Unix seconds; `started` and `ended` are readings of `time.perf_counter`. `model_s` are the
    seconds that each model call has taken so far, in the order of the steps. `refused` is what the client's models are
    known to refuse. `user_text` is all text that the caller sent if it spells out a verdict, and empty otherwise.
    `key` is the gateway's key that pays. `spending` is set if a budget may stop the call or change its answer.
    `ships_any` marks a stream whose last triage tier's answer goes out at any confidence, because a budget is used up.
    `interruption` is an exception that others raised into the call, such as the time limit of a worker.
    `is_forwarded` is whether the deep tier gets the caller's own bytes, unchanged. `may_be_graded` is False if
    no text of the call may be kept.
    """

    id: str
    labels: CallLabels
    params: Params
    tiers: tuple[Tier, ...]
    bypass: Bypass | None
    user_text: str
    conversation: str
    started_at: float
    started: float
    refused: RefusedParts
    is_shadowed: bool = False
    is_forwarded: bool = False
    may_be_graded: bool = True
    ended: float | None = None
    model_s: list[float] = field(default_factory=list)
    interruption: BaseException | None = None
    key: str = ""
    spending: Spending | None = None
    ships_any: bool = False

    def is_over_budget(self, *, is_deep: bool) -> bool:
        """Whether a budget is used up that limits this call, or its request to the deep tier."""
        spending = self.spending
        return spending is not None and spending.used(self.labels.name.route, self.key, is_deep=is_deep) is not None

    def is_interrupted_by(self, error: BaseException) -> bool:
        """Whether `error` ends the call, instead of being a failure of one of its requests."""
        return error is self.interruption or not isinstance(error, Exception)


@dataclass(slots=True, kw_only=True)
class CallRecord:
    """What is recorded of a finished call: its result, its decision, and the seconds that each hop took.

    `call` is the call as it was asked. In shadow mode it is a copy, because the caller may change the arguments later.
    """

    call: Call
    result: CascadeResult
    decision: Decision
    hop_s: Sequence[float]
