"""The units of figures."""

from typing import Annotated

from pydantic import Field

from cheapdeep_ops.store.records import Record

Usd = Annotated[float, Field(description="US dollars")]
Rate = Annotated[float | None, Field(description="a share from 0 to 1; null if it is unknown")]
Interval = Annotated[tuple[float, float], Field(description="a 95% interval; 0 to 1 where nothing is known")]
Kappa = Annotated[tuple[float, float], Field(description="a 95% interval; -1 to 1 where nothing is known")]


class ShareFacts(Record):
    """A share with its 95% interval and n; the rate is None if n is 0."""

    rate: float | None
    low: float
    high: float
    n: int
