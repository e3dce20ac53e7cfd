"""The check of `doctor` whether buttons can work: tokens, scopes and Socket Mode."""

from collections.abc import Sequence
from typing import Final

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError

from cheapdeep_ops.errors import SettingsError
from cheapdeep_ops.guard.notify.buttons import CLICKS_PATH
from cheapdeep_ops.guard.notify.slack_history import code_of, header, is_channel_id
from cheapdeep_ops.guard.slack_actions.clicks import silent_client
from cheapdeep_ops.guard.slack_actions.people import MEMBERS, needed_scopes
from cheapdeep_ops.settings import Settings

_REPAIRS: Final = {
    "invalid_auth": "CHEAPDEEP_SLACK_APP_TOKEN is no app-level token that Slack knows: make one in the app's settings",
    "not_allowed_token_type": "CHEAPDEEP_SLACK_APP_TOKEN must be an app-level token, which begins with xapp-",
    "missing_scope": "the app-level token lacks the scope connections:write: make another one",
    "access_denied": "Socket Mode is switched off: switch it on in the app's settings",
}
"""What to do about the codes with which Slack refuses Socket Mode.

Source: https://docs.slack.dev/reference/methods/apps.connections.open#errors
"""

_NO_MEMBERS: Final = frozenset({"missing_scope", "channel_not_found", "not_in_channel"})
"""The codes with which Slack does not show the members of one channel."""


def check_buttons(settings: Settings, channels: Sequence[str] = ()) -> str:
    """Ask Slack whether tokens and scopes are those that buttons need; returns how clicks reach the guard.

    `channels` are those in which the bot posts, by name or id. Raises SettingsError if something must be mended.
    """
    if not settings.has_buttons:
        return "not set up: messages have no buttons (CHEAPDEEP_SLACK_APP_TOKEN adds them)"
    client = silent_client(settings)
    try:
        _check_scopes(client, settings, channels)
        _check_members(client, settings, channels)
        ways = [_socket_mode(client, settings)] if settings.slack_app_token is not None else []
    except SlackApiError as error:
        raise SettingsError(f"Slack refuses the bot token: {code_of(error)}") from None
    except (SlackClientError, OSError, ValueError, LookupError) as error:
        raise SettingsError(f"Slack is out of reach: {type(error).__name__}") from None
    if settings.slack_signing_secret is not None:
        ways.append(f"requests that Slack posts to {CLICKS_PATH} of this guard, over HTTPS")
    may_lower = f", thresholds are lowered by {', '.join(settings.slack_may_lower)}" if settings.slack_may_lower else ""
    return f"clicks come by {' and '.join(ways)}; {', '.join(settings.slack_may_act)} may act{may_lower}"


def _check_scopes(client: WebClient, settings: Settings, channels: Sequence[str]) -> None:
    given = header(client.auth_test().headers, "x-oauth-scopes")
    if given is None:
        return  # a proxy may drop the header; the guard then learns it from a click
    scopes = {each.strip() for each in given.split(",")}
    ids = [each for each in channels if is_channel_id(each)] or [""]
    needed = dict.fromkeys(scope for channel in ids for scope in needed_scopes(settings, channel))
    missing = [each for each in needed if each not in scopes]
    # Whether a channel is private does not show in a new id, so one of the two must do.
    if "channels:read" in missing and "groups:read" in scopes:
        missing.remove("channels:read")
    if missing:
        named = ", ".join(missing)
        raise SettingsError(f"the app lacks the scopes {named}, so Slack does not say who has clicked: add them")


def _check_members(client: WebClient, settings: Settings, channels: Sequence[str]) -> None:
    """Ask for a member of each channel, where its members may act. Slack takes ids here, and no names.

    Source: https://docs.slack.dev/reference/methods/conversations.members#errors
    """
    if MEMBERS not in {*settings.slack_may_act, *settings.slack_may_lower}:
        return
    faults = []
    for channel in filter(is_channel_id, channels):
        try:
            client.conversations_members(channel=channel, limit=1)
        except SlackApiError as error:
            code = code_of(error)
            if code not in _NO_MEMBERS:
                raise
            lacks = f"the app lacks the scope {error.response.get('needed') or 'groups:read'}"
            faults.append(f"{channel}: {lacks if code == 'missing_scope' else f'invite the bot ({code})'}")
    if faults:
        raise SettingsError(f"Slack does not say who is in a channel, so no member may act there: {'; '.join(faults)}")


def _socket_mode(client: WebClient, settings: Settings) -> str:
    token = settings.slack_app_token.get_secret_value() if settings.slack_app_token else ""
    try:
        client.apps_connections_open(app_token=token)
    except SlackApiError as error:
        code = code_of(error)
        raise SettingsError(_REPAIRS.get(code, f"Slack refuses Socket Mode: {code}")) from None
    return "Socket Mode"
