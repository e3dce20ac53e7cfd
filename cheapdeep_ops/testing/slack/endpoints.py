"""Slack's Web API and its incoming webhook."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from cheapdeep_ops.testing._server import Delivery, Hangup, ServedApp
from cheapdeep_ops.testing.messages_api import wire
from cheapdeep_ops.testing.messages_api.replies import JsonObject
from cheapdeep_ops.testing.slack.faults import Faults
from cheapdeep_ops.testing.slack.message_store import MessageStore
from cheapdeep_ops.testing.slack.slack_wire import channel_id, content_error, parsed_body, version_of

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


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackEndpoints:
    """Answer calls of the API and of the webhook; an ordered fault comes first."""

    store: MessageStore
    faults: Faults
    token: Callable[[], str]
    """The accepted bot token; read for each call, so that a test can change it."""
    channel_ids: Collection[str] | None
    """The known channels; None for every channel."""
    served: Callable[[], ServedApp]

    def app(self) -> Starlette:
        """Return the application that serves both."""
        return Starlette(
            routes=[
                Route("/api/{method}", self._call, methods=["GET", "POST"]),
                Route("/services/{path:path}", self._webhook, methods=["POST"]),
            ]
        )

    async def _call(self, request: Request) -> Delivery | Hangup:
        raw = await request.body()
        failure = self._failure(is_api=True)
        if failure is not None:
            return failure
        body = parsed_body(raw, request.headers.get("content-type", ""))
        if body is None:
            return self._answer({"ok": False, "error": "invalid_json"})
        error = self._token_error(request, body)
        if error is not None:
            return self._answer({"ok": False, "error": error})
        return self._answer(self._result(request.path_params["method"], body))

    async def _webhook(self, request: Request) -> Delivery | Hangup:
        raw = await request.body()
        failure = self._failure(is_api=False)
        if failure is not None:
            return failure
        body = parsed_body(raw, request.headers.get("content-type", ""))
        body = body.get("payload", body) if body is not None else None
        # A webhook answers in plain text, with an error's code and HTTP 400.
        if not isinstance(body, dict):
            return self._plain("invalid_payload", status=400)
        error = content_error(version_of(body))
        if error is not None:
            return self._plain(error, status=400)
        self.store.post("", body, via="webhook")
        return self._plain("ok")

    def _result(self, method: str, body: JsonObject) -> JsonObject:
        match method:
            case "auth.test":
                return _IDENTITY
            case "chat.postMessage":
                return self._post(body)
            case "chat.update":
                return self._update(body)
            case _:
                return {"ok": False, "error": "unknown_method", "req_method": method}

    def _post(self, body: JsonObject) -> JsonObject:
        channel = str(body.get("channel") or "")
        error = self._channel_error(channel) or content_error(version_of(body))
        if error is not None:
            return {"ok": False, "error": error}
        message = self.store.post(channel, body, via="api")
        return {"ok": True, "channel": message.channel_id, "ts": message.ts, "message": message.as_json()}

    def _update(self, body: JsonObject) -> JsonObject:
        channel, ts, version = str(body.get("channel") or ""), str(body.get("ts") or ""), version_of(body)
        error = self._channel_error(channel) or content_error(version)
        # Slack takes a channel's name for a post, but only its id for an update.
        if error is None and channel != channel_id(channel):
            error = "channel_not_found"
        message = None if error is not None else self.store.update(channel, ts, version)
        if message is None:
            return {"ok": False, "error": error or "message_not_found"}
        return {"ok": True, "channel": channel, "ts": ts, "text": message.text, "message": message.as_json()}

    def _channel_error(self, channel: str) -> str | None:
        if not channel or (self.channel_ids is not None and channel_id(channel) not in self.channel_ids):
            return "channel_not_found"
        return None

    def _token_error(self, request: Request, body: JsonObject) -> str | None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ") or body.get("token")
        if not token:
            return "not_authed"
        return None if token == self.token() else "invalid_auth"

    def _failure(self, *, is_api: bool) -> Delivery | Hangup | None:
        match self.faults.state:
            case "closing":
                return Hangup(served=self.served())
            case "unavailable":
                return self._plain("Service Unavailable", status=503)
        fault = self.faults.take()
        if fault is None:
            return None
        # Slack's API reports errors with HTTP 200; a rate limit and the webhook have their own status.
        status, waits = (200 if is_api else 400), {}
        if fault.retry_after_s is not None:
            status, waits = 429, {"retry-after": f"{fault.retry_after_s:g}"}
        if is_api:
            return self._answer({"ok": False, "error": fault.error}, status=status, headers=waits)
        return self._plain(fault.error, status=status, headers=waits)

    def _answer(self, body: JsonObject, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Delivery:
        typed = {"content-type": "application/json; charset=utf-8", **(headers or {})}
        return Delivery(served=self.served(), pieces=(wire.encoded(body),), status=status, headers=typed)

    def _plain(self, text: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Delivery:
        typed = {"content-type": "text/plain; charset=utf-8", **(headers or {})}
        return Delivery(served=self.served(), pieces=(text.encode(),), status=status, headers=typed)
