"""Intervals, sequential tests, calibration, agreement and attribution. All modules are pure."""
