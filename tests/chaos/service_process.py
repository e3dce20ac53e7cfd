"""A service that embeds the router. It calls at a steady rate, and writes one line of JSON for each call.

Arguments: route, log file, calls a second, number of its first call. Standard input names the class of traffic, one
line at a time; `end` ends it. A line is in the file before the next call of its thread begins, so a kill loses none.
"""

import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from tests.chaos import stepped_clock

stepped_clock.install()

from cheapdeep_ops import Router  # noqa: E402 - after the clock
from cheapdeep_ops.testing import CLASSES  # noqa: E402

KNOWN = {each.name: each for each in CLASSES}


def main() -> None:
    route, path, rate, first = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
    traffic, ended = ["faq"], threading.Event()
    log = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def follow() -> None:
        for line in sys.stdin:
            if line.strip() == "end":
                break
            traffic[0] = line.strip()
        ended.set()

    def call(router: Router, number: int) -> None:
        begun = time.monotonic()
        told: dict[str, object] = {"number": number, "begun": begun}
        try:
            decision = router.ask(KNOWN[traffic[0]].prompt(number), route=route).decision
            told.update(call_id=decision.call_id, threshold=decision.threshold, version=decision.policy_version)
        except Exception as error:  # noqa: BLE001 - a call that fails is what the audit looks for
            told["error"] = repr(error)
        told["ended"] = time.monotonic()
        os.write(log, (json.dumps(told) + "\n").encode())

    threading.Thread(target=follow, daemon=True).start()
    with Router() as router, ThreadPoolExecutor(8) as pool:
        number, due = first, time.monotonic()
        while not ended.wait(max(due - time.monotonic(), 0)):
            pool.submit(call, router, number)
            number, due = number + 1, due + 1 / rate


if __name__ == "__main__":
    main()
