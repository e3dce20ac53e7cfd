"""Operations on thresholds: pin one, release a pin."""

from pydantic import Field

from cheapdeep_ops.errors import PolicyError
from cheapdeep_ops.guard.actions.operation import ActionContext, ActionRequest, FilledText, Route, Text, operation
from cheapdeep_ops.guard.report_types.state import Policy
from cheapdeep_ops.guard.reports.status import policy_state
from cheapdeep_ops.policy import PolicyAct
from cheapdeep_ops.store import policies
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.policies import PolicyEdit
from cheapdeep_ops.values import ALL_ROUTES


class PinRequest(ActionRequest):
    """Pin the threshold of a route, or of all routes."""

    threshold: float = Field(ge=0, le=1, strict=True, allow_inf_nan=False)
    route: Route = ALL_ROUTES
    author: FilledText
    why: FilledText


class ReleaseRequest(ActionRequest):
    """Release the pin of a route, or of all routes."""

    route: Route = ALL_ROUTES
    author: FilledText
    why: Text = ""


@operation("PUT", "/api/v1/policy/pin", name="put_pin", summary="Pin a threshold")
def pin(context: ActionContext, request: PinRequest) -> Policy:
    """Pin the threshold until a person releases it; the rules only report. Returns the new policy."""
    edit = PolicyEdit(
        scope=request.route, act=PolicyAct.PIN, threshold=request.threshold, author=request.author, why=request.why
    )
    return _apply(context, edit)


@operation("DELETE", "/api/v1/policy/pin", name="delete_pin", summary="Release a threshold")
def release(context: ActionContext, request: ReleaseRequest) -> Policy:
    """Remove a pin; the rules decide again at their next evaluation. Returns the new policy.

    Raises PolicyError if the scope is not pinned.
    """
    return _apply(context, PolicyEdit(scope=request.route, act=PolicyAct.UNPIN, author=request.author, why=request.why))


def _apply(context: ActionContext, edit: PolicyEdit) -> Policy:
    settings, now = context.settings, context.clock()

    def work(connection: Connection) -> None:
        # Read in the transaction, so that no other change comes between this check and the edit.
        book = policies.read_book(connection, base=settings.base_threshold, raised=settings.raised_threshold)
        pinned = sorted(name for name, scope in book.scopes.items() if scope.pin is not None)
        if edit.act is PolicyAct.UNPIN and edit.scope not in pinned:
            raise PolicyError(f"{edit.scope} is not pinned; pinned scopes: {', '.join(pinned) or 'none'}")
        policies.apply(connection, book, edit, at=now)

    context.change(work)
    return context.read(lambda connection: policy_state(connection, settings))
