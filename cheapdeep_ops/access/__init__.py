"""API tokens: their roles, the file that lists them, and the check of a token."""
