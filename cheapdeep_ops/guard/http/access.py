"""Who may use the HTTP API and the console: the role that each path needs, and the check of a token."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

from fastapi import Depends, HTTPException, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from cheapdeep_ops.access.guesses import Guesses
from cheapdeep_ops.access.known_tokens import KnownTokens
from cheapdeep_ops.access.tokens import SHORTEST, Refusal, Role, Token, hash_of, is_short, too_many_guesses
from cheapdeep_ops.addresses import is_loopback
from cheapdeep_ops.settings import Settings

_log: Final = logging.getLogger(__name__)
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]


class Access(KnownTokens):
    """The tokens of a guard. On loopback reading needs none; all else needs one with the role of the path.

    Raises SettingsError if the file of tokens is missing or wrong.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        plain = [token.get_secret_value() for token in settings.api_tokens]
        super().__init__(plain, settings.api_tokens_file, clock=clock, monotonic=monotonic)
        self.is_local = is_loopback(settings.host)
        """Whether reading needs no token."""

        self._guesses = Guesses(monotonic)
        self._short: set[str] = set()
        """The names of the tokens about which a warning was logged."""
        if any(map(is_short, filter(None, plain))):
            self._warn_of_short("", "CHEAPDEEP_API_TOKENS has a token with")

    def needs(self, role: Role) -> list[Any]:
        """FastAPI's dependencies of a path that needs this role; the OpenAPI document names it."""
        return [] if role is Role.READ and self.is_local else [self.caller(role)]

    def caller(self, role: Role) -> Any:
        """FastAPI's dependency whose value is the caller's token, for a path that needs this role."""
        return Security(self.check, scopes=[role.value])

    # Asynchronous, because FastAPI would give a plain function a thread of its pool, for which it might have to wait.
    async def check(self, request: Request, scopes: SecurityScopes, bearer: Bearer) -> Token | None:
        """The token of the request.

        Raises HTTP error 401 or 403 unless it has the role in `scopes`, and 429 after too many wrong tokens.
        """
        token = None
        peer = peer_of(request.scope)
        for role in map(Role, scopes.scopes):
            answer = self.allowed_from(peer, "" if bearer is None else bearer.credentials, role)
            if isinstance(answer, Refusal):
                raise http_error(answer)
            token = answer
        return token

    def allowed_from(self, peer: str, secret: str, role: Role) -> Token | Refusal:
        """As `allowed`, for the secret that a peer sends; `peer` is its address."""
        wait_s = self._guesses.wait_s(peer) if secret else 0.0
        # A long secret cannot be guessed. Its holder may share the address with a guesser, such as behind a proxy.
        if wait_s and is_short(secret):
            return too_many_guesses(wait_s)
        answer = self.allowed(secret, role)
        if isinstance(answer, Token) and is_short(secret):
            # A file of tokens has hashes, so only the use of a token shows its length.
            self._warn_of_short(answer.name, f"the token {answer.name} has")
        if isinstance(answer, Refusal) and answer.error == "invalid_token":
            if wait_s:
                return too_many_guesses(wait_s)
            self._guesses.note(peer, hash_of(secret))
        return answer

    def find_from(self, peer: str, secret: str) -> Token | Refusal | None:
        """The token with this secret, whatever its roles; None if it is wrong, a refusal after too many wrong ones."""
        answer = self.allowed_from(peer, secret, Role.READ) if secret else None
        return answer if isinstance(answer, Refusal) and answer.wait_s else self.find(secret)

    def _warn_of_short(self, name: str, what: str) -> None:
        """Log that a token is short, once for each token."""
        if name not in self._short:
            self._short.add(name)
            advice = "replace it by one that cheapdeep-ops keys make prints"
            problem = "%s fewer than %s characters and may be guessed; the next release refuses it: %s"
            _log.warning(problem, what, SHORTEST, advice)


def peer_of(scope: Mapping[str, Any]) -> str:
    """The address that a request comes from; empty if the server does not know it."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def secret_in(authorization: str) -> str:
    """The secret of a bearer token in a header; empty if there is none. Source: RFC 6750, section 2.1."""
    scheme, _, secret = authorization.partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def http_error(refusal: Refusal) -> HTTPException:
    """A refusal as FastAPI sends it."""
    return HTTPException(refusal.status, refusal.detail, refusal.headers)
