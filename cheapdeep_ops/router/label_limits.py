"""The labels of a call: the caller's own text, its name without ids, and the bounded labels of metrics and counters."""

from collections import defaultdict
from functools import partial
from typing import Final, NamedTuple

from cheapdeep_ops.name_ids import without_ids
from cheapdeep_ops.policy import EffectivePolicy, PolicyBook
from cheapdeep_ops.values import ALL_ROUTES, OTHER, Name

_LENGTH: Final = 100
_LONGEST_READ: Final = 400
"""Ids are looked for in so many characters, so that a text in the place of a name costs no time."""

_MOST_KNOWN: Final = 4_096
"""So many labels are remembered between two changes of policy; callers may name a new one with each call."""

_NAMED_STAR: Final = "all"
"""The label of a route that the caller names `*`, because the star is the scope of all routes."""


class CallLabels(NamedTuple):
    """The labels of one call, and its policy.

    `text` is what the caller said, as printable text of at most 100 characters. `name` is that without ids. `counted`
    is what metrics show: the name, or `other`. `shown_threshold` is the one that they show for `counted`.
    """

    text: Name
    name: Name
    counted: Name
    policy: EffectivePolicy
    shown_threshold: float


class Labeller:
    """Finds the labels of calls; remembers what it found until the policies or the admitted names change.

    `route` is that of calls which name none; no id is replaced in it. Without a store that admits names, the first
    `max_routes` routes, and `max_classes` input classes of each, count by name.
    """

    def __init__(self, route: str, *, max_routes: int, max_classes: int) -> None:
        self._default = route
        self._routes = LabelLimiter(max_routes)
        self._classes = defaultdict[str, LabelLimiter](partial(LabelLimiter, max_classes))
        self._known: tuple[PolicyBook | None, dict[tuple[str, str], CallLabels]] = (None, {})

    def of(self, route: object, input_class: object, book: PolicyBook) -> CallLabels:
        """The labels of a call with this route and input class, which may be any objects."""
        # By type, because equal keys may have different texts: 1 and True.
        key = (
            route if type(route) is str else str(route or ""),
            input_class if type(input_class) is str else "" if input_class is None else str(input_class),
        )
        of_book, known = self._known
        if of_book is not book:
            self._known = (book, known := {})
        found = known.get(key)
        if found is None:
            if len(known) >= _MOST_KNOWN:
                known.clear()
            found = known[key] = self._find(*key, book)
        return found

    def _find(self, route: str, input_class: str, book: PolicyBook) -> CallLabels:
        text = Name(_shown(route or self._default), _shown(input_class))
        # A route that is admitted or has a policy keeps its name, whatever it looks like. So does the router's own.
        is_kept = route in ("", self._default) or text.route in book.scopes or book.admits(Name(text.route))
        name = Name(text.route if is_kept else _shown(without_ids(route[:_LONGEST_READ])), text.input_class)
        if input_class and not book.admits(name):
            name = Name(name.route, _shown(without_ids(input_class[:_LONGEST_READ])))
        counted = self._counted(name, book)
        return CallLabels(
            text, name, counted, book.for_route(name.route, counted.route), book.for_route(counted.route).threshold
        )

    def _counted(self, name: Name, book: PolicyBook) -> Name:
        if book.admitted is not None:
            return book.admitted.counted(name)
        route = self._routes.bounded(name.route)
        if route == OTHER:
            return Name(OTHER, name.input_class and OTHER)
        return Name(route, self._classes[route].bounded(name.input_class))


class LabelLimiter:
    """Keeps the first `limit` distinct labels; later ones become `other`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known = {"", OTHER}

    def bounded(self, label: str) -> str:
        """The label, or `other`."""
        if label not in self._known:
            if len(self._known) >= self._limit + 2:
                return OTHER
            self._known.add(label)
        return label


def _shown(text: str) -> str:
    """At most 100 characters; control characters are spaces and lone surrogates `?`, which databases refuse."""
    if text == ALL_ROUTES:
        return _NAMED_STAR
    encodable = text[:_LENGTH].encode("utf-8", "replace").decode()
    return "".join(char if char.isprintable() else " " for char in encodable)
