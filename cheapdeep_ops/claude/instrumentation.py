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


def is_traced(method: Method, *, plain: bool = False) -> bool:
    """Whether each call of `method` has a span that is not ours. `plain` means that `is_plain` is known to be true."""
    client = _client_of(method)
    if plain:
        return _traces_itself(client)
    return _traces_itself(client) or _has_tracer(method) or _has_tracer(getattr(client, "request", None))


def is_plain(method: Method) -> bool:
    """Whether `method` runs the SDK's code only, without a subclass or a wrapper. The SDK may trace it."""
    request = getattr(_client_of(method), "request", None)
    return are_of_the_sdk(method, request) or (are_of_the_sdk(method) and not _has_tracer(request))


def sends_plainly(client: object) -> bool:
    """Whether only the SDK's code runs below the methods of `messages`, and makes no span there."""
    own = [getattr(client, name, None) for name in _BELOW_MESSAGES]
    return not _traces_itself(client) and are_of_the_sdk(*own)


def are_of_the_sdk(*methods: object) -> bool:
    """Whether each is a function of the SDK itself, and no wrapper or subclass's function in its place."""
    for method in methods:
        # Without calls of other functions, because each routed call asks for ten methods.
        # Not isinstance: a proxy names the class of what it wraps as its own.
        function = method.__func__ if type(method) is MethodType else method
        # Wrappers copy the `__module__` of what they wrap.
        if type(function) is not FunctionType or not str(function.__globals__.get("__name__")).startswith(_SDK):
            return False
    return True


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
    while not are_of_the_sdk(function) and hasattr(function, "__wrapped__"):
        if not _is_idle(function):
            return True
        function = _function_of(function.__wrapped__)
    return False


def _is_idle(wrapper: object) -> bool:
    """Whether `wrapper` makes no spans: Sentry's is there without tracing too, to report errors."""
    if type(wrapper) is not FunctionType or not str(wrapper.__globals__.get("__name__")).startswith(_SENTRY):
        return False
    options = sys.modules[_SENTRY].get_client().options
    return options.get("traces_sample_rate") is None and options.get("traces_sampler") is None


def _function_of(method: object) -> object:
    return method.__func__ if type(method) is MethodType else method  # as in `are_of_the_sdk`
