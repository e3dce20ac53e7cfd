"""Endpoints that know their caller: a token's routes limit them, and its name stands with the author of a change."""

from collections.abc import Callable
from functools import partial, update_wrapper
from inspect import Parameter, signature
from typing import Annotated, Any, TypeAlias

from fastapi import Query

from cheapdeep_ops.access.tokens import Role, Token, lacks_route
from cheapdeep_ops.guard.actions.operation import ActionContext, Operation
from cheapdeep_ops.guard.actions.reports import Report
from cheapdeep_ops.guard.http.access import Access, http_error

Fields: TypeAlias = dict[str, Any]
_CALLER = "caller"


def with_caller(
    endpoint: Callable[..., Any], access: Access, role: Role, check: Callable[[Token, Fields], Fields]
) -> Callable[..., Any]:
    """The endpoint for callers whose token has `role`.

    `check` takes the caller's token and the endpoint's arguments, and returns the arguments. It raises an HTTP error to
    refuse them.
    """

    def checked(**fields: Any) -> Any:
        return endpoint(**check(fields.pop(_CALLER), fields))

    named = endpoint.func if isinstance(endpoint, partial) else endpoint
    update_wrapper(checked, named)
    # FastAPI reads the parameters from the signature.
    own = signature(endpoint)
    caller = Parameter(_CALLER, Parameter.KEYWORD_ONLY, default=access.caller(role), annotation=Any)
    given = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in own.parameters.values()]
    checked.__signature__ = own.replace(parameters=[*given, caller])  # type: ignore[attr-defined]
    return checked


def endpoint_of(operation: Operation[Any], context: ActionContext, access: Access) -> Callable[..., Any]:
    """The endpoint of an operation."""
    act = partial(operation.act, context)
    (body, *_) = signature(act).parameters

    def check(caller: Token, fields: Fields) -> Fields:
        request = fields[body]
        # Most tokens are for all routes; only the others cost a look into the store.
        if caller.routes is not None:
            ids = {name: value for name, value in fields.items() if name != body}
            touched = context.read(lambda connection: operation.touches(connection, request, ids))
            if not all(route is not None and caller.covers(route) for route in touched):
                raise http_error(lacks_route(operation.role))
        if "author" in type(request).model_fields:
            request = request.model_copy(update={"author": caller.author(request.author)})
        return {**fields, body: request}

    return with_caller(act, access, operation.role, check)


def reading_of(report: Report, context: ActionContext, access: Access) -> Callable[..., Any]:
    """The endpoint of a report; one with content is for callers whose token has that role and covers its route."""

    def endpoint(**fields: Any) -> Any:
        return report.make(context, **fields)

    update_wrapper(endpoint, report.make)
    own = signature(report.make)
    _, *given = own.parameters.values()
    # FastAPI would look for several values in the body.
    queried = [each if f"{{{each.name}}}" in report.path else _queried(each) for each in given]
    endpoint.__signature__ = own.replace(parameters=queried)  # type: ignore[attr-defined]
    if report.tag != "labels":
        return endpoint

    def check(caller: Token, fields: Fields) -> Fields:
        if not caller.covers(fields["route"]):
            raise http_error(lacks_route(Role.CONTENT))
        return fields

    return with_caller(endpoint, access, Role.CONTENT, check)


def _queried(parameter: Parameter) -> Parameter:
    """The parameter as one of the query."""
    return parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=Annotated[parameter.annotation, Query()])
