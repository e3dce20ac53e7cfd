"""The command line, `cheapdeep-ops`."""

import sys

try:
    from cheapdeep_ops.cli.main import main
except KeyboardInterrupt:
    sys.exit(130)  # Loading takes a moment: whoever gives up meanwhile wants no traceback.

__all__ = ["main"]
