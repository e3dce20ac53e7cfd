"""What a router and a guard agree on when they talk over HTTP: paths, headers, bounds, and how bodies are written."""

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cheapdeep_ops.admission import Admitted
from cheapdeep_ops.values import Name

FLUSHES_PATH: Final = "/api/v1/flushes"
CANDIDATES_PATH: Final = "/api/v1/candidates"
POLICIES_PATH: Final = "/api/v1/policies"
NAMES_PATH: Final = "/api/v1/names"
SLICES_PATH: Final = "/api/v1/budgets/slices"

WIRE_HEADER: Final = "Cheapdeep-Wire"
"""The request header with the version of these bodies. A guard ignores fields that it does not know."""

WIRE_VERSION: Final = 1
"""Grows only with a change that an older guard would misread."""

VERSION_HEADER: Final = "Cheapdeep-Api-Version"
"""The header with the version of the API, in every response of a guard below `/api`."""

AGE_HEADER: Final = "Cheapdeep-Evaluated-Age"
"""The response header with the age of the acting guard's last evaluation in seconds; absent if there was none."""

LARGEST_BODY: Final = 8_000_000
"""The largest body in bytes that is accepted, before and after decompression."""

LARGEST_SENT: Final = 4_000_000
"""The largest body in bytes that a router writes if it can split its rows."""

LONGEST_POLL_S: Final = 30.0
"""The longest time for which a guard holds a request for policies."""

SLOWEST_FLUSH_S: Final = 30.0
FLUSHES_A_SECOND: Final = 400
"""The number of flushes a second that the guards of one store ask of all routers together."""

_WORTH_PACKING: Final = 1_000
_QUICK: Final = 1


class BodyError(ValueError):
    """A body is too large, or cannot be decompressed."""


def flush_interval_s(routers: int) -> float:
    """The shortest interval of flushes in seconds that a guard asks for while `routers` routers are alive: 0 to 30."""
    # So the fleet's flushes a second stay bounded, however many routers there are, up to twelve thousand.
    return min(routers / FLUSHES_A_SECOND, SLOWEST_FLUSH_S)


def compact(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`rows` without the name of their process, and without counters that are zero or empty."""
    return [{key: value for key, value in row.items() if key != "process" and value not in (0, {})} for row in rows]


def written(admitted: Admitted) -> dict[str, Any]:
    """The admitted names as JSON."""
    return {
        "version": admitted.version,
        "max_routes": admitted.max_routes,
        "max_classes": admitted.max_classes,
        "called": [[name.route, name.input_class, at] for name, at in admitted.called.items()],
    }


def admitted_in(body: Mapping[str, Any]) -> Admitted:
    """The admitted names that `written` wrote."""
    called = {Name(route, input_class): at for route, input_class, at in body["called"]}
    limits = {each: body[each] for each in ("max_routes", "max_classes")}
    return Admitted(called=called, version=body["version"], **limits)


def encoded(body: Mapping[str, Any]) -> bytes:
    """A body as JSON in UTF-8."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def packed(body: bytes) -> tuple[bytes, dict[str, str]]:
    """A body as it is sent, compressed if that is worth it, and its headers."""
    headers = {"Content-Type": "application/json", WIRE_HEADER: str(WIRE_VERSION)}
    if len(body) < _WORTH_PACKING:
        return body, headers
    return gzip.compress(body, _QUICK, mtime=0), {**headers, "Content-Encoding": "gzip"}


def unpacked(body: bytes, encoding: str) -> bytes:
    """A received body, decompressed. Raises BodyError if it is too large, malformed, or of another encoding."""
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise BodyError(f"needs Content-Encoding gzip or none, and not {encoding[:20]!r}")
    reader = zlib.decompressobj(wbits=31)  # with gzip's header
    try:
        whole = reader.decompress(body, LARGEST_BODY + 1)
    except zlib.error:
        raise BodyError("is not gzip") from None
    if len(whole) > LARGEST_BODY:
        raise BodyError(f"has more than {LARGEST_BODY} bytes when it is decompressed")
    if not reader.eof:
        raise BodyError("is cut off")
    return whole
