"""The command line, `cheapdeep-ops`."""

from cheapdeep_ops.cli.main import main

__all__ = ["main"]
