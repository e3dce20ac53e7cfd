"""The API's validation of requests: errors that it returns before a model gets the request."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from cheapdeep_ops.testing.messages_api.cached_blocks import breakpoint_fault
from cheapdeep_ops.testing.messages_api.models import Refused, SimulatedModel
from cheapdeep_ops.testing.messages_api.received import THINKING_OFF, input_tokens, thinking_type, turns_of
from cheapdeep_ops.testing.messages_api.replies import JsonObject, Reply

STRICT_SINCE: Final = "2026-10-21"
_REFUSED_SINCE: Final[frozenset[Refused]] = frozenset({"sampling", "assistant_documents", "user_citations"})
"""What every model refuses from the API version STRICT_SINCE on."""

_SAMPLING: Final = ("temperature", "top_p", "top_k")
_CUSTOM_ID: Final = re.compile("[a-zA-Z0-9_-]{1,64}")
_NOT_JSON: Final = "The request body is not valid JSON"
_NO_VERSION: Final = "anthropic-version: header is required"


def _sampling(body: JsonObject) -> bool:
    return any(name in body for name in _SAMPLING)


def _effort(body: JsonObject) -> object:
    return _output_config(body).get("effort")


def _output_config(body: JsonObject) -> JsonObject:
    config = body.get("output_config")
    return config if isinstance(config, dict) else {}


def _is_unthinking_above_high(body: JsonObject) -> bool:
    return thinking_type(body) in THINKING_OFF and _effort(body) in ("xhigh", "max")


def _forced_tools(body: JsonObject) -> bool:
    choice = body.get("tool_choice")
    return isinstance(choice, dict) and choice.get("type") in ("any", "tool")


def _has_block(body: JsonObject, role: str, is_meant: Callable[[JsonObject], object]) -> bool:
    """Whether a turn of `role` has a block that `is_meant`."""
    contents = [turn.get("content") for turn in turns_of(body) if turn.get("role") == role]
    blocks = [block for content in contents if isinstance(content, list) for block in content]
    return any(is_meant(block) for block in blocks if isinstance(block, dict))


def _prefill(body: JsonObject) -> bool:
    last = body["messages"][-1]
    return isinstance(last, dict) and last.get("role") == "assistant"


PARAMETER_RULES: Final[Mapping[Refused, tuple[Callable[[JsonObject], bool], str]]] = {
    "sampling": (_sampling, "`temperature`, `top_p` and `top_k` are not supported for this model."),
    "thinking_enabled": (
        lambda body: thinking_type(body) == "enabled",
        '"thinking.type.enabled" is not supported for this model; use "thinking.type.adaptive".',
    ),
    "thinking_adaptive": (
        lambda body: thinking_type(body) == "adaptive",
        "adaptive thinking is not supported on this model",
    ),
    "thinking_disabled": (
        lambda body: thinking_type(body) == "disabled",
        '"thinking.type.disabled" is not supported for this model; use "thinking.type.adaptive".',
    ),
    "between_tools": (
        lambda body: thinking_type(body) == "between_tools",
        '"thinking.type.between_tools" is not supported for this model.',
    ),
    "unthinking_above_high": (
        _is_unthinking_above_high,
        "output_config.effort above `high` is not supported while thinking is off.",
    ),
    "effort": (lambda body: _effort(body) is not None, "This model does not support the effort parameter."),
    "effort_xhigh": (lambda body: _effort(body) == "xhigh", "output_config.effort: `xhigh` is not supported."),
    "effort_max": (lambda body: _effort(body) == "max", "output_config.effort: `max` is not supported."),
    "forced_tools": (_forced_tools, "tool_choice: forced tool use is not supported for this model."),
    "format": (
        lambda body: _output_config(body).get("format") is not None,
        "output_config.format: Extra inputs are not permitted",
    ),
    "assistant_documents": (
        lambda body: _has_block(body, "assistant", lambda block: block.get("type") == "document"),
        "documents are not supported in assistant turns.",
    ),
    "user_citations": (
        lambda body: _has_block(body, "user", lambda block: block.get("type") == "text" and block.get("citations")),
        "citations are not supported on text of user turns.",
    ),
    "prefill": (
        _prefill,
        "This model does not support assistant message prefill. The conversation must end with a user message.",
    ),
}
"""For each parameter that a model may refuse: whether a request uses it, and the API's error message."""


def key_fault(headers: Mapping[str, str], keys: Collection[str] | None = None) -> Reply | None:
    """Return a 401 if the request has no credential, or one that is not in `keys`; None accepts any."""
    credential = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
    if not credential:
        return Reply.error(401, message="x-api-key header is required")
    return None if keys is None or credential in keys else Reply.error(401)


def message_fault(
    body: JsonObject | None,
    *,
    models: Mapping[str, SimulatedModel],
    version: str,
    counting: bool = False,
) -> Reply | None:
    """Return the API's error for this request; None if it is valid.

    With `counting`, the rules are those of count_tokens, which needs no `max_tokens`.
    """
    if body is None:
        return _bad_request(_NOT_JSON)
    if not version:
        return _bad_request(_NO_VERSION)
    missing = _missing_field(body, counting=counting)
    if missing is not None:
        return _bad_request(missing)
    model = models.get(body["model"])
    if model is None or model.lifecycle == "retired":
        return Reply.error(404, message=f"model: {body['model']}")
    refused = _refused(body, model, version) or breakpoint_fault(body)
    refused = refused or (None if counting else _over_limits(body, model))
    return None if refused is None else _bad_request(refused)


def batch_fault(body: JsonObject | None, *, version: str) -> Reply | None:
    """Return the API's immediate error for a batch, or None; the `params` of its requests are checked later."""
    if body is None:
        return _bad_request(_NOT_JSON)
    if not version:
        return _bad_request(_NO_VERSION)
    wrong = _wrong_requests(body.get("requests"))
    return None if wrong is None else _bad_request(wrong)


def batched_fault(params: JsonObject, *, models: Mapping[str, SimulatedModel], version: str) -> Reply | None:
    """Return the error of a request in a batch, or None."""
    # A batch refuses some requests that the Messages API accepts.
    fault = message_fault(params, models=models, version=version)
    if fault is not None:
        return fault
    if params["max_tokens"] == 0:
        return _bad_request("max_tokens: must be greater than or equal to 1")
    if params.get("stream") is True:
        return _bad_request('"stream=True" is not supported in the Message Batches API')
    return None


def _bad_request(message: str) -> Reply:
    return Reply.error(400, message=message)


def _missing_field(body: JsonObject, *, counting: bool) -> str | None:
    if not isinstance(body.get("model"), str) or not body["model"]:
        return "model: Field required"
    max_tokens = body.get("max_tokens")
    if not counting and max_tokens is None:
        return "max_tokens: Field required"
    # Zero is valid: it warms the prompt cache.
    if not counting and (type(max_tokens) is not int or max_tokens < 0):
        return "max_tokens: Input should be a valid non-negative integer"
    messages = body.get("messages")
    if not isinstance(messages, list):
        return "messages: Field required"
    return None if messages else "messages: at least one message is required"


def _wrong_requests(requests: object) -> str | None:
    if not isinstance(requests, list):
        return "requests: Field required"
    if not requests:
        return "requests: List should have at least 1 item after validation, not 0"
    for index, request in enumerate(requests):
        wrong = _wrong_request(request)
        if wrong is not None:
            return f"requests.{index}{wrong}"
    return _duplicate([request["custom_id"] for request in requests])


def _wrong_request(request: object) -> str | None:
    if not isinstance(request, dict):
        return ": Input should be an object"
    custom_id = request.get("custom_id")
    if not isinstance(custom_id, str):
        return ".custom_id: Field required"
    if _CUSTOM_ID.fullmatch(custom_id) is None:
        return f".custom_id: String should match pattern '^{_CUSTOM_ID.pattern}$'"
    return None if isinstance(request.get("params"), dict) else ".params: Field required"


def _duplicate(custom_ids: Sequence[str]) -> str | None:
    ((most_common, times),) = Counter(custom_ids).most_common(1)
    if times == 1:
        return None
    return f"requests: custom_id's must be unique within a batch. Duplicate custom_id found: {most_common}"


def _refused(body: JsonObject, model: SimulatedModel, version: str) -> str | None:
    # Versions are ISO dates, so they compare as text.
    refuses = model.refuses | (_REFUSED_SINCE if version >= STRICT_SINCE else frozenset())
    for name, (is_used, message) in PARAMETER_RULES.items():
        if name in refuses and is_used(body):
            return message
    return None


def _over_limits(body: JsonObject, model: SimulatedModel) -> str | None:
    if body["max_tokens"] > model.max_tokens:
        return (
            f"max_tokens: {body['max_tokens']} > {model.max_tokens}, which is the maximum allowed number of "
            f"output tokens for {model.reply_id}"
        )
    tokens = input_tokens(body)
    if tokens > model.max_input_tokens:
        return f"prompt is too long: {tokens} tokens > {model.max_input_tokens} maximum"
    return None
