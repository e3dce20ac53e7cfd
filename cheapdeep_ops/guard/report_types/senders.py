"""What a guard answers to the routers that send to it over HTTP."""

from typing import Annotated, Any, NotRequired

from pydantic import Field

from cheapdeep_ops.store.records import Moment, Record


class AdmittedNames(Record):
    """The routes and input classes that count by name."""

    version: Annotated[int, Field(description="grows with each change")]
    max_routes: int
    max_classes: Annotated[int, Field(description="the largest number of input classes of a route")]
    called: Annotated[list[list[Any]], Field(description="route, input class and the time of the last call")]
    refused: NotRequired[
        Annotated[list[list[Any]], Field(description="route and input class of each name that the token may not send")]
    ]


class FleetNews(Record):
    """What routers follow."""

    time: Moment
    evaluated_age_s: Annotated[
        float | None, Field(description="seconds since the acting guard's last evaluation; null: there was none")
    ]
    flush_every_s: Annotated[float, Field(description="the shortest interval of flushes that the guard asks for")]
    version: Annotated[int, Field(description="the number of the last change of policy")]
    etag: Annotated[str, Field(description="changes with everything that routers act on")]
    wants_candidates: Annotated[bool, Field(description="whether answers for grading are wanted")]
    store: Annotated[str, Field(description="changes when the store may lack what it had: routers send all they know")]
    policies: NotRequired[
        Annotated[
            list[list[Any]],
            Field(description="scope, version, pin, raised threshold, causes; absent if the sender knows this tag"),
        ]
    ]
    admitted: NotRequired[AdmittedNames]


class FlushAnswer(Record):
    """What a guard says about a flush."""

    number: Annotated[int, Field(description="of the last flush of this process that is stored")]
    rejected: Annotated[
        list[list[Any]],
        Field(description="route, input class, second and cause of each bucket that is refused for good"),
    ]
    process: NotRequired[Annotated[str, Field(description="the new id of a process that had none")]]
    secret: NotRequired[Annotated[str, Field(description="the secret that its requests must have from now on")]]
    fingerprint_key: NotRequired[
        Annotated[str, Field(description="the secret key for its candidates' fingerprints; comes with the new id")]
    ]
    news: FleetNews


class CandidatesAnswer(Record):
    """What a guard says about answers for grading."""

    rejected: Annotated[list[list[Any]], Field(description="call id and cause of each answer that is refused for good")]


class GrantsAnswer(Record):
    """What a guard grants to one process; money is in billionths of a US dollar."""

    granted: Annotated[
        list[list[Any]],
        Field(description="day, budget, how much the process may spend since the day began, and the limit"),
    ]
    limits: Annotated[dict[str, int], Field(description="the limits that the guard has set, by budget")]
