"""Which headers of a request and of a response pass through the gateway, and what its own headers say."""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

from cheapdeep_ops.router.forwarding import Outline

Headers = Sequence[tuple[bytes, bytes]]
"""Names, in lower case, and values as they came."""

_OWN: Final = b"x-cheapdeep-"
_HOP_BY_HOP: Final = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
        b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
"""Headers for one connection only. Source: RFC 9110, section 7.6.1, and RFC 2616, section 13.5.1."""

_OF_THE_REQUEST: Final = frozenset({b"host", b"content-length", b"expect"})
"""Headers that the gateway's own request to the API has anew."""

_FROM_TRIAGE: Final = (b"anthropic-", b"request-id", b"retry-after")
"""How those headers of a triage reply begin that say something of the caller's account or request."""

KEY_HEADERS: Final = (b"x-api-key", b"authorization")
_IN_TRIAGE: Final = (*KEY_HEADERS, b"anthropic-version", b"anthropic-beta")
"""The caller's headers that triage has too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """What a caller says of a call by its headers."""

    route: str | None
    input_class: str
    conversation: str
    is_off: bool
    """Whether the deep tier is to answer, without triage."""
    may_be_graded: bool

    def changed(self, *, route: str | None, may_be_graded: bool) -> Self:
        """The options with these two."""
        return replace(self, route=route, may_be_graded=may_be_graded)


def call_options(headers: Headers) -> CallOptions:
    """The options of a call; header values are read as UTF-8."""
    own = {name[len(_OWN) :]: _text(value) for name, value in headers if name.startswith(_OWN)}
    return CallOptions(
        route=own.get(b"route") or None,
        input_class=own.get(b"input-class", ""),
        conversation=own.get(b"conversation", ""),
        is_off=own.get(b"mode", "").lower() == "off",
        may_be_graded=own.get(b"grading", "").lower() != "off",
    )


def _text(value: bytes) -> str:
    return value.strip().decode("utf-8", "replace").replace("\0", "")


def value_of(headers: Headers, name: bytes) -> bytes:
    """The value of a header; empty if it is absent. Values of a repeated header are joined by commas."""
    return b", ".join([value for each, value in headers if each == name])


def to_upstream(headers: Headers, *, without: Container[bytes] = ()) -> list[tuple[bytes, bytes]]:
    """The caller's headers for the API, without those of the connection and of the gateway."""
    dropped = _connection_options(headers)
    return [
        (name, value)
        for name, value in headers
        if not (
            name in _HOP_BY_HOP
            or name in _OF_THE_REQUEST
            or name in dropped
            or name in without
            or name.startswith(_OWN)
        )
    ]


def to_caller(headers: Iterable[tuple[bytes, bytes]], *, without: Container[bytes] = ()) -> list[tuple[bytes, bytes]]:
    """The API's headers for the caller, without those of the connection."""
    lowered = [(name.lower(), value) for name, value in headers]
    dropped = _connection_options(lowered)
    return [
        (name, value)
        for name, value in lowered
        if not (name in _HOP_BY_HOP or name in dropped or name in without or name.startswith(_OWN))
    ]


def _connection_options(headers: Headers) -> set[bytes]:
    """The headers that `Connection` names as its own."""
    return {part.strip().lower() for name, value in headers if name == b"connection" for part in value.split(b",")}


def of_triage(headers: Headers) -> dict[str, str]:
    """The caller's headers that triage has too: its key, and version and betas of the API."""
    return {
        name.decode(): value_of(headers, name).decode("latin-1")
        for name in _IN_TRIAGE
        if any(each == name for each, _ in headers)
    }


def from_triage(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of a triage reply for the caller."""
    lowered = ((name.lower(), value) for name, value in headers)
    return [(name, value) for name, value in lowered if name.startswith(_FROM_TRIAGE)]


def of_the_call(outline: Outline) -> list[tuple[bytes, bytes]]:
    """The gateway's own headers: what is known of the call when its response begins."""
    known = {
        b"call-id": outline.call_id,
        b"tier": outline.tier,
        b"confidence": outline.confidence,
        b"threshold": outline.threshold,
        b"reason": outline.reason,
        b"cost-usd": None if outline.cost_usd is None else f"{outline.cost_usd:.8f}",
    }
    return [(_OWN + name, str(value).encode()) for name, value in known.items() if value is not None]
