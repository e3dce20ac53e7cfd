"""Other thresholds and rules, evaluated over recorded data."""
