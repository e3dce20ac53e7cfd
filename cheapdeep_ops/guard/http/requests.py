"""Orders of the HTTP API, as they are checked; the console and its forms check theirs in the same way."""

from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from cheapdeep_ops.guard.incidents.attention import LONGEST_SILENCE_S
from cheapdeep_ops.settings import filled_text, valid_text
from cheapdeep_ops.values import ALL_ROUTES, Grade

Route = Annotated[str, AfterValidator(filled_text)]
Text = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(valid_text)]
FilledText = Annotated[Text, AfterValidator(filled_text)]
_MOST_LABELS: Final = 1_000


class PinRequest(BaseModel):
    """A person's order to hold a threshold."""

    model_config = ConfigDict(extra="forbid")

    threshold: float = Field(ge=0, le=1, strict=True, allow_inf_nan=False)
    route: Route = ALL_ROUTES
    author: FilledText
    why: FilledText


class ReleaseRequest(BaseModel):
    """A person's order to let the rules decide again."""

    model_config = ConfigDict(extra="forbid")

    route: Route = ALL_ROUTES
    author: FilledText
    why: Text = ""


class RelearnRequest(BaseModel):
    """A person's order to learn anew what is normal for a route."""

    model_config = ConfigDict(extra="forbid")

    route: Route
    author: FilledText
    why: FilledText


class LabelRequest(BaseModel):
    """What a person says of an answer that was graded."""

    model_config = ConfigDict(extra="forbid")

    call_id: Annotated[FilledText, StringConstraints(max_length=500)]
    verdict: Grade
    author: Annotated[FilledText, StringConstraints(max_length=500)]


class LabelOf(BaseModel):
    """A call, and what is said of its answer."""

    model_config = ConfigDict(extra="forbid")

    call_id: Annotated[FilledText, StringConstraints(max_length=500)]
    verdict: Grade


class LabelsRequest(BaseModel):
    """What a person says of several answers that were graded."""

    model_config = ConfigDict(extra="forbid")

    labels: Annotated[list[LabelOf], Field(min_length=1, max_length=_MOST_LABELS)]
    author: Annotated[FilledText, StringConstraints(max_length=500)]


class AcknowledgeRequest(BaseModel):
    """A person's word that somebody looks after an incident."""

    model_config = ConfigDict(extra="forbid")

    author: FilledText
    why: FilledText


class SilenceRequest(BaseModel):
    """A person's order to keep messages of a rule back for so many seconds; without a route, in every one."""

    model_config = ConfigDict(extra="forbid")

    rule: FilledText
    route: Route | None = None
    for_s: float = Field(gt=0, le=LONGEST_SILENCE_S, strict=True, allow_inf_nan=False)
    author: FilledText
    why: FilledText


class UnsilenceRequest(BaseModel):
    """A person's order to end a silence."""

    model_config = ConfigDict(extra="forbid")

    author: FilledText
    why: Text = ""
