"""The command line, `cheapdeep-ops`."""

import atexit
import gc
import sys

from cheapdeep_ops.extras import require

# At its exit Python searches all objects for garbage, which takes 0.2 s; nothing here needs that.
atexit.register(gc.freeze)
try:
    require("guard")
    from cheapdeep_ops.cli.main import main
except KeyboardInterrupt:
    sys.exit(130)  # Loading takes a moment, and a user who stops it then expects no traceback.
except ImportError as error:
    sys.stderr.write(f"error: {error}\n")
    sys.exit(2)

__all__ = ["main"]
