"""The server's side of Socket Mode: websockets that get envelopes, and acknowledge them.

Source: https://docs.slack.dev/apis/events-api/using-socket-mode
"""

import asyncio
import json
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import count
from typing import Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from cheapdeep_ops.testing.messages_api.replies import JsonObject

MOST_CONNECTIONS: Final = 10
"""How many connections an app may have."""


@dataclass(frozen=True, slots=True)
class _Link:
    """One connection, and the event loop that serves it."""

    websocket: WebSocket
    loop: asyncio.AbstractEventLoop

    def send(self, message: JsonObject) -> None:
        """Send a message from another thread."""
        text = json.dumps(message)
        asyncio.run_coroutine_threadsafe(self.websocket.send_text(text), self.loop).result(5.0)


class SocketMode:
    """The connections of one app; threads may share it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._links: list[_Link | None] = []
        """The connections, oldest first; None is one whose other end is dead, but which Slack still counts."""
        self._tickets: set[str] = set()
        self._numbers = count(1)
        self._waiting: dict[str, Future[JsonObject]] = {}
        self._turn = count()

    def ticket(self) -> str:
        """A ticket for one connection."""
        ticket = f"ticket-{next(self._numbers)}"
        self._tickets.add(ticket)
        return ticket

    @property
    def connections(self) -> int:
        """How many connections Slack counts, also dead ones."""
        with self._changed:
            return len(self._links)

    def add_dead(self, number: int) -> None:
        """Add connections that Slack counts, and to which it gives clicks, but whose other end is dead."""
        with self._changed:
            self._links += [None] * number

    def remove_dead(self) -> None:
        """Remove the dead connections."""
        with self._changed:
            self._links = [link for link in self._links if link is not None]

    def wait(self, number: int, timeout_s: float) -> None:
        """Wait until there are `number` connections. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._links) == number, timeout_s):
                raise TimeoutError(f"there are {len(self._links)} connections after {timeout_s} s, not {number}")

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one connection until it ends."""
        ticket = websocket.query_params.get("ticket", "")
        if ticket not in self._tickets:
            await websocket.close()
            return
        self._tickets.discard(ticket)
        await websocket.accept()
        link = _Link(websocket, asyncio.get_running_loop())
        with self._changed:
            self._links.append(link)
            number = len(self._links)
            self._changed.notify_all()
        try:
            if number > MOST_CONNECTIONS:
                await websocket.send_text(json.dumps(_disconnect("too_many_websockets")))
                await websocket.close()
                return
            await websocket.send_text(json.dumps(_hello(number)))
            while True:
                self._acknowledge(json.loads(await websocket.receive_text()))
        except WebSocketDisconnect:
            pass
        finally:
            with self._changed:
                if link in self._links:
                    self._links.remove(link)
                self._changed.notify_all()

    def send(self, payload: JsonObject, *, accepts_response: bool) -> Future[JsonObject]:
        """Give an interaction to one connection by turns; the future is its acknowledgement, and may never come.

        Raises ConnectionError if there is no connection.
        """
        envelope_id = f"envelope-{next(self._numbers)}"
        answer: Future[JsonObject] = Future()
        with self._changed:
            if not self._links:
                raise ConnectionError("no Socket Mode connection")
            link = self._links[next(self._turn) % len(self._links)]
            self._waiting[envelope_id] = answer
        envelope = {"type": "interactive", "envelope_id": envelope_id, "payload": payload}
        if link is not None:
            link.send({**envelope, "accepts_response_payload": accepts_response})
        return answer

    def disconnect(self, reason: str) -> None:
        """Tell every connection to end, as Slack does for a refresh (`refresh_requested`) or a warning."""
        with self._changed:
            links = [link for link in self._links if link is not None]
        for link in links:
            link.send(_disconnect(reason))

    def _acknowledge(self, message: JsonObject) -> None:
        with self._changed:
            waiting = self._waiting.pop(str(message.get("envelope_id")), None)
        if waiting is not None:
            waiting.set_result(message.get("payload") or {})


def _hello(number: int) -> JsonObject:
    return {
        "type": "hello",
        "connection_info": {"app_id": "A0SIMULATED"},
        "num_connections": number,
        "debug_info": {"host": "applink-simulated", "build_number": 1, "approximate_connection_time": 18_060},
    }


def _disconnect(reason: str) -> JsonObject:
    return {"type": "disconnect", "reason": reason, "debug_info": {"host": "applink-simulated"}}
