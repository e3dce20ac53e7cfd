"""Operations on thresholds: pin one, release a pin."""

from collections.abc import Callable
from typing import Final

from pydantic import Field

from cheapdeep_ops.errors import PolicyError
from cheapdeep_ops.guard.actions.announcements import announce_threshold
from cheapdeep_ops.guard.actions.operation import (
    ActionContext,
    ActionRequest,
    Author,
    FilledText,
    Route,
    Text,
    operation,
)
from cheapdeep_ops.guard.actions.routes import check_route
from cheapdeep_ops.guard.notify.messages import threshold_text
from cheapdeep_ops.guard.report_types.state import Pinned, Policy
from cheapdeep_ops.guard.reports.status import policy_state
from cheapdeep_ops.policy import PolicyAct, PolicyBook
from cheapdeep_ops.store import policies, route_labels
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.policies import PolicyEdit
from cheapdeep_ops.units import DAY_S
from cheapdeep_ops.values import ALL_ROUTES, OTHER, Name

LONGEST_PIN_S: Final = 30.0 * DAY_S


class PinRequest(ActionRequest):
    """Pin the threshold of a route, or of all routes."""

    threshold: float = Field(ge=0, le=1, strict=True, allow_inf_nan=False)
    route: Route = ALL_ROUTES
    new_route: bool = Field(
        default=False, strict=True, description="true: pin it although it resembles a route that calls name"
    )
    for_s: float | None = Field(
        default=None, gt=0, le=LONGEST_PIN_S, strict=True, allow_inf_nan=False,
        description="the guard releases the pin after so many seconds; null: until a person releases it",
    )  # fmt: skip
    author: Author
    why: FilledText


class ReleaseRequest(ActionRequest):
    """Release the pin of a route, or of all routes."""

    route: Route = ALL_ROUTES
    author: Author
    why: Text = ""


@operation("PUT", "/api/v1/policy/pin", name="put_pin", summary="Pin a threshold")
def pin(context: ActionContext, request: PinRequest) -> Pinned:
    """Pin the threshold for `for_s`, or until a person releases it; the rules only report. Returns the new policy.

    Raises PolicyError if no call has named the route and it resembles a known one, unless `new_route` is true.
    """
    until = None if request.for_s is None else context.clock() + request.for_s
    edit = PolicyEdit(
        scope=request.route, act=PolicyAct.PIN, threshold=request.threshold, author=request.author, why=request.why,
        until=until,
    )  # fmt: skip
    note = ""

    def check(connection: Connection, _book: PolicyBook) -> None:
        nonlocal note
        note = check_route(connection, context.settings, request.route, is_new=request.new_route)
        # So that its calls are seen by themselves, also if there was no room for it.
        if request.route not in (ALL_ROUTES, OTHER):
            route_labels.admit(connection, Name(request.route), how=request.author, now=context.clock())

    return {**_apply(context, edit, check), "note": note}


@operation("DELETE", "/api/v1/policy/pin", name="delete_pin", summary="Release a threshold")
def release(context: ActionContext, request: ReleaseRequest) -> Policy:
    """Remove a pin; the rules decide again at their next evaluation. Returns the new policy.

    Raises PolicyError if the scope is not pinned.
    """
    edit = PolicyEdit(scope=request.route, act=PolicyAct.UNPIN, author=request.author, why=request.why)

    def check(_connection: Connection, book: PolicyBook) -> None:
        pinned = sorted(name for name, scope in book.scopes.items() if scope.pin is not None)
        if edit.scope not in pinned:
            raise PolicyError(f"{edit.scope} is not pinned; pinned scopes: {', '.join(pinned) or 'none'}")

    return _apply(context, edit, check)


def _apply(context: ActionContext, edit: PolicyEdit, check: Callable[[Connection, PolicyBook], None]) -> Policy:
    """Make the change unless `check` raises; returns the new policy."""
    settings, now = context.settings, context.clock()

    def work(connection: Connection) -> None:
        # Read in the transaction, so that no other change comes between the check and the edit.
        book = policies.read_book(connection, base=settings.base_threshold, raised=settings.raised_threshold)
        check(connection, book)
        after = policies.apply(connection, book, edit, at=now)

        def text(scope: str) -> tuple[str, float]:
            old, new = book.for_route(scope), after.for_route(scope)
            return threshold_text(old, new, mode=settings.mode, would_be=None), new.threshold

        # A pin of all routes is about every incident.
        scope = None if edit.scope == ALL_ROUTES else edit.scope
        announce_threshold(connection, settings, scope, now=now, text=text)

    context.change(work)
    return context.read(lambda connection: policy_state(connection, settings))
