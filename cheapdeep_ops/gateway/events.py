"""Server-sent events as the API writes them: each has a name, and no `[DONE]` follows the last one.

Source: https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from typing import Final

from pydantic_core import to_json

from cheapdeep_ops.claude.forwarded import event_json
from cheapdeep_ops.claude.received_events import Event

PING: Final = b'event: ping\ndata: {"type":"ping"}\n\n'
STREAM_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
)

_DELTA: Final = (
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":%b}}\n\n'
)


def part_bytes(part: Event | str | bytes) -> bytes:
    """A part of a stream as the caller gets it; a text is a delta of the answer, and bytes stay as they are."""
    if isinstance(part, bytes):
        return part
    if isinstance(part, str):
        return _DELTA % to_json(part)
    return b"event: %b\ndata: %b\n\n" % (part.type.encode(), event_json(part))


def error_event(body: object) -> bytes:
    """The event of an error in the API's form."""
    return b"event: error\ndata: %b\n\n" % to_json(body)
