"""How `--help` lists commands: by what they are for, each with an example."""

from typing import Any, Final

from typer.core import TyperGroup

RUN: Final = "Run"
LOOK: Final = "Look"
ACT: Final = "Act"
TRY: Final = "Try"
MANAGE: Final = "Manage"
_ORDER: Final = (RUN, LOOK, ACT, TRY, MANAGE)


class GroupedCommands(TyperGroup):
    """Lists the commands in sections, by their `rich_help_panel`; one section if none has a panel."""

    # Typer's own sections need its boxes, which also frame error messages and cannot be copied line by line.
    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the sections."""
        del ctx
        commands = list(self.commands.items())
        limit = formatter.width - 6 - max(len(name) for name, _ in commands)
        by_panel = {panel: [each for each in commands if _panel(each[1]) == panel] for panel in ("", *_ORDER)}
        for panel, members in by_panel.items():
            if members:
                with formatter.section(panel or "Commands"):
                    formatter.write_dl([(name, command.get_short_help_str(limit)) for name, command in members])


def _panel(command: object) -> str:
    panel = getattr(command, "rich_help_panel", "")
    return panel if panel in _ORDER else ""


def example(arguments: str) -> str:
    """The last line of a command's help."""
    return f"Example: cheapdeep-ops {arguments}"
