"""Why a rule does not fire in a route: what it has found, and what it waits for."""

from typing import Annotated, Literal

from pydantic import Field

from cheapdeep_ops.store.records import Moment, Record


class RuleProgress(Record):
    """How far one rule is from firing."""

    rule: str
    scope: Annotated[str, Field(description="the route; `*` for all routes together")]
    state: Annotated[str, Field(description="`inactive`, `pending` or `firing`")]
    level: Annotated[str, Field(description="`above`, `below` or `unclear` to its limit, or `no_data`")]
    found: Annotated[str, Field(description="what it has found, in words")]
    evidence: Annotated[float | None, Field(description="of its sequential test, a natural logarithm")]
    evidence_limit: Annotated[float | None, Field(description="the evidence at which it fires")]
    unit: Annotated[str, Field(description="`calls` or `grades`; empty if it waits for neither")]
    have: Annotated[int, Field(description="the calls or grades that count now")]
    needed: Annotated[int, Field(description="as many as it needs; with more evidence, an expected number")]
    missing: Annotated[str, Field(description="what is missing, in words; empty if nothing is")]
    wait_s: Annotated[
        float | None, Field(description="the expected seconds until then, at the present pace; null: it may never be")
    ]
    example: Annotated[str, Field(description="how soon a climb would fire it, in words; empty if unknown")]


class Why(Record):
    """Why the rules fire in a route, or do not."""

    at: Moment
    route: str
    threshold: Annotated[float, Field(description="in force for the route")]
    pin: Annotated[
        float | None,
        Field(description="the threshold that a person has pinned, here or for all routes; then rules only report"),
    ]
    mode: Annotated[Literal["enforce", "observe", "shadow"], Field(description="rules change nothing but in `enforce`")]
    has_data: Annotated[bool, Field(description="whether it has calls within a day, grades, or a policy of its own")]
    rules: list[RuleProgress]
