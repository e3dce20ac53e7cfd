"""The colours of what charts show, one for each thing: on the console's pages and in the pictures of messages.

The report's style sheet, which also suits dark pages and paper, has orange and blue for the same things.
"""

from typing import Final

BASE: Final = "#d97706"
"""The escalation rate at base: orange."""

ACTUAL: Final = "#3b82c4"
"""What calls really got: blue."""

WRONG: Final = "#d64545"
"""The false-confident rate: red."""

INCIDENT: Final = "#78838e"
"""The time of an incident: a neutral grey, so that no interval looks like it."""


def pale(colour: str, share: float) -> str:
    """`colour` on white paper with so much of its strength, from 0 to 1: as `#rrggbb`."""
    parts = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(255 + (part - 255) * share):02x}" for part in parts)
