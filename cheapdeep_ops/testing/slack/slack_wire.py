"""Slack's formats: message objects, request bodies, and the limits on blocks."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final, Literal
from urllib.parse import parse_qsl

from cheapdeep_ops.testing.messages_api.replies import JsonObject

MAX_BLOCKS: Final = 50
MAX_BLOCK_TEXT: Final[Mapping[str, int]] = {"header": 150, "section": 3_000}
"""The longest text of a block in characters, by its type. Source: docs.slack.dev, Block Kit reference."""

MAX_PARTS: Final[Mapping[str, tuple[int, int]]] = {"fields": (10, 2_000), "elements": (10, 3_000)}
"""How many fields or elements a block may have, and the longest text of each. Source: as above."""

MAX_ALT_TEXT: Final = 2_000
"""The longest text of a picture. Source: as above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """The content of a message after its post or after one update."""

    text: str
    blocks: tuple[JsonObject, ...] = ()
    attachments: tuple[JsonObject, ...] = ()
    metadata: JsonObject = field(default_factory=dict)
    """Its `event_type` and `event_payload`; empty if it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackMessage:
    """A message in a channel, with all its versions."""

    channel: str
    """The channel as the sender named it; empty for a webhook, which is bound to a channel."""
    channel_id: str
    """The channel's id in Slack's response; `chat.update` accepts only this."""
    ts: str
    thread_ts: str | None
    via: Literal["api", "webhook"]
    versions: tuple[Version, ...]
    """The content as posted, then after each update."""

    @property
    def text(self) -> str:
        """Its current text."""
        return self.versions[-1].text

    @property
    def blocks(self) -> tuple[JsonObject, ...]:
        """Its current blocks."""
        return self.versions[-1].blocks

    @property
    def attachments(self) -> tuple[JsonObject, ...]:
        """Its current attachments."""
        return self.versions[-1].attachments

    @property
    def metadata(self) -> JsonObject:
        """Its current metadata; empty if it has none."""
        return self.versions[-1].metadata

    @property
    def is_reply(self) -> bool:
        """Whether it is in another message's thread."""
        return self.thread_ts is not None and self.thread_ts != self.ts

    @property
    def updates(self) -> tuple[Version, ...]:
        """The versions after the first, oldest first."""
        return self.versions[1:]

    def as_json(self, *, has_metadata: bool = True) -> JsonObject:
        """Return the message object of Slack's responses, with or without its metadata."""
        body: dict[str, Any] = {
            "type": "message",
            "subtype": "bot_message",
            "bot_id": "B0SIMULATED",
            "text": self.text,
            "ts": self.ts,
            "blocks": list(self.blocks),
            "attachments": list(self.attachments),
        }
        if has_metadata and self.metadata:
            body["metadata"] = self.metadata
        return body if self.thread_ts is None else {**body, "thread_ts": self.thread_ts}


def channel_id(channel: str) -> str:
    """Return a constant id for a channel's name; an id is returned unchanged."""
    if channel[:1] in {"C", "D", "G"} and channel.isalnum() and channel.isupper():
        return channel
    return "C" + blake2b(channel.removeprefix("#").encode(), digest_size=5).hexdigest().upper()


def parsed_body(raw: bytes, content_type: str) -> dict[str, Any] | None:
    """Parse a JSON or form body, and the JSON inside form fields; None if it is invalid."""
    if not raw:
        return {}  # slack_sdk also announces JSON for an empty body, as for auth.test
    if "json" not in content_type:
        fields = dict(parse_qsl(raw.decode(), keep_blank_values=True))
        return {name: _parsed_field(name, value) for name, value in fields.items()}
    try:
        body = json.loads(raw)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def version_of(body: JsonObject, before: Version | None = None) -> Version:
    """Return the content that a request body gives a message; an update without metadata keeps those of `before`.

    Source: https://docs.slack.dev/reference/methods/chat.update#arg_metadata
    """
    metadata = body.get("metadata")
    return Version(
        text=str(body.get("text") or ""),
        blocks=tuple(body.get("blocks") or ()),
        attachments=tuple(body.get("attachments") or ()),
        metadata=(before.metadata if before and metadata is None else metadata) or {},
    )


def texts_of(blocks: Iterable[JsonObject]) -> Iterator[JsonObject]:
    """The text objects of the blocks and of their buttons, in their order; descriptions of pictures are left out."""
    for block in blocks:
        parts = (block.get("text"), *(block.get("fields") or ()), *(block.get("elements") or ()))
        for each in parts:
            if isinstance(each, dict):
                yield each["text"] if isinstance(each.get("text"), dict) else each


def content_error(version: Version) -> str | None:
    """Return Slack's error code for invalid content; None if it is valid."""
    if not (version.text or version.blocks or version.attachments):
        return "no_text"
    if version.metadata and not _is_metadata(version.metadata):
        return "invalid_metadata_format"
    return "invalid_blocks" if _breaks_limits(version.blocks) else None


def _breaks_limits(blocks: Sequence[JsonObject]) -> bool:
    return len(blocks) > MAX_BLOCKS or any(map(_is_too_long, blocks))


def _is_metadata(metadata: JsonObject) -> bool:
    """Whether it has the keys that Slack asks for.

    Source: https://docs.slack.dev/messaging/message-metadata
    """
    event, payload = metadata.get("event_type"), metadata.get("event_payload")
    return isinstance(event, str) and bool(event) and isinstance(payload, dict)


def _is_too_long(block: JsonObject) -> bool:
    length = _length(block)
    if length > MAX_BLOCK_TEXT.get(str(block.get("type")), length) or len(block.get("alt_text", "")) > MAX_ALT_TEXT:
        return True
    return any(_has_too_much(block.get(name) or (), *most) for name, most in MAX_PARTS.items())


def _has_too_much(parts: Sequence[JsonObject], most: int, longest: int) -> bool:
    return len(parts) > most or any(_length({"text": part}) > longest for part in parts)


def _length(block: JsonObject) -> int:
    text = block.get("text")
    return len(str(text.get("text", ""))) if isinstance(text, dict) else 0


def _parsed_field(name: str, value: str) -> object:
    # Only these fields hold JSON: a text that looks like JSON stays text.
    if name not in {"blocks", "attachments", "metadata", "payload"}:
        return value
    try:
        return json.loads(value)
    except ValueError:
        return None
