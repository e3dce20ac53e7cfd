"""A simulated Slack: a real HTTP server that stores messages, and fails if a test asks for it."""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Literal

from cheapdeep_ops.testing._server import ServedApp, SimulatedServer
from cheapdeep_ops.testing.messages_api.replies import JsonObject
from cheapdeep_ops.testing.slack.channels import Channels
from cheapdeep_ops.testing.slack.endpoints import SlackEndpoints
from cheapdeep_ops.testing.slack.faults import Fault, Faults, Hold
from cheapdeep_ops.testing.slack.file_store import FileStore, SlackFile
from cheapdeep_ops.testing.slack.interactivity import Interaction, Interactivity
from cheapdeep_ops.testing.slack.message_store import MessageStore
from cheapdeep_ops.testing.slack.people import SlackPeople
from cheapdeep_ops.testing.slack.slack_wire import SlackMessage
from cheapdeep_ops.testing.slack.socket_mode import SocketMode


class SimulatedSlack(SimulatedServer):
    """Serve Slack's methods for messages and files, and an incoming webhook, on loopback, for the real `slack_sdk`.

    Use `WebClient(token=slack.token, base_url=slack.url)` or `WebhookClient(slack.webhook_url)`, and this class as a
    context manager. Faults apply to API and webhook alike: an outage first, then queued faults in their order.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        token: str = "xoxb-simulated",  # noqa: S107  # a token of this simulator only
        channels: Iterable[str] | None = None,
        webhook_channel: str = "webhook",
        clock: Callable[[], float] = time.time,
        on_message: Callable[[SlackMessage], None] | None = None,
    ) -> None:
        """Prepare a server on `port` (0: any free one) that knows `channels` by name or id (None: every channel).

        The webhook posts to `webhook_channel`, which exists too.
        `clock` gives the seconds of each message's `ts`; `on_message` is called after each post and each update.
        """
        self.token = token
        """The only bot token that is accepted."""
        self.app_token = "xapp-simulated"  # noqa: S105  # as above
        """The only app-level token that opens Socket Mode connections. They need the package `websockets`."""
        self.signing_secret = "simulated-signing-secret"  # noqa: S105  # as above
        """The secret that signs interactions over HTTP."""
        self.scopes = {
            "chat:write", "channels:history", "groups:history", "channels:read", "groups:read", "users:read",
            "usergroups:read", "files:write",
        }  # fmt: skip
        """The scopes of the token, which a test can change."""
        self.channels = Channels(None if channels is None else (*channels, webhook_channel))
        """The channels, which a test can archive, delete, rename and leave."""
        self.file_store = FileStore(clock)
        """The files, and how long they are processed."""
        self._store = MessageStore(clock, on_message)
        self._faults = Faults()
        self.people = SlackPeople()
        """The users, who press buttons; a test adds them."""
        self.socket_mode = SocketMode()
        """The connections of the app."""
        self.interactivity = Interactivity(
            people=self.people,
            channels=self.channels,
            socket_mode=self.socket_mode,
            clock=clock,
            signing_secret=lambda: self.signing_secret,
        )
        """Clicks and forms, and messages that only one person sees."""
        endpoints = SlackEndpoints(
            store=self._store,
            files=self.file_store,
            faults=self._faults,
            token=lambda: self.token,
            scopes=lambda: self.scopes,
            clock=clock,
            channels=self.channels,
            webhook_channel=webhook_channel,
            served=lambda: self._served,
            app_token=lambda: self.app_token,
            interactivity=self.interactivity,
            socket_mode=self.socket_mode,
        )
        self._served = ServedApp(endpoints.app(), host=host, port=port, name="simulated-slack", has_dates=True)

    @property
    def url(self) -> str:
        """The base URL for `WebClient`; it ends with `/api/`. RuntimeError before the first `start`."""
        return f"{self._served.url}/api/"

    @property
    def webhook_url(self) -> str:
        """The URL of an incoming webhook."""
        return f"{self._served.url}/services/T0SIMULATED/B0SIMULATED/simulated"

    @property
    def messages(self) -> list[SlackMessage]:
        """A list of the current messages, also those in threads, oldest first."""
        return self._store.all()

    @property
    def posts(self) -> list[SlackMessage]:
        """The messages outside threads, oldest first."""
        return [message for message in self.messages if not message.is_reply]

    @property
    def files(self) -> list[SlackFile]:
        """The files that were uploaded and not deleted, oldest first."""
        return self.file_store.all()

    def thread(self, post: SlackMessage) -> list[SlackMessage]:
        """The replies to `post`, oldest first."""
        place = (post.channel_id, post.ts)
        return [each for each in self.messages if each.is_reply and (each.channel_id, each.thread_ts) == place]

    @property
    def down(self) -> bool:
        """Whether every call fails; set it to True for HTTP 503, to False to end any outage."""
        return self._faults.state != "up"

    @down.setter
    def down(self, is_down: bool) -> None:
        self._faults.state = "unavailable" if is_down else "up"

    def wait_for(self, predicate: Callable[[SlackMessage], bool], timeout_s: float) -> SlackMessage:
        """Return the first message that satisfies `predicate`. Raises TimeoutError after `timeout_s`."""
        return self._store.wait_for(predicate, timeout_s)

    def click(self, message: SlackMessage, action_id: str, user: str) -> Interaction:
        """Press a button of a message, and wait three seconds at most for the acknowledgement.

        Raises LookupError if the message has no such button.
        """
        return self.interactivity.click(message, action_id, user)

    def opened(self, click: Interaction, timeout_s: float = 5.0) -> JsonObject:
        """The form that the app opened for a click. Raises TimeoutError."""
        return self.interactivity.view_of(click, timeout_s)

    def submit(self, view: JsonObject, values: Mapping[str, object], user: str) -> Interaction:
        """Press the button of a form, and wait for the answer; `values` has inputs by their action ids."""
        return self.interactivity.submit(view, values, user)

    def stop(self) -> None:
        """Release the calls that are held, close every connection, and stop listening."""
        self._faults.release()
        super().stop()

    def rate_limit(self, times: int = 1, *, retry_after_s: float = 1, method: str | None = None) -> None:
        """Answer the next `times` calls, of one method or of any, with HTTP 429 and a Retry-After in seconds."""
        self._faults.enqueue(Fault(error="ratelimited", retry_after_s=retry_after_s, method=method), times=times)

    def fail_with(self, error: str, *, times: int = 1, method: str | None = None) -> None:
        """Answer the next `times` calls with Slack's `error` code; a webhook call gets it as HTTP 400."""
        self._faults.enqueue(Fault(error=error, method=method), times=times)

    def lose_answers(self, times: int = 1, *, method: str | None = None, status: int | None = None) -> None:
        """Let the next `times` calls take effect, but close the connection, or answer with the HTTP status `status`."""
        self._faults.enqueue(Fault(effect="now", method=method, status=status), times=times)

    def delay(self, times: int = 1, *, method: str | None = None) -> None:
        """Close the connection of the next `times` calls; they take effect at `apply_late`."""
        self._faults.enqueue(Fault(effect="late", method=method), times=times)

    def apply_late(self) -> int:
        """Have the calls that `delay` put off take effect now; returns how many."""
        return self._faults.apply_late()

    def hold(self, method: str, moment: Literal["before", "after"] = "after") -> Hold:
        """Let the next call of `method` wait before or after it takes effect; `clear` and `stop` release it too."""
        hold = Hold(method=method, moment=moment)
        self._faults.hold(hold)
        return hold

    def delete(self, message: SlackMessage) -> None:
        """Delete a message, as a person does in Slack."""
        self._store.delete(message)

    def outage(self, *, close_connections: bool = False) -> AbstractContextManager[None]:
        """Let every call inside the block fail: with HTTP 503, or by closing the connection without a response."""
        return self._faults.outage("closing" if close_connections else "unavailable")

    def clear(self) -> None:
        """Remove messages, files and queued faults, bring all channels back, and end any outage."""
        self._store.clear()
        self.file_store.clear()
        self.channels.clear()
        self._faults.clear()
