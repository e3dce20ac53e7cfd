"""Continues the trace of a caller in another process, which its headers name (W3C Trace Context)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR: Final = TraceContextTextMapPropagator()
_NAMES: Final = (b"traceparent", b"tracestate")


@contextmanager
def continued_trace(headers: Sequence[tuple[bytes, bytes]]) -> Iterator[None]:
    """Inside, new spans belong to the trace that the headers of a request name; names are in lower case.

    Source: https://www.w3.org/TR/trace-context/
    """
    carrier = {name.decode(): value.decode("latin-1") for name, value in headers if name in _NAMES}
    if not carrier:
        yield
        return
    token = otel_context.attach(_PROPAGATOR.extract(carrier))
    try:
        yield
    finally:
        otel_context.detach(token)
