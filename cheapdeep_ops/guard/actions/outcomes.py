"""Operations on outcomes: what users, or programs for them, say about answers."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints

from cheapdeep_ops.access.tokens import Role
from cheapdeep_ops.guard.actions.operation import ActionContext, ActionRequest, operation
from cheapdeep_ops.guard.report_types.outcomes import StoredOutcomes
from cheapdeep_ops.settings import filled_text
from cheapdeep_ops.store import outcomes
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.outcomes import CallFacts, ReportedOutcome

OUTCOMES_PATH: Final = "/api/v1/outcomes"
LARGEST_BODY: Final = 1_000_000
"""Bytes of a list, also of labels; one of the most outcomes with usual ids has a quarter of that."""

_MOST: Final = 1_000
_PRINTABLE: Final = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
"""Text without control characters and line breaks, as a pattern that JSON Schema has too."""

_Id = Annotated[str, StringConstraints(min_length=1, max_length=400, pattern=_PRINTABLE), AfterValidator(filled_text)]
_Source = Annotated[
    str, StringConstraints(min_length=1, max_length=100, pattern=_PRINTABLE), AfterValidator(filled_text)
]
_Label = Annotated[str, StringConstraints(max_length=100, pattern=_PRINTABLE)]


class OutcomeOf(ActionRequest):
    """What a source says about an answer. All after `source` are claims, which count if the store lacks the call."""

    call_id: _Id
    outcome: Literal["right", "wrong"]
    source: Annotated[_Source, Field(description="who says it: a user's pseudonym, a form, a program")]
    route: _Label = ""
    tier: Annotated[int, Field(ge=0, le=100, strict=True)] | None = None
    confidence: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)] | None = None
    at: (
        Annotated[float, Field(ge=0, lt=1e11, allow_inf_nan=False, strict=True, description="when the call began")]
        | None
    ) = None


class OutcomesRequest(ActionRequest):
    """What sources say about several answers."""

    outcomes: Annotated[list[OutcomeOf], Field(min_length=1, max_length=_MOST)]


def _routes(connection: Connection, request: OutcomeOf | OutcomesRequest, _ids: object) -> set[str | None]:
    """The route of each call: the stored one, else the claimed one, None without a claim."""
    told = _all(request)
    known = outcomes.calls_of(connection, {each.call_id for each in told})
    return {known[each.call_id].route if each.call_id in known else each.route or None for each in told}


def _all(request: OutcomeOf | OutcomesRequest) -> Sequence[OutcomeOf]:
    return request.outcomes if isinstance(request, OutcomesRequest) else [request]


_declared: Final[dict[str, Any]] = {"tag": "outcomes", "role": Role.OUTCOME, "touches": _routes}


@operation("POST", OUTCOMES_PATH, name="post_outcome", summary="Report what a user says about an answer", **_declared)
def report(context: ActionContext, request: OutcomeOf) -> StoredOutcomes:
    """Store what a source says about an answer. The last verdict of a source on a call counts, each time it is sent.

    A call that the store does not have is stored too, and marked as unverified.
    """
    return _stored(context, request)


@operation(
    "POST",
    f"{OUTCOMES_PATH}/batch",
    name="post_outcomes",
    summary="Report what users say about several answers",
    **_declared,
)
def report_all(context: ActionContext, request: OutcomesRequest) -> StoredOutcomes:
    """Store what sources say about several answers: all or none. Of two for one call and source the last counts."""
    return _stored(context, request)


def _stored(context: ActionContext, request: OutcomeOf | OutcomesRequest) -> StoredOutcomes:
    told, now = [_outcome(each) for each in _all(request)], context.clock()
    unknown = context.store.transact(lambda connection: outcomes.put(connection, told, now=now))
    return {"received": len(told), "unknown": unknown}


def _outcome(told: OutcomeOf) -> ReportedOutcome:
    claimed = CallFacts(route=told.route, tier=told.tier, confidence=told.confidence, called_at=told.at)
    return ReportedOutcome(call_id=told.call_id, source=told.source, is_wrong=told.outcome == "wrong", claimed=claimed)
