"""Sends requests to the API as they came, and gives its responses back as they come."""

import logging
from typing import Any, Final

import httpx2

from cheapdeep_ops.gateway.exchange import CallerGoneError, HttpExchange
from cheapdeep_ops.gateway.headers import to_caller, to_upstream, value_of

_log: Final = logging.getLogger(__name__)
_PLAIN: Final = (b"accept-encoding", b"identity")


class Upstream:
    """The API at `base_url`, over the connections of `http`."""

    def __init__(self, http: httpx2.AsyncClient, base_url: str) -> None:
        self._http, self._base = http, base_url.rstrip("/")

    def message_request(self, exchange: HttpExchange, body: bytes) -> httpx2.Request:
        """The caller's request for a message, with its bytes."""
        # What the gateway counts in a reply it must be able to read.
        headers = [*to_upstream(exchange.headers, without={b"accept-encoding"}), _PLAIN]
        return self._request(exchange, headers, content=body)

    def request(self, exchange: HttpExchange) -> httpx2.Request:
        """The caller's request, whose body is sent as it comes."""
        headers = to_upstream(exchange.headers)
        if not exchange.has_body:
            return self._request(exchange, headers, content=b"")
        length = value_of(exchange.headers, b"content-length")
        # Of a body in chunks it says nothing (RFC 9112, section 6.3), and the API would read it otherwise.
        if length and not value_of(exchange.headers, b"transfer-encoding"):
            headers.append((b"content-length", length))
        return self._request(exchange, headers, content=exchange.body_parts())

    def _request(self, exchange: HttpExchange, headers: list[tuple[bytes, bytes]], **content: Any) -> httpx2.Request:
        query = b"?" + exchange.query if exchange.query else b""
        url = self._base + (exchange.path + query).decode("latin-1")
        timeout = {"timeout": self._http.timeout.as_dict()}
        return httpx2.Request(exchange.method, url, headers=headers, extensions=timeout, **content)

    async def send(self, request: httpx2.Request) -> httpx2.Response:
        """The response, of which the body is not read yet. Raises errors of httpx2."""
        return await self._http.send(request, stream=True, follow_redirects=False)

    async def pass_on(self, exchange: HttpExchange, request: httpx2.Request) -> None:
        """Send a request, and its response to the caller as it comes."""
        try:
            response = await self.send(request)
        except CallerGoneError:
            return
        except httpx2.HTTPError as error:
            # A transport may tell so that the body has no end.
            if not exchange.caller_has_gone:
                await refuse_unreachable(exchange, error)
            return
        try:
            await exchange.begin(response.status_code, to_caller(response.headers.raw))
            async for part in response.aiter_raw():
                await exchange.write(part)
            await exchange.end()
        except httpx2.HTTPError as error:
            # Without an end, so that the caller's connection breaks off too.
            _log.warning("a response of the API broke off: %s", type(error).__name__)
        finally:
            await response.aclose()


async def refuse_unreachable(exchange: HttpExchange, error: BaseException) -> None:
    """Answer a request that got no response from the API."""
    _log.warning("the API did not answer: %s", type(error).__name__)
    if isinstance(error, httpx2.TimeoutException):
        await exchange.refuse(504, "timeout_error", "The gateway waited too long for the API.")
    else:
        await exchange.refuse(502, "api_error", "The gateway got no answer from the API.")
