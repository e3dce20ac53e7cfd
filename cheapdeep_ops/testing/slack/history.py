"""Slack's history of a channel and of a thread: which messages a call returns, and the errors of its arguments.

Source: https://docs.slack.dev/reference/methods/conversations.history and conversations.replies
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from cheapdeep_ops.testing.messages_api.replies import JsonObject
from cheapdeep_ops.testing.slack.slack_wire import SlackMessage

_LIMITS: Final = {"conversations.history": (100, 999), "conversations.replies": (1_000, 1_000)}
"""How many messages a page has by default, and at most."""

_TS: Final = re.compile(r"\d+(\.\d+)?")
_TRUE: Final = frozenset({True, "1", "true", "True"})


def history(messages: Sequence[SlackMessage], arguments: JsonObject) -> JsonObject:
    """Return a page of a channel's messages, newest first; replies are left out."""
    counts = _reply_counts(messages)
    parents = sorted((each for each in messages if not each.is_reply), key=_moment, reverse=True)
    return _page("conversations.history", parents, counts, arguments)


def replies(messages: Sequence[SlackMessage], arguments: JsonObject) -> JsonObject:
    """Return a page of a thread, oldest first, with the message that it belongs to."""
    ts = str(arguments.get("ts") or "")
    thread = [each for each in messages if ts in {each.ts, each.thread_ts}]
    if not thread:
        return {"ok": False, "error": "thread_not_found"}
    return _page("conversations.replies", sorted(thread, key=_moment), _reply_counts(messages), arguments)


def _page(method: str, ordered: Sequence[SlackMessage], counts: dict[str, int], arguments: JsonObject) -> JsonObject:
    for name in ("oldest", "latest"):
        if not _TS.fullmatch(str(arguments.get(name) or "0")):
            return {"ok": False, "error": f"invalid_ts_{name}"}
    default, most = _LIMITS[method]
    limit = min(int(arguments.get("limit") or default), most)
    start = _position(str(arguments.get("cursor") or ""))
    if start is None or limit < 1:
        return {"ok": False, "error": "invalid_cursor" if start is None else "invalid_limit"}
    found = [each for each in ordered if _is_within(each, arguments)]
    page, has_more = found[start : start + limit], len(found) > start + limit
    has_metadata = arguments.get("include_all_metadata") in _TRUE
    answer: dict[str, Any] = {
        "ok": True,
        "messages": [_shown(each, counts.get(each.ts, 0), has_metadata=has_metadata) for each in page],
        "has_more": has_more,
    }
    if has_more:
        answer["response_metadata"] = {"next_cursor": _cursor(start + limit)}
    return answer


def _shown(message: SlackMessage, reply_count: int, *, has_metadata: bool) -> JsonObject:
    body = message.as_json(has_metadata=has_metadata)
    return body if not reply_count else {**body, "thread_ts": message.ts, "reply_count": reply_count}


def _reply_counts(messages: Sequence[SlackMessage]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for each in messages:
        if each.is_reply and each.thread_ts is not None:
            counts[each.thread_ts] = counts.get(each.thread_ts, 0) + 1
    return counts


def _is_within(message: SlackMessage, arguments: JsonObject) -> bool:
    """Whether it lies between `oldest` and `latest`, which are left out unless the call says `inclusive`."""
    at, oldest = _moment(message), Decimal(str(arguments.get("oldest") or "0"))
    latest = Decimal(str(arguments.get("latest") or "Infinity"))
    is_bound = arguments.get("inclusive") in _TRUE and at in {oldest, latest}
    return is_bound or oldest < at < latest


def _moment(message: SlackMessage) -> Decimal:
    # A float cannot tell the microseconds of two messages apart.
    return Decimal(message.ts)


def _cursor(position: int) -> str:
    return urlsafe_b64encode(f"next:{position}".encode()).decode()


def _position(cursor: str) -> int | None:
    """The number of messages before a page; None if the cursor is not one of ours."""
    if not cursor:
        return 0
    try:
        position = urlsafe_b64decode(cursor.encode()).decode().removeprefix("next:")
    except ValueError:
        return None
    return int(position) if position.isdecimal() else None
