"""Writes finished decisions to the store as counters, and reads the policies from it for the router."""

from cheapdeep_ops.recorder.recorder import NullRecorder, Recorder

__all__ = ["NullRecorder", "Recorder"]
