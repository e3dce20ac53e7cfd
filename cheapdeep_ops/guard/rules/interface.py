"""The parts of a kind of rule: its rule, its reader, its text and its history; `kinds` lists the kinds."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast, get_args

from cheapdeep_ops.guard.rules.alert_set import AlertSet
from cheapdeep_ops.guard.rules.cache import GradeCache
from cheapdeep_ops.guard.rules.model import Finding, Rule, ScopedAlert, SignalHistory, Transition
from cheapdeep_ops.guard.rules.progress import Pace, Progress, of_finding
from cheapdeep_ops.guard.rules.rule_text import Payload, RuleText
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store.detectors import StoredDetector
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.store.grades import Baseline, GraderVersion

_R = TypeVar("_R", bound=Rule)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderContext:
    """The data that all readers of one evaluation share; `rules` are those of the rules file.

    `now` and `started_at`, the start of this guard, are Unix times.
    """

    connection: Connection
    settings: Settings
    rules: Sequence[Rule]
    alerts: AlertSet
    cache: GradeCache
    is_pinned: Callable[[str], bool]
    """Whether a person has pinned the threshold of a scope."""
    now: float
    started_at: float
    learned: list[Baseline] = field(default_factory=list)
    """Baselines that findings have learned; the evaluation stores them."""
    detectors: list[StoredDetector] = field(default_factory=list)
    """States of sequential tests that findings have changed; the evaluation stores them."""
    _made: dict[object, object] = field(default_factory=dict)

    def shared(self, make: Callable[["ReaderContext"], _T]) -> _T:
        """The result of `make`, computed once for this context, so that rules of one kind share their queries."""
        # Keyed by the function, so that kinds can share a result without a common name.
        if make not in self._made:
            self._made[make] = make(self)
        return cast("_T", self._made[make])


class SignalReader(ABC):
    """Reads the signal of one rule, and turns it into findings.

    The constructor reads all that findings need, because `finding` is called after the store's snapshot is closed.
    The other methods are called only for messages, with a connection of their own.
    """

    is_joint: bool = False
    """Whether the routes that do not fire by themselves are also evaluated together."""

    @property
    @abstractmethod
    def scopes(self) -> AbstractSet[str]:
        """The scopes that have data; each is evaluated by itself."""

    @abstractmethod
    def finding(self, routes: Collection[str], alert: ScopedAlert) -> Finding:
        """The finding for these routes together, for an alert in this state."""

    # The defaults below keep a new kind small: without them each would repeat empty methods.
    def facts(self, _connection: Connection, _scope: str, _started_at: float) -> dict[str, object]:
        """The further facts in a message about an incident."""
        return {}

    def consequence(
        self,
        _connection: Connection,
        _finding: Finding,
        _scope: str,
        _started_at: float,
        _transition: Transition | None,
    ) -> dict[str, object]:
        """The present cost of the incident or, once it has resolved, its whole cost; reminders have it too."""
        return {}

    def has_moved(
        self, _connection: Connection, announced: Payload, finding: Finding, _scope: str, _started_at: float
    ) -> bool:
        """Whether the last message about an open incident is out of date: by default, if its `kind` has changed."""
        return bool(announced.get("signal", {}).get("kind") != finding.signal.get("kind"))


def has_left_interval(announced: Payload, finding: Finding) -> bool:
    """Whether the rate lies outside of the interval in the last message."""
    signal, rate = announced.get("signal", {}), finding.signal["rate"]
    return rate is not None and not signal.get("low", 0) <= rate <= signal.get("high", 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedPast:
    """The stored counters and grades of one route, or of all routes, in `(since, until]` (Unix time).

    Counters begin at `counted`, and have an entry for each `resolution_s` seconds. `grader` is the one whose grades
    count, and `rules` are all of the rules file.
    """

    store: Store
    settings: Settings
    rules: Sequence[Rule] = ()
    grader: GraderVersion
    since: float
    counted: float
    until: float
    route: str
    resolution_s: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleBacktest:
    """The recorded data of one rule, and when its evaluation begins (Unix time).

    It is evaluated as often as a guard would, or every `every_s` seconds if that is less often.
    """

    history: SignalHistory
    begin: float
    every_s: float = 0.0


def _no_replay(_rule: Rule, _past: RecordedPast) -> RuleBacktest | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleKind(Generic[_R]):
    """One kind of rule. The `signal` in the rules file and `about` in a message name it."""

    rule: type[_R]
    """The rule as the rules file states it; the literals of its `signal` are the names of the kind."""
    reader: Callable[[_R, ReaderContext], SignalReader]
    text: RuleText
    replay: Callable[[_R, RecordedPast], RuleBacktest | None] = _no_replay
    """How a backtest evaluates it over recorded data; None for a rule without a limit, or a kind without a history."""
    progress: Callable[[_R, Finding, Pace], Progress] = of_finding
    """How far it is from firing, and what it waits for; by default only whether it has found a problem."""

    @property
    def signals(self) -> tuple[str, ...]:
        """The names of the kind."""
        return get_args(self.rule.model_fields["signal"].annotation)
