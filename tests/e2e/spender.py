"""A service that makes bypassed calls at an even pace from a line on standard input on, and prints their outcomes.

It ends when it has been refused for some seconds.
"""

import json
import sys
import time

from cheapdeep_ops import BudgetError, Router

EVERY_S, REFUSED_S, MOST = float(sys.argv[1]), 5.0, 500

with Router() as router:
    print("ready", flush=True)
    sys.stdin.readline()
    begun = answered = time.monotonic()
    outcomes: list[tuple[float | None, str]] = []
    while time.monotonic() - answered < REFUSED_S and len(outcomes) < MOST:
        time.sleep(max(begun + len(outcomes) * EVERY_S - time.monotonic(), 0))
        messages = [{"role": "user", "content": f"question {len(outcomes)}"}]
        try:
            routed = router.route(max_tokens=300, stop_sequences=["END"], messages=messages)
        except BudgetError as error:
            outcomes.append((None, error.budget))
        else:
            outcomes.append((routed.decision.cost_usd, ""))
            answered = time.monotonic()
print(json.dumps(outcomes), flush=True)
