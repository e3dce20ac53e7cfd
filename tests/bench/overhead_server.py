"""A simulated Messages API that answers at once, for `overhead.py`: it prints its port and runs until it is stopped.

It reads only a request's length, model and `stream`, so that it costs little beside its client.
"""

import asyncio
import json
import re
from contextlib import suppress

ANSWER = (
    "Venlafaxine and its active metabolite inhibit the reuptake of serotonin and noradrenaline. At low doses the "
    "effect on serotonin dominates; noradrenaline follows at higher ones. Blood pressure should be checked. "
) * 3
PIECE = 24
"""The characters of one text delta, about six tokens."""

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_MODEL = re.compile(rb'"model": ?"([^"]+)"')
_STREAM = re.compile(rb'"stream": ?true')
UNSURE = "Are you sure?"
"""A question with this text gets a verdict of little confidence."""

_UNSURE = UNSURE.encode()
_HEADERS = (
    "HTTP/1.1 200 OK\r\ndate: Mon, 30 Nov 2026 08:00:00 GMT\r\nserver: cloudflare\r\n"
    "request-id: req_011CVPexampleexampleexam\r\nanthropic-organization-id: 00000000-0000-0000-0000-000000000000\r\n"
    "anthropic-ratelimit-requests-limit: 4000\r\nanthropic-ratelimit-requests-remaining: 3999\r\n"
    "anthropic-ratelimit-input-tokens-limit: 400000\r\nanthropic-ratelimit-input-tokens-remaining: 399000\r\n"
    "via: 1.1 google\r\ncf-cache-status: DYNAMIC\r\nx-robots-tag: none\r\n"
)


def reply_text(model: str, *, is_unsure: bool) -> str:
    """What the model writes: the first tier a verdict, the others an answer."""
    return json.dumps({"confidence": 0.4 if is_unsure else 0.93, "answer": ANSWER}) if "haiku" in model else ANSWER


def whole(model: str, *, is_unsure: bool) -> bytes:
    """The response to a request without `stream`."""
    message = {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL", "type": "message", "role": "assistant", "model": model,
        "content": [{"type": "text", "text": reply_text(model, is_unsure=is_unsure)}],
        "stop_reason": "end_turn", "stop_sequence": None, "usage": _usage(240),
    }  # fmt: skip
    body = json.dumps(message).encode()
    return f"{_HEADERS}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def streamed(model: str, *, is_unsure: bool) -> list[bytes]:
    """The response to a request with `stream`, event by event."""
    text = reply_text(model, is_unsure=is_unsure)
    message = {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL", "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": None, "stop_sequence": None,
        "usage": _usage(1),
    }  # fmt: skip
    deltas = [{"type": "text_delta", "text": text[at : at + PIECE]} for at in range(0, len(text), PIECE)]
    events = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": _usage(240)},
        {"type": "message_stop"},
    ]
    head = f"{_HEADERS}content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    return [head, *map(_chunk, events), b"0\r\n\r\n"]


def _usage(output_tokens: int) -> dict[str, object]:
    return {
        "input_tokens": 610, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output_tokens, "service_tier": "standard",
    }  # fmt: skip


def _chunk(event: dict[str, object]) -> bytes:
    body = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
    return f"{len(body):x}\r\n".encode() + body + b"\r\n"


class Api(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, to write to it."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request that has arrived whole."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._received, 0, end)
            size = end + 4 + (int(length[1]) if length else 0)
            if len(self._received) < size:
                return
            request, self._received = self._received[:size], self._received[size:]
            for part in response(request):
                self._transport.write(part)


_responses: dict[tuple[str, bool, bool], list[bytes]] = {}


def response(request: bytes) -> list[bytes]:
    """The response to a request, in the parts in which it is sent."""
    named = _MODEL.search(request)
    model, is_streamed, is_unsure = (
        named[1].decode() if named else "",
        bool(_STREAM.search(request)),
        _UNSURE in request,
    )
    key = (model, is_streamed, is_unsure)
    if key not in _responses:
        make = streamed if is_streamed else lambda *args, **kwargs: [whole(*args, **kwargs)]
        _responses[key] = make(model, is_unsure=is_unsure)
    return _responses[key]


async def serve() -> None:
    """Print the port, and answer until the process is stopped."""
    server = await asyncio.get_running_loop().create_server(Api, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(serve())
