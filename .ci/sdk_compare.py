"""Fail if a test of the SDK passes with its client, fails with a router, and is not listed with its reason.

`python sdk_compare.py EXCEPTIONS FOLDER`: the folder has the outcomes of the tests by the number of tiers.
"""

import json
import sys
from fnmatch import fnmatchcase
from pathlib import Path

MOST = 20
"""How many tests may fail with a router."""


def exceptions(path: Path) -> list[str]:
    """The patterns of tests that may fail."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def is_listed(test: str, patterns: list[str]) -> bool:
    """Whether a pattern is the test's name; brackets mean themselves."""
    return any(fnmatchcase(test, pattern.replace("[", "[[]")) for pattern in patterns)


def main(exceptions_file: str, folder: str) -> int:
    """Print what fails with each number of tiers; returns the exit status."""
    outcomes = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in Path(folder).glob("*.json")}
    passing = [test for test, outcome in outcomes["0"].items() if outcome == "passed"]
    is_fine = bool(passing)
    for tiers in ("1", "2"):
        failing = [test for test in passing if outcomes[tiers].get(test) != "passed"]
        unlisted = [test for test in failing if not is_listed(test, exceptions(Path(exceptions_file)))]
        is_fine = is_fine and not unlisted and len(failing) <= MOST
        said = f"tiers: {tiers}; of {len(passing)} tests that pass with the client, {len(failing)} fail with the router"
        print(said, *(f"  not listed: {test}" for test in sorted(unlisted)), sep="\n")  # noqa: T201
    return 0 if is_fine else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
