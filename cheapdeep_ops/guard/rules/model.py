"""The common part of all rules, and the state machine of alerts: inactive, pending, firing.

Pure: time and findings are arguments. The states and their hold times are those of Prometheus alerting rules
(https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/).
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class AlertState(StrEnum):
    """The state of an alert."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"


class Level(StrEnum):
    """How a finding relates to its limit.

    `unclear` neither fires nor resolves an alert. `no_data` also restarts the hold times.
    """

    ABOVE = "above"
    BELOW = "below"
    UNCLEAR = "unclear"
    NO_DATA = "no_data"


class Transition(StrEnum):
    """A change of an alert that starts or ends an incident."""

    STARTED = "started"
    RESOLVED = "resolved"


class Action(StrEnum):
    """What a firing rule does."""

    NOTIFY = "notify"
    RAISE_THRESHOLD = "raise_threshold"


_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")


def seconds(text: object) -> object:
    """A Prometheus duration such as `1h30m` in seconds; a value that is not text is returned as it is.

    Raises ValueError for text that is not a duration.
    """
    if not isinstance(text, str):
        return text
    # The units must cover the whole text: `5m later` is not a duration.
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration such as 30s, 5m or 1h30m")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


Seconds = Annotated[
    float,
    Field(strict=True, allow_inf_nan=False),
    BeforeValidator(seconds, json_schema_input_type=float | str),
]
"""A duration; strict, because YAML reads `yes` as true, and a lax reader would read true as 1."""

Share = Annotated[float, Field(strict=True, gt=0, lt=1, allow_inf_nan=False)]
Confidence = Annotated[float, Field(strict=True, gt=0.5, lt=1)]
Alpha = Annotated[float, Field(strict=True, gt=0, lt=0.5, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]
"""A number of calls, grades or seconds; bounded, because databases refuse integers of more than 63 bits."""


class Rule(BaseModel):
    """The keys that rules of all kinds share, with Prometheus' names; durations are in seconds."""

    # By field name too: `for` is a keyword, so Python code cannot use the alias.
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    rests_on_grades: ClassVar[bool] = False
    """Whether grades decide when its incident resolves; the sampler then chooses more answers."""

    alert: str = Field(pattern=r"^[A-Z][A-Za-z0-9]*$")
    pending_for: Seconds = Field(default=0, ge=0, alias="for")
    keep_firing_for: Seconds = Field(ge=0)
    actions: frozenset[Action]
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    signal: str
    """What the rule measures. Each kind allows its own names, by which the rules file chooses the kind."""

    @property
    def raises(self) -> bool:
        """Whether it raises the threshold while it fires."""
        return Action.RAISE_THRESHOLD in self.actions

    @property
    def holds_grades_s(self) -> float:
        """How long rules on grades keep their state while this one fires, in seconds; 0: it does not concern them."""
        return 0.0

    def limit_in(self, _settings: object) -> float | None:
        """The limit under these settings; None for a kind without a limit, or if its setting is not set."""
        return None


def limit_value(settings: object, limit: str | float) -> float | None:
    """A limit as a number: `limit` itself, or the value of the setting that it names; None if that is not set."""
    value: float | None = getattr(settings, limit) if isinstance(limit, str) else limit
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of a rule in one scope at one moment: the level, and the figures that it comes from.

    `signal` is stored with alerts, policy changes and messages. A `why` in it is shown instead of figures. The
    metrics page exports `rate`, `low` and `high`, which are shares, and `n`.
    """

    level: Level
    signal: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopedAlert:
    """The state of one rule in one scope; times are Unix seconds.

    `since` is when the state began. `below_since` is when a firing alert came below its limit, where it has stayed.
    """

    rule: str
    scope: str
    state: AlertState = AlertState.INACTIVE
    since: float = 0.0
    below_since: float | None = None
    incident_id: int | None = None


class SignalHistory(Protocol):
    """The findings of a rule over recorded data, one moment after another; for backtests."""

    grades_read: int
    """How many grades it has read so far."""

    is_known: bool
    """Whether it has had enough data for a finding so far."""

    def look(self, now: float, resolved_at: Mapping[str, float]) -> Collection[str] | None:
        """Move on to `now` (Unix time, never back); returns the routes with data, or None if nothing is new.

        `resolved_at` has the end of each scope's last incident; the caller keeps it up to date.
        """

    def level(self, alert: ScopedAlert, routes: Collection[str]) -> Level:
        """The level of these routes together, for an alert in this state."""


def step(rule: Rule, alert: ScopedAlert, level: Level, now: float) -> tuple[ScopedAlert, Transition | None]:
    """The alert after one evaluation, and the transition that it made, if any."""
    # Missing data is evidence for neither side: the state stays, and its hold time starts again.
    if level is Level.NO_DATA:
        return _without_hold(alert, now), None
    if alert.state is AlertState.FIRING:
        return _step_firing(rule, alert, level, now)
    if level is not Level.ABOVE:
        # A pending alert becomes inactive at once, as in Prometheus; only a firing one has a hold time.
        return _at(alert, AlertState.INACTIVE, now), None
    pending = _at(alert, AlertState.PENDING, now)
    if now - pending.since >= rule.pending_for:
        return replace(pending, state=AlertState.FIRING, since=now), Transition.STARTED
    return pending, None


def _step_firing(rule: Rule, alert: ScopedAlert, level: Level, now: float) -> tuple[ScopedAlert, Transition | None]:
    if level is not Level.BELOW:
        # An unclear finding also resets the hold time: an incident must not resolve without evidence.
        return replace(alert, below_since=None), None
    below_since = now if alert.below_since is None else alert.below_since
    if now - below_since >= rule.keep_firing_for:
        return replace(alert, state=AlertState.INACTIVE, since=now, below_since=None), Transition.RESOLVED
    return replace(alert, below_since=below_since), None


def _at(alert: ScopedAlert, state: AlertState, now: float) -> ScopedAlert:
    # An unchanged state keeps its time, because the hold time is counted from it.
    return alert if alert.state is state else replace(alert, state=state, since=now, below_since=None)


def _without_hold(alert: ScopedAlert, now: float) -> ScopedAlert:
    since = now if alert.state is AlertState.PENDING else alert.since
    return replace(alert, since=since, below_since=None)
