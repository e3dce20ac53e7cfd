"""The threshold in force, and why: pins by people, raises held by causes, the base otherwise."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from cheapdeep_ops.errors import PolicyError
from cheapdeep_ops.values import ALL_ROUTES

BASE_THRESHOLD: Final = 0.8
RAISED_THRESHOLD: Final = 0.9


class PolicyAct(StrEnum):
    """What was done to a scope's policy."""

    RAISE = "raise"
    RELEASE = "release"
    PIN = "pin"
    UNPIN = "unpin"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeState:
    """What people and rules have decided for one scope.

    `causes` are the names of the rules that hold a raise. `version` is the number of the last change that touched
    the scope, 0 where there was none.
    """

    scope: str
    version: int = 0
    pin: float | None = None
    causes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectivePolicy:
    """The threshold in force for one route, with the version that put it there."""

    threshold: float
    version: int
    pinned: bool = False
    causes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyBook:
    """All scopes' policies at one moment; looking a route up is pure and takes well under a microsecond."""

    base: float = BASE_THRESHOLD
    raised: float = RAISED_THRESHOLD
    scopes: Mapping[str, ScopeState]

    def for_route(self, route: str) -> EffectivePolicy:
        """The policy in force for `route`: its pin, else the global pin, else raised while any cause holds."""
        own, everywhere = self.scopes.get(route), self.scopes.get(ALL_ROUTES)
        return _effective([scope for scope in (own, everywhere) if scope], base=self.base, raised=self.raised)

    def with_scope(self, scope: ScopeState) -> "PolicyBook":
        """A copy in which `scope` replaces the one of its name."""
        return replace(self, scopes={**self.scopes, scope.scope: scope})


def blank_book(*, base: float = BASE_THRESHOLD, raised: float = RAISED_THRESHOLD) -> PolicyBook:
    """The book before anything has happened: every route at `base`."""
    return PolicyBook(base=base, raised=raised, scopes={})


def act_on(scope: ScopeState, act: PolicyAct, *, cause: str = "", threshold: float | None = None) -> ScopeState:
    """The scope's policy after `act`; its version is left for the store to number.

    Raises PolicyError where a pin lies outside [0, 1].
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
    """The policy that `scopes`, nearest first, add up to."""
    scopes = list(scopes)
    version = max((scope.version for scope in scopes), default=0)
    causes = frozenset[str]().union(*(scope.causes for scope in scopes))
    pin = next((scope.pin for scope in scopes if scope.pin is not None), None)
    if pin is not None:
        return EffectivePolicy(threshold=pin, version=version, pinned=True, causes=causes)
    return EffectivePolicy(threshold=max(base, raised) if causes else base, version=version, causes=causes)


def _checked(threshold: float | None) -> float:
    if threshold is None or not 0 <= threshold <= 1:
        raise PolicyError(f"a threshold lies between 0 and 1, not {threshold}")
    return float(threshold)
