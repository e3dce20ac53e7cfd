"""What an escalation storm is, from counts: pure, like the rules."""

from dataclasses import dataclass

from cheapdeep_ops.guard.rules import Level, StormRule
from cheapdeep_ops.guard.stats import Proportion


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a rule sees of one scope at one moment; `seconds` are the distinct seconds that the evidence is from."""

    long: Proportion
    short: Proportion
    seconds: int
    limit: float | None

    def recent(self, rule: StormRule) -> tuple[Proportion, float]:
        """What stands for the traffic now, and the seconds it is from: the short window where it has calls enough."""
        if self.short.n >= rule.min_calls / 2:
            return self.short, rule.windows.short
        return self.long, rule.windows.long


def level_of(rule: StormRule, reading: Reading) -> Level:
    """Which side of the limit a reading is on, and how sure that is.

    Firing needs an interval; clearing needs only the recent point, because the hold time guards it.
    """
    if reading.limit is None or reading.long.n < rule.min_calls:
        return Level.NO_DATA
    recent, _ = reading.recent(rule)
    if not reading.short.n or recent.rate is None:
        return Level.NO_DATA
    if _is_above(rule, reading, reading.limit):
        return Level.ABOVE
    return Level.BELOW if recent.rate <= reading.limit else Level.UNCLEAR


def _is_above(rule: StormRule, reading: Reading, limit: float) -> bool:
    return (
        reading.seconds >= rule.min_seconds
        and reading.long.interval(rule.confidence)[0] > limit
        and reading.short.interval()[0] > limit
    )
