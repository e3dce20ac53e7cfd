"""What the spans and metrics of one shipped call cost in CPU time: `python tests/bench/telemetry.py`.

Each setting writes what a call that ships writes. Rounds of the settings are interleaved; a figure is the median.
With an SDK, spans go to a batch processor and metrics to a reader, which export nothing.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from statistics import median

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler

from cheapdeep_ops.telemetry.handler import ChatRecord, Telemetry
from cheapdeep_ops.values import Decision, Hop, Outcome, Tier, Usage, Verdict

MODEL = "claude-haiku-4-5"
USAGE = Usage(input_tokens=900, output_tokens=120, cache_read_tokens=300)
HOP = Hop(
    tier=Tier(model=MODEL, index=0, is_deep=False),
    usage=USAGE,
    cost_usd=0.0015,
    verdict=Verdict(confidence=0.9, answer="Yes."),
    outcome=Outcome.SHIP,
    base_outcome=Outcome.SHIP,
)
DECISION = Decision(
    call_id="0195d3a0-8f0e-7c7e-9d5d-6b0b8d7a4c11",
    route="support",
    input_class="refund",
    tier=0,
    model=MODEL,
    confidence=0.9,
    threshold=0.8,
    policy_version=3,
    escalated=False,
    reason=None,
    bypass_cause=None,
    base_outcome=Outcome.SHIP,
    base_reason=None,
    cost_usd=0.0015,
    triage_cost_usd=0.0015,
    baseline_cost_usd=0.009,
    baseline_basis="estimated",
    started_at=1_750_000_000.0,
    duration_s=0.9,
    triage_duration_s=0.8,
    hops=(HOP,),
    prompt_version="abc",
)
RECORD = ChatRecord(
    usage=USAGE,
    cost_usd=0.0015,
    confidence=0.9,
    outcome=Outcome.SHIP,
    response_id="msg_01XFDUDYJgAACzvnptvVoYEL",
    response_model=f"{MODEL}-20251001",
    stop_reason="end_turn",
)


class NoExport(SpanExporter):
    """Takes spans and does nothing."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def with_sdk(sampler: Sampler) -> Telemetry:
    """Telemetry through providers of the SDK."""
    tracers = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(NoExport()))
    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    return Telemetry(tracer_provider=tracers, meter_provider=meters)


SETTINGS: dict[str, Callable[[], Telemetry]] = {
    "SDK": lambda: with_sdk(ALWAYS_ON),
    "SDK, no span sampled": lambda: with_sdk(ALWAYS_OFF),
    "no provider": Telemetry,
}


def one_call(telemetry: Telemetry) -> None:
    """Write what a shipped call writes."""
    route = telemetry.begin_route()
    in_route = telemetry.enter(route)
    chat = telemetry.begin_chat(
        provider="anthropic", model=MODEL, tier=0, kind="triage", max_tokens=1024, translated=(), prompt_version="a"
    )
    telemetry.leave(telemetry.enter(chat.span))
    chat.finish(RECORD)
    chat.end()
    telemetry.leave(in_route)
    telemetry.record_decision(route, DECISION, provider="anthropic", hop_s=[0.8], waited_s=0.8, sampled=True)
    telemetry.end_route(route)


def cpu_us(telemetry: Telemetry, calls: int) -> float:
    """CPU microseconds of all threads for each call, over `calls` calls."""
    began = time.process_time()
    for _ in range(calls):
        one_call(telemetry)
    return (time.process_time() - began) / calls * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=2_000, help="of each setting in each round")
    args = parser.parse_args()
    made = {name: make() for name, make in SETTINGS.items()}
    figures: dict[str, list[float]] = {name: [] for name in made}
    for number in range(args.rounds + 1):
        for name, telemetry in made.items():
            figure = cpu_us(telemetry, args.calls)
            if number:  # the first round warms up
                figures[name].append(figure)
    for name, found in figures.items():
        print(f"{name:<24}{median(found):>8.1f} us  ({min(found):.1f}-{max(found):.1f})")


if __name__ == "__main__":
    main()
