"""What the API answers with an error before any model sees the request."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from cheapdeep_ops.testing.models import Refused, SimulatedModel
from cheapdeep_ops.testing.received import input_tokens
from cheapdeep_ops.testing.replies import Reply

NO_SAMPLING_SINCE: Final = "2026-10-21"
"""The API version from which no model takes sampling parameters."""

_SAMPLING: Final = ("temperature", "top_p", "top_k")


def _thinking(body: Mapping[str, Any]) -> object:
    thinking = body.get("thinking")
    return thinking.get("type") if isinstance(thinking, dict) else None


def _sampling(body: Mapping[str, Any]) -> bool:
    return any(name in body for name in _SAMPLING)


def _effort(body: Mapping[str, Any]) -> bool:
    config = body.get("output_config")
    return isinstance(config, dict) and config.get("effort") is not None


def _prefill(body: Mapping[str, Any]) -> bool:
    last = body["messages"][-1]
    return isinstance(last, dict) and last.get("role") == "assistant"


PARAMETER_RULES: Final[Mapping[Refused, tuple[Callable[[Mapping[str, Any]], bool], str]]] = {
    "sampling": (_sampling, "`temperature`, `top_p` and `top_k` are not supported for this model."),
    "thinking_enabled": (
        lambda body: _thinking(body) == "enabled",
        '"thinking.type.enabled" is not supported for this model; use "thinking.type.adaptive".',
    ),
    "thinking_adaptive": (
        lambda body: _thinking(body) == "adaptive",
        "adaptive thinking is not supported on this model",
    ),
    "effort": (_effort, "This model does not support the effort parameter."),
    "prefill": (
        _prefill,
        "This model does not support assistant message prefill. The conversation must end with a user message.",
    ),
}
"""How to see that a request uses what a model may refuse, and what the API says then."""


def key_fault(headers: Mapping[str, str]) -> Reply | None:
    """Return a 401 where no credential is sent; any credential will do."""
    if headers.get("authorization") or headers.get("x-api-key"):
        return None
    return Reply.error(401, message="x-api-key header is required")


def message_fault(
    body: Mapping[str, Any] | None,
    *,
    models: Mapping[str, SimulatedModel],
    version: str,
    counting: bool = False,
) -> Reply | None:
    """Return the error that the API gives for this request, or None where a model would answer it.

    `counting` asks for the rules of count_tokens, which wants no `max_tokens`.
    """
    if body is None:
        return _bad_request("The request body is not valid JSON")
    if not version:
        return _bad_request("anthropic-version: header is required")
    missing = _missing_field(body, counting=counting)
    if missing is not None:
        return _bad_request(missing)
    model = models.get(body["model"])
    if model is None or model.lifecycle == "retired":
        return Reply.error(404, message=f"model: {body['model']}")
    refused = _refused(body, model, version) or (None if counting else _over_limits(body, model))
    return None if refused is None else _bad_request(refused)


def _bad_request(message: str) -> Reply:
    return Reply.error(400, message=message)


def _missing_field(body: Mapping[str, Any], *, counting: bool) -> str | None:
    if not isinstance(body.get("model"), str) or not body["model"]:
        return "model: Field required"
    max_tokens = body.get("max_tokens")
    if not counting and max_tokens is None:
        return "max_tokens: Field required"
    # Zero is allowed: it warms the prompt cache.
    if not counting and (type(max_tokens) is not int or max_tokens < 0):
        return "max_tokens: Input should be a valid non-negative integer"
    messages = body.get("messages")
    if not isinstance(messages, list):
        return "messages: Field required"
    return None if messages else "messages: at least one message is required"


def _refused(body: Mapping[str, Any], model: SimulatedModel, version: str) -> str | None:
    # Versions are ISO dates, so they compare as text.
    refuses = model.refuses | ({"sampling"} if version >= NO_SAMPLING_SINCE else frozenset())
    for name, (is_used, message) in PARAMETER_RULES.items():
        if name in refuses and is_used(body):
            return message
    return None


def _over_limits(body: Mapping[str, Any], model: SimulatedModel) -> str | None:
    if body["max_tokens"] > model.max_tokens:
        return (
            f"max_tokens: {body['max_tokens']} > {model.max_tokens}, which is the maximum allowed number of "
            f"output tokens for {model.reply_id}"
        )
    tokens = input_tokens(body)
    if tokens > model.max_input_tokens:
        return f"prompt is too long: {tokens} tokens > {model.max_input_tokens} maximum"
    return None
