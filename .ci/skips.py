"""Say which tests were skipped and why; fail where this kind of machine could have run them."""

import os
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

# A reason that may stand on a machine like this one, and what makes it stand.
ALLOWED = {
    "CHEAPDEEP_LIVE": True,  # needs a key and spends money
    "Chromium is not installed": shutil.which("apt-get") is None or os.geteuid() != 0,
    "Phoenix is not installed": "PHOENIX_PYTHON" not in os.environ,  # .ci/run names it where it could be installed
    "Pyright is not installed": "PYRIGHT" not in os.environ,  # likewise
    "../shared": not (Path(__file__).resolve().parents[2] / "shared" / "data").is_dir(),
}


def main(report: str) -> int:
    """Print every skip; the number of those that may not be."""
    cases = ET.parse(report).getroot().iter("testcase")  # noqa: S314 - our own test run wrote it
    skips = [(case.get("name"), skip.get("message") or "") for case in cases for skip in case.iter("skipped")]
    refused = 0
    for name, reason in skips:
        allowed = any(word in reason and stands for word, stands in ALLOWED.items())
        refused += not allowed
        print(f"{'skipped' if allowed else 'SKIPPED, but could have run'}: {name}: {reason}")  # noqa: T201
    print(f"{len(skips)} skipped, {refused} of them without leave")  # noqa: T201
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
