"""A headless Chromium, driven over its own debugging protocol; waiting is done in the page."""

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

NAMES = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0")
_CHARTS_FIT = """[...document.querySelectorAll('[_echarts_instance_]')].every(
  each => !each.clientWidth || each.firstElementChild?.offsetWidth === each.clientWidth)"""
_WAIT = """new Promise((done, failed) => {
  const look = () => { const found = (() => (%s))(); if (found) { clearInterval(timer); done(found); } };
  const timer = setInterval(look, 50);
  setTimeout(() => { clearInterval(timer); failed(document.body.innerText); }, %d);
})"""


def installed() -> str | None:
    """Where a Chromium is."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class CommandError(Exception):
    """The browser has refused a command, or the page has gone while it was carried out."""


class Page:
    """A tab; `port` is where its browser is driven."""

    def __init__(self, socket: Any, port: str) -> None:
        self._socket, self._port, self._ids = socket, port, count(1)

    @contextmanager
    def another(self) -> Iterator["Page"]:
        """Another tab of this browser, with its cookies."""
        request = Request(f"http://127.0.0.1:{self._port}/json/new?about:blank", method="PUT")
        with urlopen(request) as answer:
            tab = json.load(answer)
        with _driven(tab) as socket:
            yield Page(socket, self._port)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv(timeout=300))
            if answer.get("id") == number:
                if "error" in answer:
                    raise CommandError(answer["error"]["message"])
                result: dict[str, Any] = answer["result"]
                return result

    def run(self, script: str) -> Any:
        """What an expression comes to, awaited."""
        found = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def open(self, url: str) -> None:
        """Load a page, until its heading is there."""
        self.send("Page.navigate", url=url)
        self.wait(f"location.href === {json.dumps(url)} && document.querySelector('h1')")

    def photograph(self, url: str, *, width: int, most_height: int = 10_000) -> bytes:
        """A page as PNG, from its top to its end or to a height."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.open(url)
        self.wait("!document.body.innerText.includes('Loading...')", seconds=120)
        # A chart gets its size once the style sheet was applied, which takes a moment on a busy machine.
        self.wait(_CHARTS_FIT)
        # What is drawn on a canvas, and fonts, come a moment after the heading.
        self.run("document.fonts.ready.then(() => new Promise(done => setTimeout(done, 1000)))")
        height = min(self.run("document.documentElement.scrollHeight"), most_height)
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        taken = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(taken["data"])

    def wait(self, script: str, *, seconds: float = 120) -> None:
        """Until an expression holds, on whatever page comes meanwhile; fails with what the page says."""
        until = time.monotonic() + seconds
        while True:
            try:
                self.run(_WAIT % (f"Boolean({script})", seconds * 1000))
            except CommandError:
                if time.monotonic() > until:
                    raise
            else:
                return

    def see(self, text: str) -> None:
        """Until the page says this."""
        self.wait(f"document.body.innerText.includes({json.dumps(text)})")

    def fill(self, label: str, text: str, *, nth: int = 0) -> None:
        """Type over what a field holds."""
        fields = f"document.querySelectorAll('input[aria-label={json.dumps(label)}]')"
        self.wait(f"{fields}.length > {nth}")
        self.run(f"{fields}[{nth}].focus(), {fields}[{nth}].select()")
        self.send("Input.insertText", text=text)

    def press(self, key: str, code: int) -> None:
        """One key, down and up."""
        for kind in ("rawKeyDown", "char", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "char" else {}
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def click(self, name: str) -> None:
        """Press the button of this name."""
        # The name of an icon is a line of its own before it.
        said = "each.innerText.trim().split('\\n').pop()"
        button = f"[...document.querySelectorAll('button')].find(each => {said} === {json.dumps(name)})"
        self.wait(button)
        self.run(f"{button}.click()")


def faults_of(page: Page) -> list[list[str]]:
    """What axe-core finds serious or worse, once nothing moves any more."""
    page.run("Promise.all(document.getAnimations().map(each => each.finished.catch(() => 0)))")
    page.run(f"{files('axe_core_python').joinpath('axe.min.js').read_text('utf-8')};0")
    found = page.run(
        "axe.run().then(found => found.violations.map(each => [each.impact, each.id, each.nodes[0].html]))"
    )
    return [each for each in found if each[0] in {"serious", "critical"}]


def _driven(tab: dict[str, Any]) -> Any:
    """The connection over which a tab is driven."""
    from websockets.sync.client import connect  # noqa: PLC0415 - comes with the extra `console`

    return connect(tab["webSocketDebuggerUrl"], max_size=None, proxy=None, compression=None)


@contextmanager
def browsing(executable: str, folder: Path) -> Iterator[Page]:
    """A tab of a browser of its own, which ends with it."""
    command = [executable, *_OPTIONS, f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "DevTools listening on" in line)
        port = line.split("127.0.0.1:")[1].split("/")[0]
        with urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
            (tab,) = [each for each in json.load(answer) if each["type"] == "page"]
        with _driven(tab) as socket:
            yield Page(socket, port)
    finally:
        process.terminate()
        process.wait(60)
        if process.stderr is not None:
            process.stderr.close()
