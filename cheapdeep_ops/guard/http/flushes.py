"""What routers without a database send, and how they follow the policies: flushes, candidates, and a long poll.

The work on the store runs in threads of its own, so that no number of routers keeps the other paths waiting.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from cheapdeep_ops.access.tokens import Role, Token
from cheapdeep_ops.budgets import Slices
from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.guard.http.access import Access
from cheapdeep_ops.guard.http.feed import FleetSnapshot
from cheapdeep_ops.guard.http.flush_bodies import (
    Join,
    all_routes,
    read_asks,
    read_candidates,
    read_flush,
    read_names,
)
from cheapdeep_ops.guard.http.senders import Senders
from cheapdeep_ops.guard.report_types.senders import (
    AdmittedNames,
    CandidatesAnswer,
    FleetNews,
    FlushAnswer,
    GrantsAnswer,
)
from cheapdeep_ops.recorder.wire import (
    AGE_HEADER,
    CANDIDATES_PATH,
    FLUSHES_PATH,
    LARGEST_BODY,
    LONGEST_POLL_S,
    NAMES_PATH,
    POLICIES_PATH,
    SLICES_PATH,
    WIRE_HEADER,
    WIRE_VERSION,
    BodyError,
    unpacked,
    written,
)
from cheapdeep_ops.store import admission, senders, slices
from cheapdeep_ops.store.admission import Limits
from cheapdeep_ops.store.direct import DirectStore
from cheapdeep_ops.store.fingerprint_key import fingerprint_key
from cheapdeep_ops.store.senders import SenderError, StaleFlushError, UnknownSenderError
from cheapdeep_ops.values import OTHER

_FLUSH_BODY: Final = {
    "type": "object",
    "required": ["beat"],
    "properties": {
        "process": {"type": "string", "description": "absent in the first request, whose answer has it"},
        "secret": {"type": "string"},
        "number": {"type": "integer", "description": "greater with each flush of the process"},
        "knows": {"type": "string", "description": "the tag of the policies that the sender knows"},
        "beat": {"type": "object", "description": "the heartbeat"},
        "buckets": {"type": "array", "items": {"type": "object"}, "description": "the counters of changed seconds"},
        "totals": {"type": "array", "items": {"type": "object"}, "description": "those since the process began"},
        "is_last": {"type": "boolean", "description": "whether the process ends"},
    },
}
_CANDIDATES_BODY: Final = {
    "type": "object",
    "required": ["process", "secret", "rows"],
    "properties": {
        "process": {"type": "string"},
        "secret": {"type": "string"},
        "rows": {"type": "array", "items": {"type": "object"}, "description": "the answers"},
    },
}

_NAMES_BODY: Final = {
    "type": "object",
    "required": ["names"],
    "properties": {"names": {"type": "array", "items": {"type": "array"}, "description": "pairs of route and class"}},
}

_SLICES_BODY: Final = {
    "type": "object",
    "required": ["holder", "number", "asks"],
    "properties": {
        "holder": {"type": "string", "description": "32 random hexadecimal digits of the process"},
        "number": {"type": "integer", "description": "greater with each request of the process"},
        "asks": {
            "type": "array",
            "items": {"type": "object"},
            "description": "for each budget and day: `day`, `budget`, `spent`, `ceiling`, `unpriced`, `limit` and "
            "`is_last`; money in billionths of a US dollar",
        },
    },
}

Covers = Callable[[str], bool]


def sending_paths(served: Senders, access: Access) -> APIRouter:
    """The paths for routers, which need a token that may send."""
    router = APIRouter()
    sender: Any = access.caller(Role.SEND)

    @router.post(FLUSHES_PATH, **_answering(FlushAnswer, "Store the counts of one router", _FLUSH_BODY))
    async def post_flush(request: Request, token: Token = sender) -> Response:
        """The present state of the changed seconds of one process; the response has the news for it."""
        return await _answer(served, request, partial(_store_flush, covers=_sent_by(token)), has_news=True)

    @router.post(CANDIDATES_PATH, **_answering(CandidatesAnswer, "Store answers for grading", _CANDIDATES_BODY))
    async def post_candidates(request: Request, token: Token = sender) -> Response:
        """Answers that may be graded, redacted by their router; those that are stored already stay as they are."""
        return await _answer(served, request, partial(_store_candidates, covers=_sent_by(token)))

    @router.post(NAMES_PATH, **_answering(AdmittedNames, "Admit routes and input classes", _NAMES_BODY))
    async def post_names(request: Request, token: Token = sender) -> Response:
        """The names of new routes and input classes; the response has all that count by name."""
        return await _answer(served, request, partial(_admit_names, limits=served.limits, covers=token.covers))

    @router.post(SLICES_PATH, **_answering(GrantsAnswer, "Grant slices of budgets", _SLICES_BODY))
    async def post_slices(request: Request, token: Token = sender) -> Response:
        """What one process has spent of budgets on a day; the response has how much more it may spend."""
        return await _answer(served, request, partial(_grant_slices, covers=_sent_by(token)))

    @router.get(POLICIES_PATH, dependencies=[sender], **_answering(FleetNews, "The policies, when they change"))
    async def get_policies(
        request: Request, wait_s: Annotated[float, Query(ge=0, le=LONGEST_POLL_S)] = 0.0
    ) -> Response:
        """All policies. With `If-None-Match`, they come when they change, or status 304 after `wait_s` seconds."""
        known = request.headers.get("if-none-match", "")
        try:
            _require_version(request)
            if known and wait_s:
                snapshot = await served.feed.other_than(known, within_s=wait_s)
            else:
                snapshot = await served.feed.newest()
        except (BodyError, StoreError) as error:
            return _refused(error, served)
        return _policies(snapshot, known, served.clock())

    return router


def _answering(model: Any, summary: str, body: Any = None) -> dict[str, Any]:
    """The documentation of a path: the type of its response, and the JSON schema of a body that it reads itself."""
    content = {"content": {"application/json": {"schema": body}}, "required": True}
    documented: dict[str, Any] = {"openapi_extra": {"requestBody": content}} if body else {}
    responses = {
        200: {"model": model},
        400: {"description": "The body is malformed or too large, or has another version"},
    }
    return {"response_model": None, "responses": responses, "summary": summary, **documented}


def _policies(snapshot: FleetSnapshot, known: str, now: float) -> Response:
    age = snapshot.age_s(now)
    headers = {"ETag": snapshot.etag, **({} if age is None else {AGE_HEADER: f"{age:.3f}"})}
    if snapshot.etag == known:
        return Response(status_code=304, headers=headers)
    return JSONResponse(snapshot.body(now), headers=headers)


def _store_flush(store: DirectStore, body: bytes, now: float, *, covers: Covers = all_routes) -> dict[str, Any]:
    """Store a flush, or register the process of a first one; returns the response to its sender.

    Raises BodyError and StoreError. Buckets of routes that its token does not cover are refused.
    """
    read = read_flush(body, now=now, covers=covers)
    if isinstance(read, Join):
        process, secret = senders.new_identity()
        senders.join(store, read.beat, process=process, secret=secret)
        # Only here: a store that was made anew has another key, and knows no process.
        key = fingerprint_key(store).hex()
        return {"process": process, "secret": secret, "number": 0, "rejected": [], "fingerprint_key": key}
    try:
        rejected = senders.apply_flush(store, read.flush)
    except StaleFlushError as error:
        return {"number": error.number, "rejected": [], "knows": read.knows}
    refused = [[*key, fault] for key, fault in read.refused]
    refused += [[row["route"], row["input_class"], row["at"], _plain(error)] for row, error in rejected]
    return {"number": read.flush.number, "rejected": refused, "knows": read.knows}


def _store_candidates(store: DirectStore, body: bytes, now: float, *, covers: Covers = all_routes) -> dict[str, Any]:
    """Store candidates of routes that the token covers; returns the response to their sender.

    Raises BodyError and StoreError.
    """
    identity, rows, refused = read_candidates(body, now=now, covers=covers)
    rejected = [*refused, *senders.apply_candidates(store, identity, rows)]
    return {"rejected": [[row.get("call_id"), _plain(error)] for row, error in rejected]}


def _admit_names(store: DirectStore, body: bytes, now: float, *, limits: Limits, covers: Covers) -> dict[str, Any]:
    """Admit the names that the sender may send, while there is room; all others are refused.

    Raises BodyError and StoreError.
    """
    asked = read_names(body)
    names = [name for name in asked if covers(name.route)]
    refused = [name for name in asked if not covers(name.route)]
    # A sender that may send none of them asks with each flush, and should take no transaction.
    if not names:
        return {**written(admission.read_admitted(store, limits)), "refused": refused}
    admitted = admission.admit(store, names, limits=limits, now=now)
    return {**written(admitted), "refused": refused}


def _grant_slices(store: DirectStore, body: bytes, now: float, *, covers: Covers) -> dict[str, Any]:
    """Note what a process has spent, and grant its next slices. Raises BodyError and StoreError."""
    read = read_asks(body, covers=covers)
    if read.asks:
        grants = slices.ask(store, read.holder, read.number, read.asks, now=now)
    else:
        grants = Slices([], slices.read_limits(store))
    return {"granted": grants.granted, "limits": grants.limits}


def _sent_by(token: Token) -> Covers:
    """Whether rows of a route may come from `token`."""
    # A covered route counts as `other` while there is no room for it, and its counts must not be lost.
    return lambda route: route == OTHER or token.covers(route)


async def _answer(
    served: Senders,
    request: Request,
    work: Callable[[DirectStore, bytes, float], dict[str, Any]],
    *,
    has_news: bool = False,
) -> Response:
    """The response to a body that is stored with `work` in one of the writing threads."""
    try:
        _require_version(request)
        with served.admitted(_declared(request)):
            body = await _body(request)
            encoding = request.headers.get("content-encoding", "")
            now = served.clock()
            answer = await served.write(lambda store: work(store, unpacked(body, encoding), now))
        if has_news:
            snapshot = await served.feed.newest()
            answer["news"] = snapshot.body(served.clock(), knows=answer.pop("knows", ""))
        return JSONResponse(answer)
    except (BodyError, StoreError) as error:
        return _refused(error, served)


def _require_version(request: Request) -> None:
    """Raises BodyError if the router speaks a version that this guard does not read."""
    version = request.headers.get(WIRE_HEADER, "")
    if version != str(WIRE_VERSION):
        raise BodyError(
            f"this guard reads version {WIRE_VERSION} of {WIRE_HEADER}, and the request has {version[:20] or 'none'}: "
            "install one version of cheapdeep_ops for routers and guard, the guard first"
        )


def _declared(request: Request) -> int:
    """The length that a request declares; the largest one if it declares none. Raises BodyError if it is too large."""
    declared = request.headers.get("content-length", "")
    size = int(declared) if declared.isascii() and declared.isdecimal() else LARGEST_BODY
    if size > LARGEST_BODY:
        raise BodyError(f"has more than {LARGEST_BODY} bytes")
    return size


async def _body(request: Request) -> bytes:
    """The body as it was sent. Raises BodyError as soon as it is too large."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST_BODY:
            raise BodyError(f"has more than {LARGEST_BODY} bytes")
        parts.append(part)
    return b"".join(parts)


def _refused(error: Exception, served: Senders) -> Response:
    if isinstance(error, BodyError):
        return JSONResponse({"detail": str(error)}, status_code=400)
    if isinstance(error, UnknownSenderError):
        return JSONResponse({"detail": str(error)}, status_code=404)
    if isinstance(error, SenderError):
        return JSONResponse({"detail": str(error)}, status_code=403)
    # Seconds with a fraction, which RFC 9110 does not have: only routers read it, and they spread better so.
    retry_after = f"{served.retry_after_s():.2f}"
    return PlainTextResponse(str(error), status_code=503, headers={"Retry-After": retry_after})


def _plain(error: Exception) -> str:
    """Why a row is rejected, without its values."""
    return str(error) if isinstance(error, (StoreError, BodyError)) else type(error).__name__
