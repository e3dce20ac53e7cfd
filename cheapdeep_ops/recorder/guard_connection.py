"""One kept HTTP connection to a guard: with timeouts, the system's certificate authorities, and proxies."""

import base64
import http.client
import json
import select
import socket
import ssl
import threading
from contextlib import suppress
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from cheapdeep_ops.errors import StoreError
from cheapdeep_ops.recorder.destination import AskedToWaitError
from cheapdeep_ops.recorder.wire import LARGEST_BODY

_WAITING: Final = frozenset({429, 503})
_MOVED: Final = range(300, 400)
_NOT_MODIFIED: Final = 304
_LONGEST_REASON: Final = 300
_LONGEST_WAIT_S: Final = 60.0
_DEFAULT_WAIT_S: Final = 1.0
_PORTS: Final = {"http": 80, "https": 443}


class Answer(NamedTuple):
    """The response of a guard; `body` is the JSON of a success, None if there was none."""

    status: int
    headers: http.client.HTTPMessage
    body: Any


class GuardConnection:
    """A connection to the guard at `url`, opened at its first use and kept. One thread at a time asks.

    Proxies come from the environment, as for the SDK: HTTPS_PROXY, ALL_PROXY and NO_PROXY. No redirect is followed,
    because the token would go with it.
    """

    def __init__(self, url: str, *, token: str) -> None:
        parts = urlsplit(url)
        self._url = url
        self._is_tls = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        self._prefix = parts.path.rstrip("/")
        self._token = token
        self.shown_url: Final = f"{parts.scheme}://{parts.netloc}{self._prefix}"
        self._turn = threading.Lock()
        self._open: http.client.HTTPConnection | None = None
        self._is_interrupted = False

    def ask(
        self, method: str, path: str, *, body: bytes | None = None, headers: dict[str, str], timeout_s: float
    ) -> Answer:
        """The response to one request; `timeout_s` is for each wait for the other side.

        Raises AskedToWaitError if the guard asks to wait, and StoreError if it cannot be reached or refuses.
        """
        sent = {"Accept": "application/json", "Authorization": f"Bearer {self._token}", **headers}
        with self._turn:
            try:
                response, content = self._exchange(method, self._prefix + path, body, sent, timeout_s)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._drop()
                raise StoreError(f"the guard at {self.shown_url} does not answer: {_cause(error)}") from None
        return self._checked(response, content)

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], timeout_s: float
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection = self._usable(timeout_s)
        connection.request(method, path, body=body, headers=headers)
        with connection.getresponse() as response:
            content = response.read(LARGEST_BODY + 1)
        if len(content) > LARGEST_BODY:
            raise ValueError(f"its response has more than {LARGEST_BODY} bytes")
        if response.will_close:
            self._drop()
        return response, content

    def _usable(self, timeout_s: float) -> http.client.HTTPConnection:
        """The kept connection, or a new one if the other side has closed it."""
        if self._open is not None and (self._open.sock is None or _is_closed(self._open.sock)):
            self._drop()
        if self._open is None:
            self._open = self._new(timeout_s)
            self._open.connect()
            if self._is_interrupted:
                raise ConnectionAbortedError("the connection is closed")
        self._open.sock.settimeout(timeout_s)
        return self._open

    def _new(self, timeout_s: float) -> http.client.HTTPConnection:
        if not self._is_tls:
            return http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        context = ssl.create_default_context()
        proxy = _proxy_for(self._host)
        if not proxy:
            return http.client.HTTPSConnection(self._host, self._port, timeout=timeout_s, context=context)
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError("the proxy in HTTPS_PROXY or ALL_PROXY needs the form http://host:port")
        through = http.client.HTTPSConnection(
            parts.hostname, parts.port or _PORTS["http"], timeout=timeout_s, context=context
        )
        through.set_tunnel(self._host, self._port, headers=_login(parts.username, parts.password))
        return through

    def _checked(self, response: http.client.HTTPResponse, content: bytes) -> Answer:
        """The answer of a success. Raises AskedToWaitError or StoreError for any other status."""
        status = response.status
        if status in _WAITING and "Retry-After" in response.headers:
            wait_s = _seconds(response.headers["Retry-After"])
            raise AskedToWaitError(
                f"the guard at {self.shown_url} asks to wait {wait_s:.0f} s ({_reason(content)})", retry_after_s=wait_s
            )
        if status in _MOVED and status != _NOT_MODIFIED:
            raise StoreError(
                f"the guard at {self.shown_url} redirects (HTTP {status}): set CHEAPDEEP_STORE_URL to its final "
                "address, because a token must not follow a redirect"
            )
        if not (response.headers.get("Content-Type", "").startswith("application/json") or status == _NOT_MODIFIED):
            raise StoreError(f"the server at {self.shown_url} answers HTTP {status}: {_reason(content)}")
        try:
            body = json.loads(content) if content else None
        except (ValueError, RecursionError):
            raise StoreError(f"the response of the guard at {self.shown_url} is not JSON") from None
        return Answer(status, response.headers, body)

    def interrupt(self) -> None:
        """Have a request that another thread waits for fail at once, and further ones too."""
        self._is_interrupted = True
        kept = self._open
        if kept is not None and kept.sock is not None:
            with suppress(OSError):  # it is closed already
                kept.sock.shutdown(socket.SHUT_RDWR)

    def another(self) -> "GuardConnection":
        """A connection to the same guard that is not open yet."""
        return GuardConnection(self._url, token=self._token)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        with self._turn:
            self._drop()

    def _drop(self) -> None:
        kept, self._open = self._open, None
        if kept is not None:
            with suppress(OSError):
                kept.close()


def _is_closed(kept: socket.socket) -> bool:
    """Whether the other side has closed the connection, or sent what no request has asked for."""
    if not hasattr(select, "poll"):  # on Windows, where `select` takes every number of a socket
        return bool(select.select([kept], [], [], 0)[0])
    looking = select.poll()
    looking.register(kept, select.POLLIN)
    return bool(looking.poll(0))


def _proxy_for(host: str) -> str:
    """The proxy for HTTPS to `host`, by the environment; empty if there is none."""
    if proxy_bypass(host):
        return ""
    proxies = getproxies()
    return proxies.get("https") or proxies.get("all") or ""


def _login(user: str | None, password: str | None) -> dict[str, str]:
    if user is None:
        return {}
    pair = f"{unquote(user)}:{unquote(password or '')}".encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _seconds(text: str) -> float:
    """The seconds of a Retry-After header, 0.1 to 60; one second if it has a date, which guards do not send."""
    try:
        return min(max(float(text), 0.1), _LONGEST_WAIT_S)
    except ValueError:
        return _DEFAULT_WAIT_S


def _reason(content: bytes) -> str:
    """What a response says, on one line and shortened."""
    text = content[: 4 * _LONGEST_REASON].decode("utf-8", "replace")
    return " ".join(text.split())[:_LONGEST_REASON] or "no reason given"


def _cause(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__
