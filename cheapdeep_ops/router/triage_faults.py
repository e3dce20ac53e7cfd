"""Triage calls that fail by a fault of the router itself. Without a mark they would look like failures of the API."""

import logging
import sys
from types import TracebackType
from typing import Final

from cheapdeep_ops.flow import Step

_log: Final = logging.getLogger(__name__)

_OURS: Final = "cheapdeep_ops"
_MEANT: Final = frozenset({_OURS, "anthropic", "httpx2"})
"""Packages whose errors are meant: an open breaker, or an answer or a connection that was cut."""

_PREFIX: Final = "router_error:"
_TOOLS: Final = sys.stdlib_module_names | {"pydantic", "pydantic_core"}
"""Packages that raise errors for the code that calls them."""


class TriageFaults:
    """Names the errors of model calls, and logs each kind of fault of the router once, with its traceback."""

    def __init__(self) -> None:
        self._logged: set[tuple[str, str, int]] = set()

    def name(self, step: Step) -> str:
        """The name of a step's error in records, such as `RateLimitError` or `router_error:TypeError`; empty if none.

        Only failed triage is marked: any other error reaches the caller, with its own name.
        """
        error = step.error
        if error is None:
            return ""
        name = type(error).__name__
        origin = _origin(error) if step.ask.kind == "triage" and isinstance(error, Exception) else None
        if origin is None:
            return name
        self._log_once((name, origin.tb_frame.f_code.co_filename, origin.tb_lineno), error)
        return _PREFIX + name

    def _log_once(self, kind: tuple[str, str, int], error: BaseException) -> None:
        if kind not in self._logged:
            self._logged.add(kind)
            _log.error("a fault of the router made a triage fail; such calls escalate", exc_info=error)


def _origin(error: Exception) -> TracebackType | None:
    """The line of ours that raised `error`; None if the error is meant, or others raised it."""
    if isinstance(error, TimeoutError) or type(error).__module__.partition(".")[0] in _MEANT:
        return None
    trace, origin = error.__traceback__, None
    while trace is not None:  # from the outermost frame to the one that raised
        origin = origin if _package(trace) in _TOOLS else trace
        trace = trace.tb_next
    return origin if origin is not None and _package(origin) == _OURS else None


def _package(trace: TracebackType) -> str:
    return str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
