"""An HTTP address for messages: one request with a time limit, and the delivery's result from its response."""

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Final
from urllib.request import getproxies, proxy_bypass

import httpx2

from cheapdeep_ops.errors import DeliveryError
from cheapdeep_ops.guard.notify.sender import wait_asked_for

_TIMEOUT_S: Final = 5.0
"""For a whole request: connection, TLS, body, and the head of the response."""

_RETRIED: Final = frozenset({408, 425, 429})
_TOO_MANY: Final = 429
_SERVER_ERROR: Final = 500
_UNREACHABLE: Final = (httpx2.TransportError, OSError)


class HttpEndpoint:
    """The address `url`, which errors call `name`. No log and no error contains the address or a body.

    TLS certificates are verified, and the proxies of the environment are used. Redirects are not followed. Raises
    httpx2.InvalidURL if `url` is not a URL.
    """

    def __init__(self, url: str, *, name: str, clock: Callable[[], float] = time.time) -> None:
        self._url = httpx2.URL(url)
        self._name = name
        self._clock = clock

    @property
    def host(self) -> str:
        """The host of the address."""
        return self._url.host

    def post(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Post `body`.

        Raises DeliveryError unless the response is 2xx. The error is final, except after 408, 425, 429, 5xx and
        failures of the network.
        """
        response = self._send("POST", body, headers)
        if not response.is_success:
            raise self._refusal(response)

    def head(self) -> int:
        """Send a HEAD request; returns the status. Raises DeliveryError if the address is out of reach."""
        return self._send("HEAD", b"", {}).status_code

    def _send(self, method: str, body: bytes, headers: Mapping[str, str]) -> httpx2.Response:
        try:
            return asyncio.run(self._request(method, body, headers))
        except _UNREACHABLE as error:
            why = f"{self._name} is out of reach: {type(error).__name__}"  # its text may contain the address
            raise DeliveryError(why, unreachable=True) from None

    async def _request(self, method: str, body: bytes, headers: Mapping[str, str]) -> httpx2.Response:
        """The answer's status and headers; its body is not read.

        Asynchronous only for the timeout: httpx2 limits each read, so a slow answer of single bytes would never end.
        """
        request = httpx2.Request(method, self._url, headers={"User-Agent": "cheapdeep-ops", **headers}, content=body)
        request.extensions["timeout"] = httpx2.Timeout(_TIMEOUT_S).as_dict()
        # The transport itself, because a client logs whole addresses, and this one may contain a secret.
        transport = httpx2.AsyncHTTPTransport(verify=self._tls, proxy=self._proxy)
        async with asyncio.timeout(_TIMEOUT_S), transport:
            response = await transport.handle_async_request(self._authorized(request))
            await response.aclose()
            return response

    def _authorized(self, request: httpx2.Request) -> httpx2.Request:
        """The request with the user and the password of the address, if it has them."""
        if not self._url.userinfo:
            return request
        return next(httpx2.BasicAuth(self._url.username, self._url.password).auth_flow(request))

    @cached_property
    def _tls(self) -> ssl.SSLContext | bool:
        """The trusted certificates; loaded once, because loading takes longer than a request."""
        return httpx2.create_ssl_context() if self._url.scheme == "https" else False

    @property
    def _proxy(self) -> str | None:
        """The proxy that the environment names for the address."""
        proxies = getproxies()
        return None if proxy_bypass(self._url.host) else proxies.get(self._url.scheme, proxies.get("all"))

    def _refusal(self, response: httpx2.Response) -> DeliveryError:
        # Without the body of the answer, because it may repeat the message.
        status = response.status_code
        if status in _RETRIED or status >= _SERVER_ERROR:
            return DeliveryError(
                f"{self._name} answered {status}",
                retry_after_s=wait_asked_for(response.headers.get("retry-after"), self._clock()),
                unreachable=status >= _SERVER_ERROR or status == _TOO_MANY,
            )
        why = "redirects are not followed" if response.is_redirect else "the message is not sent again"
        return DeliveryError(f"{self._name} answered {status}: {why}", is_final=True)
