"""A shield between telemetry and calls: what a provider of the application raises ends here."""

import logging
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

_log: Final = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")


def shielded(write: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | None:
    """The result of `write`; if a telemetry library, exporter or processor raises, it is logged, and None returned."""
    try:
        return write(*args, **kwargs)
    except Exception:  # noqa: BLE001 - a failing provider of the application must not fail a call
        _log.debug("telemetry failed", exc_info=True)
        return None
