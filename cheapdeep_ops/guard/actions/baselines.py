"""The operation that starts a new baseline of a route."""

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


@operation("POST", "/api/v1/normal/relearn", name="post_relearn", summary="Learn again what is normal")
def relearn(context: ActionContext, request: RelearnRequest) -> dict[str, Normal]:
    """Learn again what is normal for a route, from calls that begin now. Returns what is normal for all routes.

    Raises PolicyError if no answer of the route was ever graded.
    """
    settings, now = context.settings, context.clock()

    def work(connection: Connection) -> None:
        # A misspelt route would otherwise look like a success.
        known = grades.counts(connection)
        if request.route not in known:
            graded = ", ".join(sorted(known)) or "none"
            raise PolicyError(f"no answer of {request.route} was ever graded; routes with grades: {graded}")
        grades.relearn(
            connection, grader_version(settings), request.route, now=now, author=request.author, why=request.why
        )

    context.change(work)
    return context.read(lambda connection: baselines_of(connection, settings))
