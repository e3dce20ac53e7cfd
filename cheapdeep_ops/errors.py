"""Everything this package raises on its own account.

    CheapdeepError
    ├── SettingsError    a setting is unknown, malformed or out of range
    ├── RulesError       a rules file does not say what it must
    ├── PolicyError      a threshold or scope cannot be set as asked
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


class SchemaError(StoreError):
    """The store's schema is missing, older or newer than this code; the message says what to run."""
