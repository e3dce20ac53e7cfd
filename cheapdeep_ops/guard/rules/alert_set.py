"""All alerts during one evaluation."""

from collections.abc import Iterator, Mapping

from cheapdeep_ops.guard.rules.model import AlertState, Level, ScopedAlert


class AlertSet:
    """The state of every alert, and its level in this evaluation."""

    def __init__(
        self, known: Mapping[tuple[str, str], ScopedAlert], *, signals: Mapping[tuple[str, str], Mapping[str, object]]
    ) -> None:
        self._known = dict(known)
        self._signals = signals
        self._levels: dict[tuple[str, str], Level] = {}

    def __iter__(self) -> Iterator[ScopedAlert]:
        # A copy, because an evaluation adds alerts while readers iterate.
        return iter(list(self._known.values()))

    def get(self, rule: str, scope: str) -> ScopedAlert:
        """One alert; an inactive one if it is new."""
        return self._known.get((rule, scope)) or ScopedAlert(rule=rule, scope=scope)

    def knows(self, alert: ScopedAlert) -> bool:
        """Whether it has ever had a finding."""
        return (alert.rule, alert.scope) in self._known

    def put(self, alert: ScopedAlert, level: Level) -> None:
        """Set the state and the level of an alert."""
        self._known[(alert.rule, alert.scope)] = alert
        self._levels[(alert.rule, alert.scope)] = level

    def fires(self, rule: str, scope: str) -> bool:
        """Whether a rule fires in a scope."""
        return self.get(rule, scope).state is AlertState.FIRING

    def signal(self, rule: str, scope: str) -> Mapping[str, object]:
        """The signal of the last finding before this evaluation; empty if there was none."""
        return self._signals.get((rule, scope), {})

    def level(self, rule: str, scope: str) -> Level:
        """The level in this evaluation; `no_data` before the rule is evaluated in that scope."""
        return self._levels.get((rule, scope), Level.NO_DATA)

    def scopes_of(self, rule: str) -> set[str]:
        """The scopes in which a rule has ever had a finding."""
        return {scope for name, scope in self._known if name == rule}
