"""Who is signed in at the console, by the cookie of the browser. Lives as long as the process."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

LONGEST_S: Final = 8 * 3_600.0
"""The time for which an unused session lasts, in seconds."""

_MOST: Final = 1_000


@dataclass(slots=True)
class Session:
    """A browser in which a person is signed in; `token_hash` is that of the token."""

    author: str
    token_hash: str
    used_at: float
    is_fresh: bool = True
    """Whether the browser still has the cookie from before the sign-in."""


class Sessions:
    """The sessions by the hash of their cookie; `monotonic` returns seconds.

    Their number is bounded: of more than a thousand, the one that began first ends. Belongs to one event loop.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def start(self, cookie: str, *, author: str, token_hash: str) -> None:
        """Sign a person in; an earlier session of the browser ends."""
        self.end(cookie)
        self._sessions[_key(cookie)] = Session(author, token_hash, self._monotonic())
        while len(self._sessions) > _MOST:
            self._sessions.popitem(last=False)

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

    def renewed(self, cookie: str, new: Callable[[], str]) -> str:
        """The cookie that the browser should have: `new()` at the first page after the sign-in, else its own.

        Source: https://cheatsheetseries.owasp.org/cheatsheets/Session_Management_Cheat_Sheet.html
        """
        session = self._sessions.get(_key(cookie))
        if session is None or not session.is_fresh:
            return cookie
        self.end(cookie)
        renewed = new()
        session.is_fresh = False
        self._sessions[_key(renewed)] = session
        return renewed

    def end(self, cookie: str) -> None:
        """Sign the browser out."""
        self._sessions.pop(_key(cookie), None)


def _key(cookie: str) -> str:
    return hashlib.sha256(cookie.encode()).hexdigest()
