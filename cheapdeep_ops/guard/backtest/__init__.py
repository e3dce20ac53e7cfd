"""What other thresholds and rules would have done with recorded data."""
