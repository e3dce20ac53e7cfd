"""Counters whose totals are kept here: a call adds to them, and each meter reader observes them."""

import math
import os
import threading
from collections.abc import Iterable
from typing import Final

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace import NonRecordingSpan, SpanContext, set_span_in_context

from cheapdeep_ops.telemetry import names

MOST_LABEL_SETS: Final = 2_000
"""The largest number of label sets of one counter, as in the SDK by default; later ones are counted together."""

# Re-entrant, because a signal handler may make a call while its thread adds.
_lock: Final = threading.RLock()


class _Sum:
    __slots__ = ("labels", "last", "total")

    def __init__(self, labels: dict[str, str | bool]) -> None:
        self.labels = labels
        self.total: float = 0
        self.last: SpanContext | None = None

    def observation(self) -> Observation:
        return Observation(self.total, self.labels, _context_of(self.last) if self.last else None)


class ObservedCounter:
    """A total for each label set since the start of the process; `labels` are the labels' names.

    A fork copies the totals, as it copies those of the SDK's own counters.
    """

    def __init__(self, *labels: str) -> None:
        self._labels = labels
        self._sums: dict[tuple[str, ...], _Sum] = {}

    def add(self, amount: float, values: tuple[str, ...], at: SpanContext) -> None:
        """Add `amount` to the label set with these `values`, in the order of the names. `at` is the span of the call.

        A negative or infinite amount, or NaN, is ignored, as the SDK's counters ignore it.
        """
        if not 0 <= amount < math.inf:
            return
        with _lock:
            found = self._sums.get(values) or self._new(values)
            found.total += amount
            if at.trace_flags.sampled:
                found.last = at

    def observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        """The totals. The exemplar of each is the last call whose span was sampled."""
        with _lock:
            found = list(self._sums.values())
        return [each.observation() for each in found]

    def _new(self, values: tuple[str, ...]) -> _Sum:
        if len(self._sums) < MOST_LABEL_SETS:
            return self._sums.setdefault(values, _Sum(dict(zip(self._labels, values, strict=True))))
        return self._sums.setdefault((names.LABEL_OVERFLOW,), _Sum({names.LABEL_OVERFLOW: True}))


def _context_of(span_context: SpanContext) -> Context:
    """A context that has only the ids of a span: a whole one would keep the application's values alive."""
    return set_span_in_context(NonRecordingSpan(span_context), Context())


if hasattr(os, "register_at_fork"):
    # A child that inherits a lock that another thread holds would wait for it forever.
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
