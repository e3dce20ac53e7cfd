"""Fail if a test of the SDK passes with its client and not with a router, unless it is listed with its reason.

`python sdk_compare.py EXCEPTIONS FOLDER`: the folder has the outcomes of the tests by the number of tiers.
"""

import json
import sys
from fnmatch import fnmatchcase
from pathlib import Path

MOST = 20
"""How many exceptions there may be with one tier."""


def exceptions(path: Path) -> dict[str, list[str]]:
    """By the number of tiers, the patterns of tests that may fail: `[1]` begins those of one tier."""
    patterns: dict[str, list[str]] = {}
    section: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = patterns.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            section.append(line)
    return patterns


def is_listed(test: str, patterns: list[str]) -> bool:
    """Whether a pattern is the test's name; brackets mean themselves."""
    return any(fnmatchcase(test, pattern.replace("[", "[[]")) for pattern in patterns)


def main(exceptions_file: str, folder: str) -> int:
    """Print what fails with each number of tiers; returns the exit status."""
    outcomes = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in Path(folder).glob("*.json")}
    allowed = exceptions(Path(exceptions_file))
    passing = [test for test, outcome in outcomes["0"].items() if outcome == "passed"]
    failed = 0
    for tiers in ("1", "2"):
        failing = [test for test in passing if outcomes[tiers].get(test) != "passed"]
        listed = allowed["1"] + (allowed["2"] if tiers == "2" else [])
        unlisted = [test for test in failing if not is_listed(test, listed)]
        is_too_many = tiers == "1" and len(failing) > MOST
        failed += len(unlisted) + is_too_many
        said = [
            f"tiers: {tiers}; of {len(passing)} tests that pass with the client, {len(failing)} fail with the router"
        ]
        print(*said, *(f"  not listed: {test}" for test in sorted(unlisted)), sep="\n")  # noqa: T201
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
