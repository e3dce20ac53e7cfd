"""A service that makes bypassed calls at an even pace from a line on standard input on, and prints their outcomes."""

import json
import sys
import time

from cheapdeep_ops import BudgetError, Router

CALLS, EVERY_S = int(sys.argv[1]), float(sys.argv[2])

with Router() as router:
    print("ready", flush=True)
    sys.stdin.readline()
    begun, outcomes = time.monotonic(), []
    for number in range(CALLS):
        time.sleep(max(begun + number * EVERY_S - time.monotonic(), 0))
        messages = [{"role": "user", "content": f"question {number}"}]
        try:
            routed = router.route(max_tokens=300, stop_sequences=["END"], messages=messages)
        except BudgetError as error:
            outcomes.append([time.time(), None, error.budget])
        else:
            outcomes.append([time.time(), routed.decision.cost_usd, ""])
print(json.dumps(outcomes), flush=True)
