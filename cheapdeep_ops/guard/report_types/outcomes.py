"""What users say about answers."""

from typing import Annotated

from pydantic import Field

from cheapdeep_ops.guard.report_types.units import Rate
from cheapdeep_ops.store.records import Record


class RouteOutcomes(Record):
    """What users say about the answers of one route; a share without an interval, because it is no sample."""

    n: int
    wrong: int
    wrong_share: Rate
    unverified: Annotated[int, Field(description="of calls that the store does not have; the route is a claim")]


class Outcomes(Record):
    """What users say about answers. Who reports is no random sample: it is no estimate of false confidence."""

    n: Annotated[int, Field(description="outcomes that came in the period")]
    wrong: int
    wrong_share: Annotated[float | None, Field(description="share of the outcomes that say wrong, not of the answers")]
    unknown: Annotated[int, Field(description="of calls that the store does not have")]
    by_route: Annotated[
        dict[str, RouteOutcomes], Field(description="`other`: routes that do not count by name, or are not known")
    ]


class StoredOutcomes(Record):
    """The result of a report by users."""

    received: int
    unknown: Annotated[int, Field(description="calls that the store does not have; they are stored as unverified")]
