"""A service that embeds the router: asks a question after another and prints each decision as a line of JSON.

Its traffic is named on standard input, one line of class names at a time; `end` ends it.
"""

import json
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

from cheapdeep_ops import Router
from cheapdeep_ops.testing import CLASSES

RATE = 40.0
KNOWN = {each.name: each for each in CLASSES}
ended = threading.Event()
telling = threading.Lock()
traffic = ["faq"]


def follow_orders() -> None:
    for line in sys.stdin:
        if line.strip() == "end":
            break
        traffic[:] = line.split()
    ended.set()


def call(router: Router, number: int) -> str:
    kind = KNOWN[traffic[number % len(traffic)]]
    begun_at = time.time()
    decision = router.ask(kind.prompt(number), route="support", input_class=kind.name).decision
    return json.dumps(
        {
            "begun_at": begun_at,
            "threshold": decision.threshold,
            "version": decision.policy_version,
            "escalated": decision.escalated,
        }
    )


def tell(done: "Future[str]") -> None:
    with telling:  # a line is written in two parts, and other threads have lines of their own
        print(done.result(), flush=True)


def main() -> None:
    threading.Thread(target=follow_orders, daemon=True).start()
    with Router() as router, ThreadPoolExecutor(8) as pool:
        number = 0
        while not ended.wait(1 / RATE):
            pool.submit(call, router, number).add_done_callback(tell)
            number += 1


if __name__ == "__main__":
    main()
