"""A server on loopback that a test scripts down to the socket: broken responses, TLS, proxies."""

import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Thread

MESSAGE = (
    b'{"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-4-7", "stop_reason": "end_turn", '
    b'"stop_sequence": null, "content": [{"type": "text", "text": "Deep."}], '
    b'"usage": {"input_tokens": 1, "output_tokens": 1}}'
)
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(MESSAGE), MESSAGE)
EVENT = b'event: message_start\ndata: {"type": "message_start", "message": %s}\n\n' % MESSAGE
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (
    len(EVENT),
    EVENT,
)
"""The head of a stream and its first event."""

Then = Callable[[socket.socket], object]


@dataclass
class RawServer:
    """`requests` are the first lines and headers of what came, `connections` the number that was opened."""

    url: str
    requests: list[str] = field(default_factory=list)
    connections: int = 0

    def read(self, connection: socket.socket) -> str:
        """The head of the next request, of which the body is read as well; empty at the end."""
        head, _, body = _until(connection, b"\r\n\r\n").partition(b"\r\n\r\n")
        text = head.decode()
        length = next((int(line[15:]) for line in text.lower().splitlines() if line.startswith("content-length:")), 0)
        while len(body) < length and (more := connection.recv(65_536)):
            body += more
        if text:
            self.requests.append(text)
        return text


Talk = Callable[[RawServer, socket.socket], object]


@contextmanager
def talking(
    talk: Callable[[RawServer, socket.socket], object], *, tls: ssl.SSLContext | None = None
) -> Iterator[RawServer]:
    """A server that talks to each connection in a thread of its own, until the context ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = RawServer(url=f"http{'s' if tls else ''}://127.0.0.1:{listener.getsockname()[1]}")

        speaking: list[socket.socket] = []
        threads: list[Thread] = []

        def one(connection: socket.socket) -> None:
            with suppress(OSError), tls.wrap_socket(connection, server_side=True) if tls else connection as spoken:
                speaking.append(spoken)
                talk(server, spoken)  # until the other side hangs up

        def accept() -> None:
            with suppress(OSError):  # the listener was closed
                while True:
                    connection, _ = listener.accept()
                    server.connections += 1
                    threads.append(Thread(target=one, args=(connection,), daemon=True))
                    threads[-1].start()

        accepting = Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for connection in speaking:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(60)


def answer(response: bytes, *, then: Then = socket.socket.close) -> Talk:
    """Answers the first request with these bytes; `then` says what becomes of the connection."""

    def talk(server: RawServer, connection: socket.socket) -> None:
        server.read(connection)
        connection.sendall(response)
        then(connection)

    return talk


def always(server: RawServer, connection: socket.socket) -> None:
    """Answers every request, on a connection that stays open."""
    while server.read(connection):
        connection.sendall(WHOLE)


def hang(connection: socket.socket) -> None:
    """Wait until the other side hangs up."""
    while connection.recv(65_536):
        pass


def reset(connection: socket.socket) -> None:
    """End the connection as a crashed server does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def forward(server: RawServer, connection: socket.socket) -> None:
    """A proxy, for HTTP and for tunnels."""
    head = server.read(connection)
    method, target, _ = head.splitlines()[0].split(" ", 2)
    if method != "CONNECT":
        connection.sendall(WHOLE)
        return
    host, _, port = target.partition(":")
    with socket.create_connection((host, int(port))) as upstream:
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        Thread(target=_copy, args=(upstream, connection), daemon=True).start()
        _copy(connection, upstream)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(65_536):
            sink.sendall(chunk)


def _until(connection: socket.socket, end: bytes) -> bytes:
    received = b""
    while end not in received and (more := connection.recv(65_536)):
        received += more
    return received
