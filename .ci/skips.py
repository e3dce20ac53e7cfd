"""Say which tests were skipped and why; fail where this kind of machine could have run them."""

import os
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

# A reason that may stand on a machine like this one, and what makes it stand.
ALLOWED = {
    "CHEAPDEEP_LIVE": True,  # needs a key and spends money
    "Chromium is not installed": shutil.which("apt-get") is None or os.geteuid() != 0,
    "PgBouncer is not installed": shutil.which("apt-get") is None or os.geteuid() != 0,
    # .ci/run sets these variables where it could install the tools.
    "Phoenix is not installed": "PHOENIX_PYTHON" not in os.environ,
    "Pyright is not installed": "PYRIGHT" not in os.environ,
    "llmock is not installed": "LLMOCK_PYTHON" not in os.environ,
    "SCHEMATHESIS": "SCHEMATHESIS" not in os.environ,
    "INSTRUMENTED_PYTHON": "INSTRUMENTED_PYTHON" not in os.environ,
    "the frameworks are not installed": "FRAMEWORKS_PYTHON" not in os.environ,
    "only root can run": os.geteuid() != 0,
    "the clients' npm packages are not installed": shutil.which("npm") is None,
    "the counts are of other versions": sys.version_info[:2] != (3, 11),
    "../shared": not SHARED.is_dir(),
    "not part of this repository": not SHARED.is_dir(),  # recorded data
}


def main(reports: list[str]) -> int:
    """Print every skip of these JUnit reports; 1 if a test was skipped that could have run, else 0."""
    roots = [ET.parse(report).getroot() for report in reports]  # noqa: S314 - our own test runs wrote them
    cases = [case for root in roots for case in root.iter("testcase")]
    skips = [(case.get("name"), skip.get("message") or "") for case in cases for skip in case.iter("skipped")]
    refused = 0
    for name, reason in skips:
        allowed = any(word in reason and stands for word, stands in ALLOWED.items())
        refused += not allowed
        print(f"{'skipped' if allowed else 'SKIPPED, but could have run'}: {name}: {reason}")  # noqa: T201
    print(f"{len(cases)} tests: {len(skips)} skipped, {refused} of them could have run")  # noqa: T201
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
