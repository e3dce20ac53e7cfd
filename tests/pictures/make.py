"""The README's pictures: `PYTHONPATH=. python tests/pictures/make.py`, after `npm install` here and in `tests/grafana`.

What is in them is what the demonstration and a simulated fleet (`tests/grafana/world.py`) have come to, shown by the
command, the console, the messages that a simulated Slack has received, and the preview of the boards.
"""

import base64
import json
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from io import StringIO
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr
from rich.console import Console

from cheapdeep_ops.cli.render import runs
from cheapdeep_ops.cli.render.live import panel
from cheapdeep_ops.demo.show import STORM, Phase, Snapshot, run_demo
from cheapdeep_ops.guard.notify.slack import BotSender
from cheapdeep_ops.store.incidents import incidents
from cheapdeep_ops.testing import SimulatedSlack
from cheapdeep_ops.testing.slack.file_store import SlackFile
from cheapdeep_ops.testing.slack.slack_wire import SlackMessage
from tests.browser import Page, browsing, installed
from tests.console import serving_console
from tests.grafana.preview import pictures, serving, shrink
from tests.grafana.world import HOUR, START, Fleet
from tests.pictures import reports
from tests.pictures.console import photograph_console

HERE: Final = Path(__file__).parent
TO: Final = HERE.parents[1] / ".github" / "pictures"
IN_THE_STORM: Final = START + 5 * HOUR
ADDRESSES: Final = {
    "grafana_url": "https://grafana.example.com",
    "console_url": "https://guard.example.com",
    "runbook_url": "https://wiki.example.com/cheapdeep",
    "environment": "production",
}
COLUMNS: Final = 118
MESSAGE_HEIGHT: Final = 690
"""Down to the line below the buttons."""

BOARD_HEIGHT: Final = 1120
"""Down to the traffic: the picture is to be read in a column of a page."""

LOGO: Final = (
    "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 36 36'><rect width='36' height='36' "
    "rx='6' fill='%231d5c96'/><path d='M8 12h20M8 18h14M8 24h8' stroke='white' stroke-width='3'/></svg>"
)
HTML: Final = """<!doctype html><meta charset="utf-8"><title>Slack</title><link rel="icon" href="data:,">
<link rel="stylesheet" href="slack.css"><body style="margin: 12px 16px; font-family: sans-serif"><div id="root"></div>
<script type="module" src="slack.js"></script>
"""


class InTheStorm:
    """Watches the demonstration, and keeps what there was to see when the storm had been answered."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None
        self.what = self._what = ""

    def begin(self, phase: Phase) -> None:
        """A phase begins."""
        self._what = phase.what

    def update(self, snapshot: Snapshot) -> None:
        """Something may have changed."""
        if STORM in snapshot.firing and snapshot.threshold > 0.8 and "firing" in snapshot.slack:
            self.snapshot, self.what = snapshot, self._what


def terminal(file: Path) -> None:
    """The demonstration's panel in its storm, and its receipt."""
    watcher = InTheStorm()
    found = run_demo(watcher)
    assert watcher.snapshot is not None, "the demonstration had no storm"
    out = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True, highlight=False)
    out.print("$ cheapdeep-ops demo", style="bold")
    out.print(panel(watcher.snapshot, watcher.what))
    runs.show_demo(out, found)
    drawn = out.export_svg(title="cheapdeep-ops demo")
    # A picture asks nobody for a font.
    file.write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL), "utf-8")


def slack(page: Page, message: SlackMessage, *, files: Sequence[SlackFile], at: float, to: Path, scratch: Path) -> None:
    """A message as it stands in the channel."""
    scratch.mkdir()
    command = ["npx", "esbuild", "slack.jsx", "--bundle", "--format=esm", "--jsx=automatic", "--log-level=error"]
    subprocess.run([*command, f"--outfile={scratch / 'slack.js'}"], cwd=HERE, check=True)
    pictures = {each.id: base64.b64encode(each.content or b"").decode() for each in files}
    given = {"logo": LOGO, "blocks": [_drawable(each, pictures) for each in message.blocks], "at": at}
    (scratch / "given.json").write_text(json.dumps(given), "utf-8")
    (scratch / "index.html").write_text(HTML, "utf-8")
    with serving(scratch) as url:
        to.write_bytes(page.photograph(url, width=760, most_height=MESSAGE_HEIGHT))


def _drawable(block: Mapping[str, Any], pictures: Mapping[str, str]) -> dict[str, Any]:
    """The block for what draws it here, which takes `verbatim` for plain text, and has no files of Slack.

    `verbatim` keeps Slack from making links.
    """
    if named := block.get("slack_file"):
        url = f"data:image/png;base64,{pictures[named['id']]}"
        return {"type": "image", "alt_text": block["alt_text"], "image_url": url}
    drawable = dict(block)
    for name in ("fields", "elements"):
        if name in block:
            drawable[name] = [{**each, "verbatim": False} for each in block[name]]
    if isinstance(block.get("text"), dict):
        drawable["text"] = {**block["text"], "verbatim": False}
    return drawable


def storm(to: Path) -> None:
    """The console and the message on Slack while a storm is on."""
    browser = installed()
    assert browser, "Chromium is not installed"
    with ExitStack() as open_:
        folder = Path(open_.enter_context(tempfile.TemporaryDirectory()))
        channel = open_.enter_context(SimulatedSlack())
        sender = BotSender(token=channel.token, channel="C0ALERTS", base_url=channel.url)
        channel.file_store.processing_s = 0.0
        bot = {"slack_bot_token": SecretStr(channel.token), "slack_channel": "C0ALERTS"}
        bot["slack_signing_secret"] = SecretStr("secret-of-the-picture")  # so that the message has buttons
        fleet = Fleet(folder, sender=sender, **ADDRESSES, **bot)
        open_.callback(fleet.close)
        while fleet.clock() < IN_THE_STORM:
            fleet.live()
        fleet.guard.draw(fleet.clock())
        fleet.guard.deliver(fleet.clock())
        page = open_.enter_context(browsing(browser, folder / "browser"))
        shown = {"files": channel.files, "at": fleet.clock()}
        slack(page, channel.posts[-1], **shown, to=to / "slack.png", scratch=folder / "slack")
        made = reports.report(page, fleet.store, fleet.settings, fleet.clock(), to=to, scratch=folder / "report")
        reports.status_screen(fleet.store, fleet.settings, fleet.clock(), to / "status.svg")
        url = open_.enter_context(serving_console(fleet.store, fleet.settings, fleet.clock, fleet.collector))
        with fleet.store.reading() as connection:
            storm_id = incidents(connection, limit=1)[0]["id"]
        files = photograph_console(page, url, to, incident=storm_id)
    shrink([to / "slack.png", *files, *made])


def main() -> None:
    """Make all of them."""
    TO.mkdir(parents=True, exist_ok=True)
    terminal(TO / "demo.svg")
    storm(TO)
    pictures(["routing"], TO, most_height=BOARD_HEIGHT)


if __name__ == "__main__":
    main()
