"""How one operation of people on a guard is declared: once, for the HTTP API, the console and the command line."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import getdoc, signature
from typing import Annotated, Any, Concatenate, Final, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from cheapdeep_ops.errors import PolicyError
from cheapdeep_ops.settings import Settings, filled_text, valid_text
from cheapdeep_ops.store import revisions
from cheapdeep_ops.store.engine import Connection, Store

T = TypeVar("T")
Method = Literal["DELETE", "POST", "PUT"]
Tag = Literal["changes", "labels"]
Role = Literal["read", "act"]
"""What the token of a caller must allow."""

RequestT = TypeVar("RequestT", bound=BaseModel)
Route = Annotated[str, AfterValidator(filled_text)]
Text = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(valid_text)]
FilledText = Annotated[Text, AfterValidator(filled_text)]
# Ids are integer columns of 32 bits on PostgreSQL, which refuses a larger number with an error of its own.
RowId = Annotated[int, Field(ge=1, lt=2**31)]
_PATH_NAME: Final = re.compile(r"{(\w+)}")


class ActionRequest(BaseModel):
    """The body of a request; a key that the model does not have is an error."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionContext:
    """What an operation works on: the store, the settings, and a clock that gives Unix seconds."""

    store: Store
    settings: Settings
    clock: Callable[[], float]

    def change(self, work: Callable[[Connection], object]) -> None:
        """Run `work` in one transaction. An evaluation that read the store before it decides again."""

        def counted(connection: Connection) -> None:
            revisions.advance(connection)
            work(connection)

        self.store.transact(counted)

    def read(self, report: Callable[[Connection], T]) -> T:
        """Return what `report` reads from the store."""
        with self.store.reading() as connection:
            return report(connection)


@dataclass(frozen=True, slots=True)
class Operation(Generic[RequestT]):
    """What people can do to a guard: the API makes an endpoint of it, console and command line make requests for it."""

    method: Method
    path: str
    """Names in braces are row ids, and arguments of `act`."""

    name: str
    """The operation's id in the OpenAPI document, which generated clients use as a function name."""

    summary: str
    tag: Tag
    role: Role
    request: type[RequestT]
    answer: object
    """The type of the answer, for the OpenAPI document."""

    act: Callable[Concatenate[ActionContext, RequestT, ...], Any]

    @property
    def description(self) -> str:
        """The first paragraph of the documentation of `act`."""
        return (getdoc(self.act) or "").partition("\n\n")[0]

    def perform(self, context: ActionContext, **given: object) -> Any:
        """Check the fields, then act; returns what `act` returns.

        Raises PolicyError where a field is wrong, and what `act` raises.
        """
        request, ids = self.checked(given)
        return self.act(context, request, **ids)

    def checked(self, given: Mapping[str, object]) -> tuple[RequestT, dict[str, object]]:
        """The request, and the row ids in the path. Raises PolicyError that names each wrong field."""
        ids = {name: given[name] for name in _PATH_NAME.findall(self.path)}
        try:
            request = self.request.model_validate({name: given[name] for name in given.keys() - ids.keys()})
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
            raise PolicyError("; ".join(faults)) from None
        return request, ids


def operation(
    method: Method, path: str, *, name: str, summary: str, tag: Tag = "changes", role: Role = "act"
) -> Callable[[Callable[Concatenate[ActionContext, RequestT, ...], Any]], Operation[RequestT]]:
    """Declare an operation by the function that performs it.

    The type of its request is that of the function's second parameter, and the type of its answer what it returns.
    """

    def declare(act: Callable[Concatenate[ActionContext, RequestT, ...], Any]) -> Operation[RequestT]:
        typed = signature(act)
        _, order, *_ = typed.parameters.values()
        return Operation(method, path, name, summary, tag, role, order.annotation, typed.return_annotation, act)

    return declare
