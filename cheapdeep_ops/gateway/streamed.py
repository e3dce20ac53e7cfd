"""Gives a routed stream to its caller: status and headers with the first verdict, then the events as they come."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

import httpx2
from pydantic_core import from_json

from cheapdeep_ops.claude.forwarded import StreamedError, response_of
from cheapdeep_ops.errors import BudgetError
from cheapdeep_ops.gateway.events import PING, STREAM_HEADERS, error_event, part_bytes
from cheapdeep_ops.gateway.exchange import HttpExchange, error_body
from cheapdeep_ops.gateway.forwarded_call import ForwardedCall
from cheapdeep_ops.gateway.headers import from_triage, of_the_call, to_caller
from cheapdeep_ops.router.error_decision import decision_of
from cheapdeep_ops.router.forwarding import outline_of
from cheapdeep_ops.router.streams import AsyncRoutedStream
from cheapdeep_ops.values import Decision

_log: Final = logging.getLogger(__name__)
_Opening = Coroutine[Any, Any, AsyncRoutedStream]


async def answer_streamed(
    exchange: HttpExchange,
    opening: _Opening,
    call: ForwardedCall,
    *,
    status_within_s: float,
    on_end: Callable[[Decision], None],
) -> None:
    """Answer with the stream that `opening` opens; `on_end` gets the decision of the call when it ends or has failed.

    If no tier has answered within `status_within_s`, the response begins with a ping, and goes on with one each time
    that it has waited so long again. Raises the error of a call that failed before the response began.
    """
    try:
        stream = await _opened(exchange, opening, call, status_within_s)
    except Exception as error:
        if not exchange.has_begun:
            raise
        if (decision := decision_of(error)) is not None:
            on_end(decision)
        await exchange.end(error_event(_error_data(error)))
        return
    try:
        await _pass_parts(exchange, stream)
    finally:
        await stream.close()
        if stream.decision is not None:
            on_end(stream.decision)


async def _opened(
    exchange: HttpExchange, opening: _Opening, call: ForwardedCall, status_within_s: float
) -> AsyncRoutedStream:
    """The open stream. Raises the error of a call that failed."""
    task = asyncio.ensure_future(opening)
    try:
        while not (await asyncio.wait({task}, timeout=status_within_s))[0]:
            if not exchange.has_begun:
                own = of_the_call(call.outline) if call.outline is not None else ()
                await exchange.begin(200, [*STREAM_HEADERS, *own])
            await exchange.write(PING)
    except BaseException:
        # The caller has gone.
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled() and task.exception() is None:
            await task.result().close()
        raise
    if task.cancelled():
        raise given_up()
    return task.result()


def given_up() -> httpx2.ReadTimeout:
    """The error of a call that ends as cancelled, although its caller is there and the gateway goes on.

    On a machine that is too busy, the HTTP client may end a wait so when two of its time limits pass at once.
    """
    return httpx2.ReadTimeout("the wait for the API was given up")


async def _pass_parts(exchange: HttpExchange, stream: AsyncRoutedStream) -> None:
    result, headers = stream.result, stream.response.headers.raw
    is_forwarded = result is not None and result.answered.ask.kind == "original"
    if not exchange.has_begun:
        own = () if result is None else of_the_call(outline_of(stream.call, result))
        passed = to_caller(headers) if is_forwarded else [*STREAM_HEADERS, *from_triage(headers)]
        await exchange.begin(stream.response.status_code, [*passed, *own])
    try:
        async for part in stream.parts():
            await exchange.write(part_bytes(part))
    except StreamedError:
        pass  # the caller has got the event
    except Exception as error:  # noqa: BLE001 - the response has begun
        if is_forwarded:
            _log.warning("the stream of the API broke off: %s", type(error).__name__)
            return  # without an end, so that the caller's connection breaks off too
        await exchange.end(error_event(_error_data(error)))
        return
    await exchange.end()


def _error_data(error: Exception) -> object:
    """The API's error object, or one of the gateway's in that form."""
    if isinstance(error, BudgetError):
        return error_body("billing_error", str(error))
    response = response_of(error)
    if response is not None:
        with suppress(ValueError):
            data = from_json(response.content)
            if isinstance(data, dict) and data.get("type") == "error":
                return data
    return error_body("api_error", "The answer broke off.")
