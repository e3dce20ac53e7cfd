"""API tokens, their roles, and the answer to a request that a token does not allow. Pure functions."""

import hashlib
import math
import secrets
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

PREFIX: Final = "cdk_"
"""The start of every token that is made here, by which secret scanners and redaction find one."""

SHORTEST: Final = 32
"""A secret with fewer characters may be guessed: 32 hexadecimal digits have 128 random bits."""

_ALPHABET: Final = string.ascii_letters + string.digits
_RANDOM_CHARACTERS: Final = 43
"""43 characters out of 62 have 256 random bits."""


class Role(StrEnum):
    """What a token allows."""

    READ = "read"
    """Read reports and metrics."""

    ACT = "act"
    """Change something: thresholds, silences, labels."""

    CONTENT = "content"
    """Read stored questions and answers."""

    SEND = "send"
    """Add counts and candidates and read policies, as a router does."""

    OUTCOME = "outcome"
    """Add what users say about an answer."""

    CALL = "call"
    """Make calls through the gateway, as `CallKey` says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallKey:
    """What a key of the gateway allows beside the routes of its token; only a token with the role `call` has one."""

    route: str = ""
    """The route of calls that name none; empty: the gateway's own default."""

    usd_per_day: float | None = None
    """The budget for all calls with this key, in US dollars for each day of UTC; None: no such budget."""

    deep_usd_per_day: float | None = None
    """As `usd_per_day`, for what the deep tier costs."""

    paths: tuple[str, ...] = ()
    """Further paths below `/v1` that are open to the key; a star at the end stands for all that begin so."""

    may_turn_off: bool = False
    """Whether `x-cheapdeep-mode: off` may send a call straight to the deep tier."""

    is_graded: bool = True
    """Whether answers to its calls may be graded."""

    def opens(self, path: str) -> bool:
        """Whether a path beside those for messages, their tokens and the models is open to the key."""
        # A path with dots or escapes may mean another path to the server behind.
        if any(part in {".", ".."} for part in path.split("/")) or "%" in path or "\\" in path or "//" in path:
            return False
        return any(path.startswith(each[:-1]) if each.endswith("*") else path == each for each in self.paths)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token without its secret."""

    name: str
    """Who holds it, for the history; empty for a token of `CHEAPDEEP_API_TOKENS`."""

    hash: str
    """The SHA-256 of the secret, 64 hexadecimal digits."""

    roles: frozenset[Role]
    routes: frozenset[str] | None = None
    """The routes to which all roles but `read` are limited; None: all routes."""

    expires_at: float | None = None
    """From this Unix time on the token allows nothing; None: it does not expire."""

    call: CallKey = CallKey()
    """What it allows at the gateway, if it has the role `call`."""

    def covers(self, route: str) -> bool:
        """Whether the token allows its roles, other than `read`, on this route; `*` stands for all routes."""
        return self.routes is None or route in self.routes

    def author(self, given: str) -> str:
        """Who has made a change: the token's name, which is proven, and beside it the name that the request gives."""
        if not self.name:
            return given
        return self.name if given in ("", self.name) else f"{self.name} ({given})"

    def has_expired(self, now: float) -> bool:
        """Whether the token has expired at `now`, a Unix time."""
        return self.expires_at is not None and now >= self.expires_at


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused, with the status and the headers of RFC 6750 (section 3) and RFC 6585 (section 4)."""

    status: Literal[401, 403, 429]
    detail: str
    error: Literal["", "invalid_token", "insufficient_scope"] = ""
    """RFC 6750's error code; empty if the request has no token."""

    scope: str = ""
    """The role that the request needs."""

    wait_s: float = 0.0
    """How long the peer must wait, in seconds; only with status 429."""

    @property
    def headers(self) -> dict[str, str]:
        """The response header: `WWW-Authenticate`, or with status 429 `Retry-After`."""
        if self.wait_s:
            return {"Retry-After": str(math.ceil(self.wait_s))}
        fields = [f'{name}="{value}"' for name, value in (("error", self.error), ("scope", self.scope)) if value]
        return {"WWW-Authenticate": " ".join(filter(None, ("Bearer", ", ".join(fields))))}


NO_TOKENS: Final = Refusal(
    403, "set CHEAPDEEP_API_TOKENS_FILE or CHEAPDEEP_API_TOKENS to allow this over HTTP, or use the command line"
)


def missing(role: Role) -> Refusal:
    """The refusal of a request without a token."""
    return Refusal(401, f"needs a token with the role {role}")


def invalid(role: Role) -> Refusal:
    """The refusal of a token that is unknown, revoked or expired; these must not differ for the caller."""
    return Refusal(401, f"needs a valid token with the role {role}", "invalid_token")


def too_many_guesses(wait_s: float) -> Refusal:
    """The refusal of a peer that has tried too many wrong tokens."""
    return Refusal(429, "too many wrong tokens came from this address: try again later", wait_s=wait_s)


def lacks_role(role: Role) -> Refusal:
    """The refusal of a valid token without the role."""
    return Refusal(403, f"this token does not have the role {role}", "insufficient_scope", role)


def lacks_route(role: Role) -> Refusal:
    """The refusal of a valid token that is limited to other routes."""
    # Without the route, which may be one that this token must not learn about.
    return Refusal(403, "this token is limited to other routes", "insufficient_scope", role)


def is_short(secret: str) -> bool:
    """Whether a secret is so short that it may be guessed."""
    return len(secret) < SHORTEST


def new_secret(choose: Callable[[Sequence[str]], str] = secrets.choice) -> str:
    """A new secret with 256 random bits; `choose` must be a cryptographic source of randomness."""
    return PREFIX + "".join(choose(_ALPHABET) for _ in range(_RANDOM_CHARACTERS))


def hash_of(secret: str) -> str:
    """The SHA-256 of a secret, in hexadecimal digits.

    A fast hash without salt is enough: a secret of 256 random bits cannot be guessed. NIST SP 800-63B asks for salt and
    a slow function below 112 bits only (section 5.1.2.2).
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
