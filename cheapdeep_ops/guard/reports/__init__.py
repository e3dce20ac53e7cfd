"""What the store says about a period: receipt, status, series, grading quality."""
