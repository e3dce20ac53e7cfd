"""Removes personal data and secrets from a text before the text is stored.

Patterns find candidates, and checks decide: Luhn's sum for cards (ISO/IEC 7812-1), mod 97 for IBANs (ISO 13616), the
`ipaddress` module for addresses. Data without a recognisable form (names, streets, dates of birth) stays.

Every quantifier is possessive, bounded, or stops where the next candidate may begin: so the time is linear. Long texts
are read in slices (`engine`), so that other threads wait for some milliseconds at most.
"""

from collections.abc import Callable
from functools import cache
from typing import TypeAlias

from cheapdeep_ops.redaction import personal, phones, secrets
from cheapdeep_ops.redaction.engine import SecretRule, settled

__all__ = ["Redact", "redact"]

Redact: TypeAlias = Callable[[str], str]
"""A redaction hook: takes any `str`, from any thread, and returns it in a form that may be stored.

`redact` is the default. A team's own hook may call it and remove more, for example account numbers. A hook must not
store or log its argument. If it raises, nothing is stored.
"""


def redact(text: str) -> str:
    """`text` with recognisable personal data and secrets replaced by their kind in brackets, like `[email]`.

    Idempotent. A text that still changes after several passes, which must be built for that, becomes `[secret]`.
    """
    return settled(text, all_rules())


@cache
def all_rules() -> tuple[SecretRule, ...]:
    """The rules of all kinds in their order."""
    # Cached and not a constant: compiling takes 10 ms, which a process that stores no text saves.
    # Secrets first, because they may contain anything; rules with a check before those without; telephones last.
    return (*secrets.rules(), *personal.rules(), *phones.rules())
