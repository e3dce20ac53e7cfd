"""The tables of budgets; money is in billionths of a US dollar."""

from sqlalchemy import BigInteger
from sqlmodel import Field

from cheapdeep_ops.store.tables.row import Row


class BudgetLimit(Row, table=True):
    """A budget that the guard has set, by its name (`deep`, `all route support`)."""

    __tablename__ = "budget_limit"

    budget: str = Field(primary_key=True)
    limit_nusd: int = Field(sa_type=BigInteger)


class BudgetSlice(Row, table=True):
    """What one process has spent of a budget on a day of UTC (counted from 1970-01-01), and how much it may spend.

    `unpriced` counts its calls whose cost is not known. `limit_nusd` is the limit that it was granted under. `number`
    is that of its last request: an older one that arrives later changes nothing.
    """

    __tablename__ = "budget_slice"

    day: int = Field(primary_key=True)
    budget: str = Field(primary_key=True)
    holder: str = Field(primary_key=True)
    ceiling_nusd: int = Field(sa_type=BigInteger)
    spent_nusd: int = Field(sa_type=BigInteger)
    unpriced: int = Field(default=0, sa_type=BigInteger)
    limit_nusd: int = Field(sa_type=BigInteger)
    number: int = Field(sa_type=BigInteger)
    asked_at: float
