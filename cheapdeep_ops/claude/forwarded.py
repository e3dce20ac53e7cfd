"""What a router reads of a reply that goes to the caller as it came: its figures, and whether it is an error."""

import logging
from typing import Any, Final

import httpx2
from anthropic import APIStatusError, AsyncAnthropic
from pydantic_core import from_json, to_json

from cheapdeep_ops.claude.conversion import AnyMessage
from cheapdeep_ops.claude.raw_message import RawMessage, raw_message
from cheapdeep_ops.claude.received_events import Event, Piece, received
from cheapdeep_ops.claude.stream_events import PartialMessage
from cheapdeep_ops.partial import Early
from cheapdeep_ops.values import TierReply

_log: Final = logging.getLogger(__name__)
_LARGEST_EVENT: Final = 4_000_000
"""In bytes. Of a stream with a larger event, only the bytes are passed on."""


def whole_reply(response: httpx2.Response, client: AsyncAnthropic) -> RawMessage | httpx2.Response:
    """The message in a response that was read; the response if it has none. Raises the SDK's error of its status."""
    raise_for_status(response, client)
    return raw_message(response) or response


def raise_for_status(response: httpx2.Response, client: AsyncAnthropic) -> None:
    """Raise the SDK's error if the status of `response`, which was read, is one of an error."""
    if not response.is_success:
        # The SDK has no public name for it.
        raise client._make_status_error_from_response(response)  # noqa: SLF001


def response_of(error: BaseException) -> httpx2.Response | None:
    """The response with which the API has refused a request, which was read; None if it did not."""
    return error.response if isinstance(error, APIStatusError) and error.response.is_closed else None


def answer_json(message: AnyMessage, answer: str) -> tuple[bytes, httpx2.Headers]:
    """The body of a triage reply with `answer` as its content, and what is known of its response's headers."""
    if isinstance(message, RawMessage):
        return to_json(message.fields_with_answer(answer)), message.headers
    # The SDK has read the reply, because it differs from its types.
    fields = message.to_dict(mode="json", warnings=False)
    request_id = message._request_id  # noqa: SLF001 - documented by the SDK
    headers = httpx2.Headers({} if request_id is None else {"request-id": request_id})
    return to_json({**fields, "content": [{"type": "text", "text": answer}]}), headers


def event_json(event: Event) -> bytes:
    """An event of a stream as JSON, with the fields that the API has sent."""
    return event.to_json(indent=None, warnings=False).encode()


class PassedStream:
    """The progress of a stream of bytes: the caller gets each chunk unchanged, and its events are counted.

    `error` is the API's own error event, once it has come.
    """

    decision: Final = Early.SHIP
    is_withheld: Final = False
    is_cut: Final = False
    gives_texts: Final = False

    def __init__(self) -> None:
        self._so_far = PartialMessage()
        self._rest = b""
        self._is_lost = False
        self.error: dict[str, Any] | None = None

    def take(self, chunk: Any) -> tuple[Any, ...]:
        """Count the events in a chunk and return it unchanged; never raises."""
        for event in self._events(chunk):
            try:
                self._count(event)
            except Exception:  # noqa: BLE001 - the caller gets the bytes, whatever they are
                _log.debug("an event of a stream cannot be read", exc_info=True)
        return (chunk,)

    def _events(self, chunk: bytes) -> list[bytes]:
        """The events that end in this chunk."""
        if self._is_lost:
            return []
        # A server may end lines by CR LF.
        *events, self._rest = (self._rest + chunk).replace(b"\r\n", b"\n").split(b"\n\n")
        if len(self._rest) > _LARGEST_EVENT:
            self._is_lost, self._rest = True, b""
        return events

    def _count(self, event: bytes) -> None:
        for line in event.split(b"\n"):
            if line.startswith(b"data:"):
                self._take(from_json(line[5:]))

    def _take(self, data: Any) -> None:
        if isinstance(data, dict) and data.get("type") == "error":
            self.error = data
            return
        event = received(data)
        if isinstance(event, Piece):
            self._so_far.count(event.text)
        elif event is not None:
            self._so_far.take(event)

    def end(self) -> tuple[Any, ...]:
        """Return no further parts."""
        return ()

    def reply(self) -> TierReply:
        """The tokens and the message so far; there is no verdict."""
        return TierReply(usage=self._so_far.usage(), message=self._so_far.message)


class StreamedError(Exception):
    """A stream has ended with the API's error event, which the caller has got."""


def streamed_error(data: dict[str, Any]) -> StreamedError:
    """The error for an error event with this data."""
    error = data.get("error")
    return StreamedError(str(error.get("type")) if isinstance(error, dict) else "")
