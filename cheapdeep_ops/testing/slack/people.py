"""The people of the simulated Slack: its users, the members of its channels, and its user groups."""

from collections.abc import Iterable
from typing import Any, Final

from cheapdeep_ops.testing.messages_api.replies import JsonObject

TEAM: Final = "T0SIMULATED"
_PAGE: Final = 100
"""Members in one answer unless the call names a limit, as Slack documents it."""


class SlackPeople:
    """Users by id. A user is a member of every channel unless `channels` names some."""

    def __init__(self) -> None:
        self.users: dict[str, JsonObject] = {}
        """The user objects. Source: https://docs.slack.dev/reference/objects/user-object"""
        self.groups: dict[str, list[str]] = {}
        """The ids of users in each user group."""
        self._channels: dict[str, set[str] | None] = {}

    def add(
        self,
        user: str,
        name: str = "",
        *,
        team: str = TEAM,
        channels: Iterable[str] | None = None,
        **flags: object,
    ) -> JsonObject:
        """Add a user; `flags` are keys of the user object, such as `is_restricted`. Returns the user object."""
        name = name or user.lower()
        known = dict.fromkeys(("deleted", "is_bot", "is_restricted", "is_ultra_restricted", "is_stranger"), False)
        profile = {"display_name": name, "real_name": name}
        own: dict[str, Any] = {"id": user, "team_id": team, "name": name.lower(), "real_name": name, **known}
        self.users[user] = {**own, "profile": profile, **flags}
        self._channels[user] = None if channels is None else set(channels)
        return self.users[user]

    def is_member(self, user: str, channel: str) -> bool:
        """Whether a user is in the channel with this id."""
        channels = self._channels.get(user, set())
        return channels is None or channel in channels

    def info(self, body: JsonObject) -> JsonObject:
        """The answer of `users.info`."""
        user = self.users.get(str(body.get("user")))
        return {"ok": False, "error": "user_not_found"} if user is None else {"ok": True, "user": user}

    def members(self, channel: str, body: JsonObject) -> JsonObject:
        """The answer of `conversations.members` for a channel that exists: one page, and the cursor of the next."""
        members = [user for user in self.users if self.is_member(user, channel)]
        begin, size = int(body.get("cursor") or 0), int(body.get("limit") or _PAGE)
        end = begin + size
        cursor = str(end) if end < len(members) else ""
        return {"ok": True, "members": members[begin:end], "response_metadata": {"next_cursor": cursor}}

    def group(self, body: JsonObject) -> JsonObject:
        """The answer of `usergroups.users.list`."""
        users = self.groups.get(str(body.get("usergroup")))
        return {"ok": False, "error": "no_such_subteam"} if users is None else {"ok": True, "users": users}
