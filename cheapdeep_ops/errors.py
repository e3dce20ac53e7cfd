"""Everything this package raises on its own account.

    CheapdeepError
    ├── SettingsError    a setting is unknown, malformed or out of range
    ├── RulesError       a rules file does not say what it must
    ├── PolicyError      a threshold or scope cannot be set as asked
    ├── DeliveryError    a message did not arrive; the outbox tries again
    └── StoreError       the store cannot be reached, or its schema does not fit
        └── SchemaError  the schema is missing, older or newer than this code

Errors of the Anthropic API are the SDK's own and pass through the router unchanged.
"""


class CheapdeepError(Exception):
    """The root of all errors of this package."""


class SettingsError(CheapdeepError):
    """A setting is unknown, malformed or out of range; the message names key, value and range."""


class RulesError(CheapdeepError):
    """A rules file is malformed; the message names the file, the rule and the key."""


class PolicyError(CheapdeepError):
    """A threshold or scope cannot be set as asked."""


class StoreError(CheapdeepError):
    """The store cannot be reached or used."""


class DeliveryError(CheapdeepError):
    """A message did not arrive; `retry_after_s` is what the receiver asked for, if it did.

    `unreachable` says that the receiver is down, so that any other message would fare no better.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None, unreachable: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.unreachable = unreachable

    @property
    def is_about_all(self) -> bool:
        """Whether the receiver takes no message for now, as against having refused this one."""
        return self.unreachable or self.retry_after_s is not None


class SchemaError(StoreError):
    """The store's schema is missing, older or newer than this code; the message says what to run."""
