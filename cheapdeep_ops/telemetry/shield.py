"""The shield between telemetry and calls: an error of a telemetry provider is logged, and no call sees it."""

import logging
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

_log: Final = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")


def shielded(write: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | None:
    """The result of `write`; None if a telemetry library, exporter or processor raises, which is logged."""
    try:
        return write(*args, **kwargs)
    except Exception:  # noqa: BLE001 - a failing provider of the application must not fail a call
        _log.debug("telemetry failed", exc_info=True)
        return None
