"""Pictures of what the commands print of a storm: the report as a page, wide and on a telephone, and the status."""

import re
from io import StringIO
from pathlib import Path
from typing import Final

from rich.console import Console

from cheapdeep_ops.cli.render.receipt_page import html_receipt
from cheapdeep_ops.cli.render.status import SCREEN_LINES, screen
from cheapdeep_ops.guard.reports.receipt import receipt
from cheapdeep_ops.guard.reports.status import status
from cheapdeep_ops.guard.reports.trends import trends
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store.engine import Store
from tests.browser import Page

PERIOD_S: Final = 2.5 * 3600
"""The report's period: the period before it has calls as well."""

WIDTH, PHONE, COLUMNS = 1000, 380, 80
PHONE_HEIGHT: Final = 1500


def report(page: Page, store: Store, settings: Settings, now: float, *, to: Path, scratch: Path) -> list[Path]:
    """Photograph the report, by a file in the folder `scratch`; returns the pictures, which are in `to`."""
    scratch.mkdir()
    period = {"since": now - PERIOD_S, "until": now}
    file = scratch / "report.html"
    file.write_text(html_receipt(receipt(store, settings, **period), trends(store, settings, **period)), "utf-8")
    pictures = {to / "report.png": WIDTH, to / "report-phone.png": PHONE}
    for picture, width in pictures.items():
        most = PHONE_HEIGHT if width == PHONE else 10_000
        picture.write_bytes(page.photograph(file.as_uri(), width=width, most_height=most))
    return [*pictures]


def status_screen(store: Store, settings: Settings, now: float, file: Path) -> None:
    """Draw the status as an 80 by 24 terminal shows it."""
    out = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True, highlight=False)
    out.print("$ cheapdeep-ops status", style="bold")
    out.print(screen(status(store, settings, now), lines=SCREEN_LINES))
    drawn = out.export_svg(title="cheapdeep-ops status")
    # A picture asks nobody for a font.
    file.write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL), "utf-8")
