"""Guards for tests that talk to them over HTTP: their API in a thread, and a proxy that deals connections out."""

import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn

from cheapdeep_ops.access.tokens import hash_of
from cheapdeep_ops.guard.http.api import make_api
from cheapdeep_ops.guard.http.senders import Senders
from cheapdeep_ops.guard.service import _Server
from cheapdeep_ops.listening import listen
from cheapdeep_ops.recorder import Recorder
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.values import Decision, Exchange, Hop, Outcome, TextTurn, Tier, Verdict
from tests.ports import free_port
from tests.stores import migrated

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
    """The API of a guard on the store, without its jobs, for as long as the context lasts.

    At the same `port` another one may follow, because the system gives that port to nobody else meanwhile.
    """
    folder = TemporaryDirectory()
    known = {"store_url": store_url, "api_tokens_file": tokens_file(Path(folder.name))}
    settings = Settings(**known | changes)
    store = migrated(store_url)
    senders = Senders(store_url, settings, time.time)
    api = make_api(store, settings=settings, collector=None, is_ready=str, served=senders)
    listener = listen("127.0.0.1", port or free_port(), setting="CHEAPDEEP_PORT")
    tls = {"ssl_certfile": certificate, "ssl_keyfile": certificate} if certificate else {}
    config = uvicorn.Config(api, log_level="error", timeout_graceful_shutdown=1, **tls)
    server = _Server(config, on_signal=lambda: None, before_shutdown=senders.feed.end)
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


# A recorder that sends to a guard, and what arrives


EXCHANGE = Exchange(turns=(TextTurn(role="user", text="Is it open?"),), answer="Yes.")
HOP = Hop(
    tier=Tier(model="claude-haiku-4-5", index=0, is_deep=False), usage=None, cost_usd=0.0004, outcome=Outcome.SHIP,
    base_outcome=Outcome.SHIP, verdict=Verdict(confidence=0.9, answer="Yes."),
)  # fmt: skip


def decision(**changes):
    values = {
        "call_id": "id", "route": "support", "input_class": "", "tier": 0, "model": "claude-haiku-4-5",
        "confidence": 0.9, "threshold": 0.8, "policy_version": 0, "escalated": False, "reason": None,
        "bypass_cause": None, "base_outcome": Outcome.SHIP, "base_reason": None, "cost_usd": 0.0004,
        "triage_cost_usd": 0.0004, "baseline_cost_usd": 0.002, "baseline_basis": "", "started_at": time.time(),
        "duration_s": 0.0, "triage_duration_s": 0.0, "hops": (HOP,),
    }  # fmt: skip
    return Decision(**{**values, **changes})


def settings_for(url, **changes):
    return Settings(**{"store_url": url, "guard_token": TOKEN, "sample_rate": 1.0, **changes})


def recorder_at(url, **changes):
    """Its work is done by the test that calls `refresh` and `drain`."""
    return Recorder(settings_for(url, **changes), background=False)


def drained(recorder, calls=0):
    for _ in range(calls):
        recorder.put(decision())
    recorder.drain(time.time())


def rows(store_url, query="SELECT coalesce(sum(calls), 0) FROM bucket"):
    connection = sqlite3.connect(store_url.removeprefix("sqlite:///"))
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def calls(store_url):
    (((counted,),), ((total,),)) = rows(store_url), rows(store_url, "SELECT coalesce(sum(calls), 0) FROM total")
    assert counted == total
    return counted
