"""Simulated traffic whose confidence and truth are known."""
