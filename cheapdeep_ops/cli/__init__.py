"""The command line, `cheapdeep-ops`."""

import atexit
import gc
import sys

from cheapdeep_ops.extras import require

# Python searches for garbage while it loads modules, and once more at its exit: 0.3 s in which it finds none.
gc.disable()
atexit.register(gc.freeze)
try:
    require("guard")
    from cheapdeep_ops.cli.main import main
except KeyboardInterrupt:
    sys.exit(130)  # Loading takes a moment, and a user who stops it then expects no traceback.
except ImportError as error:
    sys.stderr.write(f"error: {error}\n")
    sys.exit(2)
finally:
    gc.enable()

__all__ = ["main"]
