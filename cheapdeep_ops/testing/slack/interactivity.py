"""Clicks and forms of the simulated Slack: they go to the app by Socket Mode, or as signed HTTP requests.

Sources: https://docs.slack.dev/reference/interaction-payloads/block_actions-payload,
https://docs.slack.dev/reference/interaction-payloads/view-interactions-payload and
https://docs.slack.dev/authentication/verifying-requests-from-slack
"""

import hmac
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from typing import Any, Final
from urllib.parse import urlencode

from cheapdeep_ops.testing.messages_api.replies import JsonObject
from cheapdeep_ops.testing.slack.channels import Channels
from cheapdeep_ops.testing.slack.people import TEAM, SlackPeople
from cheapdeep_ops.testing.slack.slack_wire import SlackMessage
from cheapdeep_ops.testing.slack.socket_mode import SocketMode

_PATIENCE_S: Final = 3.0
_TITLE: Final = 24
"""Characters of a form's title."""

SCOPES: Final = {
    "users.info": "users:read",
    "conversations.members": "channels:read",
    "usergroups.users.list": "usergroups:read",
    "chat.postEphemeral": "chat:write",
}
"""The scope of each method here that needs one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ephemeral:
    """A message that only one person sees."""

    channel: str
    user: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """A click or a submission, and what the app answered."""

    payload: JsonObject
    answer: JsonObject | None
    """The payload of the acknowledgement; None: there was none within three seconds, so Slack shows an error."""

    @property
    def is_acknowledged(self) -> bool:
        """Whether the app has acknowledged it in time."""
        return self.answer is not None


class Interactivity:
    """What people do with messages and forms, and the methods that an app calls for it; threads may share it."""

    def __init__(
        self,
        *,
        people: SlackPeople,
        channels: Channels,
        socket_mode: SocketMode,
        clock: Callable[[], float],
        signing_secret: Callable[[], str],
    ) -> None:
        self.url: str | None = None
        """The app's request URL; None: Socket Mode is on, as Slack has either one or the other."""
        self.patience_s = _PATIENCE_S
        """How long it waits for an acknowledgement, and how long a click can open a form; a slow test has it longer."""
        self.ephemerals: list[Ephemeral] = []
        self._people = people
        self._channels = channels
        self._socket_mode = socket_mode
        self._clock = clock
        self._signing_secret = signing_secret
        self._changed = threading.Condition()
        self._numbers = count(1)
        self._triggers: dict[str, tuple[float, str]] = {}
        self._views: dict[str, JsonObject] = {}
        self._opened: dict[str, JsonObject] = {}
        """The form that was opened for each trigger."""

    def call(self, method: str, body: JsonObject) -> JsonObject | None:
        """The answer of a method that the app calls; None for a method that is not about people or forms."""
        match method:
            case "users.info":
                return self._people.info(body)
            case "usergroups.users.list":
                return self._people.group(body)
            case "conversations.members":
                channel = str(body.get("channel") or "")
                error = self._channels.read_error(channel)
                return {"ok": False, "error": error} if error else self._people.members(channel, body)
            case "chat.postEphemeral":
                return self._post_ephemeral(body)
            case "views.open":
                return self._open(body)
            case "views.update":
                return self._update(body)
            case _:
                return None

    def click(self, message: SlackMessage, action_id: str, user: str) -> Interaction:
        """Press a button of a message. Raises LookupError if the message has no such button."""
        button = _button(message, action_id)
        trigger = self._trigger(user)
        payload = {
            "type": "block_actions",
            **self._from(user),
            "container": {
                "type": "message",
                "message_ts": message.ts,
                "channel_id": message.channel_id,
                "is_ephemeral": False,
            },
            "trigger_id": trigger,
            "channel": {"id": message.channel_id, "name": "alerts"},
            "message": message.as_json(has_metadata=False),
            "state": {"values": {}},
            "response_url": "https://hooks.slack.com/actions/T0SIMULATED/1/simulated",
            "actions": [{**button, "action_ts": f"{self._clock():.6f}"}],
        }
        return self.deliver(payload)

    def submit(self, view: JsonObject, values: Mapping[str, object], user: str) -> Interaction:
        """Press the button of a form. `values` has the value of each element by its action id; others stay."""
        return self.deliver(self.submission(view, values, user))

    def submission(self, view: JsonObject, values: Mapping[str, object], user: str) -> JsonObject:
        """What Slack sends when a person presses the button of a form."""
        state = {
            block["block_id"]: {block["element"]["action_id"]: _state_of(block["element"], values)}
            for block in view["blocks"]
            if block["type"] == "input"
        }
        submitted = {**view, "state": {"values": state}}
        known = {"type": "view_submission", **self._from(user), "trigger_id": self._trigger(user)}
        return {**known, "view": submitted, "response_urls": []}

    def deliver(self, payload: JsonObject) -> Interaction:
        """Give an interaction to the app, and wait for its answer for three seconds, as Slack does."""
        if self.url is not None:
            status, answer = post_signed(
                self.url, payload, secret=self._signing_secret(), at=self._clock(), timeout_s=self.patience_s
            )
            return Interaction(payload=payload, answer=answer if status == 200 else None)  # noqa: PLR2004 - OK
        try:
            takes_response = payload["type"] == "view_submission"
            waiting = self._socket_mode.send(payload, accepts_response=takes_response)
        except ConnectionError:
            return Interaction(payload=payload, answer=None)
        return Interaction(payload=payload, answer=_within(waiting, self.patience_s))

    def view_of(self, interaction: Interaction, timeout_s: float) -> JsonObject:
        """The form that the app opened for a click. Raises TimeoutError."""
        trigger = interaction.payload["trigger_id"]
        with self._changed:
            if not self._changed.wait_for(lambda: trigger in self._opened, timeout_s):
                raise TimeoutError(f"no form within {timeout_s} s; messages to single people: {self.ephemerals}")
            return self._views[self._opened[trigger]["id"]]

    def wait_for_ephemeral(self, predicate: Callable[[Ephemeral], bool], timeout_s: float) -> Ephemeral:
        """The first message to one person that satisfies `predicate`. Raises TimeoutError."""

        def first() -> Ephemeral | None:
            return next(filter(predicate, self.ephemerals), None)

        with self._changed:
            found = self._changed.wait_for(first, timeout_s)
        if found is None:
            raise TimeoutError(f"no such message within {timeout_s} s; others: {self.ephemerals}")
        return found

    def _from(self, user: str) -> JsonObject:
        known = self._people.users.get(user, {})
        name = known.get("name", user.lower())
        return {
            "team": {"id": TEAM, "domain": "simulated"},
            "user": {"id": user, "username": name, "name": name, "team_id": known.get("team_id", TEAM)},
            "api_app_id": "A0SIMULATED",
            "token": "verification-token",
            "enterprise": None,
            "is_enterprise_install": False,
        }

    def _trigger(self, user: str) -> str:
        trigger = f"{next(self._numbers)}.0.simulated"
        with self._changed:
            self._triggers[trigger] = (self._clock(), user)
        return trigger

    def _open(self, body: JsonObject) -> JsonObject:
        trigger, view = str(body.get("trigger_id")), body.get("view")
        with self._changed:
            given = self._triggers.get(trigger)
            if given is None or self._clock() - given[0] > self.patience_s:
                return {"ok": False, "error": "expired_trigger_id" if given else "invalid_trigger_id"}
            if trigger in self._opened:
                return {"ok": False, "error": "exchanged_trigger_id"}
            if fault := _fault(view):
                return {"ok": False, "error": "invalid_arguments", "response_metadata": {"messages": [fault]}}
            number = f"V{next(self._numbers)}SIMULATED"
            opened = {**_as_object(view), "id": number, "root_view_id": number, "hash": f"{number}.1"}
            self._views[number] = self._opened[trigger] = opened
            self._changed.notify_all()
        return {"ok": True, "view": opened}

    def _update(self, body: JsonObject) -> JsonObject:
        number, view = str(body.get("view_id")), body.get("view")
        with self._changed:
            if number not in self._views:
                return {"ok": False, "error": "not_found"}
            if fault := _fault(view):
                return {"ok": False, "error": "invalid_arguments", "response_metadata": {"messages": [fault]}}
            self._views[number] = {**_as_object(view), "id": number, "root_view_id": number, "hash": f"{number}.2"}
            self._changed.notify_all()
            return {"ok": True, "view": self._views[number]}

    def _post_ephemeral(self, body: JsonObject) -> JsonObject:
        channel, user = str(body.get("channel") or ""), str(body.get("user") or "")
        place = self._channels.id_of(channel)
        if place is None:
            return {"ok": False, "error": "channel_not_found"}
        if not self._people.is_member(user, place):
            return {"ok": False, "error": "user_not_in_channel"}
        with self._changed:
            self.ephemerals.append(Ephemeral(channel=place, user=user, text=str(body.get("text") or "")))
            self._changed.notify_all()
        return {"ok": True, "message_ts": f"{self._clock():.6f}"}


def post_signed(
    url: str,
    payload: JsonObject,
    *,
    secret: str,
    at: float,
    signature: str | None = None,
    timeout_s: float = _PATIENCE_S,
) -> tuple[int, JsonObject]:
    """Post an interaction as Slack does; returns the HTTP status and the answer, (0, {}) without one in time.

    `signature` replaces the right one.
    """
    body = urlencode({"payload": json.dumps(payload)})
    timestamp = str(int(at))
    right = "v0=" + hmac.new(secret.encode(), f"v0:{timestamp}:{body}".encode(), sha256).hexdigest()
    headers = {
        "content-type": "application/x-www-form-urlencoded",
        "x-slack-request-timestamp": timestamp,
        "x-slack-signature": right if signature is None else signature,
    }
    request = urllib.request.Request(url, body.encode(), headers)  # noqa: S310 - the address of a test
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:  # noqa: S310 - as above
            text = response.read()
            return response.status, json.loads(text) if text else {}
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {}
    except OSError:
        return 0, {}


def _within(waiting: "Future[JsonObject]", seconds: float) -> JsonObject | None:
    try:
        return waiting.result(seconds)
    except TimeoutError:
        return None


def _button(message: SlackMessage, action_id: str) -> JsonObject:
    buttons = [
        {**element, "block_id": block.get("block_id", "")}
        for block in message.blocks
        if block["type"] == "actions"
        for element in block["elements"]
    ]
    for button in buttons:
        if button["action_id"] == action_id:
            return {key: button.get(key, "") for key in ("action_id", "block_id", "text", "value", "type")}
    raise LookupError(f"there is no button {action_id}; buttons are: {[each['action_id'] for each in buttons]}")


def _state_of(element: JsonObject, values: Mapping[str, object]) -> JsonObject:
    name, kind = element["action_id"], element["type"]
    if kind == "plain_text_input":
        return {"type": kind, "value": values.get(name, element.get("initial_value"))}
    chosen: Any = element.get("initial_option")
    if name in values:
        chosen = next(option for option in element["options"] if option["value"] == values[name])
    return {"type": kind, "selected_option": chosen}


def _as_object(view: object) -> JsonObject:
    found = json.loads(view) if isinstance(view, str) else view
    return found if isinstance(found, dict) else {}


def _fault(view: object) -> str:
    """What Slack would refuse of a form; empty if it is accepted."""
    form = _as_object(view)
    if form.get("type") != "modal" or not form.get("blocks"):
        return "invalid `view`"
    if len(form["title"]["text"]) > _TITLE:
        return "title is too long"
    has_input = any(block["type"] == "input" for block in form["blocks"])
    return "a form with inputs needs `submit`" if has_input and "submit" not in form else ""
