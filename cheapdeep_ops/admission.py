"""Which routes and input classes the fleet counts by name; all others count as `other`. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from cheapdeep_ops.values import OTHER, Name

_V = TypeVar("_V")
TOLD_NAMES: Final = 10
"""The largest number of names without a place that a process tells the store, the busiest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """The admitted names, each with the time of its last call (Unix seconds, right to within a day or so).

    `version` grows with each change of the set, so that an unchanged set need not be read again.
    """

    called: Mapping[Name, float]
    version: int = 0
    max_routes: int = 200
    max_classes: int = 50
    _routes: int = field(init=False, compare=False)
    _classes: Counter[str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        classes = Counter(name.route for name in self.called if name.input_class)
        object.__setattr__(self, "_routes", sum(not name.input_class for name in self.called))
        object.__setattr__(self, "_classes", classes)

    @property
    def room(self) -> int:
        """How many further routes can be admitted."""
        return max(self.max_routes - self._routes, 0)

    def counted(self, name: Name) -> Name:
        """The name under which calls of `name` count."""
        route, input_class = name
        if route != OTHER and (route, "") not in self.called:
            return Name(OTHER, input_class and OTHER)
        return name if not input_class or input_class == OTHER or name in self.called else Name(route, OTHER)

    def wanted(self, name: Name) -> list[Name]:
        """What has to be admitted, and still can be, so that calls of `name` count under it: route, then class."""
        route, input_class = name
        if route == OTHER:
            return []
        is_new = (route, "") not in self.called
        if is_new and not self.room:
            return []
        asked = [Name(route)] if is_new else []
        if input_class in ("", OTHER) or name in self.called or self._classes[route] >= self.max_classes:
            return asked
        return [*asked, name]


def shown_names(names: Iterable[str], admitted: Iterable[str], limit: int) -> dict[str, str]:
    """The label under which a report shows each of `names`: at most `limit` keep theirs, the others are `other`.

    Admitted names keep theirs first. Rows that were written before the limit have the room that is left.
    """
    named, first = set(names) - {OTHER}, set(admitted)
    kept = sorted(named, key=lambda name: (name not in first, name))[:limit]
    return {**dict.fromkeys(named | {OTHER}, OTHER), **{name: name for name in kept}}


def busiest(calls: Mapping[_V, int], most: int) -> dict[_V, int]:
    """The `most` keys with most calls, the busiest first."""
    return dict(sorted(calls.items(), key=lambda item: -item[1])[:most])
