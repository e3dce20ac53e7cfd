"""Raises and releases thresholds to match the alerts; pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from cheapdeep_ops.guard.rules.model import Rule, Transition
from cheapdeep_ops.policy import EffectivePolicy, PolicyAct, PolicyBook, ScopeState
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store.policies import Pin, PolicyEdit, PolicyStep, step_of


class PolicyAlignment:
    """The policies during one evaluation, and the steps that change them."""

    def __init__(self, book: PolicyBook, settings: Settings) -> None:
        self._stored_raised = book.raised
        # The setting is in force from now on, also for the thresholds in messages.
        self._book = replace(book, raised=settings.raised_threshold)
        self._enforces = settings.mode == "enforce"

    def policy(self, scope: str) -> EffectivePolicy:
        """The policy in force for a scope, after the steps so far."""
        return self._book.for_route(scope)

    def is_pinned(self, scope: str) -> bool:
        """Whether a person has pinned the threshold of a scope."""
        return self.policy(scope).pinned

    def ended_pins(self, pins: Iterable[Pin]) -> list[PolicyStep]:
        """Release each of these pins, whose time is over."""
        why = "the time of the pin is over"
        return [
            self._apply(PolicyEdit(scope=pin.scope, act=PolicyAct.UNPIN, author=pin.author, why=why)) for pin in pins
        ]

    def repeated_raises(self) -> list[PolicyStep]:
        """All raises again, if the setting of the raised threshold has changed: otherwise routers would not see it."""
        if not self._enforces or self._stored_raised == self._book.raised:
            return []
        why = f"the raised threshold is {self._book.raised:g} now"
        causes = [(scope.scope, cause) for scope in self._book.scopes.values() for cause in sorted(scope.causes)]
        return [
            self._apply(PolicyEdit(scope=scope, act=PolicyAct.RAISE, cause=cause, why=why)) for scope, cause in causes
        ]

    def align(
        self, rule: Rule, scope: str, signal: Mapping[str, object], *, fires: bool, transition: Transition | None
    ) -> list[PolicyStep]:
        """Raise while the alert fires and release when it does not; a pin and the mode may prevent that.

        A prevented step is recorded once, with the transition.
        """
        # States are compared, not transitions: a raise that a pin prevented follows when the pin is released.
        is_raised = rule.alert in self._scope(scope).causes
        wanted = fires and rule.raises
        if wanted == is_raised:
            return []
        act = PolicyAct.RAISE if wanted else PolicyAct.RELEASE
        change = PolicyEdit(scope=scope, act=act, cause=rule.alert, signal=signal)
        if self._enforces and not self.is_pinned(scope):
            return [self._apply(change)]
        # A prevented step is recorded only with a transition, or every evaluation would record it.
        return [] if transition is None else [step_of(self._book, change, applied=False)]

    def release_orphans(self, fires: Callable[[str, str], bool]) -> list[PolicyStep]:
        """Release each cause whose rule does not fire in its scope; `fires` takes rule and scope."""
        if not self._enforces:
            return []
        why = "its rule does not fire here"
        causes = [(scope.scope, cause) for scope in self._book.scopes.values() for cause in sorted(scope.causes)]
        return [
            self._apply(PolicyEdit(scope=scope, act=PolicyAct.RELEASE, cause=cause, why=why))
            for scope, cause in causes
            if not fires(cause, scope) and not self.is_pinned(scope)
        ]

    def _apply(self, change: PolicyEdit) -> PolicyStep:
        step = step_of(self._book, change)
        self._book = self._book.with_scope(step.after)
        return step

    def _scope(self, scope: str) -> ScopeState:
        return self._book.scopes.get(scope) or ScopeState(scope=scope)


def step_text(step: PolicyStep) -> str:
    """A change of policy, as text for the log."""
    change = step.change
    by = change.cause or change.author
    return f"{change.act} of {change.scope} by {by}: {step.from_threshold:g} -> {step.to_threshold:g}"
