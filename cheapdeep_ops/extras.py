"""The extras of this package: the modules that each one brings, and the command that installs a missing one."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final

EXTRAS: Final[Mapping[str, tuple[str, ...]]] = {
    "guard": (
        "PIL",
        "apscheduler",
        "fastapi",
        "markdown_it",
        "prometheus_client",
        "rich",
        "slack_sdk",
        "starlette",
        "typer",
        "uvicorn",
        "yaml",
    ),
    "testing": ("starlette", "uvicorn"),
}
"""The required modules of each extra."""


def require(extra: str) -> None:
    """Check that an extra is installed. Raises ImportError with the command that installs it, if it is not."""
    missing = [module for module in EXTRAS[extra] if find_spec(module) is None]
    if missing:
        raise ImportError(f"{', '.join(missing)} not installed: run pip install 'cheapdeep_ops[{extra}]'")
