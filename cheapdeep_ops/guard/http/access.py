"""Who may use the HTTP API and the console: the role that each path needs, and the check of a token."""

import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from cheapdeep_ops.access.known_tokens import KnownTokens
from cheapdeep_ops.access.tokens import Refusal, Role, Token
from cheapdeep_ops.addresses import is_loopback
from cheapdeep_ops.settings import Settings

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

    def needs(self, role: Role) -> list[Any]:
        """FastAPI's dependencies of a path that needs this role; the OpenAPI document names it."""
        return [] if role is Role.READ and self.is_local else [self.caller(role)]

    def caller(self, role: Role) -> Any:
        """FastAPI's dependency whose value is the caller's token, for a path that needs this role."""
        return Security(self.check, scopes=[role.value])

    # Asynchronous, because FastAPI would give a plain function a thread of its pool, for which it might have to wait.
    async def check(self, scopes: SecurityScopes, bearer: Bearer) -> Token | None:
        """The token of the request. Raises HTTP error 401 or 403 unless it has the role in `scopes`."""
        token = None
        for role in map(Role, scopes.scopes):
            answer = self.allowed("" if bearer is None else bearer.credentials, role)
            if isinstance(answer, Refusal):
                raise http_error(answer)
            token = answer
        return token


def http_error(refusal: Refusal) -> HTTPException:
    """A refusal as FastAPI sends it."""
    return HTTPException(refusal.status, refusal.detail, refusal.headers)
