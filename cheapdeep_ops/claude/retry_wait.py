"""A bound on how long the SDK waits before it asks again, because a server may tell it to wait for days.

The SDK obeys `Retry-After` whatever it says (since anthropic 1.6). A wait that is longer than the caller has given a
whole attempt is not begun: the error is raised at once.
"""

import email.utils
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final

import httpx2
from anthropic import APIRequest, APIResponse, AsyncAPIResponse, AsyncCallNext, CallNext, Middleware

_VERDICT: Final = "x-should-retry"
"""The header by which a server says whether the SDK may ask again; it obeys `false`."""


class _Patience:
    """How long one call's waits may be, and the headers that were changed to say so."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._changed: list[tuple[httpx2.Headers, str | None]] = []

    def bound(self, response: httpx2.Response) -> None:
        """Forbid the wait that `response` asks for, where it is too long."""
        wait_s = None if response.is_success else _retry_after_s(response.headers)
        if wait_s is not None and wait_s > self._seconds:
            self._changed.append((response.headers, response.headers.get(_VERDICT)))
            response.headers[_VERDICT] = "false"

    def restore(self) -> None:
        """Leave the responses as the server sent them: the caller's error has one of them."""
        for headers, sent in self._changed:
            if sent is None:
                headers.pop(_VERDICT, None)
            else:
                headers[_VERDICT] = sent


_patience: ContextVar[_Patience | None] = ContextVar("cheapdeep_patience", default=None)


class BoundedRetryWait(Middleware):
    """Keeps the SDK from waiting longer than `patient_for` has set for the call; to be a client's outermost."""

    def handle(self, request: APIRequest, call_next: CallNext) -> APIResponse[Any]:
        """Bound the wait that follows an attempt."""
        response = call_next(request)
        _bound(response)
        return response

    async def handle_async(self, request: APIRequest, call_next: AsyncCallNext) -> AsyncAPIResponse[Any]:
        """The same for asyncio."""
        response = await call_next(request)
        _bound(response)
        return response


@contextmanager
def patient_for(seconds: float | None) -> Iterator[None]:
    """Inside, no wait of the SDK that a server asks for is longer than `seconds`; None: any may be."""
    patience = None if seconds is None else _Patience(seconds)
    token = _patience.set(patience)
    try:
        yield
    finally:
        _patience.reset(token)
        if patience is not None:
            patience.restore()


def patience_s(timeout: object) -> float | None:
    """How many seconds an attempt with this timeout, the SDK's or httpx2's, may take; None where there is no bound."""
    if isinstance(timeout, httpx2.Timeout):
        parts = timeout.as_dict().values()
        timeout = max((part for part in parts if part is not None), default=None) if None not in parts else None
    with suppress(OverflowError):
        return float(timeout) if isinstance(timeout, int | float) else None
    return None


def _bound(response: object) -> None:
    """Bound a wait; never raises, whatever a server or another middleware gives."""
    patience = _patience.get()
    if patience is not None:
        with suppress(Exception):
            patience.bound(response.http_response)  # type: ignore[attr-defined]


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The seconds that a server asks for, as the SDK reads them: milliseconds first, then seconds, then a date."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            return float(headers[name]) * unit
        except (KeyError, ValueError):
            continue
    date = email.utils.parsedate_tz(headers.get("retry-after"))
    return None if date is None else email.utils.mktime_tz(date) - time.time()
