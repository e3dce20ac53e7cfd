"""Operations on labels: people label graded answers as correct, incorrect or unsure."""

from typing import Annotated, Final

from pydantic import Field, StringConstraints

from cheapdeep_ops.errors import PolicyError
from cheapdeep_ops.guard.actions.operation import ActionContext, ActionRequest, Author, FilledText, operation
from cheapdeep_ops.guard.grading.version import grader_version
from cheapdeep_ops.guard.report_types.labels import Label
from cheapdeep_ops.store import labels, subjects
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.values import Grade

CallId = Annotated[FilledText, StringConstraints(max_length=500)]
_MOST_LABELS: Final = 1_000


class LabelOf(ActionRequest):
    """A call, and the label of its answer."""

    call_id: CallId
    verdict: Grade


class LabelRequest(LabelOf):
    """Label an answer that was graded."""

    author: Author


class LabelsRequest(ActionRequest):
    """Label several answers that were graded."""

    labels: Annotated[list[LabelOf], Field(min_length=1, max_length=_MOST_LABELS)]
    author: Author


def _calls(connection: Connection, request: LabelRequest | LabelsRequest, _ids: object) -> set[str | None]:
    calls = [each.call_id for each in request.labels] if isinstance(request, LabelsRequest) else [request.call_id]
    known = subjects.of_calls(connection, calls)
    return {known.get(call) for call in calls}


@operation("POST", "/api/v1/labels", name="post_label", summary="Label an answer", tag="labels", touches=_calls)
def label(context: ActionContext, request: LabelRequest) -> LabelRequest:
    """Label a graded answer; a new label replaces this person's earlier one. Returns the label.

    Raises PolicyError if no grader has a verdict on the call.
    """
    now = context.clock()
    context.store.transact(lambda connection: _put(connection, request, author=request.author, now=now))
    return request


@operation(
    "POST", "/api/v1/labels/batch", name="post_labels", summary="Label several answers", tag="labels", touches=_calls
)
def label_all(context: ActionContext, request: LabelsRequest) -> list[Label]:
    """Label several answers: all labels are stored, or none. Returns the labels with the grader's verdicts.

    Raises PolicyError if no grader has a verdict on one of the calls.
    """
    now, grader = context.clock(), grader_version(context.settings)

    def work(connection: Connection) -> None:
        for each in request.labels:
            _put(connection, each, author=request.author, now=now)

    context.store.transact(work)
    # The verdict comes after the label, because it would bias the person who labels.
    return context.read(
        lambda connection: [
            {
                "call_id": each.call_id,
                "verdict": each.verdict.value,
                "author": request.author,
                "judge": labels.grade_of(connection, grader, each.call_id),
            }
            for each in request.labels
        ]
    )


def _put(connection: Connection, request: LabelOf, *, author: str, now: float) -> None:
    if not labels.put(connection, request.call_id, request.verdict, author=author, at=now):
        raise PolicyError(f"no grader has a verdict on the call {request.call_id}: no label is stored")
