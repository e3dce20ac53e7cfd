"""Ask the API for a model's lifecycle and its retirement date."""

import re
from dataclasses import dataclass
from typing import Final

from anthropic import Anthropic, AnthropicError, NotFoundError
from httpx2 import HTTPError

_TIMEOUT_S: Final = 10.0
_API_NAME: Final = re.compile("[a-z0-9-]+")
"""The form of the API's own names: it knows no names of other platforms, which says nothing about the model."""

_API_ERRORS: Final = (AnthropicError, HTTPError, AttributeError, TypeError, ValueError)
"""What the SDK raises, and what a reply raises that is not in the API's format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetirementInfo:
    """A model's lifecycle by the API: `retires_at` in Unix seconds; `problem` if the API does not know the model."""

    model: str
    lifecycle: str
    retires_at: float | None = None
    problem: str = ""


def retirement_info(client: Anthropic, model: str) -> RetirementInfo | None:
    """The lifecycle of `model`; None if the API gives none: no key, no network, or no such endpoint.

    Never raises an error of the API. Source: https://platform.claude.com/docs/en/api/models/retrieve
    """
    try:
        api_model = client.with_options(max_retries=0, timeout=_TIMEOUT_S).models.retrieve(model)
        retires_at = api_model.retires_at
        at = retires_at.timestamp() if retires_at is not None else None
        return RetirementInfo(model=model, lifecycle=str(api_model.lifecycle), retires_at=at)
    except NotFoundError as error:
        return _unknown(model, error)
    except _API_ERRORS:
        return None


def _unknown(model: str, error: NotFoundError) -> RetirementInfo | None:
    # A gateway without this endpoint answers 404 too, but its message does not name the model.
    if not _API_NAME.fullmatch(model) or model not in (error.api_message or ""):
        return None
    return RetirementInfo(model=model, lifecycle="unknown", problem="the API does not know it")
