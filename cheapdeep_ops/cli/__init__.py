"""The command line, `cheapdeep-ops`."""

import sys

from cheapdeep_ops.extras import require

try:
    require("guard")
    from cheapdeep_ops.cli.main import main
except KeyboardInterrupt:
    sys.exit(130)  # Loading takes a moment, and a user who stops it then expects no traceback.
except ImportError as error:
    sys.stderr.write(f"error: {error}\n")
    sys.exit(2)

__all__ = ["main"]
