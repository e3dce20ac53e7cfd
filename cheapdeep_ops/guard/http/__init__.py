"""The HTTP API and the metrics page."""
