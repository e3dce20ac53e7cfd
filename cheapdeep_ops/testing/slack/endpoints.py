"""Slack's Web API and its incoming webhook."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from cheapdeep_ops.testing._server import Delivery, Hangup, ServedApp
from cheapdeep_ops.testing.messages_api import wire
from cheapdeep_ops.testing.messages_api.replies import JsonObject
from cheapdeep_ops.testing.slack.channels import Channels
from cheapdeep_ops.testing.slack.faults import Faults
from cheapdeep_ops.testing.slack.message_store import MessageStore
from cheapdeep_ops.testing.slack.slack_wire import content_error, parsed_body, version_of

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

_WEBHOOK_STATUS: Final = {
    "action_prohibited": 403,
    "posting_to_general_channel_denied": 403,
    "invalid_token": 403,
    "channel_not_found": 404,
    "no_service": 404,
    "no_team": 404,
    "channel_is_archived": 410,
    "rollup_error": 500,
}
"""The HTTP status of a webhook's error; others have 400.

Source: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks#handling_errors
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackEndpoints:
    """Answer calls of the API and of the webhook; an ordered fault comes first."""

    store: MessageStore
    faults: Faults
    token: Callable[[], str]
    """The accepted bot token; read for each call, so that a test can change it."""
    channels: Channels
    webhook_channel: str
    """The channel of the webhook."""
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
        error = self.channels.post_error(self.webhook_channel)
        # A webhook has a word of its own for this, and needs no membership.
        error = {"is_archived": "channel_is_archived", "not_in_channel": None}.get(error or "", error)
        error = error or content_error(version_of(body))
        if error is not None:
            return self._plain(error, status=_WEBHOOK_STATUS.get(error, 400))
        self.store.post("", self.channels.id_of(self.webhook_channel) or "", body, via="webhook")
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
        error = self.channels.post_error(channel) or content_error(version_of(body))
        if error is not None:
            return {"ok": False, "error": error}
        message = self.store.post(channel, self.channels.id_of(channel) or "", body, via="api")
        return {"ok": True, "channel": message.channel_id, "ts": message.ts, "message": message.as_json()}

    def _update(self, body: JsonObject) -> JsonObject:
        channel, ts, version = str(body.get("channel") or ""), str(body.get("ts") or ""), version_of(body)
        error = self.channels.update_error(channel) or content_error(version)
        message = None if error is not None else self.store.update(channel, ts, version)
        if message is None:
            return {"ok": False, "error": error or "message_not_found"}
        return {"ok": True, "channel": channel, "ts": ts, "text": message.text, "message": message.as_json()}

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
        status, waits = (200 if is_api else _WEBHOOK_STATUS.get(fault.error, 400)), {}
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
