"""The tokens that a server knows: those of its settings, and those of a file that it reads again after a change."""

import logging
import os
import stat
import time
from collections.abc import Callable, Iterable
from hmac import compare_digest
from pathlib import Path
from typing import Final

from cheapdeep_ops.access import token_file
from cheapdeep_ops.access.token_file import TokenFileError
from cheapdeep_ops.access.tokens import (
    NO_TOKENS,
    Refusal,
    Role,
    Token,
    hash_of,
    invalid,
    lacks_role,
    lacks_route,
    missing,
)

LOOK_EVERY_S: Final = 1.0
"""The shortest interval between two looks at the file, in seconds: how long a revoked token still works, at most."""

MOST_BYTES: Final = 1_000_000
"""The size of the largest file; it holds some 5,000 tokens."""

_PLAIN_ROLES: Final = frozenset({Role.READ, Role.ACT, Role.CONTENT})
_log: Final = logging.getLogger(__name__)
_Stamp = tuple[int, int, int]


class KnownTokens:
    """The tokens that a server knows, for all its doors.

    `plain` are the tokens of CHEAPDEEP_API_TOKENS, with the roles read, act and content. `path` is the file; while it
    is missing or wrong, its last good content holds. `clock` returns Unix seconds, `monotonic` seconds.
    Any thread may call it, and an event loop too: it waits for nothing but the file, at most once a second.
    Raises SettingsError if the file is missing or wrong at the start.
    """

    def __init__(
        self,
        plain: Iterable[str] = (),
        path: Path | None = None,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        known = (Token(name="", hash=hash_of(each), roles=_PLAIN_ROLES) for each in plain if each)
        self._plain = {token.hash: token for token in known}
        self._path, self._clock, self._monotonic = path, clock, monotonic
        self._by_hash = self._plain
        self._stamp: _Stamp | None = None
        self._problem = ""
        self._look_at = monotonic() + LOOK_EVERY_S
        if path is not None:
            self._read(path)

    @property
    def may_have_tokens(self) -> bool:
        """Whether a token is known, or a file is named that may get one."""
        return self._path is not None or bool(self._plain)

    def allowed(self, secret: str, role: Role, route: str | None = None) -> Token | Refusal:
        """The token with this secret if it allows `role` on `route`, else the refusal.

        Without a route only the role is checked; then the caller asks `Token.covers` for each route of the request.
        """
        if not secret:
            return missing(role) if self.may_have_tokens else NO_TOKENS
        return self.allowed_by_hash(hash_of(secret), role, route)

    def allowed_by_hash(self, token_hash: str, role: Role, route: str | None = None) -> Token | Refusal:
        """As `allowed`, for a caller that keeps the hash of a secret (`hash_of`)."""
        if not self.may_have_tokens:
            return NO_TOKENS
        token = self._with_hash(token_hash)
        if token is None or token.has_expired(self._clock()):
            return invalid(role)
        if role not in token.roles:
            return lacks_role(role)
        is_covered = route is None or role is Role.READ or token.covers(route)
        return token if is_covered else lacks_route(role)

    def find(self, secret: str) -> Token | None:
        """The token with this secret, whatever its roles; None if there is none, or it has expired."""
        token = self._with_hash(hash_of(secret)) if secret else None
        return None if token is None or token.has_expired(self._clock()) else token

    @property
    def tokens(self) -> tuple[Token, ...]:
        """All tokens that are known now, also those that have expired."""
        return tuple(self._known().values())

    def _with_hash(self, token_hash: str) -> Token | None:
        # The look-up takes a time that may depend on hashes, and no hash leads to a secret. The comparison of the
        # whole hash takes constant time.
        token = self._known().get(token_hash)
        return token if token is not None and compare_digest(token.hash, token_hash) else None

    def _known(self) -> dict[str, Token]:
        """The tokens by hash, after a look at the file if one is due."""
        now = self._monotonic()
        if self._path is not None and now >= self._look_at:
            # Set first, so that other threads do not look too.
            self._look_at = now + LOOK_EVERY_S
            self._renew(self._path)
        return self._by_hash

    def _renew(self, path: Path) -> None:
        try:
            if _stamp_of(os.stat(path)) == self._stamp:  # noqa: PTH116 - a Path's stat costs twice the time
                return
        except OSError:
            # Reading it gives the error in words.
            self._stamp = None
        try:
            self._read(path)
        except TokenFileError as error:
            self._complain(f"{error}; the tokens read before stay in force")

    def _read(self, path: Path) -> None:
        """Take the file's tokens. Raises TokenFileError with the path, and keeps the tokens as they are."""
        text, status = read_text(path)
        # Remembered for a wrong file too, which is read again only after it has changed.
        self._stamp = _stamp_of(status)
        tokens = _parsed(text, path)
        self._by_hash = {token.hash: token for token in tokens} | self._plain
        self._complain(exposed(path, status.st_mode))

    def _complain(self, problem: str) -> None:
        """Log a problem, once for as long as it is the same one."""
        if problem and problem != self._problem:
            _log.warning("%s", problem)
        self._problem = problem


def read_tokens(path: Path) -> tuple[Token, ...]:
    """The tokens of a file. Raises TokenFileError, which names the path, and line and key of each fault."""
    return _parsed(read_text(path)[0], path)


def _parsed(text: str, path: Path) -> tuple[Token, ...]:
    try:
        return token_file.parse(text)
    except TokenFileError as error:
        raise TokenFileError(f"{path}: {error}") from None


def read_text(path: Path) -> tuple[str, os.stat_result]:
    """The text of a file of tokens, and its status from before the read. Raises TokenFileError with the path."""
    try:
        with path.open("rb") as file:
            # The status first: a change during the read then differs from it, and the next look reads again.
            status = os.fstat(file.fileno())
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise TokenFileError(f"{path} does not exist; cheapdeep-ops keys make creates it") from None
    except OSError as error:
        raise TokenFileError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise TokenFileError(f"{path} is larger than {MOST_BYTES:,} bytes")
    try:
        # Some editors of Windows begin a file with a byte-order mark.
        return content.decode("utf-8-sig"), status
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TokenFileError(f"{path}: line {line}: is not UTF-8") from None


def _stamp_of(status: os.stat_result) -> _Stamp:
    return status.st_mtime_ns, status.st_ino, status.st_size


def exposed(path: Path, mode: int) -> str:
    """What is wrong with the permissions of the file; empty if nothing is."""
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{path} can be written by other users, who could add tokens: chmod 600 {path}"
    if mode & stat.S_IROTH:
        return f"{path} can be read by other users: chmod 600 {path}"
    return ""
