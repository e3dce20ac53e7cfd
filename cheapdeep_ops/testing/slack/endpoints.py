"""Slack's Web API and its incoming webhook."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route, WebSocketRoute

from cheapdeep_ops.testing._server import Delivery, Hangup, ServedApp
from cheapdeep_ops.testing.messages_api import wire
from cheapdeep_ops.testing.messages_api.replies import JsonObject
from cheapdeep_ops.testing.slack.channels import Channels
from cheapdeep_ops.testing.slack.faults import Fault, Faults
from cheapdeep_ops.testing.slack.file_store import FileStore
from cheapdeep_ops.testing.slack.history import history, replies
from cheapdeep_ops.testing.slack.interactivity import SCOPES, Interactivity
from cheapdeep_ops.testing.slack.message_store import MessageStore
from cheapdeep_ops.testing.slack.slack_wire import content_error, parsed_body, version_of
from cheapdeep_ops.testing.slack.socket_mode import SocketMode

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

UPLOAD: Final = "upload"
"""The name for faults of the request that has the content of a file, which is no method."""

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
    files: FileStore
    faults: Faults
    token: Callable[[], str]
    """The accepted bot token; read for each call, so that a test can change it."""
    scopes: Callable[[], Collection[str]]
    """The scopes of the token; read for each call too."""
    clock: Callable[[], float]
    """The Unix time of the Date header."""
    channels: Channels
    webhook_channel: str
    """The channel of the webhook."""
    served: Callable[[], ServedApp]
    app_token: Callable[[], str]
    """The accepted app-level token."""
    interactivity: Interactivity
    socket_mode: SocketMode

    def app(self) -> Starlette:
        """Return the application that serves both."""
        return Starlette(
            routes=[
                Route("/api/{method}", self._call, methods=["GET", "POST"]),
                Route("/services/{path:path}", self._webhook, methods=["POST"]),
                Route("/upload/v1/{file}", self._upload, methods=["POST"]),
                WebSocketRoute("/link/", self.socket_mode.serve),
            ]
        )

    async def _call(self, request: Request) -> Delivery | Hangup:
        raw, method = await request.body(), request.path_params["method"]

        def result() -> Delivery:
            body = parsed_body(raw, request.headers.get("content-type", ""))
            if body is None:
                return self._answer({"ok": False, "error": "invalid_json"})
            body = {**request.query_params, **body}
            error = self._token_error(method, request, body)
            if error is not None:
                return self._answer({"ok": False, "error": error})
            return self._answer(self._result(method, body))

        return await self._under_faults(method, result)

    async def _webhook(self, request: Request) -> Delivery | Hangup:
        raw = await request.body()

        def result() -> Delivery:
            body = parsed_body(raw, request.headers.get("content-type", ""))
            body = body.get("payload", body) if body is not None else None
            # A webhook answers in plain text, with an error's code and HTTP 400.
            if not isinstance(body, dict):
                return self._plain("invalid_payload", status=400)
            error = self.channels.post_error(self.webhook_channel)
            # A webhook has a word of its own for this, and needs no membership.
            error = {"is_archived": "channel_is_archived", "not_in_channel": None}.get(error or "", error)
            error = error or content_error(version_of(body)) or (self._refused_file(body) or {}).get("error")
            if error is not None:
                return self._plain(error, status=_WEBHOOK_STATUS.get(error, 400))
            self.store.post("", self.channels.id_of(self.webhook_channel) or "", body, via="webhook")
            return self._plain("ok")

        return await self._under_faults(None, result)

    async def _upload(self, request: Request) -> Delivery | Hangup:
        """Take the content of a file; the address itself is the permission."""
        content, file_id = await request.body(), request.path_params["file"]

        def result() -> Delivery:
            refusal = self.files.receive(file_id, content)
            return self._plain(f"OK - {len(content)}") if refusal is None else self._plain(refusal, status=400)

        return await self._under_faults(UPLOAD, result)

    def _result(self, method: str, body: JsonObject) -> JsonObject:
        needed = _needed_scope(method, str(body.get("channel") or ""))
        if needed is not None and needed not in self.scopes():
            return {"ok": False, "error": "missing_scope", "needed": needed, "provided": self._shown_scopes}
        match method:
            case "auth.test":
                return _IDENTITY
            case "chat.postMessage":
                return self._post(body)
            case "chat.update":
                return self._update(body)
            case "chat.delete":
                return self._delete(body)
            case "conversations.history" | "conversations.replies":
                return self._read(method, body)
            case "apps.connections.open":
                address = self.served().url.replace("http", "ws", 1)
                return {"ok": True, "url": f"{address}/link/?ticket={self.socket_mode.ticket()}&app_id=A0SIMULATED"}
            case _:
                return self.interactivity.call(method, body) or self._file_result(method, body)

    def _file_result(self, method: str, body: JsonObject) -> JsonObject:
        match method:
            case "files.getUploadURLExternal":
                return self.files.announce(body, url=lambda file_id: f"{self.served().url}/upload/v1/{file_id}")
            case "files.completeUploadExternal":
                return self._complete(body)
            case "files.info":
                return self.files.info(str(body.get("file") or ""))
            case "files.delete":
                return self.files.removed(str(body.get("file") or ""))
            case _:
                return {"ok": False, "error": "unknown_method", "req_method": method}

    def _post(self, body: JsonObject) -> JsonObject:
        channel = str(body.get("channel") or "")
        error = self.channels.post_error(channel) or content_error(version_of(body))
        if error is not None:
            return {"ok": False, "error": error}
        if refusal := self._refused_file(body):
            return refusal
        message = self.store.post(channel, self.channels.id_of(channel) or "", body, via="api")
        self.files.share(message.blocks, message.channel_id)
        return {"ok": True, "channel": message.channel_id, "ts": message.ts, "message": message.as_json()}

    def _update(self, body: JsonObject) -> JsonObject:
        channel, ts = str(body.get("channel") or ""), str(body.get("ts") or "")
        error = self.channels.update_error(channel) or content_error(version_of(body))
        if error is None and (refusal := self._refused_file(body)):
            return refusal
        message = None if error is not None else self.store.update(channel, ts, body)
        if message is None:
            return {"ok": False, "error": error or "message_not_found"}
        self.files.share(message.blocks, channel)
        return {"ok": True, "channel": channel, "ts": ts, "text": message.text, "message": message.as_json()}

    def _refused_file(self, body: JsonObject) -> JsonObject | None:
        why = self.files.trouble(version_of(body).blocks)
        if why is None:
            return None
        told = {"errors": [why], "response_metadata": {"messages": [f"[ERROR] {why}"]}}
        return {"ok": False, "error": "invalid_blocks", **told}

    def _complete(self, body: JsonObject) -> JsonObject:
        """End an upload; with a channel, the files are a post of their own there."""
        channel = str(body.get("channel_id") or "")
        error = self.channels.post_error(channel) if channel else None
        if error is not None:
            return {"ok": False, "error": error}
        answer = self.files.complete(body)
        if channel and answer["ok"]:
            place = self.channels.id_of(channel) or ""
            shown = [{"type": "file", "file_id": each["id"]} for each in answer["files"]]
            self.store.post(
                channel, place, {"text": str(body.get("initial_comment") or ""), "blocks": shown}, via="api"
            )
        return answer

    def _delete(self, body: JsonObject) -> JsonObject:
        channel, ts = str(body.get("channel") or ""), str(body.get("ts") or "")
        if not channel or channel != self.channels.id_of(channel):
            return {"ok": False, "error": "channel_not_found"}
        message = self.store.find(channel, ts)
        if message is None:
            return {"ok": False, "error": "message_not_found"}
        # A bot may delete only what it posted itself; a webhook posts as another bot.
        if message.via != "api":
            return {"ok": False, "error": "cant_delete_message"}
        self.store.delete(message)
        return {"ok": True, "channel": channel, "ts": ts}

    def _read(self, method: str, body: JsonObject) -> JsonObject:
        channel = str(body.get("channel") or "")
        error = self.channels.read_error(channel)
        if error is not None:
            return {"ok": False, "error": error}
        messages = [each for each in self.store.all() if each.channel_id == channel]
        return (history if method == "conversations.history" else replies)(messages, body)

    def _token_error(self, method: str, request: Request, body: JsonObject) -> str | None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ") or body.get("token")
        if not token:
            return "not_authed"
        accepted, other = self.token(), self.app_token()
        if method == "apps.connections.open":
            accepted, other = other, accepted
        if token == accepted:
            return None
        return "not_allowed_token_type" if token == other else "invalid_auth"

    async def _under_faults(self, method: str | None, result: Callable[[], Delivery]) -> Delivery | Hangup:
        """Answer with `result`, or with the fault that a test has ordered; `method` is None for the webhook."""
        match self.faults.state:
            case "closing":
                return Hangup(served=self.served())
            case "unavailable":
                return self._plain("Service Unavailable", status=503)
        hold = self.faults.take_hold(method)
        if hold is not None and hold.moment == "before":
            await hold.wait()
        fault = self.faults.take(method)
        answer = result() if fault is None else self._failure(fault, result, is_api=method is not None)
        if hold is not None and hold.moment == "after":
            await hold.wait()
        return answer

    def _failure(self, fault: Fault, result: Callable[[], Delivery], *, is_api: bool) -> Delivery | Hangup:
        if fault.effect != "none":
            result() if fault.effect == "now" else self.faults.put_off(result)
            is_lost = fault.status is None
            return Hangup(served=self.served()) if is_lost else self._plain("an error", status=fault.status or 500)
        # Slack's API reports errors with HTTP 200; a rate limit and the webhook have their own status.
        status, waits = (200 if is_api else _WEBHOOK_STATUS.get(fault.error, 400)), {}
        if fault.retry_after_s is not None:
            status, waits = 429, {"retry-after": f"{fault.retry_after_s:g}"}
        if is_api:
            return self._answer({"ok": False, "error": fault.error}, status=status, headers=waits)
        return self._plain(fault.error, status=status, headers=waits)

    @property
    def _shown_scopes(self) -> str:
        return ",".join(sorted(self.scopes()))

    def _answer(self, body: JsonObject, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Delivery:
        typed = {"content-type": "application/json; charset=utf-8", "x-oauth-scopes": self._shown_scopes}
        typed |= {"date": self._date, **(headers or {})}
        return Delivery(served=self.served(), pieces=(wire.encoded(body),), status=status, headers=typed)

    def _plain(self, text: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Delivery:
        typed = {"content-type": "text/plain; charset=utf-8", "date": self._date, **(headers or {})}
        return Delivery(served=self.served(), pieces=(text.encode(),), status=status, headers=typed)

    @property
    def _date(self) -> str:
        return formatdate(self.clock(), usegmt=True)


def _needed_scope(method: str, channel: str) -> str | None:
    """The scope that a bot token needs for a call; None if it needs none."""
    if method.startswith("files."):
        return "files:read" if method == "files.info" else "files:write"
    if method in SCOPES:
        return "groups:read" if method == "conversations.members" and channel.startswith("G") else SCOPES[method]
    if method.startswith("chat."):
        return "chat:write"
    if method in {"conversations.history", "conversations.replies"}:
        # Here, private channels are those with an id of the old form.
        return "groups:history" if channel.startswith("G") else "channels:history"
    return None
