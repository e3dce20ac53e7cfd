"""Real HTTP servers on loopback that stand in for the Claude API and for Slack, and a clock that obeys.

They need the extra `testing`.
"""

from cheapdeep_ops.extras import require

try:
    from cheapdeep_ops.testing.anthropic import SimulatedAnthropic
    from cheapdeep_ops.testing.classes import CLASSES
    from cheapdeep_ops.testing.clock import FrozenClock
    from cheapdeep_ops.testing.judge import Judge
    from cheapdeep_ops.testing.replies import Reply
    from cheapdeep_ops.testing.slack import SimulatedSlack
    from cheapdeep_ops.testing.traffic import TrafficClass
except ModuleNotFoundError:
    require("testing")
    raise

__all__ = ["CLASSES", "FrozenClock", "Judge", "Reply", "SimulatedAnthropic", "SimulatedSlack", "TrafficClass"]
