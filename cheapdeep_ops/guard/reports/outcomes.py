"""What users say about answers, as rates of their own."""

from collections import defaultdict
from collections.abc import Sequence

from cheapdeep_ops.guard.report_types.outcomes import Outcomes, RouteOutcomes
from cheapdeep_ops.store import outcomes, route_labels
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.outcomes import OutcomeTally
from cheapdeep_ops.values import OTHER


def outcomes_of(connection: Connection, *, since: float, until: float) -> Outcomes:
    """The outcomes that came in `[since, until)` (Unix times), together and by route."""
    tallies = outcomes.tallies(connection, since=since, until=until)
    # A claimed route is any text, so only names that the fleet counts have a line of their own.
    named = {each["route"] for each in route_labels.routes(connection)} if tallies else set()
    by_route: dict[str, list[OutcomeTally]] = defaultdict(list)
    for each in tallies:
        by_route[each.route if each.route in named else OTHER].append(each)
    whole = _route_outcomes(tallies)
    return {
        "n": whole["n"],
        "wrong": whole["wrong"],
        "wrong_share": whole["wrong_share"],
        "unknown": whole["unverified"],
        "by_route": {route: _route_outcomes(of_route) for route, of_route in sorted(by_route.items())},
    }


def _route_outcomes(tallies: Sequence[OutcomeTally]) -> RouteOutcomes:
    n, wrong = sum(each.count for each in tallies), sum(each.count for each in tallies if each.is_wrong)
    unverified = sum(each.count for each in tallies if not each.is_known)
    return {"n": n, "wrong": wrong, "wrong_share": wrong / n if n else None, "unverified": unverified}
