"""A rule, what it sees, and how its alert moves between inactive, pending and firing.

Pure: time and readings are arguments, and nothing here knows a database, a clock or Slack. The states and their hold
times are those of Prometheus alerting rules
(https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cheapdeep_ops.units import DAY_S, HOUR_S, WEEK_S


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


class Transition(StrEnum):
    """What just happened to an alert."""

    STARTED = "started"
    RESOLVED = "resolved"


class Action(StrEnum):
    """What a firing rule does."""

    NOTIFY = "notify"
    RAISE_THRESHOLD = "raise_threshold"


_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": float(HOUR_S), "d": float(DAY_S), "w": float(WEEK_S)}
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


Share = Annotated[float, Field(strict=True, gt=0, lt=1, allow_inf_nan=False)]
Confidence = Annotated[float, Field(strict=True, gt=0.5, lt=1)]
Alpha = Annotated[float, Field(strict=True, gt=0, lt=0.5, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=1)]


class AnyRule(BaseModel):
    """What all rules share, in Prometheus' words; durations are seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    alert: str = Field(pattern=r"^[A-Z][A-Za-z0-9]*$")
    pending_for: Seconds = Field(default=0, ge=0, alias="for")
    keep_firing_for: Seconds = Field(ge=0)
    actions: frozenset[Action]
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)

    @property
    def raises(self) -> bool:
        """Whether it raises the threshold while it fires."""
        return Action.RAISE_THRESHOLD in self.actions


class StormRule(AnyRule):
    """Too many calls leave the cheap tier.

    Fires when the lower bound of the rate's interval at `confidence` lies above the limit in the long window, and at
    95% in the short one; or, often sooner, when a sequential test has gathered evidence of 1 / `alpha` that the rate
    has climbed over the limit. Both take at least `min_calls` calls in the long window and evidence from `min_seconds`
    distinct seconds. While the rate is at the limit, the test's false alarms lie 1 / `alpha` calls or more apart on
    average, and much further where it is below.
    """

    signal: Literal["base_escalation_rate"]
    limit: Literal["max_escalation_rate"] | Share
    windows: Windows
    min_calls: Count
    min_seconds: Count = 3
    confidence: Confidence = 0.999
    alpha: Share = 1e-5

    @property
    def evidence_limit(self) -> float:
        """The natural logarithm of the evidence at which the sequential test fires."""
        return -math.log(self.alpha)

    def limit_in(self, settings: object) -> float | None:
        """The rate that must not be exceeded; None where its setting is not set."""
        return _limit_in(settings, self.limit)


class QualityRule(AnyRule):
    """Too many answers that the cheap tier is sure of are wrong.

    The limit is a rate, or `normal`: what was learned from a route's first `normal_grades` grades. A sequential test
    over grades fires, at most once in 1 / `alpha` grades while the rate is at its limit. While the rule fires, it looks
    at calls made since it began to fire, shipped and withheld alike, and is over when a second test says so, wrong at
    most once in 1 / `release_alpha` grades at the alarm level, and the rate lies below that level with
    `release_confidence`. Fewer than `min_grades` say nothing; the rate that is shown is of the latest `max_grades` or
    fewer. Grades of calls older than `max_age` count for neither.
    """

    signal: Literal["false_confident_rate"]
    limit: Literal["normal", "max_false_confident_rate"] | Share
    normal_grades: Count = 200
    min_grades: Count = 50
    max_grades: Count = 800
    max_age: Seconds = Field(default=14.0 * DAY_S, gt=0)
    alpha: Alpha = 8e-6
    release_alpha: Alpha = 1e-3
    release_confidence: Confidence = 0.95

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_grades < 2 * self.min_grades:
            raise ValueError("max_grades is less than twice min_grades: it could fire and never be over")
        if self.limit != "normal" and "normal_grades" in self.model_fields_set:
            raise ValueError("normal_grades goes with `limit: normal`: nothing is learned for any other limit")
        return self

    def limit_in(self, settings: object) -> float | None:
        """The rate that must not be exceeded; None where its setting is not set, or where it is to be learned."""
        return None if self.limit == "normal" else _limit_in(settings, self.limit)


class GateRule(AnyRule):
    """Confidence is worth nothing here: the threshold lets through whatever comes, or nothing.

    Fires in a route where the upper bound of the AUROC's 95% interval lies below the limit, on at least `min_grades` of
    the latest `max_grades` grades of calls within `max_age`, `min_wrong` of them of wrong answers; or where of at least
    `min_calls` triaged calls in `window` all escalate at base, or none does. It is over when the AUROC is at the limit
    again, and some calls escalate and some do not.
    """

    signal: Literal["confidence_separation"]
    limit: Share = 0.6
    min_grades: Count = 100
    min_wrong: Count = 20
    max_grades: Count = 2_000
    max_age: Seconds = Field(default=14.0 * DAY_S, gt=0)
    min_calls: Count = 3_000
    window: Seconds = Field(default=float(DAY_S), gt=0)

    def limit_in(self, _settings: object) -> float:
        """The AUROC below which confidence is of no use."""
        return self.limit


class WatchRule(AnyRule):
    """Something that watches or is watched is in trouble: grader, routers, messages, guard, models, store."""

    signal: Literal[
        "grader_failing",
        "undecided_raise",
        "router_silent",
        "router_outdated",
        "recorder_dropping",
        "notifications_failing",
        "scheduler_stalled",
        "clock_skewed",
        "model_retiring",
        "schema_changed",
    ]

    def limit_in(self, _settings: object) -> None:
        """None: a watcher has no rate."""


Rule = Annotated[StormRule | QualityRule | GateRule | WatchRule, Field(discriminator="signal")]


def _limit_in(settings: object, limit: str | float) -> float | None:
    found: float | None = getattr(settings, limit) if isinstance(limit, str) else limit
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a rule sees of one scope at one moment: the level, and the numbers behind it as they are stored."""

    level: Level
    signal: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopedAlert:
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


def step(rule: AnyRule, alert: ScopedAlert, level: Level, now: float) -> tuple[ScopedAlert, Transition | None]:
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
        return replace(pending, state=AlertState.FIRING, since=now), Transition.STARTED
    return pending, None


def _step_firing(rule: AnyRule, alert: ScopedAlert, level: Level, now: float) -> tuple[ScopedAlert, Transition | None]:
    if level is not Level.BELOW:
        return replace(alert, below_since=None), None
    below_since = now if alert.below_since is None else alert.below_since
    if now - below_since >= rule.keep_firing_for:
        return replace(alert, state=AlertState.INACTIVE, since=now, below_since=None), Transition.RESOLVED
    return replace(alert, below_since=below_since), None


def _at(alert: ScopedAlert, state: AlertState, now: float) -> ScopedAlert:
    return alert if alert.state is state else replace(alert, state=state, since=now, below_since=None)


def _without_hold(alert: ScopedAlert, now: float) -> ScopedAlert:
    since = now if alert.state is AlertState.PENDING else alert.since
    return replace(alert, since=since, below_since=None)
