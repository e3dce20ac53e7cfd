"""Gateways in a thread, for tests that talk to them over HTTP."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from cheapdeep_ops.gateway.service import _UNFINISHED, Gateway
from cheapdeep_ops.listening import listen
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.telemetry.handler import Telemetry

KEY = "sk-ant-of-the-caller"
OPUS, HAIKU = "claude-opus-4-7", "claude-haiku-4-5"
QUESTION = "How do I reset my password?"


@dataclass
class Served:
    """A gateway that answers at `url`, and an HTTP client that is closed with it."""

    url: str
    http: httpx2.Client = field(repr=False)

    def post(self, body: Any = None, *, path: str = "/v1/messages", key: str = KEY, **headers: str) -> httpx2.Response:
        """Post `body`, as JSON unless it is bytes; header names are written with underscores."""
        known = {"x-api-key": key, "anthropic-version": "2023-06-01", "content-type": "application/json"}
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        content = {"content": body} if isinstance(body, bytes) else {"json": body}
        return self.http.post(path, headers=known | given, **content)

    def ask(self, question: str = QUESTION, *, headers: dict[str, str] | None = None, **fields: Any) -> httpx2.Response:
        """Ask for a message."""
        return self.post(asked(question, **fields), **(headers or {}))

    def facts(self, response: httpx2.Response, *, key: str = KEY) -> httpx2.Response:
        """What the gateway tells of a call that it has answered."""
        call_id = response.headers["x-cheapdeep-call-id"]
        return self.http.get(f"/v1/cheapdeep/calls/{call_id}", headers={"x-api-key": key})


def asked(question: str = QUESTION, **fields: Any) -> dict[str, Any]:
    """A request for a message."""
    known = {"model": OPUS, "max_tokens": 200, "messages": [{"role": "user", "content": question}]}
    return known | fields


def events_of(response: httpx2.Response | bytes) -> list[tuple[str, str]]:
    """The names and the data of the events in a response."""
    content = response if isinstance(response, bytes) else response.content
    parts = [part.split("\n") for part in content.decode().split("\n\n") if part]
    assert all(len(part) == 2 for part in parts), parts
    return [(name.removeprefix("event: "), data.removeprefix("data: ")) for name, data in parts]


@contextmanager
def serving(upstream: str, store_url: str, *, telemetry: Telemetry | None = None, **changes: Any) -> Iterator[Served]:
    """A gateway to the API at `upstream`, for as long as the context lasts."""
    known = {"store_url": store_url, "breaker_failures": 0, "gateway_stop_within_s": 1}
    gateway = Gateway(Settings(**known | changes), base_url=upstream, telemetry=telemetry)
    listener, server = listen("127.0.0.1", 0, setting="CHEAPDEEP_GATEWAY_PORT"), gateway.server()
    server.config.log_config = None
    unfinished = logging.getLogger("uvicorn.error")
    unfinished.addFilter(_is_a_fault)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        with httpx2.Client(base_url=url, timeout=240.0) as http:
            yield Served(url, http)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
        unfinished.removeFilter(_is_a_fault)


def _is_a_fault(record: logging.LogRecord) -> bool:
    return record.msg != _UNFINISHED
