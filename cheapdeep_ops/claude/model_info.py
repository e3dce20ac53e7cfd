"""Asking the API how long a model lives."""

from dataclasses import dataclass
from typing import Final

from anthropic import Anthropic, AnthropicError, NotFoundError
from httpx2 import HTTPError

_TIMEOUT_S: Final = 10.0
_TROUBLE: Final = (AnthropicError, HTTPError, AttributeError, TypeError, ValueError)
"""What the SDK raises, and what comes of a reply that is none of the API's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetirementInfo:
    """What the API says of a model: `retires_at` in Unix seconds, `problem` where it says that there is none."""

    model: str
    lifecycle: str
    retires_at: float | None = None
    problem: str = ""


def life_of(client: Anthropic, model: str) -> RetirementInfo | None:
    """What the API says of `model`; None where it says nothing, for want of a key, a network or such an endpoint.

    Never raises for trouble with the API. Source: https://platform.claude.com/docs/en/api/models/retrieve
    """
    try:
        found = client.with_options(max_retries=0, timeout=_TIMEOUT_S).models.retrieve(model)
        retires_at = found.retires_at
        at = retires_at.timestamp() if retires_at is not None else None
        return RetirementInfo(model=model, lifecycle=str(found.lifecycle), retires_at=at)
    except NotFoundError as error:
        return _unknown(model, error)
    except _TROUBLE:
        return None


def _unknown(model: str, error: NotFoundError) -> RetirementInfo | None:
    """A gateway without this endpoint answers 404 as well, but does not name the model."""
    if model not in (error.api_message or ""):
        return None
    return RetirementInfo(model=model, lifecycle="unknown", problem="the API does not know it")
