"""Limit how long the SDK waits before a retry, because a server may ask it to wait for days.

Since anthropic 1.6 the SDK obeys any `Retry-After`. If the wait is longer than one attempt's timeout, the call fails at
once.
"""

import email.utils
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final

import httpx2
from anthropic import APIRequest, APIResponse, AsyncAPIResponse, AsyncCallNext, CallNext, Middleware

_SHOULD_RETRY: Final = "x-should-retry"
"""The header in which a server says whether the SDK may retry; the SDK obeys `false`."""


class _WaitLimit:
    """The longest wait of one call, and the headers that were changed to enforce it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._changed: list[tuple[httpx2.Headers, str | None]] = []

    def apply(self, response: httpx2.Response) -> None:
        """Forbid the retry if `response` asks for a longer wait."""
        wait_s = None if response.is_success else _retry_after_s(response.headers)
        if wait_s is not None and wait_s > self._seconds:
            self._changed.append((response.headers, response.headers.get(_SHOULD_RETRY)))
            response.headers[_SHOULD_RETRY] = "false"

    def restore(self) -> None:
        """Undo the changes of headers."""
        # The caller's error shows the response, which must be as the server sent it.
        for headers, original in self._changed:
            if original is None:
                headers.pop(_SHOULD_RETRY, None)
            else:
                headers[_SHOULD_RETRY] = original


_wait_limit: ContextVar[_WaitLimit | None] = ContextVar("cheapdeep_wait_limit", default=None)


_failed_attempt: ContextVar[Any] = ContextVar("cheapdeep_failed_attempt", default=None)


class BoundedRetryWait(Middleware):
    """Enforces `retry_wait_limit` on the SDK's retries; it must be a client's outermost middleware."""

    def handle(self, request: APIRequest, call_next: CallNext) -> APIResponse[Any]:
        """Send the request and limit the wait after it."""
        response = _outcome_before(request) or call_next(request)
        _limit_wait(response)
        return response

    async def handle_async(self, request: APIRequest, call_next: AsyncCallNext) -> AsyncAPIResponse[Any]:
        """Send the request and limit the wait after it, with asyncio."""
        response = _outcome_before(request) or await call_next(request)
        _limit_wait(response)
        return response


@contextmanager
def after_failed_attempt(outcome: object) -> Iterator[None]:
    """Inside the block, the SDK's first attempt is one that was made before: it had this error or response.

    So the SDK decides on a retry, waits, and counts the attempts, as if it had sent that request.
    """
    token = _failed_attempt.set(outcome)
    try:
        yield
    finally:
        _failed_attempt.reset(token)


def _outcome_before(request: APIRequest) -> Any:
    """The response to an attempt that was made before. Raises its error; None if there was none."""
    outcome = _failed_attempt.get() if request.retries_taken == 0 else None
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


@contextmanager
def retry_wait_limit(seconds: float | None) -> Iterator[None]:
    """Inside the block, the SDK does not retry if a server asks for a wait over `seconds`; None sets no limit."""
    # Calls share a client and its middleware, so each call's limit is in a context variable.
    limit = None if seconds is None else _WaitLimit(seconds)
    token = _wait_limit.set(limit)
    try:
        yield
    finally:
        _wait_limit.reset(token)
        if limit is not None:
            limit.restore()


def attempt_limit_s(timeout: object) -> float | None:
    """How many seconds one attempt may take with this timeout of the SDK or of httpx2; None if unbounded."""
    if isinstance(timeout, httpx2.Timeout):
        parts = timeout.as_dict().values()
        timeout = max((part for part in parts if part is not None), default=None) if None not in parts else None
    with suppress(OverflowError):
        return float(timeout) if isinstance(timeout, int | float) else None
    return None


def _limit_wait(response: object) -> None:
    limit = _wait_limit.get()
    if limit is not None:
        # A server's malformed header or another middleware's response must not fail the call.
        with suppress(Exception):
            limit.apply(response.http_response)  # type: ignore[attr-defined]


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The wait in seconds that a server asks for; None if it asks for none."""
    # The SDK reads them in this order: milliseconds, seconds, a date.
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            return float(headers[name]) * unit
        except (KeyError, ValueError):
            continue
    date = email.utils.parsedate_tz(headers.get("retry-after"))
    return None if date is None else email.utils.mktime_tz(date) - time.time()
