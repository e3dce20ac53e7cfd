"""The errors that this package defines.

    CheapdeepError
    ├── SettingsError    a setting is unknown, malformed or out of range
    │   └── RouterArgumentError  a router was made with a wrong argument; a TypeError too
    ├── RulesError       a rules file is malformed
    ├── RecordingError   a recording cannot be replayed
    ├── PolicyError      a threshold or scope is invalid
    ├── MissingError     the named incident, silence, rule or message does not exist
    ├── RemoteError      a guard does not answer over HTTP, or has another version
    ├── DeliveryError    a message was not delivered; the outbox retries, except after a final rejection
    ├── EventLoopError   an AsyncRouter is used without asyncio, for example with trio
    ├── BudgetError      a budget is used up, and CHEAPDEEP_AT_BUDGET has such calls refused
    ├── BreakerOpenError the circuit breaker of a tier is open; the name of a hop's error, never raised
    ├── LeaseLostError   another guard has taken over this guard's work; nothing was written
    ├── GraderError      the grader is unavailable; samples wait
    │   └── BatchMissingError  the API does not find a batch or its results; it may find them later
    └── StoreError       the store cannot be reached or used
        ├── StoreBusyError   another process held the lock for longer than this transaction waits
        ├── RowError         the store rejects a row, and will reject it again
        └── SchemaError      the schema is missing, or has a version that this code cannot use

The router raises errors of the Anthropic API unchanged, as the SDK's own classes. One error of its own is a subclass of
the SDK's `APIError`: `claude.cut_answer.CutAnswerError`, with which a streamed answer ends that was cut.
"""


class CheapdeepError(Exception):
    """The root of all errors of this package."""


class SettingsError(CheapdeepError):
    """A setting is unknown, malformed or out of range; the message names its key, its value and the allowed range."""


class RouterArgumentError(SettingsError, TypeError):
    """A router was made with an argument that it does not have or cannot use; the message says what to write."""


class RulesError(CheapdeepError):
    """A rules file is malformed; the message names the file, the rule and the key."""


class RecordingError(CheapdeepError):
    """A recording cannot be replayed; the message names the file, the line and the column."""


class PolicyError(CheapdeepError):
    """A threshold or scope is invalid."""


class MissingError(CheapdeepError):
    """The named object does not exist: an open incident, an active silence, a rule or an undelivered message."""


class BreakerOpenError(CheapdeepError):
    """The circuit breaker of a triage tier is open, so that calls skip the tier. Never raised into a caller's code."""


class BudgetError(CheapdeepError):
    """A budget is used up and CHEAPDEEP_AT_BUDGET has such calls refused; nothing was sent to the refused model.

    `budget` is its name, such as `deep` or `all route support`. `resets_at` (Unix time) is the next midnight of UTC,
    when calls go on. Do not retry before that.
    """

    def __init__(self, message: str, *, budget: str, resets_at: float) -> None:
        super().__init__(message)
        self.budget = budget
        self.resets_at = resets_at


class EventLoopError(CheapdeepError):
    """An `AsyncRouter` is made or called without asyncio; nothing was sent. The message names what runs instead."""


class LeaseLostError(CheapdeepError):
    """Another guard has taken over this part of the work, so that this guard may not write; nothing was written."""


class RemoteError(CheapdeepError):
    """A guard does not answer over HTTP, needs a token, or has another version."""


class StoreError(CheapdeepError):
    """The store cannot be reached or used."""


class StoreBusyError(StoreError):
    """Other processes held the store's lock for longer than the transaction waits; retry later."""


class RowError(StoreError):
    """The store rejects a row because of its values, and will reject it again."""


class DeliveryError(CheapdeepError):
    """A message was not delivered. `retry_after_s` is the wait that the receiver asked for, in seconds, or None.

    `unreachable` is whether the receiver is down or refuses every message, so that other messages would fail too.
    `is_final` is whether the receiver has rejected this message for good, so that the outbox does not retry.
    `may_be_sent` is whether the receiver may have accepted the message, although its answer did not arrive.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        unreachable: bool = False,
        is_final: bool = False,
        may_be_sent: bool = False,
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.unreachable = unreachable
        self.is_final = is_final
        self.may_be_sent = may_be_sent

    @property
    def is_about_all(self) -> bool:
        """Whether the receiver accepts no message at present; False if it rejected only this one."""
        return self.unreachable or self.retry_after_s is not None


class GraderError(CheapdeepError):
    """The grader is unavailable. `pauses` is whether a person must fix the cause before any grading can work.

    `retry_after_s` is the wait that the API asked for, in seconds, or None. `may_be_sent` is whether the API may have
    accepted the request, although its answer did not arrive.
    """

    def __init__(
        self, message: str, *, pauses: bool = False, retry_after_s: float | None = None, may_be_sent: bool = False
    ) -> None:
        super().__init__(message)
        self.pauses = pauses
        self.retry_after_s = retry_after_s
        self.may_be_sent = may_be_sent

    @property
    def asks_for_time(self) -> bool:
        """Whether other requests would fail too."""
        return self.pauses or self.retry_after_s is not None


class BatchMissingError(GraderError):
    """The API does not find a batch, its results or one result. One such answer proves nothing: a later read may."""


class SchemaError(StoreError):
    """The store's schema is missing, or has a version that this code cannot use; the message says what to do."""
