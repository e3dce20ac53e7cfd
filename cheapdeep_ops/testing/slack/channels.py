"""The channels of the simulated Slack: which exist, under which names, and which take messages."""

import threading
from collections.abc import Iterable

from cheapdeep_ops.testing.slack.slack_wire import channel_id


class Channels:
    """The state of each channel. Methods take a name or an id; threads may share the object."""

    def __init__(self, known: Iterable[str] | None) -> None:
        """`known` are the channels that exist; None: every channel exists."""
        self._lock = threading.Lock()
        self._known = None if known is None else {channel_id(each) for each in known}
        self._ids: dict[str, str | None] = {}
        """The id behind a name that has been renamed; None behind a name that is free."""
        self._archived: set[str] = set()
        self._deleted: set[str] = set()
        self._left: set[str] = set()

    def id_of(self, channel: str) -> str | None:
        """The id of a channel; None if it does not exist."""
        with self._lock:
            return self._id_of(channel)

    def post_error(self, channel: str) -> str | None:
        """Slack's error code for a post or a reply there; None if it is accepted."""
        return self._error(channel, archived="is_archived")

    def update_error(self, channel: str) -> str | None:
        """Slack's error code for an edit there; None if it is accepted."""
        # Slack takes a channel's name for a post, but only its id for an update.
        if channel != self.id_of(channel):
            return "channel_not_found"
        return self._error(channel, archived="is_inactive")

    def read_error(self, channel: str) -> str | None:
        """Slack's error code for reading the history there; None if it is accepted. An archived channel is readable."""
        if channel != self.id_of(channel):
            return "channel_not_found"
        return "not_in_channel" if channel in self._left else None

    def archive(self, channel: str) -> None:
        """Archive a channel."""
        self._archived.add(self._existing(channel))

    def unarchive(self, channel: str) -> None:
        """Undo `archive`."""
        self._archived.discard(self._existing(channel))

    def leave(self, channel: str) -> None:
        """Remove the bot from a channel."""
        self._left.add(self._existing(channel))

    def join(self, channel: str) -> None:
        """Undo `leave`."""
        self._left.discard(self._existing(channel))

    def delete(self, channel: str) -> None:
        """Delete a channel. Its name is free until `create`."""
        deleted = self._existing(channel)
        with self._lock:
            self._deleted.add(deleted)
            self._ids[_bare(channel)] = None

    def create(self, channel: str) -> None:
        """Create a channel under a free name; it has a new id."""
        with self._lock:
            self._ids[_bare(channel)] = channel_id(f"{channel} {len(self._ids)} again")

    def rename(self, channel: str, name: str) -> None:
        """Rename a channel. It keeps its id, and its old name is free."""
        renamed = self._existing(channel)
        with self._lock:
            self._ids[_bare(channel)], self._ids[_bare(name)] = None, renamed

    def clear(self) -> None:
        """Bring all channels back."""
        with self._lock:
            self._ids.clear()
            for changed in (self._archived, self._deleted, self._left):
                changed.clear()

    def _error(self, channel: str, *, archived: str) -> str | None:
        found = self.id_of(channel)
        if found is None:
            return "channel_not_found"
        if found in self._archived:
            return archived
        return "not_in_channel" if found in self._left else None

    def _existing(self, channel: str) -> str:
        found = self.id_of(channel)
        if found is None:
            raise ValueError(f"there is no channel {channel}")
        return found

    def _id_of(self, channel: str) -> str | None:
        found = self._ids.get(_bare(channel), channel_id(channel))
        is_known = self._known is None or found in self._known or found in self._ids.values()
        return found if channel and found is not None and is_known and found not in self._deleted else None


def _bare(channel: str) -> str:
    return channel.removeprefix("#")
