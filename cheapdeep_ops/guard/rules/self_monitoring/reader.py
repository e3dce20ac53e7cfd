"""Reads the health of routers, messages, models, schema, guard and grader."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Final

from cheapdeep_ops.guard.rules.interface import ReaderContext, SignalReader
from cheapdeep_ops.guard.rules.model import AlertState, Finding, Level, ScopedAlert
from cheapdeep_ops.guard.rules.self_monitoring import fleet, grader_health
from cheapdeep_ops.guard.rules.self_monitoring.grader_facts import grader_facts
from cheapdeep_ops.guard.rules.self_monitoring.rule import WatchRule
from cheapdeep_ops.guard.rules.self_monitoring.undecided import UndecidedDriftReader, UndecidedReader
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import deliveries, model_lifecycles, policies, processes, route_labels
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.schema import HEAD, revision
from cheapdeep_ops.values import ALL_ROUTES


def reader_of(rule: WatchRule, context: ReaderContext) -> SignalReader:
    """The reader of one part's health, or of what only a person can decide."""
    if rule.signal == "undecided_raise":
        return UndecidedReader(context.rules, context.alerts, context.is_pinned)
    if rule.signal == "undecided_drift":
        return UndecidedDriftReader(context.rules, context.alerts, context.now)
    return SelfMonitoringReader(rule, context)


class SelfMonitoringReader(SignalReader):
    """Reads the health of one part; not per route."""

    def __init__(self, rule: WatchRule, context: ReaderContext) -> None:
        # Some findings need the last one, for example to notice a gap between evaluations.
        last = context.alerts.signal(rule.alert, ALL_ROUTES)
        self._finding = context.shared(SystemHealth).finding(rule.signal, last)
        self._started_at = context.started_at

    @property
    def scopes(self) -> set[str]:
        """All routes together."""
        return {ALL_ROUTES}

    def finding(self, _routes: Collection[str], alert: ScopedAlert) -> Finding:
        """Above while the part has a problem.

        No data if the alert has been pending since before this guard started: its hold time begins again.
        """
        # While no guard ran, nothing was delivered or graded, so that time is no evidence of a problem.
        if alert.state is AlertState.PENDING and alert.since < self._started_at:
            return replace(self._finding, level=Level.NO_DATA)
        return self._finding


class SystemHealth:
    """The findings of one evaluation about the parts of this system; they share their queries."""

    def __init__(self, context: ReaderContext) -> None:
        self._context = context
        self._connection = context.connection
        self._settings = context.settings
        self._now = context.now

    def finding(self, signal: str, last: Mapping[str, object]) -> Finding:
        """The finding for one part; `last` is the signal of its last finding. Raises KeyError for an unknown one."""
        return _FINDINGS[signal](self, last)

    def _grader(self, _last: Mapping[str, object]) -> Finding:
        return grader_health.finding_of(self._context.shared(grader_facts), self._now)

    def _silent(self, _last: Mapping[str, object]) -> Finding:
        return fleet.silent_routers(self._fleet, self._now)

    def _outdated(self, _last: Mapping[str, object]) -> Finding:
        return fleet.outdated_routers(self._fleet, self._now)

    def _dropping(self, last: Mapping[str, object]) -> Finding:
        return fleet.dropping(self._fleet, processes.dropped(self._connection), last, self._now)

    def _folded(self, last: Mapping[str, object]) -> Finding:
        names = route_labels.folded_names(self._connection, since=self._now - fleet.FORGOTTEN_S)
        return fleet.folding(self._fleet, route_labels.folded(self._connection), list(names), last, self._now)

    def _undelivered(self, _last: Mapping[str, object]) -> Finding:
        refusal = deliveries.refusal(self._connection, since=self._now - fleet.FORGOTTEN_S)
        outbox = fleet.Outbox(**deliveries.oldest_waiting(self._connection), refusal=refusal)
        return fleet.undelivered(outbox, self._now)

    def _unwatched(self, last: Mapping[str, object]) -> Finding:
        every_s = self._settings.evaluate_every_s
        return fleet.unwatched(last, every_s, self._now, started_at=self._context.started_at)

    def _skewed(self, _last: Mapping[str, object]) -> Finding:
        return fleet.skewed(self._fleet, self._now)

    def _retiring(self, _last: Mapping[str, object]) -> Finding:
        return fleet.retiring(models_of(self._settings), lifecycles_in(self._connection), self._now)

    def _schema(self, _last: Mapping[str, object]) -> Finding:
        return fleet.other_schema(revision(self._connection), HEAD)

    @cached_property
    def _fleet(self) -> fleet.Fleet:
        rows = processes.processes(self._connection, since=self._now - fleet.FORGOTTEN_S)
        newest, newest_at = policies.newest(self._connection)
        return fleet.Fleet(
            heartbeats=[_heartbeat(row) for row in rows if row["kind"] == "router"],
            is_known=processes.any_router(self._connection),
            base_threshold=self._settings.base_threshold,
            flush_every_s=self._settings.flush_every_s,
            newest=newest,
            newest_at=newest_at,
        )


_FINDINGS: Final[Mapping[str, Callable[[SystemHealth, Mapping[str, Any]], Finding]]] = {
    "grader_failing": SystemHealth._grader,  # noqa: SLF001 - the class's own
    "router_silent": SystemHealth._silent,  # noqa: SLF001 - the class's own
    "router_outdated": SystemHealth._outdated,  # noqa: SLF001 - the class's own
    "recorder_dropping": SystemHealth._dropping,  # noqa: SLF001 - the class's own
    "labels_folded": SystemHealth._folded,  # noqa: SLF001 - the class's own
    "notifications_failing": SystemHealth._undelivered,  # noqa: SLF001 - the class's own
    "scheduler_stalled": SystemHealth._unwatched,  # noqa: SLF001 - the class's own
    "clock_skewed": SystemHealth._skewed,  # noqa: SLF001 - the class's own
    "model_retiring": SystemHealth._retiring,  # noqa: SLF001 - the class's own
    "schema_changed": SystemHealth._schema,  # noqa: SLF001 - the class's own
}


def models_of(settings: Settings) -> tuple[str, ...]:
    """The models in use, each once: those of the tiers and, if answers are graded, those of the graders."""
    graders = [settings.grader_model, settings.second_grader_model] if settings.graded_share else []
    return tuple(dict.fromkeys([*settings.tiers, *filter(None, graders)]))


def lifecycles_in(connection: Connection) -> list[fleet.ModelLifecycle]:
    """The last answer of the API about each model that was looked up."""
    return [
        fleet.ModelLifecycle(
            model=row["model"],
            lifecycle=row["lifecycle"],
            retires_at=row["retires_at"],
            checked_at=row["checked_at"],
            problem=row["error"],
        )
        for row in model_lifecycles.lifecycles(connection)
    ]


def _heartbeat(row: Mapping[str, Any]) -> fleet.RouterHeartbeat:
    kept = ("process", "seen_at", "base_threshold", "policy_version", "dropped", "host", "clock_ahead_s")
    return fleet.RouterHeartbeat(name=f"{row['host']}:{row['pid']}", **{name: row[name] for name in kept})
