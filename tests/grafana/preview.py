"""Pictures of the boards: `python tests/grafana/preview.py FOLDER`, after `npm install` beside this file.

A simulated morning goes into the real Prometheus, its answers into a page that draws them with Grafana's own
components, and Chromium takes a picture of each board. A preview: Grafana itself is not there.
"""

import argparse
import json
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from tests.browser import browsing, installed
from tests.grafana.world import SHOWN, history
from tests.prometheus import BOARDS, Json, Prometheus, filled, running

HERE: Final = Path(__file__).parent
SCRAPED_EVERY_S: Final = 15
WIDTH: Final = 1400
CHOSEN: Final = {"$route": ".*", "$input_class": ".*", "$scope": "billing", "$one": "support"}
STEPS: Final = (15, 30, 60, 120, 300, 600, 900, 1800, 3600)
HTML: Final = """<!doctype html><meta charset="utf-8"><title>Preview</title><link rel="icon" href="data:,">
<link rel="stylesheet" href="preview.css"><div id="board"></div>
<script>
for (const kind of ["error", "unhandledrejection"])
  addEventListener(kind, ({message, reason}) => document.body.append(message ?? String(reason?.stack)));
</script>
<script type="module" src="preview.js"></script>
"""


def pictures(
    names: Sequence[str], to: Path, *, data: Path | None = None, width: int = WIDTH, most_height: int = 10_000
) -> list[Path]:
    """Draw these boards into the folder `to`, one PNG each; `data` is Prometheus' folder of a morning made before."""
    browser = installed()
    assert browser, "Chromium is not installed"
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        site = _site(folder / "site")
        if data:
            (folder / "data").symlink_to(data.resolve())
        else:
            history(folder)
        with (
            running(folder, "global: {}\n") as prometheus,
            serving(site) as url,
            browsing(browser, folder / "browser") as page,
        ):
            files = [to / f"{name}.png" for name in names]
            for file in files:
                (site / "given.json").write_text(json.dumps(answers(BOARDS[file.stem], prometheus)), "utf-8")
                file.write_bytes(page.photograph(f"{url}?{file.stem}", width=width, most_height=most_height))
    shrink(files)
    return files


def shrink(files: Sequence[Path]) -> None:
    """Rewrite pictures with a palette."""
    subprocess.run(["node", "smaller.mjs", *[file.resolve() for file in files]], cwd=HERE, check=True)


def answers(board: Json, prometheus: Prometheus) -> Json:
    """All that the page needs to know: the board, the period, and what Prometheus says."""
    start, end = SHOWN
    found = {
        panel["id"]: {each["refId"]: _answer(prometheus, panel, each) for each in panel["targets"]}
        for panel in board["panels"]
    }
    marks = [_marks(prometheus, each) for each in board["annotations"]["list"]]
    version = json.loads((HERE / "package.json").read_text("utf-8"))["dependencies"]["@grafana/ui"]
    chosen = {"board": board, "range": [start, end], "variables": CHOSEN}
    return {**chosen, "answers": found, "marks": marks, "version": version}


def _answers(prometheus: Prometheus, panel: Json) -> Json:
    return {each["refId"]: _answer(prometheus, panel, each) for each in panel["targets"]}


def _answer(prometheus: Prometheus, panel: Json, target: Json) -> Json:
    step = _step(panel)
    query = filled(target["expr"], _variables(step))
    if target["instant"]:
        return {"step": step, "result": prometheus.at(SHOWN[1], query)}
    return {"step": step, "result": prometheus.over(*SHOWN, query, step=step)}


def _step(panel: Json) -> int:
    """As Grafana does: a point for each pixel, rounded, and no less than the panel's own least step."""
    least = {"15s": 15, "1m": 60, "5m": 300, "15m": 900}[panel.get("interval", "15s")]
    wanted = (SHOWN[1] - SHOWN[0]) / (WIDTH * panel["gridPos"]["w"] / 24)
    return max(least, next(step for step in STEPS if step >= wanted * 0.75))


def _variables(step: int) -> Mapping[str, str]:
    rate_over = max(step + SCRAPED_EVERY_S, 4 * SCRAPED_EVERY_S)
    return {"$__rate_interval": f"{rate_over}s", "$__range": f"{SHOWN[1] - SHOWN[0]:.0f}s", **CHOSEN}


def _marks(prometheus: Prometheus, annotation: Json) -> Json:
    step = 60
    series = prometheus.over(*SHOWN, filled(annotation["expr"], _variables(step)), step=step)
    spans = [span for each in series for span in _spans([at for at, _ in each["values"]], step)]
    return {"colour": annotation["iconColor"], "spans": spans}


def _spans(times: Sequence[float], step: int) -> list[list[float]]:
    """Times that follow each other are one region, as Grafana draws them."""
    spans: list[list[float]] = []
    for at in times:
        if spans and at - spans[-1][1] <= step:
            spans[-1][1] = at
        else:
            spans.append([at, at])
    return spans


def _site(folder: Path) -> Path:
    folder.mkdir()
    subprocess.run(["node", "bundle.mjs", folder], cwd=HERE, check=True)
    (folder / "index.html").write_text(HTML, "utf-8")
    return folder


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description="Pictures of the boards, drawn with Grafana's components.")
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("boards", nargs="*", default=list(BOARDS), help="all by default")
    parser.add_argument("--data", type=Path, help="Prometheus' data of a morning made before")
    given = parser.parse_args()
    for file in pictures(given.boards, given.folder, data=given.data):
        print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
