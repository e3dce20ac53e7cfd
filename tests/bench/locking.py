"""How long the guard holds the store's write lock, and what it does meanwhile.

`python tests/bench/locking.py` runs the demonstration, and then a guard that starts on a store with 200 routes and
100,000 grades, and prints for each how many write transactions there were, and the longest: CPU time under the lock,
statements, rows. The CPU time is the thread's own, so that other processes on the machine count little.
"""

import time
from collections.abc import Iterable
from random import Random
from tempfile import TemporaryDirectory

from sqlalchemy import insert

from cheapdeep_ops.claude.rubric import PROMPT_VERSION
from cheapdeep_ops.guard.guard import Guard
from cheapdeep_ops.guard.notify.log import LogSender
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate
from cheapdeep_ops.store.tables.grade_tables import GradeRow, GradeTotal
from cheapdeep_ops.store.tables.row import table_of
from tests.tracing import Transaction, traced

ROUTES, GRADES, WRONG = 200, 100_000, 0.03
NOW = 1_800_000_000.0


def fill(store: Store, settings: Settings) -> None:
    """Grades of the last hundred days, in turn over all routes."""
    random = Random(0)
    rows = [
        {
            "call_id": f"call-{number}", "grader_model": settings.grader_model, "grader_prompt": PROMPT_VERSION,
            "verdict": "incorrect" if random.random() < WRONG else "correct", "failure": "", "reason": "",
            "at": NOW - (GRADES - number) * 86.4, "called_at": NOW - (GRADES - number) * 86.4 - 60,
            "route": f"route-{number % ROUTES}", "input_class": "", "shipped": True, "confidence": 0.9,
            "policy_version": 0, "inclusion": 0.01,
        }
        for number in range(GRADES)
    ]  # fmt: skip
    each = {"outcome": "correct", "count": GRADES // ROUTES, "cost_nusd": 0}
    totals = [{"route": f"route-{number}", **each} for number in range(ROUTES)]
    for start in range(0, GRADES, 10_000):
        part = rows[start : start + 10_000]
        store.transact(lambda connection, part=part: connection.execute(insert(table_of(GradeRow)), part))  # type: ignore[misc]
    store.transact(lambda connection: connection.execute(insert(table_of(GradeTotal)), totals))


def show(what: str, transactions: Iterable[Transaction]) -> None:
    found = list(transactions)
    longest = max(found, key=lambda each: each.cpu_s)
    print(f"{what}: {len(found)} write transactions, together {sum(each.cpu_s for each in found):.2f} s of CPU; "
          f"the longest {longest.cpu_s * 1e3:.1f} ms for {sum(longest.statements.values())} statements "
          f"({longest.statements['SELECT']} of them reads) on {longest.rows} rows; most rows "
          f"{max(each.rows for each in found)}", flush=True)  # fmt: skip


def demonstration() -> None:
    from cheapdeep_ops.demo.show import run_demo  # noqa: PLC0415 - it loads all there is

    class Unseen:
        def begin(self, phase: object) -> None:
            pass

        def update(self, snapshot: object) -> None:
            pass

    with traced() as tracer:
        run_demo(Unseen())
    show("the demonstration", tracer.transactions)


def long_history() -> None:
    with TemporaryDirectory() as folder:
        settings = Settings(store_url=f"sqlite:///{folder}/store.db")
        store = Store(settings.store_url)
        migrate(store)
        fill(store, settings)
        guard = Guard(store, settings=settings, rulebook=read_rulebook(), senders={"log": LogSender()}, started_at=NOW)
        for name in ("the first evaluation", "the second"):
            with traced() as tracer:
                begun = time.thread_time()
                guard.step(NOW)
            show(f"{name} of {ROUTES} routes with {GRADES} grades ({time.thread_time() - begun:.1f} s of CPU in all)",
                 tracer.transactions)  # fmt: skip
        guard.close()
        store.close()


if __name__ == "__main__":
    long_history()
    demonstration()
