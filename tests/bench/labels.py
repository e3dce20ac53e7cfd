"""What too many routes cost: `python tests/bench/labels.py` prints one table. `--url URL` names an empty store.

Eight processes live thirty times each. In each life a recorder and a meter of its own count calls of 220 routes: names
with ids, or plain words. Then the store, the receipt, the status, the metrics page, the console and the meters are
asked how many routes they show, and whether all calls are counted. Evaluation and metrics page are measured after one
life and after each third of all, in CPU of this process: the least of some.

The last rows are two services on one store, one after the other. Both call 200 routes often, and each calls twenty of
its own rarely. `lost` is how many of the 200 are not counted by name in the end.
"""

import argparse
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final

from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from cheapdeep_ops import Settings
from cheapdeep_ops.errors import StoreBusyError
from cheapdeep_ops.guard.console.routes import shown_routes
from cheapdeep_ops.guard.guard import Guard
from cheapdeep_ops.guard.http.metrics import FleetCollector, page
from cheapdeep_ops.guard.label_places import LabelPlaces
from cheapdeep_ops.guard.notify.log import LogSender
from cheapdeep_ops.guard.reports.receipt import receipt
from cheapdeep_ops.guard.reports.status import status
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.recorder import Recorder
from cheapdeep_ops.router.label_limits import Labeller
from cheapdeep_ops.store import counters, route_labels
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate
from cheapdeep_ops.telemetry.handler import Telemetry
from cheapdeep_ops.values import Decision, Hop, Outcome, Tier

PROCESSES, LIVES, ROUTES, BUSY, RARE = 8, 30, 220, 200, 20
SECONDS: Final = 2
"""How long a life is, in seconds of its clock; a flush follows each of them."""

APART_S: Final = 600
"""How far lives are apart, so that the windows of the rules have one of them."""

NOW: Final = 1_800_000_000
_BREATH_S: Final = 0.01
HOP = Hop(tier=Tier(model="claude-haiku-4-5", index=0, is_deep=False), usage=None, cost_usd=0.0004)
DECISION = Decision(
    call_id="id", route="", input_class="", tier=0, model="claude-haiku-4-5", confidence=0.9, threshold=0.8,
    policy_version=0, escalated=False, reason=None, bypass_cause=None, base_outcome=Outcome.SHIP, base_reason=None,
    cost_usd=0.0004, triage_cost_usd=0.0004, baseline_cost_usd=0.002, baseline_basis="", started_at=NOW,
    duration_s=0.0, triage_duration_s=0.0, hops=(HOP,), error="",
)  # fmt: skip

STAGES: Final = 3
"""After how many equal parts of the lives all is read."""

_EVALUATIONS: Final = 5


class PatientReader(InMemoryMetricReader):
    """A reader that waits for the processor: eight processes share it, and the SDK gives up after ten seconds."""

    def collect(self, timeout_millis: float = 600_000) -> None:
        super().collect(timeout_millis)


CONSONANTS, VOWELS = "bdfgklmnprst", "aeiou"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one fleet left: calls made and counted, the routes that each place shows, and what reading them costs."""

    made: int
    counted: int
    in_seconds: int
    folded: int
    receipt: int
    status: int
    metrics: int
    console: int
    meters: int
    page_mb: float
    page_cpu_s: float
    evaluation_cpu_s: float


def words(count: int, seed: int) -> list[str]:
    """So many different plain words."""
    random, found = Random(seed), dict[str, None]()
    while len(found) < count:
        found["".join(random.choice(CONSONANTS) + random.choice(VOWELS) for _ in range(4))] = None
    return list(found)


def ids(life: int, process: int) -> list[str]:
    """Names with ids that no other life has."""
    first = (life * PROCESSES + process) * ROUTES
    return [f"user/{first + number}/chat" for number in range(ROUTES)]


def lives(url: str, names: Sequence[Sequence[str]], process: int, *, begins_at: int) -> tuple[int, set[str]]:
    """One process that lives once for each list of names: the calls that it made, and the routes of its meters."""
    made, seen = 0, set[str]()
    for life, routes in enumerate(names):
        at = begins_at + life * APART_S
        settings = Settings(store_url=url, sample_rate=0)
        recorder = Recorder(settings, clock=partial(float, at), background=False)
        _patiently(partial(recorder.refresh, at))
        reader = PatientReader()
        telemetry = Telemetry(meter_provider=MeterProvider([reader], shutdown_on_exit=False))
        labeller = Labeller("default", max_routes=settings.max_routes, max_classes=settings.max_input_classes)
        order = list(routes)
        Random(f"{process}/{life}").shuffle(order)
        for second in range(SECONDS):
            for route, times in Counter(order).items():
                labels = labeller.of(route, "", recorder.book)
                decision = replace(
                    DECISION, route=labels.text.route, started_at=at + second, name=labels.name, counted=labels.counted
                )
                telemetry.record_decision(trace.INVALID_SPAN, decision, provider="p", hop_s=[0.1], waited_s=0.1)
                for _ in range(times):
                    recorder.put(decision)
                made += times
            _patiently(partial(recorder.drain, at + second))
            _patiently(partial(recorder.refresh, at + second))
        recorder.close()
        seen |= _routes_of(reader)
    return made, seen


def _patiently(work: Callable[[], None]) -> None:
    """Try again while the store is busy, as the recorder's own thread does."""
    while True:
        try:
            return work()
        except StoreBusyError:
            time.sleep(_BREATH_S)


def _routes_of(reader: InMemoryMetricReader) -> set[str]:
    data = json.loads(reader.get_metrics_data().to_json())
    metrics = [each for of in data["resource_metrics"] for scope in of["scope_metrics"] for each in scope["metrics"]]
    points = [point["attributes"] for each in metrics for point in each["data"]["data_points"]]
    return {attributes["route"] for attributes in points if "route" in attributes}


def live(
    url: str, names: Sequence[Sequence[Sequence[str]]], *, begins_at: int = NOW, apart: bool = True
) -> tuple[int, set[str]]:
    """Let all processes live: apart, each in a process of its own, or one after the other in this one."""
    if not apart:
        found = [lives(url, each, process, begins_at=begins_at) for process, each in enumerate(names)]
    else:
        # Each life would log what has no place.
        context = get_context("spawn")
        with ProcessPoolExecutor(len(names), mp_context=context, initializer=logging.disable) as pool:
            jobs = [pool.submit(lives, url, each, process, begins_at=begins_at) for process, each in enumerate(names)]
            found = [job.result() for job in jobs]
    return sum(made for made, _ in found), set().union(*(seen for _, seen in found))


def read(url: str, made: int, meters: set[str], *, now: float) -> Reading:
    """What the store, reports, pages and an evaluation show after `made` calls."""
    settings, store, rulebook = Settings(store_url=url), Store(url), read_rulebook()
    guard = Guard(store, settings=settings, rulebook=rulebook, senders={"log": LogSender()}, started_at=now)
    guard.step(now)
    evaluation_s = min(_cpu_s(partial(guard.step, now + 5 * number)) for number in range(1, 1 + _EVALUATIONS))
    collector = FleetCollector(store, settings=settings, rulebook=rulebook, jobs=dict, clock=lambda: now + 5)
    text = page(collector).decode()
    page_s = min(_cpu_s(partial(page, collector)) for _ in range(2))
    with store.reading() as connection:
        totals = counters.totals(connection)
        in_seconds = counters.summed(connection, since=0, until=2**40).calls
        folded = route_labels.folded(connection)
    reading = Reading(
        made=made,
        counted=sum(sums.calls for sums in totals.values()),
        in_seconds=in_seconds,
        folded=folded,
        receipt=len(receipt(store, settings, since=NOW - 86_400, until=now + 86_400)["routes"]),
        status=len(status(store, settings, now)["reach"]),
        metrics=len({part.split('"')[0] for part in text.split('route="')[1:]} - {"*"}),
        console=len(shown_routes(store, settings)),
        meters=len(meters),
        page_mb=len(text) / 1e6,
        page_cpu_s=page_s,
        evaluation_cpu_s=evaluation_s,
    )
    guard.close()
    store.close()
    return reading


def _cpu_s(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def services(url: str, *, processes: int, count: int, rounds: int, apart: bool = True) -> tuple[int, int]:
    """Two services on one store, one after the other: how many of the busy routes are lost after each.

    The guard looks after each round, ten minutes apart. It exchanges at most ten routes at a time.
    """
    busy, lost, at = words(BUSY, seed=1), [], NOW
    store = Store(url)
    places = LabelPlaces(store, max_routes=Settings(store_url=url).max_routes, started_at=at)
    for service in range(2):
        rare = [f"{word}-{service}" for word in words(RARE, seed=2 + service)]
        # The rare ones come first, which is the hardest case: they get places that no busy route has asked for yet.
        live(url, [[rare + busy[: BUSY // 2]] for _ in range(processes)], begins_at=at, apart=apart)
        at += 700
        places.step(at)
        for _ in range(1 if service else rounds):
            at += 700
            live(url, [[busy * count + rare] for _ in range(processes)], begins_at=at, apart=apart)
            places.step(at)
        with store.reading() as connection:
            admitted = {each["route"] for each in route_labels.routes(connection)}
        lost.append(len(set(busy) - admitted))
    store.close()
    return lost[0], lost[1]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", action="append", help="an empty store for each part, in this order")
    parser.add_argument("--only", help="one part: words or ids")
    parser.add_argument("--lives", type=int, default=LIVES, help="of each process")
    given = parser.parse_args(arguments)
    urls = iter(given.url or ())
    plain = words(ROUTES, seed=1)
    kinds = {
        "words": [[plain] * given.lives for _ in range(PROCESSES)],
        "ids": [[ids(life, process) for life in range(given.lives)] for process in range(PROCESSES)],
    }
    third = max(given.lives // STAGES, 1)
    for kind, names in kinds.items():
        if given.only not in (None, kind):
            continue
        with TemporaryDirectory() as folder:
            url, made, meters = next(urls, f"sqlite:///{Path(folder)}/store.db"), 0, set[str]()
            _make(url)
            for begin, end in pairwise((0, *range(1, given.lives, third), given.lives)):
                more, seen = live(url, [each[begin:end] for each in names], begins_at=NOW + begin * APART_S)
                made, meters = made + more, meters | seen
                reading = read(url, made, meters, now=NOW + (end - 1) * APART_S + SECONDS + 1.0)
                figures = {name: round(value, 3) for name, value in asdict(reading).items()}
                print(f"{kind}, {end * PROCESSES} lives: {json.dumps(figures)}", flush=True)
    if given.only is not None:
        return
    with TemporaryDirectory() as folder:
        url = next(urls, f"sqlite:///{Path(folder)}/store.db")
        _make(url)
        print(f"two services: lost {services(url, processes=2, count=40, rounds=5)} of {BUSY} busy routes")


def _make(url: str) -> None:
    store = Store(url)
    migrate(store)
    store.close()


if __name__ == "__main__":
    sys.exit(main())
