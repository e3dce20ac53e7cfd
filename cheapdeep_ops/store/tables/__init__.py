"""The tables. Money is in billionths of a US dollar, so that sums are exact; times are Unix seconds.

A change needs a new version of the schema: see `schema.py`, which creates the tables from these classes.
"""

from cheapdeep_ops.store.tables import (  # noqa: F401 - they add to METADATA
    alert_tables,
    budget_tables,
    call_tables,
    gateway_tables,
    grade_tables,
)
from cheapdeep_ops.store.tables.row import METADATA, VERSION

__all__ = ["METADATA", "VERSION"]
