"""Who may press a button: Slack says who a person is, and the settings say who may act."""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from cheapdeep_ops.errors import CheapdeepError
from cheapdeep_ops.guard.formatting import without_markup
from cheapdeep_ops.guard.notify.slack_history import code_of
from cheapdeep_ops.settings import Settings

MEMBERS: Final = "members"
_KEPT_S: Final = 60.0
"""How long an answer of Slack about a person is used."""

_PAGE: Final = 999
"""Members of a channel in one request, the most that Slack gives.

Source: https://docs.slack.dev/reference/methods/conversations.members
"""
_MOST_PAGES: Final = 20
_LONGEST_SEARCH_S: Final = 5.0
"""How long a person is searched for among the members of a channel, in seconds; the last request may end later."""

_LONGEST_NAME: Final = 60
_NEVER: Final = ("deleted", "is_bot", "is_workflow_bot", "is_connector_bot", "is_stranger")
"""The keys of a user object, any of which excludes a user. Source: https://docs.slack.dev/reference/objects/user-object"""

_GUEST: Final = ("is_restricted", "is_ultra_restricted", "is_invited_user")


class NotAllowedError(CheapdeepError):
    """The person may not do this; the message says why."""


class UnknownPersonError(CheapdeepError):
    """Slack did not say who the person is, so nothing is done; the message says what to mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A person who may act."""

    id: str
    name: str
    may_lower: bool
    """Whether the person may lower a threshold, or have a normal learned again."""

    @property
    def author(self) -> str:
        """The person as the author of an order."""
        return f"slack:{self.id} ({self.name})"


class People:
    """Answers who may act; each answer is used for a minute. Threads may share it."""

    def __init__(
        self, client: WebClient, settings: Settings, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._may_act, self._may_lower = settings.slack_may_act, settings.slack_may_lower or settings.slack_may_act
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], tuple[float, Person]] = {}
        self._own: Mapping[str, Any] = {}

    def person(self, user: str, channel: str) -> Person:
        """The person who has acted in this channel.

        Raises NotAllowedError if the person may not act, UnknownPersonError if Slack does not say who it is.
        """
        now = self._monotonic()
        with self._lock:
            self._known = {key: known for key, known in self._known.items() if now - known[0] < _KEPT_S}
            known = self._known.get((user, channel))
        if known is not None:
            return known[1]
        person = self._asked(user, channel)
        with self._lock:
            self._known[user, channel] = (now, person)
        return person

    def _asked(self, user: str, channel: str) -> Person:
        try:
            facts = self._client.users_info(user=user)["user"]
            if any(facts.get(key) for key in _NEVER) or not self._is_of_workspace(facts):
                raise NotAllowedError("only people of this workspace may act on incidents")
            if not self._is_among(self._may_act, facts, channel):
                raise NotAllowedError(self._refusal())
            lowers = self._may_lower == self._may_act or self._is_among(self._may_lower, facts, channel)
        except SlackApiError as error:
            raise UnknownPersonError(_trouble(error)) from None
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise UnknownPersonError(f"Slack did not say who you are ({type(error).__name__})") from None
        return Person(id=user, name=_name_of(facts), may_lower=lowers)

    def _is_of_workspace(self, facts: Mapping[str, Any]) -> bool:
        """Whether a user belongs to the app's workspace, and not to another one that shares the channel."""
        if not self._own:
            self._own = dict(self._client.auth_test().data)  # type: ignore[arg-type]  # bytes only for files
        own = self._own.get("team_id")
        # A user of an organisation may belong to several workspaces.
        teams = (facts.get("enterprise_user") or {}).get("teams") or ()
        return own is not None and (facts.get("team_id") == own or own in teams)

    def _is_among(self, allowed: Collection[str], facts: Mapping[str, Any], channel: str) -> bool:
        user = facts["id"]
        if user in allowed:
            return True
        # A guest is never meant by a list of others.
        if any(facts.get(key) for key in _GUEST):
            return False
        groups = [each for each in allowed if each.startswith("S")]
        if any(user in self._client.usergroups_users_list(usergroup=group)["users"] for group in groups):
            return True
        return MEMBERS in allowed and self._is_in(channel, user)

    def _is_in(self, channel: str, user: str) -> bool:
        """Whether a user is a member of a channel. Raises UnknownPersonError if Slack takes too long to say so."""
        cursor, until = "", self._monotonic() + _LONGEST_SEARCH_S
        for _ in range(_MOST_PAGES):
            page = self._client.conversations_members(channel=channel, limit=_PAGE, cursor=cursor or None)
            if user in page["members"]:
                return True
            cursor = (page.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor:
                break
            if self._monotonic() >= until:
                raise UnknownPersonError(
                    f"Slack did not say within {_LONGEST_SEARCH_S:g} s whether you are in this channel: try again, or "
                    "name those who may act in CHEAPDEEP_SLACK_MAY_ACT"
                )
        return False

    def _refusal(self) -> str:
        if self._may_act == (MEMBERS,):
            return "only full members of the workspace who are in this channel may act on incidents, no guests"
        return "you are not among those who may act on incidents (CHEAPDEEP_SLACK_MAY_ACT)"


def needed_scopes(settings: Settings, channel: str = "") -> list[str]:
    """The scopes that the bot needs to find out who a person is; `channel` is its id, if that is known."""
    named = {*settings.slack_may_act, *settings.slack_may_lower}
    # An id of the old form tells a private channel. A new one does not, so there either scope may be the right one.
    reading = "groups:read" if channel.startswith("G") else "channels:read"
    return [
        "users:read",
        *([reading] if MEMBERS in named else []),
        *(["usergroups:read"] if any(each.startswith("S") for each in named) else []),
    ]


def _name_of(facts: Mapping[str, Any]) -> str:
    profile = facts.get("profile") or {}
    name = profile.get("display_name") or facts.get("real_name") or facts.get("name") or ""
    # A person chooses this name, so it must look neither like markup nor like another author.
    bare = "".join(each for each in str(name) if each not in "()<>&|@#:")
    return without_markup(bare)[:_LONGEST_NAME]


def _trouble(error: SlackApiError) -> str:
    code = code_of(error)
    if code == "missing_scope":
        needed = error.response.get("needed") or "users:read"
        return f"the app lacks the scope {needed}, so Slack does not say who you are: add it to the app"
    return f"Slack did not say who you are ({code})"
