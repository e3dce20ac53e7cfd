"""Whether the SDK, or another instrumentation, makes a span for each model call."""

import sys
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Final

_SDK: Final = "anthropic."
_SENTRY: Final = "sentry_sdk"

_BELOW_MESSAGES: Final = ("post", "request", "_request", "_prepare_options", "_prepare_request")
"""The methods of a client that a request runs through, and that libraries replace."""

Method = Callable[..., object]
"""A method of the SDK's `messages`, such as `client.messages.create`, perhaps with a wrapper around it."""


def is_traced(method: Method) -> bool:
    """Whether each call of `method` has a span that is not ours."""
    client = _client_of(method)
    return _traces_itself(client) or _has_tracer(method) or _has_tracer(getattr(client, "request", None))


def is_plain(method: Method) -> bool:
    """Whether `method` runs the SDK's code only, without a subclass or a wrapper. The SDK may trace it."""
    return is_of_the_sdk(method) and not _has_tracer(getattr(_client_of(method), "request", None))


def sends_plainly(client: object) -> bool:
    """Whether only the SDK's code runs below the methods of `messages`, and makes no span there."""
    own = [getattr(client, name, None) for name in _BELOW_MESSAGES]
    return not _traces_itself(client) and all(map(is_of_the_sdk, own))


def is_of_the_sdk(method: object) -> bool:
    """Whether a method is the SDK's function itself, and no wrapper or subclass's function in its place."""
    # Not isinstance: a proxy names the class of what it wraps as its own.
    return _is_sdks(method.__func__ if type(method) is MethodType else method)


def _client_of(method: Method) -> object:
    return getattr(getattr(method, "__self__", None), "_client", None)


def _traces_itself(client: object) -> bool:
    """Whether the SDK's own tracing is on for this client."""
    options = getattr(client, "open_telemetry", None)
    return bool(options and options["traces"]["enabled"])


def _has_tracer(method: object) -> bool:
    """Whether a wrapper of another package lies around a method of the SDK."""
    # An instrumentation leaves `__wrapped__` on its wrapper (functools.wraps, wrapt). So does the SDK, on its own.
    function = _function_of(method)
    while not _is_sdks(function) and hasattr(function, "__wrapped__"):
        if not _is_idle(function):
            return True
        function = _function_of(function.__wrapped__)
    return False


def _is_idle(wrapper: object) -> bool:
    """Whether `wrapper` makes no spans: Sentry's is there without tracing too, to report errors."""
    if not _module_of(wrapper).startswith(_SENTRY):
        return False
    options = sys.modules[_SENTRY].get_client().options
    return options.get("traces_sample_rate") is None and options.get("traces_sampler") is None


def _is_sdks(function: object) -> bool:
    # Each call asks ten times, so this is `_module_of` without the call.
    return type(function) is FunctionType and str(function.__globals__.get("__name__", "")).startswith(_SDK)


def _module_of(function: object) -> str:
    """The module that defines `function`; empty for a proxy. Wrappers copy the `__module__` of what they wrap."""
    return str(function.__globals__.get("__name__", "")) if type(function) is FunctionType else ""


def _function_of(method: object) -> object:
    return method.__func__ if type(method) is MethodType else method  # as in `is_of_the_sdk`
