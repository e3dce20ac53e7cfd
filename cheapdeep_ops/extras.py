"""The extras of this package: what each one brings, and how to install one that is missing."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final

EXTRAS: Final[Mapping[str, tuple[str, ...]]] = {
    "guard": (
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
"""Modules that an extra brings, and that the part of this package which needs it cannot do without."""


def require(extra: str) -> None:
    """Make sure that an extra is installed. Raises ImportError, with the command that installs it, where it is not."""
    missing = [module for module in EXTRAS[extra] if find_spec(module) is None]
    if missing:
        raise ImportError(f"{', '.join(missing)} not installed: run pip install 'cheapdeep_ops[{extra}]'")
