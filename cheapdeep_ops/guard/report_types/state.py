"""The present state: policies, alerts, the grader, messages and processes."""

from typing import Annotated, Literal

from pydantic import Field

from cheapdeep_ops.guard.report_types.outcomes import Outcomes
from cheapdeep_ops.guard.report_types.units import Rate, Usd
from cheapdeep_ops.store.records import Alert, Moment, Queue, Record


class Health(Record):
    """The state of the process."""

    status: Annotated[str, Field(description="`ok`, or what is missing")]


class ScopePolicy(Record):
    """The policy of one scope."""

    threshold: float
    version: Annotated[int, Field(description="the number of the change of policy that set it")]
    pin: Annotated[float | None, Field(description="the threshold that a person has pinned")]
    pinned_by: Annotated[str, Field(description="that person; empty without a pin")]
    pinned_until: Annotated[
        float | None, Field(description="when the guard releases the pin; null: a person releases it, or it is no pin")
    ]
    causes: Annotated[list[str], Field(description="the rules that hold it raised")]


class Policy(Record):
    """The thresholds in force."""

    base: float
    raised: float
    threshold: Annotated[float, Field(description="of all routes that have none of their own")]
    scopes: Annotated[dict[str, ScopePolicy], Field(description="every scope that has a policy")]


class Pinned(Policy):
    """The thresholds in force after a pin."""

    note: Annotated[str, Field(description="what to know about its route; empty if there is nothing")]


class Silence(Record):
    """A silence that has not ended."""

    id: int
    rule: str
    route: Annotated[str | None, Field(description="null: every one")]
    since: Moment
    until: Moment
    incident_id: Annotated[int | None, Field(description="the incident with which it ends, if that is over sooner")]
    author: str
    why: str


class GraderState(Record):
    """The state of the grader."""

    state: str
    why: Annotated[str, Field(description="what is wrong, if anything")]
    model: str
    by: Literal["direct", "batch"]
    waiting: Annotated[int, Field(description="samples that wait for their grade")]
    oldest_wait_s: float | None
    last_grade_at: float | None
    last_failure: str
    spent_24h_usd: Annotated[float, Field(description="US dollars; requests in batches count as estimated")]
    limit_24h_usd: Usd


class Normal(Record):
    """The baseline of a route's false confidence; the rate is null while it is being learned."""

    rate: Rate
    low: float
    high: float
    grades: Annotated[int, Field(description="the number of grades that it was learned from, or so far")]
    stage: Annotated[
        Literal["asleep", "first", "learned"],
        Field(
            description="asleep: too few grades to judge the route; first: judged by a wide bound until its first "
            "grades are complete; learned: it goes on learning while nothing is suspected"
        ),
    ]
    target: Annotated[float | None, Field(description="the upper bound of the rate: a higher rate has climbed")]
    ceiling: Annotated[
        float | None, Field(description="no later target is higher; null until the first grades are complete")
    ]
    alarm_level: Annotated[float | None, Field(description="the rate below which a raise is released")]
    learned_at: float | None
    author: Annotated[str, Field(description="the person who requested a new baseline, if any")]
    why: str


class BudgetState(Record):
    """What is spent of a budget on this day of UTC, as processes have reported it."""

    budget: Annotated[str, Field(description="its name, such as `deep` or `all route support`")]
    kind: Annotated[Literal["all", "deep"], Field(description="all spend, or what the deep tier costs")]
    route: Annotated[str | None, Field(description="the route whose budget it is; null: not of a route")]
    key: Annotated[str | None, Field(description="the gateway's key whose budget it is; null: not of a key")]
    limit_usd: float
    spent_usd: float
    share: Annotated[float, Field(description="1 and more: used up, so that no process may spend more")]
    held_usd: Annotated[float, Field(description="what processes may still spend of their slices")]
    unpriced_calls: Annotated[int, Field(description="calls whose cost is not known, which no budget counts")]
    processes: Annotated[int, Field(description="how many spend it")]
    as_of: Annotated[float | None, Field(description="when a process last reported; null: none has on this day")]
    resets_at: Annotated[float, Field(description="the next midnight of UTC")]


class Watchers(Record):
    """The processes that wrote a heartbeat within a minute, and whether a guard evaluates the rules."""

    guards: int
    routers: int
    router_base_thresholds: list[float]
    dropped: Annotated[int, Field(description="decisions that routers have dropped")]
    late: Annotated[int, Field(description="calls that came after their second was sealed, and were not counted")]
    guard_last_seen: Annotated[float | None, Field(description="the last heartbeat of any guard")]
    evaluated_at: Annotated[float | None, Field(description="when a guard last evaluated all rules; null: never")]
    evaluates: Annotated[
        bool, Field(description="whether that is no longer ago than three intervals of evaluation and 5 s")
    ]
    skewed_hosts: Annotated[
        dict[str, float],
        Field(description="by host: the seconds that its clock is ahead of the store's time, if more than 30 or -30"),
    ]


class Climb(Record):
    """How soon a climb would be detected."""

    factor: Annotated[float, Field(description="the climb, as a multiple of the baseline")]
    rate: float
    answers: Annotated[float | None, Field(description="confident answers until the raise, on average; null: never")]
    seconds: float | None


class SmallestClimbs(Record):
    """The smallest climbs that would be detected."""

    smallest_in_day: Annotated[float | None, Field(description="the smallest rate that is detected within a day")]
    smallest_in_week: Annotated[float | None, Field(description="the smallest rate that is detected within a week")]


class Reach(SmallestClimbs):
    """How soon climbs of a route's false confidence are detected, at the traffic of the last 24 hours."""

    answers_per_day: float
    normal: Rate
    n: int
    climbs: list[Climb]
    why: Annotated[str, Field(description="why it is unknown; empty if it is known")]


class Present(Record):
    """The state of the guard and of its routers, without `reach` and `triage_errors`."""

    at: Moment
    mode: Literal["enforce", "observe", "shadow"]
    store: Annotated[str, Field(description="its URL, without secrets")]
    policy: Policy
    alerts: list[Alert]
    grader: GraderState
    normal: Annotated[dict[str, Normal], Field(description="by route")]
    silences: list[Silence]
    outcomes: Annotated[Outcomes, Field(description="of the last 24 hours")]
    queue: Queue
    budgets: Annotated[list[BudgetState], Field(description="of this day of UTC; empty without budgets")]
    watchers: Watchers


class Status(Present):
    """The state of the guard and of its routers."""

    triage_errors: Annotated[
        dict[str, int],
        Field(description="why triage calls of the last hour failed; `router_error:` marks faults of the router"),
    ]
    reach: Annotated[dict[str, Reach], Field(description="by route")]
    malformed_causes: Annotated[
        dict[str, int], Field(description="why triage replies of the last hour were refused as malformed")
    ]
