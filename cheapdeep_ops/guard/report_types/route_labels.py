"""The routes that count by name."""

from typing import Annotated

from pydantic import Field

from cheapdeep_ops.store.records import Moment, Record


class AdmittedRoute(Record):
    """A route that counts by name."""

    route: str
    classes: Annotated[int, Field(description="how many of its input classes count by name")]
    admitted_at: Moment
    last_called: Annotated[float, Field(description="Unix time, right to within a day or so")]
    how: Annotated[str, Field(description="`auto`, or the person who admitted or pinned it")]


class Routes(Record):
    """The routes that count by name, and what does not."""

    max_routes: int
    max_input_classes: Annotated[int, Field(description="of each route")]
    routes: list[AdmittedRoute]
    folded: Annotated[int, Field(description="calls so far that count as `other`, for want of a place")]
    folded_names: Annotated[dict[str, int], Field(description="up to ten of their names, each with calls of a day")]
