"""Asking a deep model whether an answer is right, and reading what it says strictly."""

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any, Final, cast

from anthropic import (
    Anthropic,
    AnthropicError,
    APIStatusError,
    DefaultHttpxClient,
    NotFoundError,
)
from anthropic.types import Message
from anthropic.types.messages import MessageBatchIndividualResponse
from httpx2 import HTTPError

from cheapdeep_ops.claude.conversion import only_text, read_usage
from cheapdeep_ops.claude.forged_grades import LONGEST_REASON
from cheapdeep_ops.errors import GraderError
from cheapdeep_ops.values import Grade, GradeFailure, GradeResult, StopReason

_SHOWN: Final = 200
_TIMEOUT_S: Final = 120.0
_PAUSING: Final = frozenset({401, 402, 403, 404})
"""Statuses that the next request would meet as well: key, credit, permission, model."""

_REJECTING: Final = frozenset({400, 413, 422})
"""Statuses that mean this one request."""

_PAUSING_TYPES: Final = frozenset({"authentication_error", "billing_error", "permission_error", "not_found_error"})
"""The same as the pausing statuses, as the lines of a batch name them."""

_TROUBLE: Final = (AnthropicError, HTTPError, TypeError, ValueError)
"""What the SDK raises: the API's errors, those of the network (bare where a batch's results break off), and TypeError
or ValueError where it finds no key, or two."""

_STOP_FAILURES: Final = {
    StopReason.REFUSAL: GradeFailure.REFUSAL,
    StopReason.MAX_TOKENS: GradeFailure.TRUNCATED,
    StopReason.CONTEXT_EXCEEDED: GradeFailure.TRUNCATED,
}


def read_judgement(message: object) -> GradeResult:
    """The verdict that a grader's reply states, or the failure that it is; never a default.

    The SDK does not check replies: any field may be missing, and a proxy's page comes as a bare string.
    """
    usage, stop_reason = read_usage(getattr(message, "usage", None)), str(getattr(message, "stop_reason", None))
    if stop_reason in _STOP_FAILURES:
        return GradeResult(failure=_STOP_FAILURES[StopReason(stop_reason)], usage=usage)
    fields = _fields(_text_of(message)) if stop_reason == StopReason.END_TURN else None
    if fields is None:
        return GradeResult(failure=GradeFailure.MALFORMED, usage=usage)
    return GradeResult(grade=Grade(fields["verdict"]), reason=fields["reason"][:LONGEST_REASON], usage=usage)


def _text_of(message: object) -> str:
    try:
        return only_text(cast("Message", message)) or ""
    except (AttributeError, TypeError):
        return ""


def _fields(text: str) -> dict[str, str] | None:
    """The two fields of a text that is one JSON object with them and no others, or None."""
    try:
        pairs = json.loads(text, object_pairs_hook=tuple)  # which no list of pairs becomes
    except (ValueError, RecursionError):
        return None
    if not isinstance(pairs, tuple):
        return None
    fields = dict(pairs)
    known = fields.keys() == {"reason", "verdict"} and len(pairs) == len(fields)
    if not known or not all(isinstance(value, str) for value in fields.values()):
        return None
    return _encodable(fields) if fields["verdict"] in set(Grade) else None


def _encodable(fields: dict[str, str]) -> dict[str, str]:
    return {name: value.replace("\0", "").encode("utf-8", "replace").decode() for name, value in fields.items()}


class GraderApi:
    """The API as a grader uses it: no retries of the SDK's own, and errors told apart by what to do about them."""

    def __init__(self, client: Anthropic | None = None) -> None:
        self._client = client
        self._owned: Anthropic | None = None

    def grade(self, request: Mapping[str, Any]) -> GradeResult:
        """Have one answer judged. Raises GraderError."""
        try:
            message = self._api.messages.create(**request)
        except _TROUBLE as error:
            if isinstance(error, APIStatusError) and error.status_code in _REJECTING:
                return _rejected(f"{error.status_code}: {error.api_message or type(error).__name__}")
            raise _grader_error(error) from error
        return read_judgement(message)

    def submit(self, requests: Mapping[str, Mapping[str, Any]]) -> str:
        """Hand in a batch, by ids of our own; returns the API's id for it. Raises GraderError.

        Source: https://platform.claude.com/docs/en/build-with-claude/batch-processing
        """
        parts = [{"custom_id": name, "params": params} for name, params in requests.items()]
        try:
            return self._api.messages.batches.create(requests=cast("Any", parts)).id
        except _TROUBLE as error:
            raise _grader_error(error) from error

    def results(self, batch_id: str) -> dict[str, GradeResult | GraderError] | None:
        """What came of a batch by our ids, errors of what may be asked again included; None while it has not ended.

        Raises GraderError.
        """
        try:
            if self._api.messages.batches.retrieve(batch_id).processing_status != "ended":
                return None
            lines = list(self._api.messages.batches.results(batch_id))
        except NotFoundError:  # the API keeps results for 29 days
            return {}
        except _TROUBLE as error:
            raise _grader_error(error) from error
        return dict(map(_result, lines))

    def close(self) -> None:
        """Close the connections that were made here."""
        if self._owned is not None:
            self._owned.close()
            self._owned = None

    @property
    def _api(self) -> Anthropic:
        """The client, made at its first use: a guard that grades nothing needs no key."""
        if self._client is not None:
            return self._client
        if self._owned is None:
            http_client = DefaultHttpxClient(timeout=_TIMEOUT_S)
            self._owned = Anthropic(http_client=http_client, max_retries=0, timeout=_TIMEOUT_S, open_telemetry=False)
        return self._owned


def _grader_error(error: Exception) -> GraderError:
    """The error in words; those of the API are shown where they say what to mend, and content cannot be among them."""
    if not isinstance(error, APIStatusError):
        pauses = isinstance(error, TypeError | ValueError) and not isinstance(error, json.JSONDecodeError)
        return GraderError(
            f"{type(error).__name__}: {error}"[:_SHOWN] if pauses else type(error).__name__, pauses=pauses
        )
    pauses = error.status_code in _PAUSING
    said = f": {error.api_message}" if pauses and error.api_message else ""
    name = f"{error.status_code} {type(error).__name__}{said}"
    return GraderError(name[:_SHOWN], pauses=pauses, retry_after_s=_retry_after(error))


def _retry_after(error: APIStatusError) -> float | None:
    try:
        seconds = float(error.response.headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return seconds if isfinite(seconds) else None


def _rejected(reason: str) -> GradeResult:
    return GradeResult(failure=GradeFailure.REJECTED, reason=reason[:LONGEST_REASON])


def _result(line: MessageBatchIndividualResponse) -> tuple[str, GradeResult | GraderError]:
    """One line of a batch's results; what was canceled or has expired is asked again, and so are errors of the API."""
    result = line.result
    kind = getattr(result, "type", None)
    if kind == "succeeded":
        return line.custom_id, read_judgement(getattr(result, "message", None))
    error = getattr(getattr(result, "error", None), "error", None)
    name, said = str(getattr(error, "type", kind)), str(getattr(error, "message", ""))
    if name == "invalid_request_error":
        return line.custom_id, _rejected(said)
    pauses = name in _PAUSING_TYPES
    return line.custom_id, GraderError(f"{name}: {said}"[:_SHOWN] if pauses else name, pauses=pauses)
