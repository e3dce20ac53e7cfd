"""Calls a router, and then the SDK's client, with one instrumentation switched on; prints what each was recorded as.

It runs by the Python of an environment that has the instrumentations: `python instrumented.py NAME`. The client sends
what the router has sent to the models, in the same way. So its spans are those that the router's model calls must have.
"""

import asyncio
import gc
import inspect
import itertools
import json
import sys
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from importlib import import_module
from typing import ClassVar

import anthropic
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cheapdeep_ops import AsyncRouter, Router, Settings
from cheapdeep_ops.testing import Reply, SimulatedAnthropic

QUESTION = {"max_tokens": 100, "messages": [{"role": "user", "content": "Is this clause valid?"}]}
ANSWER = "An answer of some length, so that it takes several events."
WAYS = ("create", "streamed", "helped", "texts", "final", "left")
DEEP = Reply.text(ANSWER)
OUTCOMES = {
    "shipped": [Reply.triage(0.95, ANSWER)],
    "escalated": [Reply.triage(0.3, None), DEEP],
    "unsure": [Reply.triage(0.3, "Perhaps."), DEEP],
    "malformed": [Reply.text("No verdict."), DEEP],
    "triage_error": [Reply.error(529), DEEP],
    "deep_error": [Reply.triage(0.3, None), Reply.error(400)],
}


def shown(name, *, attributes, scope="", kind="", status="", parent=None):
    return {
        "scope": scope,
        "name": name,
        "kind": str(kind),
        "status": str(status),
        "parent": parent,
        "attributes": attributes,
    }


class Tool:
    """Nothing is switched on. All spans of the global provider are kept, as most instrumentations write them there."""

    instrumentor = ""
    options: ClassVar = {"open_telemetry": False}

    def __init__(self):
        self.exporter = InMemorySpanExporter()
        self.set_up()

    def set_up(self):
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        trace.set_tracer_provider(provider)
        if self.instrumentor:
            import_module(self.instrumentor).AnthropicInstrumentor().instrument()

    def client(self, kind, **options):
        """The client that a service makes."""
        return getattr(anthropic, kind)(**options, **self.options)

    def router(self, client):
        """The router that the service makes of it."""
        kind = AsyncRouter if isinstance(client, anthropic.AsyncAnthropic) else Router
        return kind(client=client, settings=Settings(record=False))

    def around(self):
        """What a service does around a call."""
        return nullcontext()

    def taken(self):
        """The spans since the last time."""
        spans = self.exporter.get_finished_spans()
        self.exporter.clear()
        names = {span.context.span_id: span.name for span in spans}
        return [
            shown(
                span.name,
                scope=span.instrumentation_scope.name,
                kind=span.kind.name,
                status=span.status.status_code.name,
                parent=span.parent and names.get(span.parent.span_id),
                attributes=dict(span.attributes),
            )
            for span in spans
        ]


class Sdk(Tool):
    """The SDK's own tracing, which is on by default."""

    options: ClassVar = {}


class Traceloop(Tool):
    instrumentor = "opentelemetry.instrumentation.anthropic"


class GenAi(Tool):
    instrumentor = "opentelemetry.instrumentation.genai.anthropic"


class OpenInference(Tool):
    instrumentor = "openinference.instrumentation.anthropic"


class Logfire(Tool):
    """Instruments each client."""

    def set_up(self):
        self.logfire = import_module("logfire")
        processors = [SimpleSpanProcessor(self.exporter)]
        self.logfire.configure(send_to_logfire=False, console=False, additional_span_processors=processors)

    def client(self, kind, **options):
        client = super().client(kind, **options)
        self.logfire.instrument_anthropic(client)
        return client


class LogfireClasses(Logfire):
    """Instruments the classes, before a client is made."""

    def set_up(self):
        super().set_up()
        self.logfire.instrument_anthropic()


class LogfireRouter(Logfire):
    """Instruments the router, as a service does that has changed its import only."""

    def router(self, client):
        options = {"base_url": client.base_url, "api_key": "any", "max_retries": 0}
        router = super().router(Tool.client(self, type(client).__name__, **options))
        self.logfire.instrument_anthropic(router)
        return router


class Sentry(Tool):
    traces_sample_rate = 1.0

    def set_up(self):
        super().set_up()
        self.sentry = import_module("sentry_sdk")
        self.items = []
        integration = import_module("sentry_sdk.integrations.anthropic").AnthropicIntegration()
        kept = type("Kept", (self.sentry.transport.Transport,), {"capture_envelope": partial(self.keep)})
        self.sentry.init(
            dsn="http://key@127.0.0.1:9/1",
            transport=kept,
            traces_sample_rate=self.traces_sample_rate,
            default_integrations=False,
            integrations=[integration],
            send_default_pii=True,
        )

    def keep(self, envelope):
        self.items += [(item.type, item.payload.json) for item in envelope.items]

    def around(self):
        return self.sentry.start_transaction(name="request")

    def taken(self):
        spans = [span for kind, payload in self.items if kind == "span" for span in payload["items"]]
        requests = [payload["contexts"]["trace"] for kind, payload in self.items if kind == "transaction"]
        names = {each["span_id"]: "request" for each in requests} | {each["span_id"]: each["name"] for each in spans}
        self.items.clear()
        return super().taken() + [
            shown(
                span["name"],
                scope="sentry",
                status=span["status"],
                parent=names.get(span["parent_span_id"]),
                attributes={name: value["value"] for name, value in span["attributes"].items()},
            )
            for span in spans
        ]


class SentryErrors(Sentry):
    """Sentry for errors alone, as most services have it: it wraps the SDK's methods too, and makes no spans."""

    traces_sample_rate = None


class PostHog(Tool):
    """A client of its own, which makes an event of each call, and no span."""

    def set_up(self):
        super().set_up()
        self.events = []
        kind = import_module("posthog").Posthog
        self.posthog = kind("key", host="http://127.0.0.1:9", before_send=self.events.append)

    def client(self, kind, **options):
        made = getattr(import_module("posthog.ai.anthropic"), kind)
        return made(posthog_client=self.posthog, **options, **self.options)

    def taken(self):
        events = [shown(event["event"], scope="posthog", attributes=event["properties"]) for event in self.events]
        self.events.clear()
        return super().taken() + events


TOOLS = {
    "none": Tool,
    "sdk": Sdk,
    "traceloop": Traceloop,
    "genai": GenAi,
    "openinference": OpenInference,
    "logfire": Logfire,
    "logfire_classes": LogfireClasses,
    "logfire_router": LogfireRouter,
    "sentry": Sentry,
    "sentry_errors": SentryErrors,
    "posthog": PostHog,
}


async def settled(value):
    return await value if inspect.isawaitable(value) else value


@asynccontextmanager
async def entered(manager, *, is_async):
    if is_async:
        async with manager as stream:
            yield stream
    else:
        with manager as stream:
            yield stream


async def read(things, *, is_async):
    return [thing async for thing in things] if is_async else list(things)


async def first(things, *, is_async):
    await anext(aiter(things)) if is_async else next(iter(things))


async def called(client, way, params):
    """One call, by one of the `WAYS`, or a stream of `create` that is left."""
    messages, is_async = client.messages, isinstance(client, anthropic.AsyncAnthropic)
    if way == "create":
        await settled(messages.create(**params))
    elif way == "streamed":
        await read(await settled(messages.create(stream=True, **params)), is_async=is_async)
    elif way == "stream_left":
        async with entered(await settled(messages.create(stream=True, **params)), is_async=is_async) as stream:
            await first(stream, is_async=is_async)
    else:
        async with entered(messages.stream(**params), is_async=is_async) as stream:
            if way == "final":
                await settled(stream.get_final_message())
            else:
                work = first if way == "left" else read
                await work(stream.text_stream if way == "texts" else stream, is_async=is_async)


def sent_again(way, bodies):
    """How the client sends what the router has sent: triage is streamed by `create`, whichever way the caller chose."""
    for body in bodies:
        params = {name: value for name, value in body.items() if name != "stream"}
        if "output_config" not in body or way == "create":
            yield way, params
        else:
            yield ("stream_left" if way == "left" and len(bodies) == 1 else "streamed"), params


class Comparison:
    """A router and a client of one kind with one tool, on one simulated API."""

    def __init__(self, tool, api, kind, run):
        self.tool, self.api, self.run = tool, api, run
        make = partial(tool.client, kind, base_url=api.url, api_key="any", max_retries=0)
        self.client, self.bare = make(), make()
        self.router = tool.router(self.client)

    def of(self, way, outcome):
        routed = self.run(self.recorded(self.router, outcome, [(way, QUESTION)]))
        bodies = [request.body for request in self.api.requests]
        bare = self.run(self.recorded(self.bare, outcome, sent_again(way, bodies)))
        return {"routed": routed, "bare": bare, "models": [body["model"] for body in bodies]}

    async def recorded(self, client, outcome, calls):
        """What the tool recorded of the calls."""
        self.api.clear()
        self.api.enqueue(*OUTCOMES[outcome])
        self.tool.taken()
        with self.tool.around():
            for way, params in calls:
                with suppress(anthropic.APIError):
                    await called(client, way, params)
            for _ in range(3):  # some spans end when a stream is collected, with the helper that it holds
                gc.collect()
                await asyncio.sleep(0.001)  # asyncio closes the generators of collected streams
        after = trace.get_current_span()
        assert not after.get_span_context().is_valid, f"{after} is still the current span"
        return self.tool.taken()

    def close(self):
        for each in (self.router, self.client, self.bare):
            self.run(settled(each.close()))


def main(name):
    found = {}
    with SimulatedAnthropic() as api, asyncio.Runner() as runner:
        tool = TOOLS[name]()
        for kind in ("Anthropic", "AsyncAnthropic"):
            comparison = Comparison(tool, api, kind, runner.run)
            gc.freeze()  # so that collections are quick
            for way, outcome in itertools.product(WAYS, OUTCOMES):
                found[f"{kind} {way} {outcome}"] = comparison.of(way, outcome)
            comparison.close()
    print(json.dumps(found, default=str))


if __name__ == "__main__":
    main(sys.argv[1])
