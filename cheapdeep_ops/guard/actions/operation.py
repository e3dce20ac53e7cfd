"""The declaration of an operation: one for the HTTP API, the console and the command line."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import getdoc, signature
from typing import Annotated, Any, Concatenate, Final, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from cheapdeep_ops.access.tokens import Role
from cheapdeep_ops.errors import PolicyError
from cheapdeep_ops.settings import Settings, filled_text, valid_text
from cheapdeep_ops.store import revisions
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.values import ALL_ROUTES

T = TypeVar("T")
Method = Literal["DELETE", "POST", "PUT"]
Tag = Literal["changes", "labels", "outcomes"]
RequestT = TypeVar("RequestT", bound=BaseModel)
_NOT_IN_A_LINE: Final = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
"""Control characters, line breaks, and what reverses the direction of text: they could forge what people read.

Source: https://unicode.org/reports/tr36/#Bidirectional_Text_Spoofing
"""

_NOT_IN_A_TEXT: Final = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
"""Those without tabs and line breaks, which a reason may have."""

LONGEST_NAME: Final = 100
"""Characters of a route, an input class, a rule or an author."""

LONGEST_WHY: Final = 1_000


def _without(characters: str) -> Any:
    """The check that a text has none of these characters, and its pattern for the OpenAPI document."""
    forbidden = re.compile(f"[{characters}]")

    def check(text: str) -> str:
        if forbidden.search(text):
            raise ValueError("needs text without control characters")
        return text

    return AfterValidator(check), Field(json_schema_extra={"pattern": f"^[^{characters}]*$"})


def _filled(characters: str) -> Any:
    """The check that a text has a character which is no space, and that pattern too."""
    pattern = rf"^[^{characters}]*[^{characters}\s][^{characters}]*$"
    return AfterValidator(filled_text), Field(json_schema_extra={"minLength": 1, "pattern": pattern})


Route = Annotated[str, Field(max_length=LONGEST_NAME), *_without(_NOT_IN_A_LINE), *_filled(_NOT_IN_A_LINE)]
Text = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=LONGEST_WHY),
    AfterValidator(valid_text),
    *_without(_NOT_IN_A_TEXT),
]
FilledText = Annotated[Text, *_filled(_NOT_IN_A_TEXT)]
Line = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=LONGEST_NAME),
    AfterValidator(valid_text),
    *_without(_NOT_IN_A_LINE),
]
Author = Annotated[Line, *_filled(_NOT_IN_A_LINE)]
# PostgreSQL has ids of 32 bits, and raises an error of its own for a larger number.
RowId = Annotated[int, Field(ge=1, lt=2**31)]
Touches = Callable[[Connection, Any, Mapping[str, Any]], set[str | None]]
"""The routes that a request with these row ids changes; `*` or None if it is about all of them or nothing known."""

_ROW_IDS: Final = TypeAdapter(dict[str, RowId])
_PATH_NAME: Final = re.compile(r"{(\w+)}")


class FieldError(PolicyError):
    """One field of a request is wrong."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field, self.problem = field, problem


class ActionRequest(BaseModel):
    """The body of a request; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionContext:
    """The context of an operation: the store, the settings, and a clock that returns Unix seconds."""

    store: Store
    settings: Settings
    clock: Callable[[], float]
    before: Callable[[Connection], object] = lambda _connection: None
    """Work that joins the transaction of each change, and may prevent it by raising an error."""

    def change(self, work: Callable[[Connection], object]) -> None:
        """Run `work` in one transaction, and have a concurrent evaluation of the rules start again."""

        def revised(connection: Connection) -> None:
            # An evaluation that has read an older revision does not commit.
            revisions.advance(connection)
            self.before(connection)
            work(connection)

        self.store.transact(revised)

    def read(self, report: Callable[[Connection], T]) -> T:
        """Return the result of `report` on a connection that only reads."""
        with self.store.reading() as connection:
            return report(connection)


@dataclass(frozen=True, slots=True)
class Operation(Generic[RequestT]):
    """An operation of people on a guard. The API has an endpoint for it; console and command line send requests."""

    method: Method
    path: str
    """Names in braces are row ids, which are arguments of `act`."""

    name: str
    """The operation's id in the OpenAPI document, which generated clients use as a function name."""

    summary: str
    tag: Tag
    role: Role
    request: type[RequestT]
    answer: object
    """The type of the answer, for the OpenAPI document."""

    act: Callable[Concatenate[ActionContext, RequestT, ...], Any]
    touches: Touches
    """What a token that is limited to some routes must cover."""

    @property
    def description(self) -> str:
        """The first paragraph of the docstring of `act`."""
        return (getdoc(self.act) or "").partition("\n\n")[0]

    def perform(self, context: ActionContext, **fields: object) -> Any:
        """Check the fields, call `act` and return its result.

        Raises PolicyError if a field is wrong, and the errors of `act`.
        """
        request, ids = self.checked(fields)
        return self.act(context, request, **ids)

    def checked(self, fields: Mapping[str, object]) -> tuple[RequestT, dict[str, int]]:
        """The request, and the row ids of the path. Raises PolicyError, which names each wrong field."""
        ids = {name: fields[name] for name in _PATH_NAME.findall(self.path)}
        try:
            request = self.request.model_validate({name: fields[name] for name in fields.keys() - ids.keys()})
            return request, _ROW_IDS.validate_python(ids)
        except ValidationError as error:
            raise refusal_of(error) from None


def refusal_of(error: ValidationError) -> PolicyError:
    """The error that names each wrong field of a request."""
    return PolicyError("; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()))


def _named_route(_connection: Connection, request: Any, _ids: Mapping[str, Any]) -> set[str | None]:
    return {getattr(request, "route", ALL_ROUTES)}


def operation(
    method: Method,
    path: str,
    *,
    name: str,
    summary: str,
    tag: Tag = "changes",
    role: Role = Role.ACT,
    touches: Touches = _named_route,
) -> Callable[[Callable[Concatenate[ActionContext, RequestT, ...], Any]], Operation[RequestT]]:
    """Declare an operation by the function that performs it.

    The function's second parameter has the type of the request; its return type is the type of the answer. `touches`
    returns the routes that a request changes, by default the one that it names.
    """

    def declare(act: Callable[Concatenate[ActionContext, RequestT, ...], Any]) -> Operation[RequestT]:
        # From the signature, so that the request type stands in one place.
        typed = signature(act)
        _, request, *_ = typed.parameters.values()
        answer = typed.return_annotation
        return Operation(method, path, name, summary, tag, role, request.annotation, answer, act, touches)

    return declare
