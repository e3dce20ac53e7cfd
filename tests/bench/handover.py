"""How long no guard evaluates after a kill -9, and what becomes of grades then: three guards on PostgreSQL.

    python -m tests.bench.handover [--kills 8] [--seed 1] [--by direct|batch] [--every 5]

At random times, the guard that evaluates or grades is killed, and another one is started. The simulated API's own log
says which answers it was asked to grade, and how often.
"""

import argparse
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate
from cheapdeep_ops.testing import SimulatedAnthropic, SimulatedSlack
from tests.e2e.test_guards import GuardProcess
from tests.e2e.test_processes import RULES, Database, caller, until
from tests.postgres import packages, running

HOLDERS = "SELECT pid, seen_at FROM lease JOIN process ON process.process = lease.holder WHERE lease.name = '{}'"


def holder(database: Database, work: str) -> tuple[int | None, float]:
    found = database.rows(HOLDERS.format(work))
    return (found[0]["pid"], found[0]["seen_at"]) if found else (None, 0.0)


def running_among(database: Database, guards: dict[int, GuardProcess]) -> int:
    """How many of the guards have written a heartbeat."""
    rows = database.rows("SELECT pid FROM process WHERE kind = 'guard'")
    return len({row["pid"] for row in rows} & guards.keys())


def hand_over(database: Database, guards: dict[int, GuardProcess], work: str) -> tuple[float, float]:
    """Kill the guard that does `work`; seconds until another one has its lease, and until that one has evaluated."""
    victim = guards.pop(until(lambda: holder(database, work)[0], f"a guard that does: {work}"))
    victim.signal(signal.SIGKILL)
    begun, began_at = time.monotonic(), time.time()

    until(lambda: holder(database, work)[0] in guards, "the next guard")
    taken = time.monotonic()
    if work == "evaluate":
        # The guard that evaluates beats with its evaluations.
        until(lambda: holder(database, work)[1] > began_at + (taken - begun), "its evaluation")
    victim.process.wait(10)
    return round(taken - begun, 2), round(time.monotonic() - begun, 2)


def figures(kills: int, seed: int, by: str, every_s: float, folder: str) -> dict[str, object]:
    random = Random(seed)
    installed = packages()
    assert installed is not None, "PostgreSQL's programs are not installed; the extra dev has them"
    api_at_work = SimulatedAnthropic(latency_s=0.2, keep_requests=1_000_000)
    with running(installed) as server, api_at_work as api, SimulatedSlack() as slack:
        url = server.url("postgres")
        store = Store(url)
        migrate(store)
        store.close()
        rules = Path(folder) / "rules.yaml"
        rules.write_text(RULES)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CHEAPDEEP_", "OTEL_"))}
        environment = {
            **kept, "ANTHROPIC_BASE_URL": api.url, "ANTHROPIC_API_KEY": "simulated", "CHEAPDEEP_STORE_URL": url,
            "CHEAPDEEP_RULES_FILE": str(rules), "CHEAPDEEP_EVALUATE_EVERY_S": str(every_s),
            "CHEAPDEEP_SLACK_BOT_TOKEN": slack.token, "CHEAPDEEP_SLACK_CHANNEL": "C0STORMS",
            "CHEAPDEEP_SLACK_BASE_URL": slack.url, "CHEAPDEEP_SAMPLE_RATE": "0.2", "CHEAPDEEP_GRADE_EVERY_S": "1",
            "CHEAPDEEP_GRADE_BY": by,
        }  # fmt: skip
        database = Database(url)
        guards: dict[int, GuardProcess] = {}

        def start() -> None:
            guard = GuardProcess(environment, folder)
            guards[guard.pid] = guard

        try:
            for _ in range(3):
                start()
            with caller(environment) as service:
                until(lambda: database.rows("SELECT * FROM grade LIMIT 1"), "the first grade")
                gaps: dict[str, list[tuple[float, float]]] = {"evaluate": [], "grade": []}
                for number in range(kills):
                    # Each takes over from a guard that runs, and not from one that still starts.
                    until(lambda: running_among(database, guards) == len(guards), "all guards to run")
                    time.sleep(random.uniform(1, 6))
                    work = ("evaluate", "grade")[number % 2]
                    gaps[work].append(hand_over(database, guards, work))
                    start()
            calls = len(service.decisions)
            open_ones = "SELECT count(*) AS n FROM candidate WHERE state IN ('waiting', 'submitted', 'kept')"
            settled = "SELECT count(*) AS n FROM candidate WHERE inclusion IS NOT NULL"

            def is_settled() -> bool:
                rows = database.rows(f"{settled} AND state IN ('waiting', 'submitted')")
                return rows[0]["n"] == 0

            # What was never sent is known to be so after five minutes.
            deadline = time.monotonic() + 420
            while not is_settled() and time.monotonic() < deadline:
                time.sleep(1)
            asked = Counter(each.graded_answer for each in api.requests if each.is_grading)
            (grades,) = database.rows("SELECT count(*) AS n, count(DISTINCT call_id) AS calls FROM grade")
            (counted,) = database.rows("SELECT sum(calls) AS n FROM total")
            return {
                "kills": kills, "seed": seed, "by": by, "evaluate_every_s": every_s, "lease_and_evaluation_s": gaps,
                "calls": calls, "counted": int(counted["n"]), "chosen": database.rows(settled)[0]["n"],
                "grades": grades["n"], "graded_calls": grades["calls"], "open": database.rows(open_ones)[0]["n"],
                "gradings_asked": sum(asked.values()),
                "asked_again": sum(asked.values()) - grades["n"],
                "reserved_or_intended": database.rows("SELECT kind, unread FROM grading_batch WHERE kind != 'batch'"),
            }  # fmt: skip
        finally:
            for guard in guards.values():
                guard.process.kill()
                guard.process.wait(10)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--by", choices=("direct", "batch"), default="direct")
    parser.add_argument("--every", type=float, default=5.0)
    given = parser.parse_args()
    with TemporaryDirectory(prefix="cheapdeep-") as folder:
        print(json.dumps(figures(given.kills, given.seed, given.by, given.every, folder), indent=1))


if __name__ == "__main__":
    main()
