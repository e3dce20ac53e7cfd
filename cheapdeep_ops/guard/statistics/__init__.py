"""Intervals, sequential tests, calibration, agreement, attribution. Pure."""
