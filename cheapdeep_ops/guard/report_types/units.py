"""The units that figures are in."""

from typing import Annotated

from pydantic import Field

Usd = Annotated[float, Field(description="US dollars")]
Rate = Annotated[float | None, Field(description="a share from 0 to 1; null where it is unknown")]
Interval = Annotated[tuple[float, float], Field(description="a 95% interval; 0 to 1 where nothing is known")]
Kappa = Annotated[tuple[float, float], Field(description="a 95% interval; -1 to 1 where nothing is known")]
