"""Request grades from a deep model, and read its replies."""

import json
from collections.abc import Iterable, Iterator, Mapping
from math import isfinite
from typing import Any, Final, cast

from anthropic import (
    Anthropic,
    AnthropicError,
    APIConnectionError,
    APIStatusError,
    DefaultHttpxClient,
    NotFoundError,
)
from anthropic.types import Message
from anthropic.types.messages import MessageBatchIndividualResponse
from httpx2 import ConnectError, ConnectTimeout, HTTPError, PoolTimeout

from cheapdeep_ops.claude.conversion import only_text, read_usage
from cheapdeep_ops.claude.forged_grades import LONGEST_REASON
from cheapdeep_ops.claude.grade_text import read_grade_text
from cheapdeep_ops.errors import BatchMissingError, GraderError
from cheapdeep_ops.values import GradeFailure, GradeResult, ListedBatch, StopReason

_LONGEST_ERROR: Final = 200
_TIMEOUT_S: Final = 120.0
_BATCHES_PER_PAGE: Final = 100
_MOST_BATCHES: Final = 1_000
_PAUSING: Final = frozenset({401, 402, 403, 404})
"""Statuses that the next request would get too: wrong key, no credit, no permission, unknown model."""

_REJECTING: Final = frozenset({400, 413, 422})
"""Statuses that concern this one request."""

_LOST_ANSWERS: Final = frozenset({408, 502, 504})
"""Statuses of a proxy that has passed the request on and has got no answer."""

_PAUSING_TYPES: Final = frozenset({"authentication_error", "billing_error", "permission_error", "not_found_error"})
"""The error types of the pausing statuses, as a batch's results name them."""

_SDK_ERRORS: Final = (AnthropicError, HTTPError, TypeError, ValueError)
"""What the SDK raises: errors of the API and of the network, and TypeError or ValueError for no key or for two.

Network errors come without the SDK's wrapper when a batch's results break off.
"""

_STOP_FAILURES: Final = {
    StopReason.REFUSAL: GradeFailure.REFUSAL,
    StopReason.MAX_TOKENS: GradeFailure.TRUNCATED,
    StopReason.CONTEXT_EXCEEDED: GradeFailure.TRUNCATED,
}


def read_grade(message: object) -> GradeResult:
    """The grade that a grader's reply states, or the kind of its failure."""
    # The SDK does not validate replies: any field may be missing, and a proxy's page arrives as a bare string.
    usage, stop_reason = read_usage(getattr(message, "usage", None)), str(getattr(message, "stop_reason", None))
    if stop_reason in _STOP_FAILURES:
        return GradeResult(failure=_STOP_FAILURES[StopReason(stop_reason)], usage=usage)
    stated = read_grade_text(_text_of(message)) if stop_reason == StopReason.END_TURN else None
    if stated is None:
        return GradeResult(failure=GradeFailure.MALFORMED, usage=usage)
    reason = stated.reason[:LONGEST_REASON]
    return GradeResult(grade=stated.grade, spelled=stated.spelled, reason=reason, usage=usage)


def _text_of(message: object) -> str:
    try:
        return only_text(cast("Message", message)) or ""
    except (AttributeError, TypeError):
        return ""


class GraderApi:
    """The API for a grader: the SDK does not retry, and a GraderError says whether the grader pauses."""

    def __init__(self, client: Anthropic | None = None) -> None:
        self._client = client
        self._owned: Anthropic | None = None

    def grade(self, request: Mapping[str, Any]) -> GradeResult:
        """Request the grade of one answer. Raises GraderError."""
        return self.ask(request)[0]

    def ask(self, request: Mapping[str, Any]) -> tuple[GradeResult, str]:
        """Request the grade of one answer; returns it with the text of the reply. Raises GraderError."""
        try:
            message = self._api.messages.create(**request)
        except _SDK_ERRORS as error:
            if isinstance(error, APIStatusError) and error.status_code in _REJECTING:
                return _rejected(f"{error.status_code}: {error.api_message or type(error).__name__}"), ""
            raise _grader_error(error) from error
        return read_grade(message), _text_of(message)

    def submit(self, requests: Mapping[str, Mapping[str, Any]]) -> str:
        """Submit a batch of requests by custom id; returns the batch's id. Raises GraderError.

        Source: https://platform.claude.com/docs/en/build-with-claude/batch-processing
        """
        parts = [{"custom_id": name, "params": params} for name, params in requests.items()]
        try:
            batch = self._api.messages.batches.create(requests=cast("Any", parts))
        except _SDK_ERRORS as error:
            raise _grader_error(error, may_be_sent=_may_be_sent(error)) from error
        batch_id = getattr(batch, "id", None)
        if not isinstance(batch_id, str):
            raise GraderError("the answer to a batch is not from the API", may_be_sent=True)
        return batch_id

    def batches(self, *, since: float) -> list[ListedBatch]:
        """The batches of the key's workspace created since `since` (Unix time), newest first. Raises GraderError.

        Source: https://platform.claude.com/docs/en/api/python/messages/batches/list
        """
        listed: list[ListedBatch] = []
        try:
            for batch in self._api.messages.batches.list(limit=_BATCHES_PER_PAGE):
                if batch.created_at.timestamp() < since or len(listed) >= _MOST_BATCHES:
                    break
                counts = batch.request_counts
                requests = counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
                has_ended = batch.processing_status == "ended"
                listed.append(ListedBatch(id=batch.id, requests=requests, has_ended=has_ended))
        except AttributeError:
            raise GraderError("the list of batches is not from the API") from None
        except _SDK_ERRORS as error:
            raise _grader_error(error) from error
        return listed

    def results(self, batch_id: str) -> dict[str, GradeResult | GraderError] | None:
        """The results of a batch by custom id, None until it has ended. Results that cannot be read are left out.

        A GraderError stands for a request that may be sent again. Raises GraderError; BatchMissingError if the API does
        not find the batch or its results.
        """
        try:
            batch = self._api.messages.batches.retrieve(batch_id)
            status, has_results = getattr(batch, "processing_status", None), getattr(batch, "results_url", None)
            # A proxy's page arrives as a bare string.
            if status is None or (status == "ended" and not has_results):
                raise BatchMissingError("the API's answer does not tell where the results are")
            if status != "ended":
                return None
            lines = self._api.messages.batches.results(batch_id)
            return dict(_results(_readable(lines)))
        # Another key's workspace, a proxy, or a copy of the data that is behind: a later read may find it.
        except NotFoundError:
            raise BatchMissingError("404: the API does not find it") from None
        except _SDK_ERRORS as error:
            raise _grader_error(error) from error

    def close(self) -> None:
        """Close the connections, unless the client was passed in."""
        if self._owned is not None:
            self._owned.close()
            self._owned = None

    @property
    def _api(self) -> Anthropic:
        """The client that was passed in, else one of its own."""
        if self._client is not None:
            return self._client
        # Made at its first use, because a guard that grades nothing needs no key.
        if self._owned is None:
            http_client = DefaultHttpxClient(timeout=_TIMEOUT_S)
            self._owned = Anthropic(http_client=http_client, max_retries=0, timeout=_TIMEOUT_S, open_telemetry=False)
        return self._owned


def _may_be_sent(error: Exception) -> bool:
    """Whether the API may have accepted a request, although it ended with this error."""
    if isinstance(error, APIStatusError):
        return error.status_code in _LOST_ANSWERS
    is_connected = not isinstance(error.__cause__, ConnectError | ConnectTimeout | PoolTimeout)
    return isinstance(error, APIConnectionError | HTTPError) and is_connected


def _grader_error(error: Exception, *, may_be_sent: bool = False) -> GraderError:
    """The error as a GraderError; an API error's own text is added only if it pauses the grader."""
    # The texts of pausing errors say what to fix, and never quote the content of a request.
    if not isinstance(error, APIStatusError):
        pauses = isinstance(error, TypeError | ValueError) and not isinstance(error, json.JSONDecodeError)
        return GraderError(
            f"{type(error).__name__}: {error}"[:_LONGEST_ERROR] if pauses else type(error).__name__,
            pauses=pauses,
            may_be_sent=may_be_sent,
        )
    pauses = error.status_code in _PAUSING
    detail = f": {error.api_message}" if pauses and error.api_message else ""
    text = f"{error.status_code} {type(error).__name__}{detail}"
    retry_after_s = _retry_after(error)
    return GraderError(text[:_LONGEST_ERROR], pauses=pauses, retry_after_s=retry_after_s, may_be_sent=may_be_sent)


def _retry_after(error: APIStatusError) -> float | None:
    try:
        seconds = float(error.response.headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return seconds if isfinite(seconds) else None


def _rejected(reason: str) -> GradeResult:
    return GradeResult(failure=GradeFailure.REJECTED, reason=reason[:LONGEST_REASON])


def _readable(lines: Iterable[MessageBatchIndividualResponse]) -> Iterator[MessageBatchIndividualResponse]:
    """The lines up to one that cannot be read. Raises the error of a connection that breaks before the first line."""
    is_begun = False
    try:
        for line in lines:
            is_begun = True
            yield line
    except (HTTPError, ValueError, RecursionError) as error:
        # What was read is paid for and complete; the next read has the rest.
        if not is_begun and isinstance(error, HTTPError):
            raise


def _results(lines: Iterable[MessageBatchIndividualResponse]) -> Iterator[tuple[str, GradeResult | GraderError]]:
    """The custom id and the result of each line that has both."""
    for line in lines:
        custom_id, result = getattr(line, "custom_id", None), getattr(line, "result", None)
        kind = getattr(result, "type", None)
        if isinstance(custom_id, str) and isinstance(kind, str):
            yield custom_id, _result(result, kind)


def _result(result: object, kind: str) -> GradeResult | GraderError:
    """The result of one line; a GraderError stands for a request that may be sent again."""
    if kind == "succeeded":
        return read_grade(getattr(result, "message", None))
    # Cancelled and expired requests have no error object: their type names them.
    error = getattr(getattr(result, "error", None), "error", None)
    name, text = str(getattr(error, "type", kind)), str(getattr(error, "message", ""))
    if name == "invalid_request_error":
        return _rejected(text)
    pauses = name in _PAUSING_TYPES
    return GraderError(f"{name}: {text}"[:_LONGEST_ERROR] if pauses else name, pauses=pauses)
