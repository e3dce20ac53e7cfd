"""People's labels of graded answers, and the grader's agreement with them."""

from typing import Annotated, Literal

from pydantic import Field

from cheapdeep_ops.guard.report_types.units import Interval, Kappa, Rate
from cheapdeep_ops.store.records import Judged, Moment, Record


class Judge(Record):
    """A grader's model and prompt."""

    model: str
    prompt: str


class Agreement(Record):
    """A grader's agreement with people."""

    labels: int
    judged_correct: Annotated[int, Field(description="labels of answers that it graded correct")]
    judged_incorrect: Annotated[int, Field(description="labels of answers that it graded incorrect")]
    suffices: Annotated[bool, Field(description="whether rates are corrected by them")]
    kappa: Annotated[float | None, Field(description="Cohen's kappa")]
    kappa_interval: Kappa
    tpr: Annotated[float | None, Field(description="share of wrong answers that it grades incorrect")]
    tpr_interval: Interval
    fpr: Annotated[float | None, Field(description="share of right answers that it grades incorrect")]
    fpr_interval: Interval


class JudgeFacts(Judge, Agreement):
    """One grader beside the others."""

    graded: int
    judged_wrong: Rate
    judged_wrong_interval: Interval


class Pair(Record):
    """The agreement of two graders on the answers that both have graded."""

    judges: tuple[Judge, Judge]
    n: int
    agree: int
    kappa: float | None
    kappa_interval: Kappa


class BySide(Record):
    """A number for each of the grader's two verdicts."""

    judged_correct: int
    judged_incorrect: int


class Review(Agreement):
    """The grader's agreement with people, and the labels that are still needed."""

    judge: Judge
    route: str
    needed: BySide
    waiting: BySide
    undecided: Annotated[int, Field(description="calls on which people differ, or are unsure")]
    authors: Annotated[dict[str, int], Field(description="labels by person")]
    judges: list[JudgeFacts]
    pairs: list[Pair]


class AcceptedGrader(Judge):
    """A grader that a person has accepted as it is; how often it contradicts people is learned since then."""

    since: Moment
    author: str
    why: str


class Turn(Record):
    """One turn of a conversation."""

    role: str
    text: str


class Sample(Record):
    """An answer to label, redacted as for grading; without the grader's verdict, which would bias people."""

    call_id: str
    route: str
    input_class: str
    at: Moment
    turns: list[Turn]
    answer: str


class Label(Record):
    """A label as it is stored, with the grader's verdict."""

    call_id: str
    verdict: Literal["correct", "incorrect", "unsure"]
    author: str
    judge: Judged
