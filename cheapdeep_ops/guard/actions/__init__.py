"""What a person may change: thresholds, labels, baselines."""
