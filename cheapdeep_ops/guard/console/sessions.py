"""The browsers that have a page of the console, and who is signed in there. Lives as long as the process."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

LONGEST_S: Final = 8 * 3_600.0
"""The time for which an unused session lasts, in seconds."""

_MOST: Final = 1_000
_MOST_VISITORS: Final = 10_000
_TICKET_S: Final = 60.0
"""A browser asks for its cookie at once; a ticket that it leaves is worth nothing after this time."""


@dataclass(slots=True)
class Session:
    """A browser in which a person is signed in; `token_hash` is that of the token."""

    author: str
    token_hash: str
    used_at: float


class Sessions:
    """The sessions by the hash of their cookie; `monotonic` returns seconds, and `new_id` an id to be kept secret.

    A browser in which no person is signed in has a cookie too, because its page has a websocket. The numbers are
    bounded: of more than a thousand sessions, or ten thousand visitors, the one that began first ends. Belongs to one
    event loop.
    """

    def __init__(self, monotonic: Callable[[], float], new_id: Callable[[], str]) -> None:
        self._monotonic, self._new_id = monotonic, new_id
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._tickets: OrderedDict[str, Session] = OrderedDict()
        self._visitors: OrderedDict[str, float] = OrderedDict()
        """When each was last seen, by the hash of its cookie."""

    def visit(self) -> str:
        """The cookie for a browser that has none, in which no person is signed in."""
        cookie = self._new_id()
        self._visitors[_key(cookie)] = self._monotonic()
        _bound(self._visitors, _MOST_VISITORS)
        return cookie

    def is_live(self, cookie: str) -> bool:
        """Whether the cookie was given out here, and was used within the last eight hours; this is a use."""
        if self.of(cookie) is not None:
            return True
        seen_at, now = self._visitors.get(_key(cookie)), self._monotonic()
        if seen_at is None or now - seen_at > LONGEST_S:
            return False
        self._visitors[_key(cookie)] = now
        return True

    def start(self, *, author: str, token_hash: str) -> str:
        """Sign a person in; returns the ticket for which their browser gets the cookie of the session, once.

        The cookie that the browser has may be known to others, who may have set it. So it never opens the session.
        Source: https://cheatsheetseries.owasp.org/cheatsheets/Session_Management_Cheat_Sheet.html
        """
        ticket = self._new_id()
        self._tickets[_key(ticket)] = Session(author, token_hash, self._monotonic())
        _bound(self._tickets, _MOST)
        return ticket

    def redeem(self, ticket: str, cookie: str) -> str | None:
        """The cookie of the session that the ticket stands for; None if it was used, or is a minute old.

        The browser's earlier session, if `cookie` has one, ends.
        """
        session = self._tickets.pop(_key(ticket), None)
        if session is None or self._monotonic() - session.used_at > _TICKET_S:
            return None
        self.end(cookie)
        own = self._new_id()
        self._sessions[_key(own)] = session
        _bound(self._sessions, _MOST)
        return own

    def of(self, cookie: str) -> Session | None:
        """The session of a browser; None if no person is signed in. Each call is a use of the session."""
        session, now = self._sessions.get(_key(cookie)), self._monotonic()
        if session is None:
            return None
        if now - session.used_at > LONGEST_S:
            self.end(cookie)
            return None
        session.used_at = now
        return session

    def end(self, cookie: str) -> None:
        """Sign the browser out; the cookie is worth nothing from now on."""
        self._sessions.pop(_key(cookie), None)
        self._visitors.pop(_key(cookie), None)


def _key(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _bound(known: OrderedDict[str, Any], most: int) -> None:
    while len(known) > most:
        known.popitem(last=False)
