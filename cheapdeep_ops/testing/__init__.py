"""Simulated servers on loopback for the Claude API and Slack, and a clock that a test moves.

They need the extra `testing`.
"""

from cheapdeep_ops.extras import require

try:
    from cheapdeep_ops.testing.clock import FrozenClock
    from cheapdeep_ops.testing.messages_api.replies import Reply
    from cheapdeep_ops.testing.messages_api.server import SimulatedAnthropic
    from cheapdeep_ops.testing.slack.server import SimulatedSlack
    from cheapdeep_ops.testing.traffic.kinds import TrafficClass
    from cheapdeep_ops.testing.traffic.ready_made import CLASSES
    from cheapdeep_ops.testing.traffic.simulated_grader import SimulatedGrader
except ModuleNotFoundError:
    require("testing")
    raise

__all__ = ["CLASSES", "FrozenClock", "Reply", "SimulatedAnthropic", "SimulatedGrader", "SimulatedSlack", "TrafficClass"]
