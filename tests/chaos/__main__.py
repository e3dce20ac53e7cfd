"""`python -m tests.chaos --seconds 90 --seed 1`: services and guards under faults; prints figures and what is wrong.

`--calm` runs the same traffic without faults, so that latencies can be compared.
"""

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.chaos.audit import Findings, audit
from tests.chaos.faults import run_faults
from tests.chaos.world import World, until, world


def run(folder: Path, *, seconds: float, seed: int, rate: float, calm: bool = False) -> Findings:
    """One run; everything is stopped when it returns."""
    with world(folder, seed=seed, rate=rate) as made:
        until(lambda: sum(1 for _ in made.calls()) > 5 * rate, "calls")
        begun = time.monotonic()
        # Sources of their own, so that the order of the faults does not depend on how long each takes.
        faults, storms = random.Random(seed), random.Random(seed + 1)
        traffic = threading.Thread(target=_traffic, args=(made, storms, begun + seconds), daemon=True)
        traffic.start()
        if not calm:
            run_faults(made, faults, until_s=begun + seconds)
        traffic.join()
        made.revive()
        _settle(made)
        made.end()
        return audit(made)


def _traffic(made: World, chance: random.Random, until_s: float) -> None:
    """Storms and calm traffic in turn until `until_s` (monotonic clock), then calm traffic."""
    traffic = "faq"
    while time.monotonic() < until_s:
        traffic = "legal" if traffic == "faq" else "faq"
        made.say(traffic)
        time.sleep(min(chance.uniform(10, 16), max(until_s - time.monotonic(), 0)))
    made.say("faq")


def _settle(made: World) -> None:
    """Wait until every incident has ended, and Slack has all messages."""
    made.note("calm")
    until(
        lambda: (
            made.rows("SELECT 1 FROM incident")
            and not made.rows("SELECT 1 FROM incident WHERE resolved_at IS NULL")
            and not made.rows("SELECT 1 FROM delivery WHERE state = 'waiting'")
            and not made.rows("SELECT 1 FROM outbox WHERE NOT routed")
        ),
        "the end of all incidents",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=5.0, help="calls a second of each service")
    parser.add_argument("--calm", action="store_true")
    parser.add_argument("--keep", type=Path, help="a folder for all logs")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = asked.keep or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        found = run(place, seconds=asked.seconds, seed=asked.seed, rate=asked.rate, calm=asked.calm)
    print(json.dumps({"figures": found.figures, "wrong": found.wrong}, indent=2))
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
