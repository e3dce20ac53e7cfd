"""Reports from the store: receipt, status, series, grading quality."""
