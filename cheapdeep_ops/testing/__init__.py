"""Real HTTP servers on loopback that stand in for the Claude API and for Slack, and a clock that obeys."""

from cheapdeep_ops.testing.anthropic import SimulatedAnthropic
from cheapdeep_ops.testing.classes import CLASSES
from cheapdeep_ops.testing.clock import FrozenClock
from cheapdeep_ops.testing.judge import Judge
from cheapdeep_ops.testing.replies import Reply
from cheapdeep_ops.testing.slack import SimulatedSlack
from cheapdeep_ops.testing.traffic import TrafficClass

__all__ = ["CLASSES", "FrozenClock", "Judge", "Reply", "SimulatedAnthropic", "SimulatedSlack", "TrafficClass"]
