"""Calls a router and then the bare client, with one instrumentation switched on, and prints what each one recorded.

Runs by the Python of an environment that has the instrumentations. The bare client sends the requests that the router
has sent to the models, in the same way. So its spans are what the router's model calls must have.
"""

import asyncio
import gc
import inspect
import itertools
import json
import sys
from contextlib import ExitStack, asynccontextmanager

import anthropic
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cheapdeep_ops import AsyncRouter, Router, Settings
from cheapdeep_ops.testing import Reply, SimulatedAnthropic

OURS = "cheapdeep_ops"
QUESTION = {"max_tokens": 100, "messages": [{"role": "user", "content": "Is this clause valid?"}]}
ANSWER = "An answer of some length, so that it takes several events."
WAYS = ("create", "streamed", "helped", "texts", "final")
OUTCOMES = {"shipped": (0.95, ANSWER), "escalated": (0.3, None), "unsure": (0.3, ANSWER)}
VOLATILE = ("id", "duration", "time", "ttft", "latency", "code.", "thread.", "sentry.")
"""Parts of the names of attributes that differ for equal calls."""


class OpenTelemetry:
    """Spans of the global provider, as most instrumentations write them."""

    def __init__(self):
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        trace.set_tracer_provider(provider)

    def clients(self):
        return anthropic.Anthropic, anthropic.AsyncAnthropic

    def instrument(self, client):
        """What is switched on for each client."""
        return client

    def instrument_router(self, router):
        return router

    def taken(self):
        """The spans since the last time, with the name of each one's parent."""
        gc.collect()  # some spans end when a stream is collected
        spans = self.exporter.get_finished_spans()
        self.exporter.clear()
        names = {span.context.span_id: span.name for span in spans}
        return [self.shown(span, names) for span in spans]

    def shown(self, span, names):
        return {
            "scope": span.instrumentation_scope.name,
            "name": span.name,
            "kind": span.kind.name,
            "status": span.status.status_code.name,
            "parent": names.get(span.parent.span_id) if span.parent else None,
            "attributes": dict(span.attributes),
        }


class Traceloop(OpenTelemetry):
    def __init__(self):
        super().__init__()
        from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor

        AnthropicInstrumentor().instrument()


class GenAi(OpenTelemetry):
    def __init__(self):
        super().__init__()
        from opentelemetry.instrumentation.genai.anthropic import AnthropicInstrumentor

        AnthropicInstrumentor().instrument()


class OpenInference(OpenTelemetry):
    def __init__(self):
        super().__init__()
        from openinference.instrumentation.anthropic import AnthropicInstrumentor

        AnthropicInstrumentor().instrument()


class Sdk(OpenTelemetry):
    """The SDK's own tracing, which a client of one's own has by default."""

    def __init__(self):
        super().__init__()

    tracing = None


class Logfire(OpenTelemetry):
    def __init__(self):
        import logfire

        self.logfire = logfire
        self.exporter = InMemorySpanExporter()
        logfire.configure(
            send_to_logfire=False, console=False, additional_span_processors=[SimpleSpanProcessor(self.exporter)]
        )

    def instrument(self, client):
        self.logfire.instrument_anthropic(client)
        return client


class LogfireClasses(Logfire):
    def __init__(self):
        super().__init__()
        self.logfire.instrument_anthropic()

    def instrument(self, client):
        return client


class LogfireRouter(Logfire):
    """Instruments the router, as a service does that has changed its import."""

    def instrument_router(self, router):
        self.logfire.instrument_anthropic(router)
        return router

    def instrument(self, client):
        return client

    def instrument_bare(self, client):
        self.logfire.instrument_anthropic(client)
        return client


class Sentry(OpenTelemetry):
    def __init__(self):
        super().__init__()
        import sentry_sdk
        from sentry_sdk.integrations.anthropic import AnthropicIntegration

        self.sentry = sentry_sdk
        self.events = []

        class Kept(sentry_sdk.transport.Transport):
            def capture_envelope(inner, envelope):
                self.events += [span for item in envelope.items if item.type == "span" for span in item.payload.json["items"]]

        sentry_sdk.init(
            dsn="http://key@127.0.0.1:9/1",
            transport=Kept,
            traces_sample_rate=1.0,
            default_integrations=False,
            send_default_pii=True,
            integrations=[AnthropicIntegration()],
        )

    def transaction(self):
        return self.sentry.start_transaction(name="request")

    def taken(self):
        spans = super().taken()
        names = {span["span_id"]: span["name"] for span in self.events}
        spans += [
            {
                "scope": "sentry",
                "name": span["name"],
                "kind": span["attributes"]["sentry.op"]["value"],
                "status": span["status"],
                "parent": names.get(span["parent_span_id"]),
                "attributes": {name: value["value"] for name, value in span["attributes"].items()},
            }
            for span in self.events
        ]
        self.events.clear()
        return spans


class PostHog(OpenTelemetry):
    def __init__(self):
        super().__init__()
        from posthog import Posthog

        self.events = []
        self.posthog = Posthog("key", host="http://127.0.0.1:9", sync_mode=False, send=False, before_send=self.keep)

    def keep(self, event):
        self.events.append(event)

    def clients(self):
        from posthog.ai.anthropic import Anthropic, AsyncAnthropic

        def made(kind):
            return lambda **options: kind(posthog_client=self.posthog, **options)

        return made(Anthropic), made(AsyncAnthropic)

    def taken(self):
        spans = super().taken()
        spans += [
            {
                "scope": "posthog",
                "name": event["event"],
                "kind": "",
                "status": "",
                "parent": None,
                "attributes": event["properties"],
            }
            for event in self.events
        ]
        self.events.clear()
        return spans


class LangSmith(OpenTelemetry):
    def __init__(self):
        super().__init__()
        from langsmith import Client
        from langsmith.wrappers import wrap_anthropic

        self.wrap, self.runs = wrap_anthropic, []
        keep = self.runs

        class Kept(Client):
            def __init__(inner):
                super().__init__(api_url="http://127.0.0.1:9", api_key="key", auto_batch_tracing=False)

            def create_run(inner, name, inputs, run_type, **more):
                keep.append(("begin", more["id"], name, inputs, run_type))

            def update_run(inner, run_id, **more):
                keep.append(("end", run_id, more.get("outputs"), more.get("error")))

        self.client = Kept()

    def instrument(self, client):
        return self.wrap(client, tracing_extra={"client": self.client, "enabled": True})

    def taken(self):
        spans = super().taken()
        begun = {run[1]: run for run in self.runs if run[0] == "begin"}
        for run in self.runs:
            if run[0] == "end":
                _, _, name, inputs, kind = begun[run[1]]
                attributes = {"inputs": inputs, "outputs": run[2]}
                spans.append({"scope": "langsmith", "name": name, "kind": kind, "status": run[3], "parent": None, "attributes": json.loads(json.dumps(attributes, default=str))})
        self.runs.clear()
        return spans


KINDS = {
    "none": OpenTelemetry,
    "sdk": Sdk,
    "traceloop": Traceloop,
    "genai": GenAi,
    "openinference": OpenInference,
    "logfire": Logfire,
    "logfire-classes": LogfireClasses,
    "logfire-router": LogfireRouter,
    "sentry": Sentry,
    "posthog": PostHog,
    "langsmith": LangSmith,
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


async def call(client, way, **params):
    """One call of a client or router, read to its end."""
    messages, is_async = client.messages, isinstance(client, anthropic.AsyncAnthropic)
    if way == "create":
        await settled(messages.create(**params))
    elif way == "streamed":
        await read(await settled(messages.create(stream=True, **params)), is_async=is_async)
    else:
        async with entered(messages.stream(**params), is_async=is_async) as stream:
            if way == "helped":
                await read(stream, is_async=is_async)
            elif way == "texts":
                await read(stream.text_stream, is_async=is_async)
            else:
                await settled(stream.get_final_message())


def scripted(api, outcome):
    api.clear()
    confidence, answer = OUTCOMES[outcome]
    api.enqueue(Reply.triage(confidence, answer))
    if outcome != "shipped":
        api.enqueue(Reply.text(ANSWER))


def sent(body):
    return {name: value for name, value in body.items() if name != "stream"}


def resend_ways(way, bodies):
    """How each request of a routed call is sent by the bare client: all but the last are triages."""
    for index, body in enumerate(bodies):
        is_original = "output_config" not in body
        yield (way if is_original or way == "create" else "streamed"), body


def attributes(span):
    return {
        name: value
        for name, value in span["attributes"].items()
        if not any(part in name.lower() for part in VOLATILE)
    }


class Scenario:
    def __init__(self, kind, api):
        self.tool, self.api = kind, api

    def options(self):
        known = {"base_url": self.api.url, "api_key": "any", "max_retries": 0}
        return known if isinstance(self.tool, Sdk) else {**known, "open_telemetry": False}

    def run(self, shell, way, outcome):
        make = self.tool.clients()[shell == "async"]
        with asyncio.Runner() as runner:
            client = make(**self.options())
            client = self.tool.instrument(client)
            settings = Settings(record=False)
            kind = AsyncRouter if shell == "async" else Router
            router = self.tool.instrument_router(kind(client=client, settings=settings))
            scripted(self.api, outcome)
            self.tool.taken()
            runner.run(self.one(router, way, QUESTION))
            bodies = [request.body for request in self.api.requests]
            routed = self.tool.taken()
            bare_client = make(**self.options())
            bare_client = getattr(self.tool, "instrument_bare", self.tool.instrument)(bare_client)
            scripted(self.api, outcome)
            runner.run(self.again(bare_client, way, bodies))
            bare = self.tool.taken()
            for each in (router, client, bare_client):
                runner.run(settled(each.close()))
        return {"routed": routed, "bare": bare, "models": [body["model"] for body in bodies]}

    def around(self):
        return self.tool.transaction() if hasattr(self.tool, "transaction") else ExitStack()

    async def one(self, router, way, params):
        with self.around():
            await call(router, way, **params)

    async def again(self, client, way, bodies):
        with self.around():
            for each_way, body in resend_ways(way, bodies):
                await call(client, each_way, **sent(body))


def main(name):
    with SimulatedAnthropic() as api:
        scenario = Scenario(KINDS[name](), api)
        found = {
            f"{shell} {way} {outcome}": scenario.run(shell, way, outcome)
            for shell, way, outcome in itertools.product(("sync", "async"), WAYS, OUTCOMES)
        }
    print(json.dumps(found, default=str))


if __name__ == "__main__":
    main(sys.argv[1])
