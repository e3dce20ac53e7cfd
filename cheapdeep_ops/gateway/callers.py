"""Who calls: by its own key of the API, which goes upstream as it came."""

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cheapdeep_ops.gateway.headers import KEY_HEADERS, Headers, of_triage, value_of
from cheapdeep_ops.router.forwarding import ForwardingRouter

_MOST_VIEWS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The sender of a request. `fingerprint` is a hash of its key, by which it is known again; it is never shown."""

    fingerprint: str


class Callers:
    """Knows callers by their keys, and has a view of the router for each."""

    def __init__(self, router: ForwardingRouter) -> None:
        self._router = router
        self._views: OrderedDict[tuple[tuple[str, str], ...], ForwardingRouter] = OrderedDict()

    def of(self, headers: Headers) -> Caller | None:
        """The caller of a request; None if it has no key."""
        keys = [value_of(headers, name) for name in KEY_HEADERS]
        return Caller(fingerprint=sha256(b"\0".join(keys)).hexdigest()) if any(keys) else None

    def router_for(self, headers: Headers) -> ForwardingRouter:
        """The router that sends triage with the caller's key, version and betas."""
        own = of_triage(headers)
        key = tuple(sorted(own.items()))
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = self._router.for_caller(own)
            if len(self._views) > _MOST_VIEWS:
                self._views.popitem(last=False)
        self._views.move_to_end(key)
        return view
