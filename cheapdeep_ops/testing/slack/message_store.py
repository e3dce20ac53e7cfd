"""The messages of the simulated Slack."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Literal

from cheapdeep_ops.testing.messages_api.replies import JsonObject
from cheapdeep_ops.testing.slack.slack_wire import SlackMessage, version_of

MICROSECONDS: Final = 1_000_000
TS_STEP: Final = 100


class MessageStore:
    """Messages by channel and `ts`, in the order of their posts; threads may share it."""

    def __init__(self, clock: Callable[[], float], on_message: Callable[[SlackMessage], None] | None) -> None:
        self._clock = clock
        self._on_message = on_message
        self._changed = threading.Condition()
        self._messages: dict[tuple[str, str], SlackMessage] = {}
        self._last_ts = 0

    def all(self) -> list[SlackMessage]:
        """Return all messages, oldest first."""
        with self._changed:
            return list(self._messages.values())

    def delete(self, message: SlackMessage) -> None:
        """Delete a message; its replies stay."""
        with self._changed:
            self._messages.pop((message.channel_id, message.ts), None)
            self._changed.notify_all()

    def clear(self) -> None:
        """Remove all messages."""
        with self._changed:
            self._messages.clear()

    def wait_for(self, predicate: Callable[[SlackMessage], bool], timeout_s: float) -> SlackMessage:
        """Return the first message that satisfies `predicate`. Raises TimeoutError after `timeout_s`."""

        def first_match() -> SlackMessage | None:
            return next(filter(predicate, self._messages.values()), None)

        with self._changed:
            message = self._changed.wait_for(first_match, timeout_s)
            if message is None:
                raise TimeoutError(f"no such message within {timeout_s} s; {len(self._messages)} others")
            return message

    def post(self, channel: str, place: str, body: JsonObject, *, via: Literal["api", "webhook"]) -> SlackMessage:
        """Store a new message in `place`, the id of the channel that the sender called `channel`, and return it."""
        with self._changed:
            message = SlackMessage(
                channel=channel,
                channel_id=place,
                ts=self._next_ts(),
                thread_ts=body.get("thread_ts"),
                via=via,
                versions=(version_of(body),),
            )
            self._messages[message.channel_id, message.ts] = message
            self._changed.notify_all()
        self._notify(message)
        return message

    def find(self, channel: str, ts: str) -> SlackMessage | None:
        """Return the message with this `ts` in the channel with this id; None if there is none."""
        with self._changed:
            return self._messages.get((channel, ts))

    def update(self, channel: str, ts: str, body: JsonObject) -> SlackMessage | None:
        """Add the version of a request body to a message and return it; None if there is no such message."""
        with self._changed:
            message = self._messages.get((channel, ts))
            if message is None:
                return None
            version = version_of(body, message.versions[-1])
            message = replace(message, versions=(*message.versions, version))
            self._messages[channel, ts] = message
            self._changed.notify_all()
        self._notify(message)
        return message

    def _notify(self, message: SlackMessage) -> None:
        # Without the lock, because the callback may read the messages.
        if self._on_message is not None:
            self._on_message(message)

    def _next_ts(self) -> str:
        # Slack's `ts` is a message's id, so it grows even while the clock stands still.
        self._last_ts = max(self._last_ts, int(self._clock()) * MICROSECONDS) + TS_STEP
        seconds, microseconds = divmod(self._last_ts, MICROSECONDS)
        return f"{seconds}.{microseconds:06d}"
