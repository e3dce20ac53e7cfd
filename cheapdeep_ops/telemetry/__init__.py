"""Spans, metrics and their names; the only package that imports OpenTelemetry."""
