"""A rule, what it sees, and how its alert moves between inactive, pending and firing.

Pure: time and readings are arguments, and nothing here knows a database, a clock or Slack. The states and their hold
times are those of Prometheus alerting rules
(https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/).
"""

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cheapdeep_ops.guard.stats import Proportion


class AlertState(StrEnum):
    """Where an alert stands."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"


class Level(StrEnum):
    """What a reading says about its limit: `unclear` neither fires nor clears, `no_data` says nothing at all."""

    ABOVE = "above"
    BELOW = "below"
    UNCLEAR = "unclear"
    NO_DATA = "no_data"


class Turn(StrEnum):
    """What just happened to an alert."""

    STARTED = "started"
    RESOLVED = "resolved"


class Action(StrEnum):
    """What a firing rule does."""

    NOTIFY = "notify"
    RAISE_THRESHOLD = "raise_threshold"


_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")


def seconds(text: object) -> object:
    """A Prometheus duration such as `1h30m` in seconds; anything that is no text is passed through.

    Raises ValueError for a text that is no duration.
    """
    if not isinstance(text, str):
        return text
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration such as 30s, 5m or 1h30m")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


Seconds = Annotated[
    float,
    Field(strict=True, allow_inf_nan=False),
    BeforeValidator(seconds, json_schema_input_type=float | str),
]
"""A duration; strict, because YAML reads `yes` as true, and a lax reader true as 1."""


Limit = (
    Literal["max_escalation_rate", "max_false_confident_rate"]
    | Annotated[float, Field(strict=True, gt=0, lt=1, allow_inf_nan=False)]
)
"""A rate, or the name of the setting that holds it."""


class Windows(BaseModel):
    """Two windows, in seconds: the long one gives the evidence, the short one says that it is still going on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    long: Seconds = Field(gt=0)
    short: Seconds = Field(gt=0)

    @model_validator(mode="after")
    def _nested(self) -> Self:
        if self.short > self.long:
            raise ValueError("the short window is longer than the long one")
        return self


class Rule(BaseModel):
    """A condition as data, in Prometheus' words where they exist; durations are seconds.

    A rate fires when the lower bound of its interval at `confidence` lies above the limit in the long window, and at
    95% in the short one, on at least `min_calls` calls and evidence from `min_seconds` distinct seconds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    alert: str = Field(pattern=r"^[A-Z][A-Za-z0-9]*$")
    signal: Literal["base_escalation_rate", "false_confident_rate"]
    limit: Limit
    windows: Windows
    min_calls: int = Field(ge=1, strict=True)
    min_seconds: int = Field(default=3, ge=1, strict=True)
    confidence: float = Field(default=0.999, gt=0.5, lt=1, strict=True)
    pending_for: Seconds = Field(default=0, ge=0, alias="for")
    keep_firing_for: Seconds = Field(ge=0)
    actions: frozenset[Action]
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)

    def limit_in(self, settings: object) -> float | None:
        """The rate that must not be exceeded; None where its setting is not set."""
        found: float | None = getattr(settings, self.limit) if isinstance(self.limit, str) else self.limit
        return found

    def shortened(self, factor: float) -> "Rule":
        """The rule with every duration divided by `factor`, for demonstrations."""
        windows = Windows(long=self.windows.long / factor, short=self.windows.short / factor)
        return self.model_copy(
            update={
                "windows": windows,
                "pending_for": self.pending_for / factor,
                "keep_firing_for": self.keep_firing_for / factor,
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a rule sees of one scope at one moment; `seconds` are the distinct seconds that the evidence is from."""

    long: Proportion
    short: Proportion
    seconds: int
    limit: float | None

    def recent(self, rule: Rule) -> tuple[Proportion, float]:
        """What stands for the traffic now, and the seconds it is from: the short window where it has calls enough."""
        if self.short.n >= rule.min_calls / 2:
            return self.short, rule.windows.short
        return self.long, rule.windows.long


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """The state of one rule in one scope.

    `since` is when the state began; `below_since` is when a firing alert was first seen back below its limit, without
    interruption until now.
    """

    rule: str
    scope: str
    state: AlertState = AlertState.INACTIVE
    since: float = 0.0
    below_since: float | None = None
    incident_id: int | None = None


def level_of(rule: Rule, reading: Reading) -> Level:
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


def _is_above(rule: Rule, reading: Reading, limit: float) -> bool:
    return (
        reading.seconds >= rule.min_seconds
        and reading.long.interval(rule.confidence)[0] > limit
        and reading.short.interval()[0] > limit
    )


def step(rule: Rule, alert: Alert, level: Level, now: float) -> tuple[Alert, Turn | None]:
    """The alert after one evaluation, and what happened to it.

    No data leaves its state as it is and starts its hold anew: a gap is evidence for neither side.
    """
    if level is Level.NO_DATA:
        return _without_hold(alert, now), None
    if alert.state is AlertState.FIRING:
        return _step_firing(rule, alert, level, now)
    if level is not Level.ABOVE:
        return _at(alert, AlertState.INACTIVE, now), None
    pending = _at(alert, AlertState.PENDING, now)
    if now - pending.since >= rule.pending_for:
        return replace(pending, state=AlertState.FIRING, since=now), Turn.STARTED
    return pending, None


def _step_firing(rule: Rule, alert: Alert, level: Level, now: float) -> tuple[Alert, Turn | None]:
    if level is not Level.BELOW:
        return replace(alert, below_since=None), None
    below_since = now if alert.below_since is None else alert.below_since
    if now - below_since >= rule.keep_firing_for:
        return replace(alert, state=AlertState.INACTIVE, since=now, below_since=None), Turn.RESOLVED
    return replace(alert, below_since=below_since), None


def _at(alert: Alert, state: AlertState, now: float) -> Alert:
    return alert if alert.state is state else replace(alert, state=state, since=now, below_since=None)


def _without_hold(alert: Alert, now: float) -> Alert:
    since = now if alert.state is AlertState.PENDING else alert.since
    return replace(alert, since=since, below_since=None)
