"""The simulated Messages API: its server, its models, its prompt cache and its batches."""
