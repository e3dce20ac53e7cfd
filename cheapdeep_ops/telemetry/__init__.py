"""Spans, metrics and their names; the only part that knows OpenTelemetry."""
