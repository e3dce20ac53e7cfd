"""The reports that people read: one declaration for the HTTP API and the command line."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from inspect import getdoc, signature
from typing import Annotated, Any, Concatenate, Final, Literal, TypeVar

from pydantic import Field, ValidationError, validate_call

from cheapdeep_ops.guard.actions.operation import ActionContext, FieldError, Route, refusal_of
from cheapdeep_ops.guard.formatting import duration
from cheapdeep_ops.guard.incidents.attention import active_silences
from cheapdeep_ops.guard.report_types.figures import Receipt
from cheapdeep_ops.guard.report_types.labels import Review, Sample
from cheapdeep_ops.guard.report_types.route_labels import Routes
from cheapdeep_ops.guard.report_types.state import Normal, Policy, Silence, Status
from cheapdeep_ops.guard.report_types.steps import Series, Trends
from cheapdeep_ops.guard.report_types.why import Why
from cheapdeep_ops.guard.reports.quality import baselines_of
from cheapdeep_ops.guard.reports.receipt import LONGEST_S, receipt
from cheapdeep_ops.guard.reports.review import next_sample, review_of, shown
from cheapdeep_ops.guard.reports.route_labels import routes_of
from cheapdeep_ops.guard.reports.series import series
from cheapdeep_ops.guard.reports.status import policy_state, status
from cheapdeep_ops.guard.reports.trends import trends
from cheapdeep_ops.guard.reports.why import why
from cheapdeep_ops.store import delivery_acts, incidents, policies
from cheapdeep_ops.store.records import Incident, IncidentStory, PolicyChange, UndeliveredMessage
from cheapdeep_ops.store.stories import MOST_INCIDENTS, story
from cheapdeep_ops.units import DAY_S
from cheapdeep_ops.values import ALL_ROUTES

Tag = Literal["reports", "labels"]
_Make = TypeVar("_Make", bound=Callable[..., Any])
Period = Annotated[float, Field(gt=0, le=LONGEST_S)]
HowMany = Annotated[int, Field(ge=1, le=1000)]
_MOST_SKIPPED: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report of a guard at a path below `/api/v1`. Names in braces are arguments of `make`."""

    path: str
    summary: str
    tag: Tag
    missing: str
    """When there is no such report; empty if there always is one."""
    make: Callable[Concatenate[ActionContext, ...], Any]

    @property
    def answer(self) -> object:
        """The type of the report, for the OpenAPI document."""
        return signature(self.make).return_annotation

    @property
    def description(self) -> str:
        """The docstring of `make`."""
        return getdoc(self.make) or ""

    def read(self, context: ActionContext, fields: Mapping[str, object]) -> Any:
        """Check the fields and return the report. Raises PolicyError if a field is wrong, and the errors of `make`."""
        try:
            return validate_call(partial(self.make, context))(**fields)
        except ValidationError as error:
            raise refusal_of(error) from None


REPORTS: Final[dict[str, Report]] = {}
"""All reports by their path, in the order of the OpenAPI document."""


def _report(path: str, summary: str, *, tag: Tag = "reports", missing: str = "") -> Callable[[_Make], _Make]:
    """Declare a report by the function that makes it; its return type is the type of the report."""

    def declare(make: _Make) -> _Make:
        REPORTS[path] = Report(path=path, summary=summary, tag=tag, missing=missing, make=make)
        return make

    return declare


@_report("status", "The state of the guard")
def get_status(context: ActionContext) -> Status:
    """Policy, alerts and their signals, normal false confidence, grader, messages, processes."""
    return status(context.store, context.settings, context.clock())


@_report("why", "Why the rules fire in a route, or do not")
def get_why(context: ActionContext, route: Route = ALL_ROUTES) -> Why:
    """What each rule has found in a route, and what it waits for."""
    return why(context.store, context.settings, route=route, now=context.clock())


@_report("policy", "The thresholds in force")
def get_policy(context: ActionContext) -> Policy:
    """The thresholds in force, and their causes."""
    return context.read(lambda connection: policy_state(connection, context.settings))


@_report("routes", "The routes that count by name")
def get_routes(context: ActionContext) -> Routes:
    """The routes that count by name, the limits, and examples of names that count as `other`."""
    return context.read(lambda connection: routes_of(connection, context.settings, context.clock()))


@_report("normal", "What is normal for each route")
def get_normal(context: ActionContext) -> dict[str, Normal]:
    """What false confidence is normal for each route."""
    return context.read(lambda connection: baselines_of(connection, context.settings))


@_report("review", "Agreement of grader and people")
def get_review(context: ActionContext, route: Route = ALL_ROUTES) -> Review:
    """How far the grader agrees with people, how many labels are missing, and how all graders compare."""
    return context.read(lambda connection: review_of(connection, context.settings, route))


@_report("report", "The receipt over a period")
def get_report(context: ActionContext, last_s: Period = float(DAY_S)) -> Receipt:
    """The receipt over the last `last_s` seconds."""
    now = context.clock()
    return receipt(context.store, context.settings, since=now - last_s, until=now)


@_report("report/trends", "The figures of the receipt's plots")
def get_trends(context: ActionContext, since: float | None = None, until: float | None = None) -> Trends:
    """Figures in steps, false confidence by route and policy changes of a period; the last day by default."""
    until = context.clock() if until is None else until
    since = until - DAY_S if since is None else since
    if not 0 < until - since <= LONGEST_S:
        raise FieldError("until", f"until must be later than since, by at most {duration(LONGEST_S)}")
    return trends(context.store, context.settings, since=since, until=until)


@_report("series", "Figures in steps, for charts")
def get_series(
    context: ActionContext,
    route: Route = ALL_ROUTES,
    last_s: Period = 3_600.0,
    step_s: Annotated[int, Field(ge=1, le=LONGEST_S)] = 60,
) -> Series:
    """Calls, costs and false confidence in steps; at most 1,000 steps in one response."""
    now = context.clock()
    try:
        return series(context.store, context.settings, scope=route, now=now, last_s=last_s, step_s=step_s)
    except ValueError as error:
        raise FieldError("step_s", str(error)) from None


@_report("policy/changes", "The newest policy changes")
def get_changes(context: ActionContext, limit: HowMany = 50) -> list[PolicyChange]:
    """The policy changes with author or cause, newest first."""
    return context.read(lambda connection: policies.history(connection, limit=limit))


@_report("incidents", "The newest incidents")
def get_incidents(context: ActionContext, limit: HowMany = 50) -> list[Incident]:
    """The incidents, newest first."""
    return context.read(lambda connection: incidents.incidents(connection, limit=limit))


@_report("silences", "The active silences")
def get_silences(context: ActionContext) -> list[Silence]:
    """The silences that have not ended, oldest first."""
    return context.read(lambda connection: active_silences(connection, context.clock()))


@_report("undelivered", "The undelivered messages")
def get_undelivered(context: ActionContext) -> list[UndeliveredMessage]:
    """The messages that wait for a receiver or were refused by it, oldest first."""
    return context.read(delivery_acts.undelivered)


@_report("incidents/{incident_id}", "One incident from start to end", missing="There is no such incident")
def get_incident(context: ActionContext, incident_id: Annotated[int, Field(ge=1, le=MOST_INCIDENTS)]) -> IncidentStory:
    """One incident with its messages and policy changes; 404 if it does not exist."""
    return context.read(lambda connection: story(connection, incident_id))


@_report("review/next", "The answer to label next", tag="labels")
def get_next(
    context: ActionContext,
    route: Route = ALL_ROUTES,
    skip: Annotated[tuple[str, ...], Field(max_length=_MOST_SKIPPED)] = (),
) -> Sample | None:
    """The answer to label next, without the calls in `skip`; null if none is left.

    The response has content, so it needs a token, also on loopback.
    """
    sample = context.read(lambda connection: next_sample(connection, context.settings, scope=route, skipped=skip))
    return None if sample is None else shown(sample)
