"""The version of the schema: the number of its baseline, and the number of additions to that (see `schema.py`)."""

from typing import Final

_BASELINE: Final = 8
_ADDED: Final = 0
HEAD: Final = f"{_BASELINE}.{_ADDED}"
"""The version of this code's tables."""

VERSION_TABLE: Final = "cheapdeep_version"
"""The table whose one row is the store's version."""


def is_of_other_baseline(stored: str, version: str) -> bool:
    """Whether the two versions have different baselines, between which no migration exists."""
    return _numbers(stored)[0] != _numbers(version)[0]


def is_behind(stored: str | None, version: str) -> bool:
    """Whether a store with the version `stored` lacks something of `version`; None: it has no version."""
    return stored is None or _numbers(stored) < _numbers(version)


def is_current(stored: str | None) -> bool:
    """Whether this code can use the store as it is."""
    return stored is not None and not is_behind(stored, HEAD) and not is_of_other_baseline(stored, HEAD)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(each) for each in version.split("."))
