"""Who calls: by its own key of the API, which goes upstream, or by a key of the gateway, which stays here."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NamedTuple

from cheapdeep_ops.access.known_tokens import KnownTokens
from cheapdeep_ops.access.tokens import Refusal, Role, Token
from cheapdeep_ops.gateway.headers import KEY_HEADERS, CallOptions, Headers, of_triage, value_of
from cheapdeep_ops.router.forwarding import ForwardingRouter
from cheapdeep_ops.values import DEFAULT_ROUTE

_MOST_VIEWS: Final = 500
_BEARER: Final = b"bearer "
_MODELS: Final = "/v1/models/"


class Refused(NamedTuple):
    """Why a request is refused, in the words of the API. `kind` is the type of the error."""

    status: int
    kind: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The sender of a request.

    `fingerprint` is a hash of its key, by which it is known again; it is never shown. `headers` are those of the
    request with the key of the API. `token` is its key of the gateway; None if it has sent its own key of the API.
    """

    fingerprint: str
    headers: Headers
    token: Token | None = None

    @property
    def name(self) -> str:
        """The name of its key of the gateway; empty if it has none."""
        return "" if self.token is None else self.token.name

    def permitted(self, options: CallOptions) -> CallOptions | Refused:
        """The options of a call, as far as its key permits them."""
        if self.token is None:
            return options
        token, key = self.token, self.token.call
        only = next(iter(token.routes)) if token.routes is not None and len(token.routes) == 1 else ""
        route = options.route or key.route or only or None
        if not token.covers(route or DEFAULT_ROUTE):
            return Refused(403, "permission_error", "This key does not permit this route (x-cheapdeep-route).")
        if options.is_off and not key.may_turn_off:
            return Refused(403, "permission_error", "This key does not permit x-cheapdeep-mode: off.")
        return options.changed(route=route, may_be_graded=options.may_be_graded and key.is_graded)

    def may_ask(self, method: str, path: bytes) -> bool:
        """Whether a path beside that for messages is open to its key."""
        # The API's key can read and delete the files and batches of all callers that share it.
        if self.token is None:
            return True
        text = path.decode("latin-1")
        is_model = text.startswith(_MODELS) and text.removeprefix(_MODELS).replace("-", "").replace(".", "").isalnum()
        is_open = (method == "POST" and text == "/v1/messages/count_tokens") or (
            method == "GET" and (text == "/v1/models" or is_model)
        )
        return is_open or self.token.call.opens(text)


class GatewayKeys:
    """The keys of the gateway, for which the API gets the headers `credentials`."""

    def __init__(self, known: KnownTokens, credentials: Headers) -> None:
        self._known, self._credentials = known, credentials

    @property
    def budgets(self) -> dict[str, tuple[float | None, float | None]]:
        """The US dollars a day of each key, for all its calls and for the deep tier."""
        keys = [token for token in self._known.tokens if Role.CALL in token.roles]
        return {token.name: (token.call.usd_per_day, token.call.deep_usd_per_day) for token in keys}

    def caller_of(self, headers: Headers) -> Caller | Refused:
        """The caller of a request."""
        token = self._known.allowed(_secret(headers), Role.CALL)
        if isinstance(token, Refusal):
            # As the API says it, so that clients know what to do.
            if token.status == 403:  # noqa: PLR2004 - a status
                return Refused(403, "permission_error", f"This key lacks the role {Role.CALL}.")
            return Refused(401, "authentication_error", "invalid x-api-key")
        others = [(name, value) for name, value in headers if name not in KEY_HEADERS]
        return Caller(fingerprint=token.hash, headers=[*others, *self._credentials], token=token)


def _secret(headers: Headers) -> str:
    """The key of a request, from the header for keys or the one for tokens; empty if it has none."""
    key = value_of(headers, b"x-api-key").strip()
    bearer = value_of(headers, b"authorization").strip()
    if not key and bearer.lower().startswith(_BEARER):
        key = bearer[len(_BEARER) :].strip()
    return key.decode("utf-8", "replace")


def _by_own_key(headers: Headers) -> Caller | None:
    keys = [value_of(headers, name) for name in KEY_HEADERS]
    return Caller(fingerprint=sha256(b"\0".join(keys)).hexdigest(), headers=headers) if any(keys) else None


class Callers:
    """Knows callers by their keys, and has a view of the router for each key of the API.

    Without `keys`, callers send their own keys of the API.
    """

    def __init__(self, router: ForwardingRouter, keys: GatewayKeys | None = None) -> None:
        self._router = router
        self.of: Callable[[Headers], Caller | Refused | None] = _by_own_key if keys is None else keys.caller_of
        """From the headers of a request to its caller; None if it has no key, so that the API refuses it."""
        self._views: OrderedDict[tuple[tuple[str, str], ...], ForwardingRouter] = OrderedDict()

    def router_for(self, caller: Caller) -> ForwardingRouter:
        """The router that sends triage with the caller's key of the API, version and betas."""
        own = of_triage(caller.headers)
        key = tuple(sorted(own.items()))
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = self._router.for_caller(own)
            if len(self._views) > _MOST_VIEWS:
                self._views.popitem(last=False)
        self._views.move_to_end(key)
        return view
