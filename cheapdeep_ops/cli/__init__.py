"""The command line, `cheapdeep-ops`."""

import atexit
import gc
import sys

from cheapdeep_ops.extras import require

# Garbage collection while modules load and at exit takes 0.3 s and finds nothing.
gc.disable()
atexit.register(gc.freeze)
try:
    require("guard")
    from cheapdeep_ops.cli.main import main
except KeyboardInterrupt:
    sys.exit(130)  # Loading takes a moment; a user who interrupts it expects no traceback.
except ImportError as error:
    sys.stderr.write(f"error: {error}\n")
    sys.exit(2)
finally:
    gc.enable()

__all__ = ["main"]
