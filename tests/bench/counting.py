"""Whether all counts of a long run agree to the unit: `python tests/bench/counting.py [CALLS]` (100000) prints a table.

32 callers ask a simulated API in another process, through an AsyncRouter and a Router. Their calls are whole and
streamed, on several routes, and one request in twenty fails. In the end, five sources are compared: callers, API,
spans, metrics and store. The script exits with 1 if any two figures of a row differ.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

import anthropic
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from sqlalchemy import func, select

from cheapdeep_ops import AsyncRouter, Router, Settings
from cheapdeep_ops.store import counters, route_labels
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate
from cheapdeep_ops.store.tables.call_tables import Process
from cheapdeep_ops.store.tables.row import table_of
from cheapdeep_ops.telemetry import names
from cheapdeep_ops.telemetry.handler import Telemetry
from cheapdeep_ops.testing import Reply, SimulatedAnthropic
from cheapdeep_ops.units import USD_PER_NUSD
from cheapdeep_ops.values import Name

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
CONCURRENCY, THREADS, SEED = 32, 4, 0
TIMEOUT_S = 5.0
"""Far longer than any answer of the simulated API takes, except for those that are meant to be too late."""

ANSWER = "Venlafaxine inhibits the reuptake of serotonin and noradrenaline. " * 4
EARLY, MIDWAY = 200, 1_500
"""Bytes within which a reply is cut: before its first text, or anywhere in a stream that is read to its end."""

STATUSES = {"ok": 950, "529": 16, "500": 16, "400": 8, "cut": 8, "late": 2}
"""The outcomes of a thousand requests."""

VERDICTS = {"sure": 65, "unsure": 20, "no answer": 5, "malformed": 5, "refused": 5}
"""What a hundred triage replies say."""

WAYS = {"whole": 80, "streamed": 12, "whole in a thread": 5, "streamed in a thread": 3}
"""How a hundred calls are made."""

STATUS_OF = {
    "": "ok", "OverloadedError": "529", "InternalServerError": "500", "BadRequestError": "400",
    "APIConnectionError": "cut", "RemoteProtocolError": "cut", "APITimeoutError": "late", "TimeoutError": "late",
}  # fmt: skip
"""The outcome of a request, by the name of its error."""


def drawn(rng: Random, weights: Mapping[str, int]) -> str:
    """One of the names, by its weight."""
    return rng.choices(list(weights), list(weights.values()))[0]


# The simulated API, in a process of its own


class Replies:
    """Replies that depend on the call's number and the model alone; counts what it sends."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()

    def __call__(self, request: Any) -> Reply:
        rng = Random(f"{SEED} {request.question} {request.model}")
        status, verdict, is_streamed = drawn(rng, STATUSES), drawn(rng, VERDICTS), request.body.get("stream") is True
        tokens = {"input_tokens": rng.randrange(100, 1_000), "output_tokens": rng.randrange(50, 500)}
        is_triage = request.model == HAIKU
        self.sent[f"{request.model} {status}"] += 1
        if status == "ok" and not is_streamed:
            for name, count in tokens.items():
                self.sent[f"{request.model} {name}"] += count
        if status.isdigit():
            return Reply.error(int(status))
        reply = replace(self._said(verdict) if is_triage else Reply.text(ANSWER), usage=tokens)
        if status == "cut":
            is_read = is_streamed and (verdict == "sure" or not is_triage)
            return reply.cut(rng.randrange(MIDWAY if is_read else EARLY))
        return reply.slow(10 * TIMEOUT_S) if status == "late" else reply

    @staticmethod
    def _said(verdict: str) -> Reply:
        said = {
            "sure": Reply.triage(0.93, ANSWER),
            "unsure": Reply.triage(0.4, ANSWER),
            "no answer": Reply.triage(0.93, None),
            "malformed": Reply.text(f"I am fairly sure: {ANSWER}"),
            "refused": Reply.refusal(),
        }
        return said[verdict]


def serve() -> None:
    """Print the port; when standard input ends, print what was sent."""
    replies = Replies()
    with SimulatedAnthropic(keep_requests=1) as api:
        api.always(replies)
        print(api.port, flush=True)
        sys.stdin.read()
        print(json.dumps(replies.sent))


@dataclass
class Api:
    """The simulated API, as the callers' process sees it; `sent` is known when it has ended."""

    url: str
    sent: Counter[str] = field(default_factory=Counter)


@contextmanager
def simulated_api() -> Iterator[Api]:
    command = [sys.executable, str(Path(__file__)), "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        api = Api(f"http://127.0.0.1:{process.stdout.readline().strip()}")  # type: ignore[union-attr]
        yield api
        api.sent.update(json.loads(process.communicate(timeout=60)[0]))


# The callers


@dataclass(frozen=True)
class Plan:
    """How one call is made."""

    way: str
    route: str
    params: dict[str, Any]

    @classmethod
    def of(cls, number: int) -> "Plan":
        """The plan of the call with this number."""
        rng = Random(f"{SEED} {number}")
        way = drawn(rng, WAYS)
        params: dict[str, Any] = {"max_tokens": 1_024, "messages": [{"role": "user", "content": f"Question {number}?"}]}
        if rng.random() < 0.1:
            params["stop_sequences"] = ["never"]  # such a call is not triaged
        return cls(way, f"{way.split()[0]}-{rng.randrange(2)}", params)


class Seen:
    """What the callers saw."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._lock = Lock()

    def note(self, plan: Plan, ending: str) -> None:
        """Count a call with the model that answered, or with its error."""
        with self._lock:
            self.counts.update(["calls", f"calls of {plan.route}", ending])


def answered_by(message: Any) -> str:
    """The model's name without its date."""
    return HAIKU if message.model.startswith(HAIKU) else OPUS


async def ask(router: AsyncRouter, plan: Plan, seen: Seen) -> None:
    try:
        if plan.way == "whole":
            message = await router.messages.create(**plan.params, route=plan.route)
        else:
            async with router.messages.stream(**plan.params, route=plan.route) as stream:
                message = await stream.get_final_message()
        seen.note(plan, answered_by(message))
    except Exception as error:  # noqa: BLE001 - the callers' errors are what is counted
        seen.note(plan, type(error).__name__)


def ask_in_a_thread(router: Router, plan: Plan, seen: Seen) -> None:
    try:
        if plan.way == "whole in a thread":
            message = router.messages.create(**plan.params, route=plan.route)
        else:
            with router.messages.stream(**plan.params, route=plan.route) as stream:
                message = stream.get_final_message()
        seen.note(plan, answered_by(message))
    except Exception as error:  # noqa: BLE001
        seen.note(plan, type(error).__name__)


async def call_all(router: AsyncRouter, threaded: Router, calls: int, seen: Seen) -> None:
    """Make all calls: those in threads beside those of the event loop."""
    plans = list(map(Plan.of, range(calls)))
    in_threads = [plan for plan in plans if "thread" in plan.way]
    waiting = iter([plan for plan in plans if "thread" not in plan.way])

    async def caller() -> None:
        for plan in waiting:
            await ask(router, plan, seen)

    def all_in_threads() -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda plan: ask_in_a_thread(threaded, plan, seen), in_threads))

    await asyncio.gather(asyncio.to_thread(all_in_threads), *(caller() for _ in range(CONCURRENCY)))


# The figures


class CountingExporter(SpanExporter):
    """Counts spans and adds up their figures, without keeping the spans."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.usd: dict[str, float] = {"cost": 0.0, "baseline": 0.0}
        self._lock = Lock()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self._lock:
            for span in spans:
                (self._add_route if span.name == names.ROUTE_SPAN else self._add_chat)(span.attributes or {})
        return SpanExportResult.SUCCESS

    def _add_route(self, found: Mapping[str, Any]) -> None:
        outcome, is_escalated = found[names.OUTCOME], found[names.TIER] == 1
        counted = ["calls", f"calls of {found[names.ROUTE]}", f"outcome {outcome}"]
        if error := found.get(names.ERROR_TYPE):
            counted.append(str(error))
        if reason := found.get(names.REASON):
            counted += [f"reason {reason}", *([f"escalated {reason}"] if is_escalated else [])]
        if base := found.get(names.BASE_OUTCOME):
            counted += ["triaged", f"base {base}", *(["escalated after triage"] if is_escalated else [])]
        if cause := found.get(names.MALFORMED_CAUSE):
            counted.append(f"malformed {cause}")
        if names.COST in found and names.BASELINE_COST in found:
            self.usd["cost"] += found[names.COST]
            self.usd["baseline"] += found[names.BASELINE_COST]
        else:
            counted.append("unpriced")
        self.counts.update(counted)

    def _add_chat(self, found: Mapping[str, Any]) -> None:
        model = found[names.GEN_AI_REQUEST_MODEL]
        self.counts[f"{model} {status_of(found.get(names.ERROR_TYPE, ''))}"] += 1
        for kind, name in (("input", names.GEN_AI_INPUT_TOKENS), ("output", names.GEN_AI_OUTPUT_TOKENS)):
            self.counts[f"{model} {kind} tokens"] += found.get(name, 0)


def status_of(error: Any) -> str:
    """The outcome of a request whose error has this name; an unexpected name stays as it is."""
    return STATUS_OF.get(str(error), str(error))


class Metrics:
    """The metrics of an `InMemoryMetricReader`, added up."""

    def __init__(self, reader: InMemoryMetricReader) -> None:
        data = reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        self._points = {metric.name: metric.data.data_points for scope in scopes for metric in scope.metrics}

    def total(self, name: str, figure: str = "value", **labels: str) -> Any:
        """The sum of a `figure` of all points of a metric with these labels; `__` in a label's name is a dot."""
        wanted = {label.replace("__", "."): value for label, value in labels.items()}.items()
        points = [point for point in self._points.get(name, ()) if wanted <= dict(point.attributes).items()]
        return sum(getattr(point, figure) for point in points)

    def values(self, name: str, label: str) -> list[str]:
        """The values of one label of a metric."""
        return sorted({str(point.attributes.get(label, "")) for point in self._points.get(name, ())})


SOURCES = ("callers", "API", "spans", "metrics", "store")


@dataclass(frozen=True)
class Row:
    """One figure from several sources, in the order of SOURCES; None where a source does not have it."""

    name: str
    figures: tuple[float | None, ...]
    tolerance: float = 0.0

    @property
    def agrees(self) -> bool:
        known = [figure for figure in self.figures if figure is not None]
        return max(known) - min(known) <= self.tolerance


@dataclass(frozen=True)
class Sources:
    """All that was counted."""

    callers: Counter[str]
    sent: Counter[str]
    spans: CountingExporter
    metrics: Metrics
    store: counters.Sums
    by_route: dict[str, counters.Sums]
    dropped: int

    def rows(self) -> Iterator[Row]:
        yield from self._calls()
        yield from self._reasons()
        yield from self._requests()
        yield from self._tokens()
        yield from self._costs()

    def _calls(self) -> Iterator[Row]:
        seen, spans, metrics, store = self.callers, self.spans.counts, self.metrics, self.store
        timed = metrics.total(names.CALL_DURATION, "count")
        yield Row("calls", (seen["calls"], None, spans["calls"], metrics.total(names.CALLS), store.calls))
        yield Row("calls, timed", (seen["calls"], None, None, timed, store.calls))
        for route, sums in sorted(self.by_route.items()):
            name, counted = f"calls of {route}", metrics.total(names.CALLS, route=route)
            yield Row(name, (seen[name], None, spans[name], counted, sums.calls))
        deep = store.calls - store.shipped - store.errors
        errors = {name: count for name, count in seen.items() if name not in (HAIKU, OPUS) and "calls" not in name}
        answers = {"ship": (seen[HAIKU], store.shipped), "escalate": (seen[OPUS], deep)}
        for outcome, (by_callers, stored) in {**answers, "error": (sum(errors.values()), store.errors)}.items():
            counted = metrics.total(names.CALLS, outcome=outcome)
            yield Row(f"outcome {outcome}", (by_callers, None, spans[f"outcome {outcome}"], counted, stored))
        for name, count in sorted(errors.items()):
            yield Row(f"  {name}", (count, None, spans[name], None, None))

    def _reasons(self) -> Iterator[Row]:
        spans, metrics, store = self.spans.counts, self.metrics, self.store
        yield Row("triaged", (None, None, spans["triaged"], None, store.triaged))
        after_triage = metrics.total(names.ESCALATIONS) - metrics.total(names.ESCALATIONS, reason="bypass")
        yield Row("escalated", (None, None, spans["escalated after triage"], after_triage, store.escalated))
        for reason in metrics.values(names.ESCALATIONS, "reason"):
            counted = metrics.total(names.ESCALATIONS, reason=reason)
            yield Row(f"  {reason}", (None, None, spans[f"escalated {reason}"], counted, None))
        for reason, count in sorted(store.reasons.items()):
            yield Row(f"reason {reason}", (None, None, spans[f"reason {reason}"], None, count))
        base = metrics.total(names.BASE_ESCALATIONS)
        yield Row("escalated at base", (None, None, spans["base escalate"], base, store.base_escalated))
        for reason, count in sorted(store.base_reasons.items()):
            yield Row(f"  {reason}", (None, None, None, metrics.total(names.BASE_ESCALATIONS, reason=reason), count))
        for cause, count in sorted(store.malformed_causes.items()):
            counted = metrics.total(names.MALFORMED, cause=cause)
            yield Row(f"malformed, {cause}", (None, None, spans[f"malformed {cause}"], counted, count))

    def _requests(self) -> Iterator[Row]:
        failed = Counter[str]()
        for error, count in self.store.triage_errors.items():
            failed[status_of(error)] += count
        for model in (HAIKU, OPUS):
            counted = self._operations(model)
            every = {status for key in (*self.sent, *self.spans.counts, *counted) for status in _status(key, model)}
            for status in sorted(every):
                key = f"{model} {status}"
                stored = failed[status] if model == HAIKU and status != "ok" else None
                yield Row(key, (None, self.sent[key], self.spans.counts[key], counted[key], stored))

    def _operations(self, model: str) -> Counter[str]:
        counted: Counter[str] = Counter()
        of_model = {"gen_ai__request__model": model}
        every = self.metrics.total(names.OPERATION_DURATION, "count", **of_model)
        for error in filter(None, self.metrics.values(names.OPERATION_DURATION, names.ERROR_TYPE)):
            count = self.metrics.total(names.OPERATION_DURATION, "count", **of_model, error__type=error)
            counted[f"{model} {status_of(error)}"] += count
        counted[f"{model} ok"] = every - counted.total()
        return counted

    def _tokens(self) -> Iterator[Row]:
        store, whole = self.store, [sums for route, sums in self.by_route.items() if route.startswith("whole")]
        stored = {
            f"{HAIKU} input": (store.triage_input_tokens, sum(sums.triage_input_tokens for sums in whole)),
            f"{HAIKU} output": (store.triage_output_tokens, sum(sums.triage_output_tokens for sums in whole)),
            f"{OPUS} input": (store.deep_input_tokens, sum(sums.deep_input_tokens for sums in whole)),
            f"{OPUS} output": (None, None),
        }
        for key, (total, of_whole) in stored.items():
            model, kind = key.split()
            labels = {"gen_ai__request__model": model, "gen_ai__token__type": kind}
            counted = self.metrics.total(names.TOKEN_USAGE, "sum", **labels)
            yield Row(f"{key} tokens", (None, None, self.spans.counts[f"{key} tokens"], counted, total))
            if of_whole is not None:
                yield Row("  of whole answers", (None, self.sent[f"{key}_tokens"], None, None, of_whole))

    def _costs(self) -> Iterator[Row]:
        spans, metrics, store = self.spans, self.metrics, self.store
        unpriced = metrics.total(names.UNPRICED)
        yield Row("unpriced calls", (None, None, spans.counts["unpriced"], unpriced, store.unpriced))
        usd = (None, None, spans.usd["cost"], metrics.total(names.COSTS), store.cost_nusd * USD_PER_NUSD)
        yield Row("cost, USD", usd, tolerance=1e-6)
        baseline = metrics.total(names.BASELINE_COSTS)
        usd = (None, None, spans.usd["baseline"], baseline, store.baseline_nusd * USD_PER_NUSD)
        yield Row("baseline, USD", usd, tolerance=1e-6)
        yield Row("dropped", (None, None, None, metrics.total(names.RECORDER_DROPPED), self.dropped))


def _status(key: str, model: str) -> list[str]:
    name, _, status = key.partition(" ")
    return [status] if name == model and "tokens" not in status else []


def admit_routes(url: str) -> None:
    """Admit the routes, as a team does before a release: metrics count a new name as `other` until it is admitted."""
    store = Store(url)
    migrate(store)
    for way, turn in product(("whole", "streamed"), range(2)):
        name = Name(f"{way}-{turn}")
        store.transact(lambda connection, name=name: route_labels.admit(connection, name, how="bench", now=time.time()))
    store.close()


def stored(url: str) -> tuple[counters.Sums, dict[str, counters.Sums], int]:
    """The store's counters: of all seconds, and since the store was made by route; and the calls that were dropped."""
    store = Store(url)
    with store.reading() as connection:
        seconds = counters.summed(connection, since=0, until=time.time() + 1)
        by_route = {route: sums for (route, _), sums in counters.totals(connection).items()}
        dropped = connection.execute(select(func.sum(table_of(Process).c.dropped))).scalar_one()
    store.close()
    return seconds, by_route, dropped


def run(calls: int) -> list[Row]:
    """Make this number of calls, and compare what was counted."""
    spans, reader, seen = CountingExporter(), InMemoryMetricReader(), Seen()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    meters = MeterProvider([reader], shutdown_on_exit=False)
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/store.db"
        admit_routes(url)
        # Without `always`, a 400 makes the router ask once more without the schema: two requests of one model call.
        settings = Settings(store_url=url, triage_timeout_s=TIMEOUT_S, structured_outputs="always")
        telemetry = Telemetry(tracer_provider=tracers, meter_provider=meters)
        with simulated_api() as api:
            asyncio.run(_run(calls, seen, settings=settings, telemetry=telemetry, url=api.url))
        return list(Sources(seen.counts, api.sent, spans, Metrics(reader), *stored(url)).rows())


async def _run(calls: int, seen: Seen, *, settings: Settings, telemetry: Telemetry, url: str) -> None:
    given: dict[str, Any] = {"settings": settings, "telemetry": telemetry}
    options: dict[str, Any] = {"base_url": url, "api_key": "any", "max_retries": 0, "timeout": TIMEOUT_S}
    http = anthropic.DefaultHttpxClient(verify=False, trust_env=False)
    ahttp = anthropic.DefaultAsyncHttpxClient(verify=False, trust_env=False)
    async with ahttp, AsyncRouter(**given, **options, http_client=ahttp) as router:
        with http, Router(**given, **options, http_client=http) as threaded:
            await call_all(router, threaded, calls, seen)


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The figures side by side, line by line."""
    yield f"{'':34}" + "".join(f"{source:>15}" for source in SOURCES)
    for row in rows:
        shown = ["" if figure is None else _shown(figure) for figure in row.figures]
        yield f"{row.name:34}" + "".join(f"{figure:>15}" for figure in shown) + ("" if row.agrees else "  DIFFER")


def _shown(figure: float) -> str:
    return f"{figure:.9f}" if isinstance(figure, float) else f"{figure:,}"


def main(calls: int) -> int:
    """Print the table; 1 if any figures differ, else 0."""
    began = time.perf_counter()
    rows = run(calls)
    for line in table(rows):
        print(line)
    wrong = sum(not row.agrees for row in rows)
    print(f"{calls:,} calls in {time.perf_counter() - began:.0f} s: {len(rows)} rows, {wrong} of them differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve()
    else:
        sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))
