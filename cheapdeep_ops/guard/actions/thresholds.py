"""A person's hand on a threshold: pin and release."""

from collections.abc import Mapping

from cheapdeep_ops.errors import PolicyError
from cheapdeep_ops.guard.report_types.state import Policy
from cheapdeep_ops.guard.reports.status import policy_state
from cheapdeep_ops.policy import PolicyAct, ScopeState
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import policies, revisions
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.store.policies import PolicyEdit


def set_threshold(
    store: Store, settings: Settings, threshold: float, *, scope: str, author: str, why: str, now: float
) -> Policy:
    """Pin `scope` at `threshold` until it is released; returns the policy that follows.

    Raises PolicyError where the threshold lies outside [0, 1], StoreError where the store is out of reach.
    """
    change = PolicyEdit(scope=scope, act=PolicyAct.PIN, threshold=threshold, author=author, why=why)
    return _apply(store, settings, change, now)


def release_threshold(store: Store, settings: Settings, *, scope: str, author: str, why: str, now: float) -> Policy:
    """Take a pin off; the rules decide again from their next evaluation on.

    Raises PolicyError where the scope is not pinned, StoreError where the store is out of reach.
    """
    return _apply(store, settings, PolicyEdit(scope=scope, act=PolicyAct.UNPIN, author=author, why=why), now)


def _apply(store: Store, settings: Settings, change: PolicyEdit, now: float) -> Policy:
    def work(connection: Connection) -> None:
        revisions.advance(connection)
        book = policies.read_book(connection, base=settings.base_threshold, raised=settings.raised_threshold)
        pinned = change.scope in book.scopes and book.scopes[change.scope].pin is not None
        if change.act is PolicyAct.UNPIN and not pinned:
            raise PolicyError(f"{change.scope} is not pinned; pinned are: {', '.join(_pinned(book.scopes)) or 'none'}")
        policies.apply(connection, book, change, at=now)

    store.transact(work)
    with store.reading() as connection:
        return policy_state(connection, settings)


def _pinned(scopes: Mapping[str, ScopeState]) -> list[str]:
    return sorted(name for name, scope in scopes.items() if scope.pin is not None)
