"""All alerts during one evaluation."""

from collections.abc import Iterator, Mapping
from typing import Any

from cheapdeep_ops.guard.rules.model import AlertState, Level, ScopedAlert


class AlertSet:
    """Where every alert stands, and at which level this evaluation has found it."""

    def __init__(
        self, known: Mapping[tuple[str, str], ScopedAlert], *, signals: Mapping[tuple[str, str], Mapping[str, Any]]
    ) -> None:
        self._known = dict(known)
        self._signals = signals
        self._levels: dict[tuple[str, str], Level] = {}

    def __iter__(self) -> Iterator[ScopedAlert]:
        return iter(list(self._known.values()))

    def get(self, rule: str, scope: str) -> ScopedAlert:
        """One alert; inactive where nothing is known of it."""
        return self._known.get((rule, scope)) or ScopedAlert(rule=rule, scope=scope)

    def knows(self, alert: ScopedAlert) -> bool:
        """Whether anything was ever found of it."""
        return (alert.rule, alert.scope) in self._known

    def put(self, alert: ScopedAlert, level: Level) -> None:
        """Note where an alert stands now."""
        self._known[(alert.rule, alert.scope)] = alert
        self._levels[(alert.rule, alert.scope)] = level

    def fires(self, rule: str, scope: str) -> bool:
        """Whether it fires."""
        return self.get(rule, scope).state is AlertState.FIRING

    def signal(self, rule: str, scope: str) -> Mapping[str, Any]:
        """What was found of it the last time; empty where nothing was."""
        return self._signals.get((rule, scope), {})

    def level(self, rule: str, scope: str) -> Level:
        """What this evaluation has found of it."""
        return self._levels.get((rule, scope), Level.NO_DATA)

    def scopes_of(self, rule: str) -> set[str]:
        """The scopes in which anything was ever found of a rule."""
        return {scope for name, scope in self._known if name == rule}
