"""The version of the HTTP API: the first number is that of `/api/v1`, the second grows with each addition."""

from typing import Final

API_VERSION: Final = "1.4"
"""The second number grows with each addition. A change that breaks callers makes the path `/api/v2`."""


def serves(offered: str, needed: str = API_VERSION) -> bool:
    """Whether a guard of API version `offered` has everything of version `needed`; False if `offered` is malformed."""
    offered_numbers, needed_numbers = _numbers(offered), _numbers(needed)
    return offered_numbers[:1] == needed_numbers[:1] and offered_numbers >= needed_numbers


def _numbers(version: str) -> list[int]:
    parts = version.split(".")
    return [int(part) for part in parts] if all(part.isascii() and part.isdecimal() for part in parts) else []
