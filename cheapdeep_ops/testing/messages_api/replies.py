"""The replies that a test can script for the simulated API."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Self

JsonObject = Mapping[str, Any]
"""A JSON object as it goes over the wire."""

StopReason = Literal[
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "pause_turn",
    "refusal",
    "model_context_window_exceeded",
]
RefusalCategory = Literal["cyber", "bio", "frontier_llm", "reasoning_extraction", "general_harms"]

ERROR_DEFAULTS: Final[Mapping[int, tuple[str, str]]] = {
    400: ("invalid_request_error", "Bad request"),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your credit balance is too low to access the Anthropic API."),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "Not found"),
    408: ("timeout_error", "Request timed out"),
    409: ("conflict_error", "Conflict"),
    413: ("request_too_large", "Request exceeds the maximum size"),
    422: ("invalid_request_error", "Unprocessable request"),
    429: ("rate_limit_error", "This request would exceed the rate limit for your organization."),
    500: ("api_error", "Internal server error"),
    503: ("api_error", "Service unavailable"),
    504: ("timeout_error", "Request timed out"),
    529: ("overloaded_error", "Overloaded"),
}
"""Error type and message by HTTP status; messages are the API's own if a recording was available."""

FIRST_ERROR_STATUS: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One response of the simulated API: a message, an error, or recorded bytes; it can be late or cut off.

    Make one with `triage`, `text`, `tool_use`, `of_blocks`, `refusal`, `error` or `body`. Then `slow`,
    `paced` and `cut` add faults.
    """

    kind: Literal["message", "error", "verbatim"]
    status: int = 200
    content: str | None = None
    """The text of the message's one block; None for a message without text."""
    blocks: tuple[JsonObject, ...] | None = None
    """All content blocks, as the API has them; None for one block of text with `content`."""
    stop_reason: StopReason = "end_turn"
    stop_details: JsonObject | None = None
    usage: JsonObject | None = None
    """Usage fields that replace the estimated ones."""
    error_type: str = ""
    error_message: str = ""
    payload: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    cut_after: int | None = None
    pace_s: float | None = None
    at_once: int = 0

    @classmethod
    def triage(
        cls,
        confidence: float | None,
        answer: str | None,
        *,
        stop_reason: StopReason = "end_turn",
        usage: Mapping[str, object] | None = None,
    ) -> Self:
        """Return a message whose text is the triage JSON; values are not checked, so they may be out of range."""
        content = json.dumps({"confidence": confidence, "answer": answer}, ensure_ascii=False)
        return cls.text(content, stop_reason=stop_reason, usage=usage)

    @classmethod
    def text(
        cls,
        text: str,
        *,
        stop_reason: StopReason = "end_turn",
        usage: Mapping[str, object] | None = None,
    ) -> Self:
        """Return a message with exactly this text, such as a malformed triage reply."""
        return cls(kind="message", content=text, stop_reason=stop_reason, usage=usage)

    @classmethod
    def of_blocks(
        cls,
        *blocks: JsonObject,
        stop_reason: StopReason = "end_turn",
        usage: Mapping[str, object] | None = None,
    ) -> Self:
        """Return a message with these content blocks: text, thinking, tool use, or others of the API."""
        return cls(kind="message", blocks=blocks, stop_reason=stop_reason, usage=usage)

    @classmethod
    def tool_use(
        cls,
        name: str,
        arguments: Mapping[str, object],
        *,
        id: str = "toolu_01",  # noqa: A002  # the API's own word for it
        usage: Mapping[str, object] | None = None,
    ) -> Self:
        """Return a message that calls one tool with `arguments`."""
        block = {"type": "tool_use", "id": id, "name": name, "input": arguments}
        return cls.of_blocks(block, stop_reason="tool_use", usage=usage)

    @classmethod
    def refusal(cls, category: RefusalCategory | None = "cyber") -> Self:
        """Return a refusal: HTTP 200, stop reason `refusal`, no content."""
        details = {"type": "refusal", "category": category, "explanation": None}
        return cls(kind="message", stop_reason="refusal", stop_details=details)

    @classmethod
    def error(
        cls,
        status: int,
        *,
        type: str | None = None,  # noqa: A002  # the API's own word for it
        message: str | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Return an error in the API's format, with the usual type and message of `status`.

        `retry_after` is the header's value in seconds. Raises ValueError if `status` is below 400.
        """
        if status < FIRST_ERROR_STATUS:
            raise ValueError(f"status must be {FIRST_ERROR_STATUS} or above, not {status}")
        usual_type, usual_message = ERROR_DEFAULTS.get(status, ("api_error", f"HTTP {status}"))
        waits = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
        return cls(
            kind="error",
            status=status,
            error_type=type or usual_type,
            error_message=usual_message if message is None else message,
            headers={**waits, **(headers or {})},
        )

    @classmethod
    def body(
        cls,
        body: Mapping[str, object] | bytes,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Return a recorded body unchanged; bytes that begin with `event:` are sent as an event stream."""
        payload = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        return cls(kind="verbatim", status=status, payload=payload, headers=dict(headers or {}))

    def slow(self, seconds: float) -> Self:
        """Return a copy that is sent `seconds` of real time later; it is not sent if the server stops first."""
        if not seconds >= 0:
            raise ValueError(f"seconds must be 0 or more, not {seconds!r}")
        return replace(self, delay_s=seconds)

    def paced(self, seconds: float, *, at_once: int = 0) -> Self:
        """Return a copy whose stream waits `seconds` of real time between events, except after the first `at_once`.

        The stream ends when the client disconnects. `SimulatedAnthropic.streams` counts the events that were sent.
        """
        if not seconds >= 0:
            raise ValueError(f"seconds must be 0 or more, not {seconds!r}")
        return replace(self, pace_s=seconds, at_once=at_once)

    def cut(self, after_bytes: int) -> Self:
        """Return a copy that sends all headers and `after_bytes` bytes of the body, and then closes the connection."""
        if after_bytes < 0:
            raise ValueError(f"after_bytes must be 0 or more, not {after_bytes}")
        return replace(self, cut_after=after_bytes)
