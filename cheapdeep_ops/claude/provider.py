"""Claude as a provider: this module has the functions of the protocol `cheapdeep_ops.router.provider.Provider`."""

from contextlib import AbstractContextManager
from typing import Final

from cheapdeep_ops.claude.arguments import normalize_params
from cheapdeep_ops.claude.cache_breakpoints import contract_place
from cheapdeep_ops.claude.clients import (
    abort_response,
    interruption,
    is_bad_request,
    is_outage,
    is_tier_failure,
    is_timeout,
)
from cheapdeep_ops.claude.conversion import billed, inference_geo, read_reply, unwrapped
from cheapdeep_ops.claude.cut_answer import cut_answer_error
from cheapdeep_ops.claude.features import bypass_cause
from cheapdeep_ops.claude.prompt import triage_prompt
from cheapdeep_ops.claude.received_events import text_event
from cheapdeep_ops.claude.retry_wait import attempt_limit_s
from cheapdeep_ops.claude.retry_wait import retry_wait_limit as limit_retry_waits
from cheapdeep_ops.claude.stream_events import OriginalProgress, TriageProgress
from cheapdeep_ops.claude.tier_requests import (
    conversation_key,
    has_schema,
    is_too_long,
    original_request,
    texts,
    triage_parts,
    triage_request,
    turns,
)
from cheapdeep_ops.partial import PartialReply

__all__ = [
    "abort_response",
    "billed",
    "bypass_cause",
    "contract_place",
    "conversation_key",
    "cut_answer_error",
    "has_schema",
    "inference_geo",
    "interruption",
    "is_bad_request",
    "is_outage",
    "is_tier_failure",
    "is_timeout",
    "is_too_long",
    "name",
    "normalize_params",
    "original_progress",
    "original_request",
    "read_reply",
    "retry_wait_limit",
    "text_event",
    "texts",
    "triage_parts",
    "triage_progress",
    "triage_prompt",
    "triage_request",
    "turns",
    "unwrapped",
]

name: Final = "anthropic"


def original_progress() -> OriginalProgress:
    """The progress of a stream that answers the caller's own request."""
    return OriginalProgress()


def triage_progress(partial: PartialReply, *, threshold: float) -> TriageProgress:
    """The progress of a stream that answers the triage question."""
    return TriageProgress(partial, threshold=threshold)


def retry_wait_limit(timeout: object) -> AbstractContextManager[None]:
    """Inside, the SDK waits no longer before a retry than an attempt with this timeout may take."""
    return limit_retry_waits(attempt_limit_s(timeout))
