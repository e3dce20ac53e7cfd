"""The routes that count by name, and examples of what does not."""

from cheapdeep_ops.guard.report_types.route_labels import AdmittedRoute, Routes
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import route_labels
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.records import record_of
from cheapdeep_ops.units import DAY_S


def routes_of(connection: Connection, settings: Settings, now: float) -> Routes:
    """The routes that count by name, the limits, and what was folded lately."""
    return {
        "max_routes": settings.max_routes,
        "max_input_classes": settings.max_input_classes,
        "routes": [record_of(AdmittedRoute, row) for row in route_labels.routes(connection)],
        "folded": route_labels.folded(connection),
        "folded_names": route_labels.folded_names(connection, since=now - DAY_S),
    }
