"""What the console and the terminal both show of the guard's state."""

from rich.console import Console

from cheapdeep_ops.cli.render.terminal import show_normal
from cheapdeep_ops.guard.state_text import NORMAL_TITLES, normal_rows

NORMALS = {
    "support": {
        "rate": 0.05, "low": 0.03, "high": 0.08, "grades": 1_200, "stage": "learned", "target": 0.08,
        "ceiling": 0.09, "alarm_level": 0.12, "learned_at": 1_800_000_000.0,
        "author": "ann", "why": "new\nproduct",
    },
    "faq": {
        "rate": None, "low": 0.0, "high": 1.0, "grades": 40, "stage": "asleep", "target": None,
        "ceiling": None, "alarm_level": None, "learned_at": None,
        "author": "", "why": "",
    },
}  # fmt: skip


def test_a_route_shows_what_is_normal_for_it_or_that_it_is_being_learned():
    support, faq = (dict(zip(NORMAL_TITLES, row, strict=True)) for row in normal_rows(NORMALS))
    assert support == {
        "route": "support", "normal": "5.0% (3.0% to 8.0%, n 1,200)", "climbed above": "8.0%", "alarm level": "12.0%",
        "learned": "2027-01-15 08:00:00Z", "who": "ann", "why": "new product",
    }  # fmt: skip
    assert faq == {
        "route": "faq", "normal": "being learned: 40 grades", "climbed above": "unknown",
        "alarm level": "unknown", "learned": "never", "who": "", "why": "",
    }  # fmt: skip


def test_the_terminal_shows_the_same_table():
    console = Console(width=200)
    with console.capture() as captured:
        show_normal(console, NORMALS)
        show_normal(console, {})
    shown = captured.get()
    assert all(text in shown for text in (*NORMAL_TITLES, *normal_rows(NORMALS)[0]))
    assert "no answer was graded yet" in shown
