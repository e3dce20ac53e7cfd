"""The operations that start a new baseline: of a route, and of the grader."""

from cheapdeep_ops.errors import PolicyError
from cheapdeep_ops.guard.actions.announcements import announce_change
from cheapdeep_ops.guard.actions.operation import ActionContext, ActionRequest, Author, FilledText, Route, operation
from cheapdeep_ops.guard.grading.grader import grader_version
from cheapdeep_ops.guard.notify.buttons import FALSE_CONFIDENCE
from cheapdeep_ops.guard.report_types.labels import AcceptedGrader
from cheapdeep_ops.guard.report_types.state import Normal
from cheapdeep_ops.guard.reports.quality import baselines_of
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.guard.rules.false_confidence.rule import QualityRule
from cheapdeep_ops.guard.rules.grader_drift.detection import DriftTest
from cheapdeep_ops.guard.rules.grader_drift.rule import GraderDriftRule
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import detectors, grades, incidents, regradings
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.units import DAY_S
from cheapdeep_ops.values import ALL_ROUTES


class RelearnRequest(ActionRequest):
    """Learn again what is normal for a route."""

    route: Route
    author: Author
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
        done = {"what": "Normal learned again", "author": request.author, "at": now, "why": request.why}
        for incident in incidents.open_ones(connection):
            if incident["scope"] == request.route and incident["announced"].get("about") == FALSE_CONFIDENCE:
                announce_change(connection, settings, incident, now=now, changes=lambda _payload: {"ordered": done})

    context.change(work)
    return context.read(lambda connection: baselines_of(connection, settings))


def blindness(
    connection: Connection, settings: Settings, rule: str, scope: str, *, now: float
) -> tuple[int, float | None]:
    """How many grades a route needs to be judged again, and how many seconds that takes at the last day's pace.

    The seconds are None if the last day has no grades. Raises PolicyError if the rule does not use a normal.
    """
    found = next((each for each in read_rulebook(settings.rules_file).rules if each.alert == rule), None)
    if not isinstance(found, QualityRule) or found.limit != "normal":
        raise PolicyError(f"{rule} compares with a fixed limit, so there is no normal to learn again")
    grader, needed = grader_version(settings), found.normal_grades
    graded = len(grades.attributed(connection, scope, grader, since=now - DAY_S, until=now, limit=100 * needed))
    return needed, needed / graded * DAY_S if graded else None


class AcceptGraderRequest(ActionRequest):
    """Accept the grader as it is."""

    author: Author
    why: FilledText


@operation("POST", "/api/v1/grader/accept", name="post_accept_grader", summary="Accept the grader as it is")
def accept_grader(context: ActionContext, request: AcceptGraderRequest) -> AcceptedGrader:
    """Learn anew how often the grader contradicts people's labels. An alert that it has changed ends.

    What is normal for routes stays: learn that anew as well where the grader has changed.
    """
    settings, now = context.settings, context.clock()
    rules = [rule for rule in read_rulebook(settings.rules_file).rules if isinstance(rule, GraderDriftRule)]
    grader = grader_version(settings)

    def work(connection: Connection) -> None:
        state = DriftTest(since=now, author=request.author, why=request.why).row()
        kept = detectors.DetectorState(grade_id=regradings.newest_id(connection), state=state)
        places = [detectors.StoredDetector(rule=rule.alert, scope=ALL_ROUTES, kept=kept) for rule in rules]
        detectors.write(connection, grader, places, now=now)

    context.change(work)
    return {"model": grader.model, "prompt": grader.prompt, "since": now, "author": request.author, "why": request.why}
