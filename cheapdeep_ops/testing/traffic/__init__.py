"""Simulated traffic with known confidence and known correctness."""
