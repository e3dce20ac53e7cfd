"""Everything this package raises on its own account.

    CheapdeepError
    ├── SettingsError    a setting is unknown, malformed or out of range
    ├── RulesError       a rules file does not say what it must
    ├── RecordingError   a recording cannot be replayed as it is
    ├── PolicyError      a threshold or scope cannot be set as asked
    ├── MissingError     an incident, a silence or a rule that an order names is not there
    ├── RemoteError      a guard that is asked over HTTP does not answer, or not as one of this version
    ├── DeliveryError    a message did not arrive; the outbox tries again, unless the receiver refused it for good
    ├── BreakerOpenError a tier keeps failing and is not asked for a while; the name of a hop's error, never raised
    ├── GraderError      the grader cannot be asked now; samples wait
    └── StoreError       the store cannot be reached or used
        ├── StoreBusyError   others have held its lock for longer than this transaction waits
        ├── RowError         the store refuses a row, and would refuse it again
        └── SchemaError      the schema is missing, or of a version that this code cannot use

Errors of the Anthropic API are the SDK's own and pass through the router unchanged.
"""


class CheapdeepError(Exception):
    """The root of all errors of this package."""


class SettingsError(CheapdeepError):
    """A setting is unknown, malformed or out of range; the message names key, value and range."""


class RulesError(CheapdeepError):
    """A rules file is malformed; the message names the file, the rule and the key."""


class RecordingError(CheapdeepError):
    """A recording cannot be replayed as it is; the message names the file, the line and the column."""


class PolicyError(CheapdeepError):
    """A threshold or scope cannot be set as asked."""


class MissingError(CheapdeepError):
    """What an order names is not there: an open incident, a silence that lasts, a rule."""


class BreakerOpenError(CheapdeepError):
    """A triage tier keeps failing, and is not asked for a while; it is never raised into a caller's code."""


class RemoteError(CheapdeepError):
    """A guard that is asked over HTTP does not answer, wants a token, or is of another version."""


class StoreError(CheapdeepError):
    """The store cannot be reached or used."""


class StoreBusyError(StoreError):
    """Other processes have held the store's lock for longer than the transaction waits; try again later."""


class RowError(StoreError):
    """The store refuses a row because of its values, and would refuse it again."""


class DeliveryError(CheapdeepError):
    """A message did not arrive; `retry_after_s` is what the receiver asked for, if it did.

    `unreachable` says that the receiver takes no message at present. `is_final` says that the receiver has refused this
    message for good: no further attempt is made.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        unreachable: bool = False,
        is_final: bool = False,
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.unreachable = unreachable
        self.is_final = is_final

    @property
    def is_about_all(self) -> bool:
        """Whether the receiver takes no message for now, as against having refused this one."""
        return self.unreachable or self.retry_after_s is not None


class GraderError(CheapdeepError):
    """The grader cannot be asked now; `pauses` says that nobody could be until somebody mends it.

    `retry_after_s` is what the API asked for, if it did.
    """

    def __init__(self, message: str, *, pauses: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.pauses = pauses
        self.retry_after_s = retry_after_s

    @property
    def asks_for_time(self) -> bool:
        """Whether any other request would meet the same."""
        return self.pauses or self.retry_after_s is not None


class SchemaError(StoreError):
    """The store's schema is missing, or of a version that this code cannot use; the message says what to do."""
