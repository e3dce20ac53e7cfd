"""People have the baseline of a route learned again."""

from cheapdeep_ops.errors import PolicyError
from cheapdeep_ops.guard.actions.operation import ActionContext, ActionRequest, FilledText, Route, operation
from cheapdeep_ops.guard.grading.grader import grader_version
from cheapdeep_ops.guard.report_types.state import Normal
from cheapdeep_ops.guard.reports.quality import baselines_of
from cheapdeep_ops.store import grades
from cheapdeep_ops.store.engine import Connection


class RelearnRequest(ActionRequest):
    """Learn again what is normal for a route."""

    route: Route
    author: FilledText
    why: FilledText


@operation("POST", "/api/v1/normal/relearn", name="post_relearn", summary="Learn anew what is normal")
def relearn(context: ActionContext, order: RelearnRequest) -> dict[str, Normal]:
    """Learn again, from calls that begin now, which false confidence is normal for a route. Returns it for all routes.

    Raises PolicyError where no answer of the route was ever graded.
    """
    settings, now = context.settings, context.clock()

    def work(connection: Connection) -> None:
        known = grades.counts(connection)
        if order.route not in known:
            graded = ", ".join(sorted(known)) or "none"
            raise PolicyError(f"nothing of {order.route} was ever graded; graded are: {graded}")
        grades.relearn(connection, grader_version(settings), order.route, now=now, author=order.author, why=order.why)

    context.change(work)
    return context.read(lambda connection: baselines_of(connection, settings))
