"""`cheapdeep-ops serve` with a clock that a test can step."""

import sys

from tests.chaos import stepped_clock

stepped_clock.install()

from cheapdeep_ops.cli import main  # noqa: E402 - after the clock

if __name__ == "__main__":
    sys.exit(main(["serve"]))
