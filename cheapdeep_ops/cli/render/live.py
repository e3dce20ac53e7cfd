"""Shows a demonstration while it runs: a panel in a terminal, a line for each event in a pipe."""

import logging
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cheapdeep_ops.cli.output import LogFormatter
from cheapdeep_ops.demo.show import Phase, Snapshot
from cheapdeep_ops.guard.formatting import duration, percent, time_of_day

_LIMIT: Final = 0.35
_BASE: Final = 0.8
_BAR: Final = 30
"""Characters, so that a bar with its name and its figure fits into 64 columns."""


class PlainView:
    """Prints a line for each phase, each change of a threshold or an alert, and each message on Slack."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._last: Snapshot | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        return None

    def begin(self, phase: Phase) -> None:
        """Print the name of the phase."""
        self._out.print(f"== {phase.name}: {phase.what}", markup=False)

    def update(self, snapshot: Snapshot) -> None:
        """Print what has changed since the last snapshot."""
        last, self._last = self._last, snapshot
        for rule in sorted(set(snapshot.firing) - set(last.firing if last else ())):
            self._say(snapshot, f"{rule} fires; {_measured(snapshot)}")
        for rule in sorted(set(last.firing if last else ()) - set(snapshot.firing)):
            self._say(snapshot, f"{rule} is over; {_measured(snapshot)}")
        if last is not None and snapshot.threshold != last.threshold:
            self._say(snapshot, f"the threshold is now {snapshot.threshold:g}")
        if snapshot.slack and (last is None or snapshot.slack != last.slack):
            self._say(snapshot, f"Slack: {snapshot.slack}")

    def _say(self, snapshot: Snapshot, text: str) -> None:
        self._out.print(f"{time_of_day(snapshot.at)}  {snapshot.calls:5d} calls  {text}", markup=False)


class LiveView:
    """Redraws a panel in place; log records are printed above it."""

    def __init__(self, out: Console) -> None:
        self._live = Live(console=out, refresh_per_second=8, transient=True)
        self._logged = _Above(self._live.console)
        self._handlers: list[logging.Handler] = []
        self._what = ""

    def __enter__(self) -> Self:
        # A record that another handler prints would break the panel.
        root = logging.getLogger()
        self._handlers, root.handlers = root.handlers, [self._logged]
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)
        logging.getLogger().handlers = self._handlers

    def begin(self, phase: Phase) -> None:
        """Show the phase from the next update on."""
        self._what = phase.what

    def update(self, snapshot: Snapshot) -> None:
        """Redraw the panel."""
        self._live.update(panel(snapshot, self._what))


class _Above(logging.Handler):
    """Prints log records to the console of a live view, above its panel."""

    def __init__(self, out: Console) -> None:
        super().__init__()
        self._out = out
        self.setFormatter(LogFormatter("%(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Print `record`."""
        self._out.print(Text(self.format(record)), soft_wrap=False)


def panel(snapshot: Snapshot, what: str) -> Panel:
    """The panel for a snapshot, in the phase `what`."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(no_wrap=True)
    rows.add_column(overflow="fold")
    a_second = snapshot.calls / snapshot.real_s if snapshot.real_s else 0.0
    threshold = Text(f"{snapshot.threshold:g}", style="bold yellow" if snapshot.threshold > _BASE else "bold green")
    rows.add_row("now", Text(what))
    rows.add_row(
        "clock",
        f"{time_of_day(snapshot.at)}, {duration(snapshot.lasted_s)} since the start ({snapshot.real_s:.0f} s real)",
    )
    rows.add_row("calls", f"{snapshot.calls:,} ({a_second:.0f} a second of real time)")
    rows.add_row("escalation at base", _bar(snapshot.base_rate))
    rows.add_row("escalation, actual", _bar(snapshot.actual_rate))
    rows.add_row("false-confident rate", f"{percent(snapshot.wrong_rate)} (n {snapshot.graded})")
    rows.add_row("threshold", threshold)
    rows.add_row("alerts", Text(", ".join(snapshot.firing), style="bold red") if snapshot.firing else "none")
    rows.add_row("Slack", Text(snapshot.slack or "nothing yet"))
    return Panel(rows, title=Text(snapshot.phase), title_align="left")


def view_for(out: Console) -> AbstractContextManager[PlainView] | AbstractContextManager[LiveView]:
    """A LiveView for a terminal that can redraw, else a PlainView."""
    return LiveView(out) if out.is_terminal and not out.is_dumb_terminal else PlainView(out)


def _measured(snapshot: Snapshot) -> str:
    return (
        f"base escalation {percent(snapshot.base_rate)}, "
        f"false-confident rate {percent(snapshot.wrong_rate)} (n {snapshot.graded})"
    )


def _bar(rate: float | None) -> Text:
    """A rate as a bar, with a mark at the default limit of 35%."""
    if rate is None:
        return Text("unknown")
    filled, mark = round(rate * _BAR), round(_LIMIT * _BAR)
    cells = ["█" if i < filled else "·" for i in range(_BAR)]
    cells[mark] = "│"
    bar = Text("".join(cells), style="red" if rate > _LIMIT else "green")
    return bar.append(f" {percent(rate)}", style="default")
