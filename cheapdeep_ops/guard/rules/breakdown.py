"""The calls of an incident by reason and by input class."""

from collections.abc import Mapping
from typing import Any, Final

_TOP: Final = 5
"""How many of each are named: more would make a message hard to read."""


def breakdown_of(*, reasons: Mapping[str, int], by_class: Mapping[str, int]) -> dict[str, object]:
    """The largest counts by reason and by input class, largest first; calls without a class are left out."""
    classes = {name: count for name, count in by_class.items() if name and count}
    return {"reasons": _largest(reasons), "input_classes": _largest(classes)}


def _largest(counts: Mapping[str, int]) -> list[list[Any]]:
    # By name if counts are equal, so that a message does not change without a reason.
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [[name, count] for name, count in ordered[:_TOP]]
