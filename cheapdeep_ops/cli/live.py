"""Watching a demonstration: a panel that changes in a terminal, a line per event elsewhere."""

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.table import Table

from cheapdeep_ops.demo.show import Glance, Phase
from cheapdeep_ops.guard.messages import percent


class PlainView:
    """A line for each phase, each change of threshold or alert, and each message on Slack."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._last: Glance | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def begin(self, phase: Phase) -> None:
        """Name the phase."""
        self._out.print(f"== {phase.name}: {phase.what}", markup=False)

    def look(self, glance: Glance) -> None:
        """Say what has changed."""
        last, self._last = self._last, glance
        for rule in sorted(set(glance.firing) - set(last.firing if last else ())):
            self._say(glance, f"{rule} fires; {_measured(glance)}")
        for rule in sorted(set(last.firing if last else ()) - set(glance.firing)):
            self._say(glance, f"{rule} is over; {_measured(glance)}")
        if last is not None and glance.threshold != last.threshold:
            self._say(glance, f"calls are now decided at {glance.threshold:g}")
        if glance.slack and (last is None or glance.slack != last.slack):
            self._say(glance, f"Slack: {glance.slack}")

    def _say(self, glance: Glance, text: str) -> None:
        self._out.print(f"{glance.seconds:5.1f} s  {glance.calls:5d} calls  {text}", markup=False)


class LiveView:
    """A panel that is redrawn in place."""

    def __init__(self, out: Console) -> None:
        self._live = Live(console=out, refresh_per_second=8)
        self._what = ""

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def begin(self, phase: Phase) -> None:
        """Name the phase."""
        self._what = phase.what

    def look(self, glance: Glance) -> None:
        """Redraw."""
        self._live.update(panel(glance, self._what))


def panel(glance: Glance, what: str) -> Panel:
    """What there is to see at one moment, while `what` goes on."""
    rows = Table.grid(padding=(0, 2))
    rows.add_row("calls", str(glance.calls))
    rows.add_row("escalation at base", _bar(glance.base_rate))
    rows.add_row("escalation, actual", _bar(glance.actual_rate))
    rows.add_row("wrong, though sure", f"{percent(glance.wrong_rate)} (n {glance.graded})")
    rows.add_row("threshold", f"[bold {'yellow' if glance.threshold > 0.8 else 'green'}]{glance.threshold:g}[/]")  # noqa: PLR2004
    rows.add_row("alerts", f"[bold red]{', '.join(glance.firing)}[/]" if glance.firing else "none")
    rows.add_row("Slack", glance.slack.replace("[", r"\[") or "nothing yet")
    return Panel(rows, title=f"{glance.phase} ({glance.seconds:.0f} s): {what}", title_align="left")


def view_for(out: Console) -> AbstractContextManager[PlainView] | AbstractContextManager[LiveView]:
    """The view that suits where it is shown."""
    return LiveView(out) if out.is_terminal else PlainView(out)


def _measured(glance: Glance) -> str:
    return (
        f"base escalation {percent(glance.base_rate)}, wrong answers among confident ones {percent(glance.wrong_rate)} "
        f"(n {glance.graded})"
    )


def _bar(rate: float | None, width: int = 40) -> str:
    """A rate as a bar with a mark at 35%."""
    if rate is None:
        return "unknown"
    filled, mark = round(rate * width), round(0.35 * width)
    cells = ["█" if i < filled else "·" for i in range(width)]
    cells[mark] = "│"
    colour = "red" if rate > 0.35 else "green"  # noqa: PLR2004 - the mission's limit
    return f"[{colour}]{''.join(cells)}[/] {percent(rate)}"
