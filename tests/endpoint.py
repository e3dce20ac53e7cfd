"""A receiver of webhooks on loopback: it keeps what it was sent, and answers as a test wants."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request."""

    method: str
    path: str
    headers: Message
    body: bytes


@dataclass(slots=True, kw_only=True)
class Endpoint:
    """`answers` are those to the next requests, as status and headers; after them every answer is `status`."""

    url: str
    status: int = 200
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    requests: list[Received] = field(default_factory=list)

    @property
    def posts(self) -> list[Received]:
        return [each for each in self.requests if each.method == "POST"]


@contextmanager
def listening() -> Iterator[Endpoint]:
    """An endpoint until the context ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            received = Received(method=self.command, path=self.path, headers=self.headers, body=body)
            endpoint.requests.append(received)
            status, headers = endpoint.answers.pop(0) if endpoint.answers else (endpoint.status, {})
            self.send_response(status)
            for name, value in {"content-length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        do_HEAD = do_POST  # noqa: N815 - http.server names it

        def log_message(self, *_: Any) -> None:
            """Nothing: pytest shows what matters."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        endpoint = Endpoint(url=f"http://127.0.0.1:{server.server_port}/hook?key=whsec-in-url")
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield endpoint
        server.shutdown()
        thread.join()
