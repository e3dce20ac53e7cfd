"""`python -m cheapdeep_ops`."""

import sys

from cheapdeep_ops.cli import main

if __name__ == "__main__":
    sys.exit(main())
