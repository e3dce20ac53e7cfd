"""The counters of the routers: plain sums, which meter readers observe."""

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import context
from opentelemetry.metrics import CallbackOptions, NoOpMeterProvider
from opentelemetry.metrics import MeterProvider as ApiMeterProvider
from opentelemetry.sdk.metrics import Counter as SdkCounter
from opentelemetry.sdk.metrics import Meter, MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import INVALID_SPAN, INVALID_SPAN_CONTEXT, NoOpTracerProvider

from cheapdeep_ops.telemetry import sums as module
from cheapdeep_ops.telemetry.handler import Telemetry
from cheapdeep_ops.telemetry.sums import MOST_LABEL_SETS, ObservedCounter
from cheapdeep_ops.values import Decision, Hop, Outcome, Tier, Usage

MODEL = "claude-haiku-4-5"
DECISION = Decision(
    call_id="c", route="support", input_class="", tier=0, model=MODEL, confidence=0.9, threshold=0.8, policy_version=0,
    escalated=False, reason=None, bypass_cause=None, base_outcome=Outcome.SHIP, base_reason=None, cost_usd=0.25,
    triage_cost_usd=0.25, baseline_cost_usd=1.0, baseline_basis="", started_at=0.0, duration_s=0.5,
    triage_duration_s=0.4,
    hops=(Hop(tier=Tier(model=MODEL, index=0, is_deep=False), usage=Usage(input_tokens=7), cost_usd=0.25),),
)  # fmt: skip
DELTA = AggregationTemporality.DELTA


def record(telemetry, decision=DECISION, span=INVALID_SPAN):
    telemetry.record_decision(span, decision, provider="anthropic", hop_s=[0.4], waited_s=0.4)


def points(reader, *names):
    """The points of each metric, from one collection."""
    data = reader.get_metrics_data()
    scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
    found = {metric.name: metric.data.data_points for scope in scopes for metric in scope.metrics}
    return [point for name in names for point in found.get(name, ())]


def values(reader, *names):
    return [point.value for point in points(reader, *(names or ["cheapdeep.calls"]))]


def totals(sums):
    return {tuple(each.attributes.items()): each.value for each in sums.observe(CallbackOptions())}


# Sums


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.integers(0, 9))))
def test_a_sum_is_that_of_the_amounts_of_its_label_set(added):
    sums, expected = ObservedCounter("one", "two"), Counter()
    for one, two, amount in added:
        sums.add(amount, (one, two), INVALID_SPAN_CONTEXT)
        expected[("one", one), ("two", two)] += amount
    assert totals(sums) == expected


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf"), float("-inf")])
def test_an_amount_that_no_counter_may_take_changes_nothing(amount):
    sums = ObservedCounter()
    sums.add(2, (), INVALID_SPAN_CONTEXT)
    sums.add(amount, (), INVALID_SPAN_CONTEXT)
    assert totals(sums) == {(): 2}


def test_label_sets_beyond_the_limit_are_counted_together():
    sums = ObservedCounter("one")
    for number in range(MOST_LABEL_SETS + 50):
        for _ in range(2):
            sums.add(1, (str(number),), INVALID_SPAN_CONTEXT)
    found = totals(sums)
    assert (len(found), sum(found.values())) == (MOST_LABEL_SETS + 1, 2 * (MOST_LABEL_SETS + 50))
    assert found[("otel.metric.overflow", True),] == 100


@pytest.fixture
def restless():
    """Threads that take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


class Slow(float):
    """An amount during whose addition other threads get their turn."""

    __slots__ = ()

    def __radd__(self, other):
        return sum(range(100)) * 0 + other + float(self)


def test_threads_lose_no_amount(restless):
    sums, threads, each = ObservedCounter("one"), 4, 2_000

    def add(_number):
        for _ in range(each):
            sums.add(Slow(1), ("a",), INVALID_SPAN_CONTEXT)

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(add, range(threads)):
            sums.observe(CallbackOptions())
    assert totals(sums) == {(("one", "a"),): threads * each}


class Held(str):
    """A label whose thread stays inside of `add` until it may leave."""

    __slots__ = ()
    entered, leave = threading.Event(), threading.Event()

    def __hash__(self):
        self.entered.set()
        self.leave.wait(60)
        return 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_while_another_thread_adds_leaves_the_child_able_to_add():
    sums, label = ObservedCounter("one"), Held("a")
    adding = threading.Thread(target=sums.add, args=(1, (label,), INVALID_SPAN_CONTEXT))
    adding.start()
    assert label.entered.wait(60)
    threading.Timer(0.2, label.leave.set).start()  # the fork waits for that
    child = os.fork()
    if child == 0:
        free = module._lock.acquire(timeout=60)
        os._exit(0 if free else 1)
    adding.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# Readers and providers


def test_two_routers_on_one_provider_count_into_one_counter_for_every_reader():
    delta = InMemoryMetricReader(preferred_temporality={SdkCounter: DELTA, ObservableCounter: DELTA})
    readers = [InMemoryMetricReader(), InMemoryMetricReader(), delta]
    provider = MeterProvider(readers, shutdown_on_exit=False)
    one, other = Telemetry(meter_provider=provider), Telemetry(meter_provider=provider)
    record(one), record(other), record(one)
    names = ("cheapdeep.calls", "cheapdeep.cost")
    assert [values(reader, *names) for reader in readers] == [[3, 0.75]] * 3
    record(other)
    assert [values(reader, *names) for reader in readers] == [[4, 1.0], [4, 1.0], [1, 0.25]]


class Wrapper(ApiMeterProvider):
    """A provider of an application's own, around another; it cannot be the key of a mapping."""

    __hash__ = None

    def __init__(self, provider):
        self._provider = provider

    def __eq__(self, other):
        return isinstance(other, Wrapper)

    def get_meter(self, *args, **options):
        return self._provider.get_meter(*args, **options)


def test_wrappers_around_providers_lose_no_call():
    readers = [InMemoryMetricReader(), InMemoryMetricReader()]
    one, other = (MeterProvider([reader], shutdown_on_exit=False) for reader in readers)
    for provider in (one, Wrapper(one), Wrapper(one), Wrapper(other)):
        record(Telemetry(meter_provider=provider))
    assert [values(reader) for reader in readers] == [[3], [1]]


class Calling(Wrapper):
    """A provider that makes a call when it is first asked for a meter."""

    has_called = False

    def get_meter(self, *args, **options):
        if not self.has_called:
            self.has_called = True
            record(Telemetry(meter_provider=self))
        return super().get_meter(*args, **options)


def test_a_call_from_within_a_provider_ends_and_is_counted():
    reader = InMemoryMetricReader()
    provider = Calling(MeterProvider([reader], shutdown_on_exit=False))
    calling = threading.Thread(target=lambda: record(Telemetry(meter_provider=provider)), daemon=True)
    calling.start()
    calling.join(60)
    assert values(reader) == [2]


def test_routers_that_begin_at_once_on_one_provider_lose_no_call(restless):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    barrier = threading.Barrier(8)

    def begin(_number):
        barrier.wait()
        record(Telemetry(meter_provider=provider))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(begin, range(8)))
    assert values(reader) == [8]


def test_a_call_after_the_end_of_its_provider_does_no_harm():
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    telemetry = Telemetry(meter_provider=provider)
    provider.shutdown()
    record(telemetry)
    record(Telemetry(meter_provider=provider))


LATE = """
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from tests.test_counters import Telemetry, points, record, values

stand_ins = {"meter_provider": metrics.get_meter_provider(), "tracer_provider": trace.get_tracer_provider()}
given = [Telemetry(), Telemetry(**stand_ins)]
for telemetry in given:
    record(telemetry, span=telemetry.begin_route())
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
trace.set_tracer_provider(TracerProvider())
for telemetry in [*given, Telemetry()]:
    span = telemetry.begin_route()
    assert span.is_recording()
    entered = telemetry.enter(span)
    asked = {"provider": "anthropic", "model": "m", "tier": 0, "kind": "triage", "max_tokens": 1, "translated": ()}
    assert telemetry.begin_chat(**asked).span.parent == span.get_span_context()
    telemetry.leave(entered)
    record(telemetry, span=span)
    telemetry.end_route(span)
print(values(reader), [point.count for point in points(reader, "cheapdeep.call.duration")])
"""


def test_providers_that_are_set_after_the_router_was_made_get_the_calls_from_then_on():
    found = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=False)
    assert (found.stdout, found.stderr) == ("[3] [3]\n", "")


class Broken:
    """Fails at whatever it is told."""

    def record(self, *_args, **_more):
        raise RuntimeError("not today")


HISTOGRAMS = {
    "cheapdeep.confidence": [1],
    "cheapdeep.call.duration": [1],
    "cheapdeep.overhead.duration": [1],
    "gen_ai.client.operation.duration": [2],
    "gen_ai.client.token.usage": [2, 2],
}


@pytest.mark.parametrize("broken", HISTOGRAMS)
def test_a_histogram_that_fails_costs_no_other_figure(broken, monkeypatch):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    create = Meter.create_histogram
    monkeypatch.setattr(
        Meter,
        "create_histogram",
        lambda meter, name, *args, **more: Broken() if name == broken else create(meter, name, *args, **more),
    )
    decision = replace(DECISION, hops=DECISION.hops * 2)
    telemetry = Telemetry(meter_provider=provider)
    telemetry.record_decision(INVALID_SPAN, decision, provider="anthropic", hop_s=[0.2, 0.2], waited_s=0.4)
    others = [name for name in HISTOGRAMS if name != broken]
    found = points(reader, *others, "cheapdeep.calls")
    assert [point.count for point in found[:-1]] == [count for name in others for count in HISTOGRAMS[name]]
    assert found[-1].value == 1


# Exemplars


def test_a_counter_leads_to_the_last_call_that_was_sampled():
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    sampled = Telemetry(meter_provider=provider, tracer_provider=TracerProvider(shutdown_on_exit=False))
    others = TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)
    unsampled = Telemetry(meter_provider=provider, tracer_provider=others)
    spans = [telemetry.begin_route() for telemetry in (sampled, sampled, unsampled)]
    for telemetry, span in zip((sampled, sampled, unsampled), spans, strict=True):
        record(telemetry, span=span)
        telemetry.end_route(span)
    last = spans[1].get_span_context()
    found = points(reader, "cheapdeep.calls", "cheapdeep.cost", "cheapdeep.baseline.cost")
    exemplars = [(each.trace_id, each.span_id) for point in found for each in point.exemplars]
    assert exemplars == [(last.trace_id, last.span_id)] * 3


def test_a_call_leads_to_the_applications_span_where_it_has_none_of_its_own():
    reader = InMemoryMetricReader()
    telemetry = Telemetry(meter_provider=MeterProvider([reader], shutdown_on_exit=False))
    with TracerProvider(shutdown_on_exit=False).get_tracer("app").start_as_current_span("handle") as handle:
        record(telemetry)
    found = points(reader, "cheapdeep.calls", "cheapdeep.call.duration")
    exemplars = [each.span_id for point in found for each in point.exemplars]
    assert exemplars == [handle.get_span_context().span_id] * 2


class Baggage:
    """What an application carries in its context."""


def test_a_counter_keeps_nothing_of_the_applications_context_alive():
    provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    telemetry = Telemetry(meter_provider=provider, tracer_provider=TracerProvider(shutdown_on_exit=False))
    carried = Baggage()
    kept = weakref.ref(carried)
    token = context.attach(context.set_value("carried", carried))
    span = telemetry.begin_route()
    record(telemetry, span=span)
    telemetry.end_route(span)
    context.detach(token)
    del token, carried, span
    gc.collect()
    assert kept() is None


# What is not recorded is not computed


class Unread:
    """Notes what is read of it."""

    def __init__(self):
        self.read = []

    def __getattr__(self, name):
        self.read.append(name)
        raise AttributeError(name)


NOBODY = {
    "no provider": {},
    "providers that do nothing": {"tracer_provider": NoOpTracerProvider(), "meter_provider": NoOpMeterProvider()},
    "no span sampled": {"tracer_provider": TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)},
}


@pytest.mark.parametrize("providers", NOBODY.values(), ids=NOBODY.keys())
def test_nothing_is_read_of_a_call_that_nobody_records(providers):
    telemetry = Telemetry(**providers)
    unread = Unread()
    span = telemetry.begin_route()
    chat = telemetry.begin_chat(provider="p", model="m", tier=0, kind="k", max_tokens=1, translated=())
    chat.finish(unread)
    chat.end()
    record(telemetry, unread, span)
    telemetry.end_route(span)
    assert (unread.read, chat.is_recording) == ([], False)
