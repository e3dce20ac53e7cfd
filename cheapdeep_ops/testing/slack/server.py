"""A simulated Slack: a real HTTP server that takes messages, keeps them, and fails on request."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, Literal, Self

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from cheapdeep_ops.testing._server import Delivery, Hangup, ServedApp
from cheapdeep_ops.testing.messages_api import wire
from cheapdeep_ops.testing.slack.slack_wire import (
    SlackMessage,
    channel_id,
    content_error,
    parsed_body,
    version_of,
)

State = Literal["up", "unavailable", "closing"]
MICROSECONDS: Final = 1_000_000
TS_STEP: Final = 100

_IDENTITY: Final = {
    "ok": True,
    "url": "https://simulated.slack.com/",
    "team": "Simulated",
    "user": "cheapdeep",
    "team_id": "T0SIMULATED",
    "user_id": "U0SIMULATED",
    "bot_id": "B0SIMULATED",
    "is_enterprise_install": False,
}


class SimulatedSlack:
    """Serve Slack's message methods and an incoming webhook on loopback, for the real `slack_sdk`.

    `WebClient(token=slack.token, base_url=slack.url)` and `WebhookClient(slack.webhook_url)`. Use it as a context
    manager. Faults apply to API and webhook alike: an outage first, then queued faults in the order they were asked
    for.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        token: str = "xoxb-simulated",  # noqa: S107  # opens nothing but this simulator
        channels: Iterable[str] | None = None,
        clock: Callable[[], float] = time.time,
        on_message: Callable[[SlackMessage], None] | None = None,
    ) -> None:
        """Prepare a server on `port` (0: any free one) that knows `channels` by name or id (None: every channel).

        `clock` gives the seconds of each message's `ts`; `on_message` is called with each message, posted or edited.
        """
        self._on_message = on_message
        self.token = token
        """The one bot token that is accepted."""
        self._channels = None if channels is None else {channel_id(name) for name in channels}
        self._clock = clock
        self._changed = threading.Condition()
        self._messages: dict[tuple[str, str], SlackMessage] = {}
        self._last_ts = 0
        self._state: State = "up"
        self._faults: deque[tuple[str, float | None]] = deque()
        self._served = ServedApp(self._app(), host=host, port=port, name="simulated-slack")

    @property
    def url(self) -> str:
        """The base URL for `WebClient`; it ends with `/api/`. RuntimeError before the first `start`."""
        return f"{self._served.url}/api/"

    @property
    def webhook_url(self) -> str:
        """The URL of an incoming webhook."""
        return f"{self._served.url}/services/T0SIMULATED/B0SIMULATED/simulated"

    @property
    def port(self) -> int:
        """The port that it listens on; RuntimeError before the first `start`."""
        return self._served.port

    @property
    def messages(self) -> list[SlackMessage]:
        """The messages as they stand, oldest first, those in threads among them; a copy."""
        with self._changed:
            return list(self._messages.values())

    @property
    def posts(self) -> list[SlackMessage]:
        """The messages that stand in a channel itself, oldest first."""
        return [message for message in self.messages if not message.is_reply]

    def thread(self, post: SlackMessage) -> list[SlackMessage]:
        """The replies to `post`, oldest first."""
        place = (post.channel_id, post.ts)
        return [each for each in self.messages if each.is_reply and (each.channel_id, each.thread_ts) == place]

    @property
    def down(self) -> bool:
        """Whether every call fails; set it to True for HTTP 503, to False to end any outage."""
        return self._state != "up"

    @down.setter
    def down(self, is_down: bool) -> None:
        self._state = "unavailable" if is_down else "up"

    def start(self) -> Self:
        """Listen; after `stop`, again on the same port. OSError where the port is taken."""
        self._served.start()
        return self

    def stop(self) -> None:
        """Close every connection and stop listening; messages stay readable."""
        self._served.stop()

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, *_exc_info: object) -> None:
        """Stop."""
        self.stop()

    def wait_for(self, predicate: Callable[[SlackMessage], bool], timeout_s: float) -> SlackMessage:
        """Return the first message that satisfies `predicate`, now or within `timeout_s`; TimeoutError otherwise."""

        def found() -> SlackMessage | None:
            return next(filter(predicate, self._messages.values()), None)

        with self._changed:
            message = self._changed.wait_for(found, timeout_s)
            if message is None:
                raise TimeoutError(f"no such message within {timeout_s} s; {len(self._messages)} others")
            return message

    def rate_limit(self, times: int = 1, *, retry_after_s: float = 1) -> None:
        """Answer the next `times` calls with HTTP 429 and a Retry-After in seconds."""
        self._queue_faults("ratelimited", retry_after_s, times)

    def fail_with(self, error: str, *, times: int = 1) -> None:
        """Answer the next `times` calls with Slack's `error` code; a webhook call gets it as HTTP 400."""
        self._queue_faults(error, None, times)

    @contextmanager
    def outage(self, *, close_connections: bool = False) -> Iterator[None]:
        """Fail every call inside the block: with HTTP 503, or by closing the connection without an answer."""
        before, self._state = self._state, "closing" if close_connections else "unavailable"
        try:
            yield
        finally:
            self._state = before

    def clear(self) -> None:
        """Forget messages and queued faults, and end any outage."""
        with self._changed:
            self._messages.clear()
            self._faults.clear()
        self._state = "up"

    def _app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/api/{method}", self._call, methods=["GET", "POST"]),
                Route("/services/{path:path}", self._webhook, methods=["POST"]),
            ]
        )

    async def _call(self, request: Request) -> Delivery | Hangup:
        raw = await request.body()
        failing = self._failing(is_api=True)
        if failing is not None:
            return failing
        body = parsed_body(raw, request.headers.get("content-type", ""))
        if body is None:
            return self._answer({"ok": False, "error": "invalid_json"})
        error = self._token_error(request, body)
        if error is not None:
            return self._answer({"ok": False, "error": error})
        return self._answer(self._performed(request.path_params["method"], body))

    async def _webhook(self, request: Request) -> Delivery | Hangup:
        raw = await request.body()
        failing = self._failing(is_api=False)
        if failing is not None:
            return failing
        body = parsed_body(raw, request.headers.get("content-type", ""))
        body = body.get("payload", body) if body is not None else None
        if not isinstance(body, dict):
            return self._plain("invalid_payload", status=400)
        error = content_error(version_of(body))
        if error is not None:
            return self._plain(error, status=400)
        self._keep("", body, via="webhook")
        return self._plain("ok")

    def _performed(self, method: str, body: Mapping[str, Any]) -> dict[str, Any]:
        match method:
            case "auth.test":
                return _IDENTITY
            case "chat.postMessage":
                return self._post(body)
            case "chat.update":
                return self._update(body)
            case _:
                return {"ok": False, "error": "unknown_method", "req_method": method}

    def _post(self, body: Mapping[str, Any]) -> dict[str, Any]:
        channel = str(body.get("channel") or "")
        error = self._channel_error(channel) or content_error(version_of(body))
        if error is not None:
            return {"ok": False, "error": error}
        message = self._keep(channel, body, via="api")
        return {"ok": True, "channel": message.channel_id, "ts": message.ts, "message": message.as_json()}

    def _update(self, body: Mapping[str, Any]) -> dict[str, Any]:
        channel, ts, version = str(body.get("channel") or ""), str(body.get("ts") or ""), version_of(body)
        error = self._channel_error(channel) or content_error(version)
        if error is None and channel != channel_id(channel):
            error = "channel_not_found"
        with self._changed:
            message = self._messages.get((channel, ts))
            if error is not None or message is None:
                return {"ok": False, "error": error or "message_not_found"}
            message = replace(message, versions=(*message.versions, version))
            self._messages[channel, ts] = message
            self._changed.notify_all()
        self._tell(message)
        return {"ok": True, "channel": channel, "ts": ts, "text": message.text, "message": message.as_json()}

    def _keep(self, channel: str, body: Mapping[str, Any], *, via: Literal["api", "webhook"]) -> SlackMessage:
        with self._changed:
            message = SlackMessage(
                channel=channel,
                channel_id=channel_id(channel),
                ts=self._next_ts(),
                thread_ts=body.get("thread_ts"),
                via=via,
                versions=(version_of(body),),
            )
            self._messages[message.channel_id, message.ts] = message
            self._changed.notify_all()
        self._tell(message)
        return message

    def _tell(self, message: SlackMessage) -> None:
        if self._on_message is not None:
            self._on_message(message)

    def _next_ts(self) -> str:
        # Later than any before, also where the clock stands still.
        self._last_ts = max(self._last_ts, int(self._clock()) * MICROSECONDS) + TS_STEP
        seconds, microseconds = divmod(self._last_ts, MICROSECONDS)
        return f"{seconds}.{microseconds:06d}"

    def _channel_error(self, channel: str) -> str | None:
        if not channel or (self._channels is not None and channel_id(channel) not in self._channels):
            return "channel_not_found"
        return None

    def _token_error(self, request: Request, body: Mapping[str, Any]) -> str | None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ") or body.get("token")
        if not token:
            return "not_authed"
        return None if token == self.token else "invalid_auth"

    def _queue_faults(self, error: str, retry_after_s: float | None, times: int) -> None:
        if times < 1:
            raise ValueError(f"times must be 1 or more, not {times}")
        with self._changed:
            self._faults.extend([(error, retry_after_s)] * times)

    def _failing(self, *, is_api: bool) -> Delivery | Hangup | None:
        match self._state:
            case "closing":
                return Hangup(served=self._served)
            case "unavailable":
                return self._plain("Service Unavailable", status=503)
        with self._changed:
            if not self._faults:
                return None
            error, retry_after_s = self._faults.popleft()
        status, waits = (200 if is_api else 400), {}
        if retry_after_s is not None:
            status, waits = 429, {"retry-after": f"{retry_after_s:g}"}
        if is_api:
            return self._answer({"ok": False, "error": error}, status=status, headers=waits)
        return self._plain(error, status=status, headers=waits)

    def _answer(
        self, body: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> Delivery:
        typed = {"content-type": "application/json; charset=utf-8", **(headers or {})}
        return Delivery(served=self._served, pieces=(wire.encoded(body),), status=status, headers=typed)

    def _plain(self, text: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Delivery:
        typed = {"content-type": "text/plain; charset=utf-8", **(headers or {})}
        return Delivery(served=self._served, pieces=(text.encode(),), status=status, headers=typed)
