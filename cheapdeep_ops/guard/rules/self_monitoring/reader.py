"""What the findings of `watching` rest on, as it stands in the store."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final

from cheapdeep_ops.guard.rules.model import Finding
from cheapdeep_ops.guard.rules.self_monitoring import fleet
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import incidents, model_lifecycles, policies, processes
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.schema import HEAD, revision


class SelfMonitoring:
    """The findings of one evaluation about routers, messages, models, schema and the guard itself."""

    def __init__(self, connection: Connection, *, settings: Settings, now: float) -> None:
        self._connection = connection
        self._settings = settings
        self._now = now

    def finding(self, signal: str, before: Mapping[str, Any]) -> Finding:
        """What is so of one signal; `before` is what was last found. Raises KeyError for a signal that is none."""
        return _FINDINGS[signal](self, before)

    def _silent(self, _before: Mapping[str, Any]) -> Finding:
        return fleet.silent_routers(self._fleet, self._now)

    def _outdated(self, _before: Mapping[str, Any]) -> Finding:
        return fleet.outdated_routers(self._fleet, self._now)

    def _dropping(self, before: Mapping[str, Any]) -> Finding:
        return fleet.dropping(self._fleet, processes.dropped(self._connection), before, self._now)

    def _undelivered(self, _before: Mapping[str, Any]) -> Finding:
        return fleet.undelivered(fleet.Outbox(**incidents.oldest_waiting(self._connection)), self._now)

    def _unwatched(self, before: Mapping[str, Any]) -> Finding:
        return fleet.unwatched(before, self._settings.evaluate_every_s, self._now)

    def _skewed(self, _before: Mapping[str, Any]) -> Finding:
        return fleet.skewed(self._fleet, self._now)

    def _retiring(self, _before: Mapping[str, Any]) -> Finding:
        return fleet.retiring(models_of(self._settings), lives_in(self._connection), self._now)

    def _schema(self, _before: Mapping[str, Any]) -> Finding:
        return fleet.other_schema(revision(self._connection), HEAD)

    @cached_property
    def _fleet(self) -> fleet.Fleet:
        rows = processes.processes(self._connection, since=self._now - fleet.FORGOTTEN_S)
        newest, newest_at = policies.newest(self._connection)
        return fleet.Fleet(
            signs=[_sign(row) for row in rows if row["kind"] == "router"],
            is_known=processes.any_router(self._connection),
            base_threshold=self._settings.base_threshold,
            flush_every_s=self._settings.flush_every_s,
            newest=newest,
            newest_at=newest_at,
        )


_FINDINGS: Final[Mapping[str, Callable[[SelfMonitoring, Mapping[str, Any]], Finding]]] = {
    "router_silent": SelfMonitoring._silent,  # noqa: SLF001 - the class's own
    "router_outdated": SelfMonitoring._outdated,  # noqa: SLF001 - the class's own
    "recorder_dropping": SelfMonitoring._dropping,  # noqa: SLF001 - the class's own
    "notifications_failing": SelfMonitoring._undelivered,  # noqa: SLF001 - the class's own
    "scheduler_stalled": SelfMonitoring._unwatched,  # noqa: SLF001 - the class's own
    "clock_skewed": SelfMonitoring._skewed,  # noqa: SLF001 - the class's own
    "model_retiring": SelfMonitoring._retiring,  # noqa: SLF001 - the class's own
    "schema_changed": SelfMonitoring._schema,  # noqa: SLF001 - the class's own
}


def models_of(settings: Settings) -> tuple[str, ...]:
    """The models in use, each once: tiers, and the graders' where anything is graded."""
    graders = [settings.grader_model, settings.second_grader_model] if settings.graded_share else []
    return tuple(dict.fromkeys([*settings.tiers, *filter(None, graders)]))


def lives_in(connection: Connection) -> list[fleet.ModelLifecycle]:
    """What the API last said of every model that was asked for."""
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


def _sign(row: Mapping[str, Any]) -> fleet.RouterHeartbeat:
    kept = ("process", "seen_at", "base_threshold", "policy_version", "dropped")
    return fleet.RouterHeartbeat(name=f"{row['host']}:{row['pid']}", **{name: row[name] for name in kept})
