"""A service that embeds the router: asks a question after another on the route that is its argument.

It prints each decision as a line of JSON.
Its traffic is named on standard input, one line of class names at a time; an empty line is silence, `end` ends it.
Where `OTEL_EXPORTER_PROMETHEUS_PORT` names a port, it shows its own metrics there, as a service that is scraped does.
Where `CALLER_CLOCK` names a file, it is on a host whose clock differs by the seconds in that file; see `host.py`.
"""

import json
import os
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import start_http_server

from cheapdeep_ops import Router, Settings
from cheapdeep_ops.recorder import Recorder
from cheapdeep_ops.store.clock import steady
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


def show_metrics(port: int) -> None:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader  # noqa: PLC0415 - few callers are scraped

    set_meter_provider(MeterProvider([PrometheusMetricReader()]))
    start_http_server(port, addr="127.0.0.1")


def call(router: Router, name: str, number: int) -> str:
    kind = KNOWN[name]
    begun_at = time.time()
    decision = router.ask(kind.prompt(number), route=sys.argv[1], input_class=kind.name).decision
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


def make_router() -> Router:
    path = os.environ.get("CALLER_CLOCK")
    if path is None:
        return Router()
    from tests.e2e.host import wall  # noqa: PLC0415 - few callers have a clock of their own

    clock, settings = wall(path), Settings()
    return Router(settings=settings, clock=clock, recorder=Recorder(settings, clock=clock, steady_clock=steady))


def main() -> None:
    if port := os.environ.get("OTEL_EXPORTER_PROMETHEUS_PORT"):
        show_metrics(int(port))
    threading.Thread(target=follow_orders, daemon=True).start()
    with make_router() as router, ThreadPoolExecutor(8) as pool:
        number = 0
        while not ended.wait(1 / RATE):
            if names := tuple(traffic):
                pool.submit(call, router, names[number % len(names)], number).add_done_callback(tell)
                number += 1


if __name__ == "__main__":
    main()
