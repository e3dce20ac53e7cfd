"""Whether a route that a person names is known: a misspelt one would get a threshold or a silence, and no calls."""

from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Final

from cheapdeep_ops.errors import PolicyError
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters, policies, route_labels
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.values import ALL_ROUTES

_CLOSE: Final = 0.75
"""From this similarity on (0 to 1), two names are probably one name and its misspelling."""


def check_route(connection: Connection, settings: Settings, route: str, *, is_new: bool) -> str:
    """What a person should know about `route`: that no call has named it so far; empty if calls have.

    Raises PolicyError if it is unknown and resembles a known one, unless the person says that it is new.
    """
    called = counters.routes(connection) | route_labels.folded_names(connection, since=0.0).keys()
    if route == ALL_ROUTES or route in called:
        return ""
    book = policies.read_book(connection, base=settings.base_threshold, raised=settings.raised_threshold)
    changed = {name for name, scope in book.scopes.items() if scope.pin is not None or scope.causes}
    if route not in changed and not is_new:
        _refuse_misspelling(route, (called | changed) - {ALL_ROUTES})
    return f"no call has named the route {route} yet"


def _refuse_misspelling(route: str, known: Iterable[str]) -> None:
    likeness = {name: _likeness(route, name) for name in sorted(known)}
    close = max(likeness, key=lambda name: likeness[name], default="")
    if close and likeness[close] >= _CLOSE:
        raise PolicyError(
            f"no call has named the route {route}: did you mean {close}? If it is a new route, say so with --new-route "
            "(over HTTP new_route: true)"
        )


def _likeness(name: str, other: str) -> float:
    """The similarity of two names, from 0 to 1; case, punctuation and the order of letters make no difference."""
    name, other = _letters(name), _letters(other)
    if name and sorted(name) == sorted(other):
        return 1.0
    return SequenceMatcher(None, name, other).ratio()


def _letters(name: str) -> str:
    return "".join(each for each in name.casefold() if each.isalnum()) or name
