"""Choose samples, request their grades, and store the results."""
