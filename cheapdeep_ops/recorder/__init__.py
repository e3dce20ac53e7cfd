"""Writes finished decisions to the store as counters, and reads the policies from it for the router."""

from cheapdeep_ops.recorder.null_recorder import NullRecorder
from cheapdeep_ops.recorder.recorder import Recorder
from cheapdeep_ops.recorder.sharing import RecorderShare, share_recorder

__all__ = ["NullRecorder", "Recorder", "RecorderShare", "share_recorder"]
