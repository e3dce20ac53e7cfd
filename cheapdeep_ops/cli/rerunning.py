"""What `backtest` makes of the store's past: rules run again over it, with progress on standard error."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cheapdeep_ops.cli import output
from cheapdeep_ops.settings import Settings

if TYPE_CHECKING:
    from cheapdeep_ops.guard.rerun import Rerun
    from cheapdeep_ops.guard.rules import Rule
    from cheapdeep_ops.store.counters import SecondCounts
    from cheapdeep_ops.store.engine import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """What is run again: one route or all of them, in `(since, until]` (Unix time)."""

    since: float
    until: float
    route: str


def rerun(store: "Store", settings: Settings, rules: Iterable["Rule"], period: Period) -> dict[str, Any]:
    """The turns that the alerts of `rules` would have taken, oldest first, and which rules cannot be run again."""
    turns: list[dict[str, Any]] = []
    idle: list[str] = []
    for rule in rules:
        run = _storm(store, settings, rule, period)
        if run is None:
            idle.append(rule.alert)
        else:
            turns += run.turns
    return {"alerts": sorted(turns, key=lambda turn: float(turn["at"])), "rules_not_run": idle}


def _storm(store: "Store", settings: Settings, rule: "Rule", period: Period) -> "Rerun | None":
    """A storm rule run again over the counters, a stretch at a time; each stretch is a reading of its own."""
    from cheapdeep_ops.guard.past_storms import Ahead, StormPast
    from cheapdeep_ops.guard.rerun import Rerun, moments_count, moments_in
    from cheapdeep_ops.guard.rules import StormRule
    from cheapdeep_ops.store import counters

    limit = rule.limit_in(settings)
    if not isinstance(rule, StormRule) or limit is None:
        return None

    def read(since: float, until: float) -> Mapping[str, Sequence["SecondCounts"]]:
        with store.reading() as connection:
            return counters.by_second(connection, since=since, until=until, scope=period.route)

    times = (period.since, period.until, settings.evaluate_every_s)
    run = Rerun(rule, StormPast(rule, Ahead(read), limit=limit))
    output.show_progress(run.run(moments_in(*times)), total=moments_count(*times), what=f"evaluations of {rule.alert}")
    return run
