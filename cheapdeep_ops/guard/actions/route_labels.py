"""Operations on the routes and input classes that count by name: admit one, forget one."""

from cheapdeep_ops.errors import MissingError, PolicyError
from cheapdeep_ops.guard.actions.operation import ActionContext, ActionRequest, Author, Line, Route, operation
from cheapdeep_ops.guard.report_types.route_labels import Routes
from cheapdeep_ops.guard.reports.route_labels import routes_of
from cheapdeep_ops.store import policies, route_labels
from cheapdeep_ops.store.admission import Limits
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.suggestions import did_you_mean, likely_names
from cheapdeep_ops.values import ALL_ROUTES, OTHER, Name

_OF_NOBODY = (ALL_ROUTES, OTHER)


class AdmitRequest(ActionRequest):
    """Count a route, or an input class of it, by name."""

    route: Route
    input_class: Line = ""
    author: Author


class ForgetRequest(ActionRequest):
    """Free the place of a route and its input classes, or of one class."""

    route: Route
    input_class: Line = ""
    author: Author


@operation("PUT", "/api/v1/routes", name="put_route", summary="Count a route by name")
def admit(context: ActionContext, request: AdmitRequest) -> Routes:
    """Count a route or an input class by name from now on. Returns all routes that do.

    Raises PolicyError if there is no room.
    """
    settings, now, name = context.settings, context.clock(), Name(request.route, request.input_class)
    _refuse_reserved(request.route)

    def work(connection: Connection) -> None:
        limits = Limits(settings.max_routes, settings.max_input_classes)
        if not route_labels.admit(connection, name, how=request.author, now=now, limits=limits):
            raise PolicyError(
                f"there is no room for {name}: {settings.max_routes} routes (CHEAPDEEP_MAX_ROUTES) and "
                f"{settings.max_input_classes} input classes of each (CHEAPDEEP_MAX_INPUT_CLASSES) count by name; "
                "forget one first, or raise the limit"
            )

    context.change(work)
    return context.read(lambda connection: routes_of(connection, settings, now))


@operation("DELETE", "/api/v1/routes", name="delete_route", summary="Free the place of a route")
def forget(context: ActionContext, request: ForgetRequest) -> Routes:
    """Free the place of a route or an input class. What was counted stays. Returns the routes that count by name.

    Raises MissingError if it has no place, PolicyError if the route is pinned.
    """
    settings, now, name = context.settings, context.clock(), Name(request.route, request.input_class)

    def work(connection: Connection) -> None:
        book = policies.read_book(connection, base=settings.base_threshold, raised=settings.raised_threshold)
        scope = book.scopes.get(name.route)
        if scope is not None and scope.pin is not None and not name.input_class:
            raise PolicyError(f"{name} is pinned: release it first (cheapdeep-ops threshold release --route {name})")
        if not route_labels.forget(connection, name):
            known = [row["route"] for row in route_labels.routes(connection)]
            question = did_you_mean(likely_names(name.route, [each for each in known if each != name.route]))
            raise MissingError("; ".join(filter(None, (f"{name} does not count by name", question))))

    context.change(work)
    return context.read(lambda connection: routes_of(connection, settings, now))


def _refuse_reserved(route: str) -> None:
    if route in _OF_NOBODY:
        raise PolicyError(f"{route} is no route of its own: it stands for several")
