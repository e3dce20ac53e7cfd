"""The pictures of the console."""

from pathlib import Path
from typing import Final

from tests.browser import Page

WIDE: Final = 1200
PHONE: Final = 380
NOW_HEIGHT: Final = 1250
"""Down to the table of routes."""

PHONE_HEIGHT: Final = 1700
INCIDENT_HEIGHT: Final = 1100


def photograph_console(page: Page, url: str, to: Path, *, incident: int) -> list[Path]:
    """The first page in the light, in the dark and on a phone, an incident, and the charts; returns the files."""
    # So that the times do not depend on who makes the pictures.
    page.send("Emulation.setTimezoneOverride", timezoneId="Europe/Berlin")
    taken = {
        "console": ("/", WIDE, NOW_HEIGHT),
        "console-phone": ("/", PHONE, PHONE_HEIGHT),
        "console-incident": (f"/incidents/{incident}", WIDE, INCIDENT_HEIGHT),
        "console-charts": ("/charts", WIDE, NOW_HEIGHT),
    }
    files = []
    for name, (path, width, most_height) in taken.items():
        files.append(to / f"{name}.png")
        files[-1].write_bytes(page.photograph(f"{url}{path}", width=width, most_height=most_height))
    page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    files.append(to / "console-dark.png")
    files[-1].write_bytes(page.photograph(f"{url}/", width=WIDE, most_height=NOW_HEIGHT))
    return files
