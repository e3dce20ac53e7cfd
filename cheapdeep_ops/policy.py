"""The threshold in force: a person's pin, else the raised threshold while a cause holds a raise, else the base."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, NamedTuple

from cheapdeep_ops.admission import Admitted
from cheapdeep_ops.errors import PolicyError
from cheapdeep_ops.values import ALL_ROUTES, Name

BASE_THRESHOLD: Final = 0.8
RAISED_THRESHOLD: Final = 0.9


class PolicyAct(StrEnum):
    """A kind of change to a scope's policy."""

    RAISE = "raise"
    RELEASE = "release"
    PIN = "pin"
    UNPIN = "unpin"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeState:
    """The pin and the raises of one scope.

    `causes` are the names of the rules that hold a raise: a set, so that each rule releases only its own raise.
    `version` is the number of the scope's last change, 0 if there was none.
    """

    scope: str
    version: int = 0
    pin: float | None = None
    causes: frozenset[str] = frozenset()


class EffectivePolicy(NamedTuple):
    """The threshold in force for one route, and the version of the change that set it."""

    threshold: float
    version: int
    pinned: bool = False
    causes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyBook:
    """The policies of all scopes at one moment, and the names that the fleet admits; None if no store admits any."""

    base: float = BASE_THRESHOLD
    raised: float = RAISED_THRESHOLD
    scopes: Mapping[str, ScopeState]
    admitted: Admitted | None = None

    def for_route(self, route: str, counted: str = "") -> EffectivePolicy:
        """The policy in force for `route`: its pin, else the global pin, else raised while a cause holds, else base.

        If its calls count as the route `counted`, pins and raises of that one hold where it has none of its own.
        """
        names = dict.fromkeys((route, counted, ALL_ROUTES))
        scopes = [self.scopes[name] for name in names if name in self.scopes]
        return _effective(scopes, base=self.base, raised=self.raised)

    def pin_scope(self, route: str) -> str | None:
        """The scope whose pin is in force for `route`: its own, or all routes; None if none is."""
        pinned = (name for name in (route, ALL_ROUTES) if name in self.scopes and self.scopes[name].pin is not None)
        return next(pinned, None)

    def admits(self, name: Name) -> bool:
        """Whether calls of `name` count under it; False if no store admits any."""
        return self.admitted is not None and name in self.admitted.called

    def with_scope(self, scope: ScopeState) -> "PolicyBook":
        """A copy of this book with `scope`, which replaces an earlier state of that scope."""
        return replace(self, scopes={**self.scopes, scope.scope: scope})


def blank_book(*, base: float = BASE_THRESHOLD, raised: float = RAISED_THRESHOLD) -> PolicyBook:
    """A book without pins and raises: every route is at `base`."""
    return PolicyBook(base=base, raised=raised, scopes={})


def act_on(scope: ScopeState, act: PolicyAct, *, cause: str = "", threshold: float | None = None) -> ScopeState:
    """The scope's policy after `act`, with its old version: the store sets the new one.

    Raises PolicyError if a pin is outside [0, 1].
    """
    match act:
        case PolicyAct.RAISE:
            return replace(scope, causes=scope.causes | {cause})
        case PolicyAct.RELEASE:
            return replace(scope, causes=scope.causes - {cause})
        case PolicyAct.PIN:
            return replace(scope, pin=_checked(threshold))
        case PolicyAct.UNPIN:
            return replace(scope, pin=None)


def _effective(scopes: Iterable[ScopeState], *, base: float, raised: float) -> EffectivePolicy:
    """The policy that follows from `scopes`, which are ordered from the route's own to the global one."""
    scopes = list(scopes)
    version = max((scope.version for scope in scopes), default=0)
    causes = frozenset[str]().union(*(scope.causes for scope in scopes))
    pin = next((scope.pin for scope in scopes if scope.pin is not None), None)
    if pin is not None:
        return EffectivePolicy(threshold=pin, version=version, pinned=True, causes=causes)
    # A raise never lowers: the base may be set above the guard's raised threshold.
    return EffectivePolicy(threshold=max(base, raised) if causes else base, version=version, causes=causes)


def _checked(threshold: float | None) -> float:
    if threshold is None or not 0 <= threshold <= 1:
        raise PolicyError(f"a threshold must lie between 0 and 1, not {threshold}")
    return float(threshold)
