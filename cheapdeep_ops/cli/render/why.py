"""Why the rules fire in a route, or do not, for a terminal."""

from typing import TYPE_CHECKING

from rich.console import Console

from cheapdeep_ops.guard.progress_text import progress_lines, progress_summary

if TYPE_CHECKING:
    from cheapdeep_ops.guard.report_types.why import Why


def show_why(out: Console, why: "Why") -> None:
    """Print what each rule has found in the route, and what it waits for."""
    for line in progress_summary(why):
        out.print(line, markup=False)
    for title, lines in progress_lines(why):
        out.print(title, style="bold", markup=False)
        for line in lines:
            out.print(f"  {line}", markup=False)
