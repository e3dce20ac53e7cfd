"""Guards for tests that talk to them over HTTP: their API in a thread, and a proxy that deals connections out."""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn

from cheapdeep_ops.access.tokens import hash_of
from cheapdeep_ops.guard.http.api import make_api
from cheapdeep_ops.guard.http.flushes import Senders
from cheapdeep_ops.guard.service import _listen, _Server
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate

TOKEN = "s3same"


@dataclass
class Served:
    """A guard's API that answers at `url`."""

    url: str
    port: int
    store: Store
    senders: Senders


@contextmanager
def serving(store_url: str, *, port: int = 0, certificate: Path | None = None, **changes) -> Iterator[Served]:
    """The API of a guard on the store, without its jobs, for as long as the context lasts."""
    folder = TemporaryDirectory()
    known = {"store_url": store_url, "api_tokens_file": tokens_file(Path(folder.name))}
    settings = Settings(**known | changes)
    store = Store(store_url)
    migrate(store)
    senders = Senders(store_url, settings, clock())
    api = make_api(store, settings=settings, collector=None, is_ready=str, served=senders)
    listener = _listen("127.0.0.1", port)
    tls = {"ssl_certfile": certificate, "ssl_keyfile": certificate} if certificate else {}
    server = _Server(uvicorn.Config(api, log_level="error", timeout_graceful_shutdown=1, **tls))
    server.before_shutdown = senders.feed.end
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        own = listener.getsockname()[1]
        yield Served(f"http{'s' if certificate else ''}://127.0.0.1:{own}", own, store, senders)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
        senders.close()
        store.close()
        folder.cleanup()


def tokens_file(folder: Path, *roles: str, token: str = TOKEN, routes: str = "") -> Path:
    """A file with one token that has these roles; by default all that routers and people need."""
    shown = ", ".join(f'"{role}"' for role in roles or ("read", "act", "content", "send"))
    path = folder / "tokens.toml"
    path.write_text(f'[[token]]\nname = "fleet"\nrole = [{shown}]\nhash = "sha256:{hash_of(token)}"\n{routes}')
    path.chmod(0o600)
    return path


def clock() -> Callable[[], float]:
    import time  # noqa: PLC0415 - the only use

    return time.time


@dataclass
class Deal:
    """What a proxy does with the connections that it deals out to `ports` in turn.

    `cut` is asked for each response before its first byte goes back; if it is true, the connection is cut instead.
    """

    ports: Sequence[int]
    cut: Callable[[bytes], bool] = lambda request: False
    port: int = 0
    dealt: int = 0
    _open: list[socket.socket] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut_all(self) -> None:
        """Cut all connections that are open."""
        while self._open:
            with suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)


@contextmanager
def dealing(deal: Deal) -> Iterator[Deal]:
    """A proxy for TCP before several guards."""
    turns = cycle(range(len(deal.ports)))
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        deal.port = listener.getsockname()[1]

        def run() -> None:
            while True:
                try:
                    caller, _ = listener.accept()
                except OSError:
                    return
                deal.dealt += 1
                deal._open.append(caller)
                thread = threading.Thread(target=_carry, args=(deal, caller, deal.ports[next(turns)]))
                thread.start()
                threads.append(thread)

        accepting = threading.Thread(target=run)
        accepting.start()
        try:
            yield deal
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            deal.cut_all()
            accepting.join()
            for thread in threads:
                thread.join()


def _carry(deal: Deal, caller: socket.socket, port: int) -> None:
    """Carry whole requests and responses between a caller and a guard, one after the other."""
    with caller, suppress(OSError), socket.create_connection(("127.0.0.1", port)) as guard:
        deal._open.append(guard)
        while request := _message(caller):
            guard.sendall(request)
            response = _message(guard)
            if not response or deal.cut(request):
                return
            caller.sendall(response)


def _message(connection: socket.socket) -> bytes:
    """One request or response with its body; empty at the end of the connection."""
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(65_536)
        if not more:
            return b""
        received += more
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while len(body) < int(lengths[0] if lengths else 0):
        body += connection.recv(65_536)
    return head + b"\r\n\r\n" + body
