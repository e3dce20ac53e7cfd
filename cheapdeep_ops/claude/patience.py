"""A bound on how long the SDK waits before it asks again, because a server may tell it to wait for days.

The SDK obeys `Retry-After` whatever it says (since anthropic 1.6). Whoever set a timeout meant to have an answer or an
error within about that time: a wait that would reach beyond it is not begun, and the error is raised at once.
"""

import email.utils
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import httpx2
from anthropic import APIRequest, APIResponse, AsyncAPIResponse, AsyncCallNext, CallNext, Middleware

_FORBIDDEN: Final = "x-should-retry"
"""The header by which a server says whether the SDK may ask again; it obeys `false`."""

_until: ContextVar[float | None] = ContextVar("cheapdeep_patient_until", default=None)


class BoundedWaits(Middleware):
    """Keeps the SDK from waiting beyond what `patient_until` has set for the call."""

    def handle(self, request: APIRequest, call_next: CallNext) -> APIResponse[Any]:
        """Bound the wait that follows an attempt."""
        response = call_next(request)
        _bound(response.http_response)
        return response

    async def handle_async(self, request: APIRequest, call_next: AsyncCallNext) -> AsyncAPIResponse[Any]:
        """The same for asyncio."""
        response = await call_next(request)
        _bound(response.http_response)
        return response


@contextmanager
def patient_until(moment: float | None) -> Iterator[None]:
    """Inside, no wait of the SDK reaches beyond `moment`, in seconds of `time.perf_counter`; None: all may."""
    token = _until.set(moment)
    try:
        yield
    finally:
        _until.reset(token)


def patience_s(timeout: object) -> float | None:
    """For how many seconds a caller with this timeout waits, the SDK's or httpx2's; None where there is no bound."""
    if isinstance(timeout, httpx2.Timeout):
        timeout = timeout.read
    return float(timeout) if isinstance(timeout, int | float) else None


def _bound(response: httpx2.Response) -> None:
    until = _until.get()
    if until is None or response.is_success:
        return
    wait_s = _retry_after_s(response.headers)
    if wait_s is not None and time.perf_counter() + wait_s > until:
        response.headers[_FORBIDDEN] = "false"


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The seconds that a server asks for, as the SDK reads them: milliseconds first, then seconds, then a date."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            return float(headers[name]) * unit
        except (KeyError, ValueError):
            continue
    date = email.utils.parsedate_tz(headers.get("retry-after"))
    return None if date is None else email.utils.mktime_tz(date) - time.time()
