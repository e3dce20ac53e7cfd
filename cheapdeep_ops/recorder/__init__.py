"""From finished decisions to counters in the store, and from the store's policies back to the router."""

from cheapdeep_ops.recorder.recorder import NullRecorder, Recorder

__all__ = ["NullRecorder", "Recorder"]
