"""From the JSON body of a request to the Messages API to the arguments of `messages.create`."""

from typing import Any, Final

from pydantic_core import from_json

_ARGUMENTS: Final = frozenset(
    {
        "cache_control", "container", "inference_geo", "max_tokens", "messages", "metadata", "model", "output_config",
        "service_tier", "stop_sequences", "system", "thinking", "tool_choice", "tools",
    }
)  # fmt: skip
"""The fields of a body that have the names of arguments. Source: the reference of the Messages API."""

_LONGEST_MODEL: Final = 300
"""In characters. Names of models are remembered, so a caller's text in their place must not fill the memory."""


def params_of(body: bytes) -> dict[str, Any] | None:
    """The arguments for the JSON object in `body`; None if it is no request of which a router could read anything.

    Fields that are no arguments of the SDK are in `extra_body`. So a body cannot set options of the client, such as
    `extra_headers`.
    """
    try:
        fields = from_json(body)
    except ValueError:
        return None
    # Without the name of a model, the API refuses the request; a router would choose one.
    if not isinstance(fields, dict) or not _is_model(fields.get("model")):
        return None
    params = {name: value for name, value in fields.items() if name in _ARGUMENTS}
    others = {name: value for name, value in fields.items() if name not in _ARGUMENTS}
    if isinstance(others.get("stream"), bool):
        params["stream"] = others.pop("stream")
    if others:
        params["extra_body"] = others
    return params


def _is_model(name: object) -> bool:
    return isinstance(name, str) and len(name) <= _LONGEST_MODEL and name.isprintable()
