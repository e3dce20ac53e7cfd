"""Choosing samples, having them graded, and storing the grades."""
