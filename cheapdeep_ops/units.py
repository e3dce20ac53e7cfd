"""Conversion factors that several modules need."""

from typing import Final

MINUTE_S: Final = 60
HOUR_S: Final = 3_600
DAY_S: Final = 86_400
WEEK_S: Final = 604_800
"""Seconds; whole numbers, because step widths and ticks of charts are made of them."""

# The store sums money in whole nano-dollars, because sums of binary fractions are not exact.
NUSD_PER_USD: Final = 1_000_000_000
USD_PER_NUSD: Final = 1e-9
