"""Which HTTP API a guard speaks: the first number is that of `/api/v1`, the second grows with what is added."""

from typing import Final

API_VERSION: Final = "1.1"
"""The second number grows when something is added; what is there stays as it is, or the path becomes `/api/v2`."""

VERSION_HEADER: Final = "Cheapdeep-Api-Version"
"""Has the version in every answer below `/api`."""


def serves(found: str, wanted: str = API_VERSION) -> bool:
    """Whether a guard that speaks `found` has all of `wanted`; what is no version at all has nothing."""
    offered, needed = _numbers(found), _numbers(wanted)
    return offered[:1] == needed[:1] and offered >= needed


def _numbers(version: str) -> list[int]:
    parts = version.split(".")
    return [int(part) for part in parts] if all(part.isascii() and part.isdecimal() for part in parts) else []
