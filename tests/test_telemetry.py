import bisect
import itertools
import json
import logging
from contextlib import suppress
from dataclasses import replace

import anthropic
import pytest
from opentelemetry import trace
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes import error_attributes
from opentelemetry.trace import SpanKind, StatusCode

from cheapdeep_ops.claude.prompt import triage_prompt
from cheapdeep_ops.policy import PolicyAct, ScopeState, act_on, blank_book
from cheapdeep_ops.pricing import PriceBook
from cheapdeep_ops.telemetry import names
from cheapdeep_ops.telemetry.setup import configure, is_asked_for
from cheapdeep_ops.testing import Reply

HAIKU, OPUS, SONNET = "claude-haiku-4-5", "claude-opus-4-7", "claude-sonnet-4-6"

ROUTE_TYPES = {
    "cheapdeep.route": str,
    "cheapdeep.input_class": str,
    "cheapdeep.tier": int,
    "cheapdeep.model": str,
    "cheapdeep.confidence": float,
    "cheapdeep.threshold": float,
    "cheapdeep.policy.version": int,
    "cheapdeep.outcome": str,
    "cheapdeep.reason": str,
    "cheapdeep.bypass.cause": str,
    "cheapdeep.base.outcome": str,
    "cheapdeep.call.id": str,
    "cheapdeep.sampled": bool,
    "cheapdeep.cost.usd": float,
    "cheapdeep.baseline.cost.usd": float,
    "error.type": str,
}
CHAT_TYPES = {
    "gen_ai.operation.name": str,
    "gen_ai.provider.name": str,
    "gen_ai.request.model": str,
    "gen_ai.request.max_tokens": int,
    "gen_ai.response.id": str,
    "gen_ai.response.model": str,
    "gen_ai.response.finish_reasons": tuple,
    "gen_ai.usage.input_tokens": int,
    "gen_ai.usage.output_tokens": int,
    "gen_ai.usage.cache_read.input_tokens": int,
    "gen_ai.usage.cache_creation.input_tokens": int,
    "cheapdeep.call.kind": str,
    "cheapdeep.prompt.version": str,
    "cheapdeep.stop_reason": str,
    "cheapdeep.tier": int,
    "cheapdeep.confidence": float,
    "cheapdeep.outcome": str,
    "cheapdeep.cost.usd": float,
}
UNITS = {
    "cheapdeep.calls": "{call}",
    "cheapdeep.escalations": "{call}",
    "cheapdeep.base.escalations": "{call}",
    "cheapdeep.confidence": "{confidence}",
    "cheapdeep.cost": "USD",
    "cheapdeep.baseline.cost": "USD",
    "cheapdeep.unpriced": "{call}",
    "cheapdeep.replays.rejected": "{call}",
    "cheapdeep.call.duration": "s",
    "cheapdeep.overhead.duration": "s",
    "cheapdeep.threshold": "",
    "cheapdeep.recorder.dropped": "{call}",
    "cheapdeep.guard.age": "s",
    "gen_ai.client.token.usage": "{token}",
    "gen_ai.client.operation.duration": "s",
}
LABELS = {
    "cheapdeep.calls": {"route", "input_class", "outcome", "model"},
    "cheapdeep.escalations": {"route", "input_class", "reason"},
    "cheapdeep.base.escalations": {"route", "input_class", "reason"},
    "cheapdeep.confidence": {"route", "input_class"},
    "cheapdeep.cost": {"route", "input_class"},
    "cheapdeep.baseline.cost": {"route", "input_class"},
    "cheapdeep.unpriced": {"route", "input_class"},
    "cheapdeep.replays.rejected": {"route", "input_class"},
    "cheapdeep.call.duration": {"route", "input_class"},
    "cheapdeep.overhead.duration": set(),
    "cheapdeep.threshold": {"route"},
    "cheapdeep.recorder.dropped": set(),
    "cheapdeep.guard.age": set(),
    "gen_ai.client.token.usage": {
        "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.token.type",
    },
    "gen_ai.client.operation.duration": {
        "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "error.type",
    },
}  # fmt: skip


@pytest.fixture
def shell(open_shell, watched, ledger):
    return open_shell(router={"telemetry": watched.telemetry, "recorder": ledger})


def types(span):
    return {name: type(value) for name, value in span.attributes.items()}


def only(found):
    (one,) = found
    return one


def labelled(**labels):
    return frozenset(labels.items())


# Spans


@pytest.mark.parametrize(
    ("replies", "chats"),
    [
        ([Reply.triage(0.9, "Yes.")], [HAIKU]),
        ([Reply.triage(0.1, None), Reply.triage(0.9, "Yes.")], [HAIKU, SONNET]),
        ([Reply.error(529), Reply.refusal(), Reply.text("Deep.")], [HAIKU, SONNET, OPUS]),
    ],
)
def test_one_internal_span_per_call_and_one_client_span_per_model_call_below_it(
    api, open_shell, watched, replies, chats
):
    api.enqueue(*replies)
    open_shell(tiers=(HAIKU, SONNET, OPUS), router={"telemetry": watched.telemetry}).ask()
    *below, route = watched.spans
    assert (route.name, route.kind, route.parent) == ("cheapdeep.route", SpanKind.INTERNAL, None)
    assert [span.name for span in below] == [f"chat {model}" for model in chats]
    assert {span.kind for span in below} == {SpanKind.CLIENT}
    assert {span.parent.span_id for span in below} == {route.context.span_id}
    assert {span.instrumentation_scope.name for span in watched.spans} == {"cheapdeep_ops"}
    assert not any(span.events for span in watched.spans)
    for earlier, later in itertools.pairwise(below):
        assert earlier.end_time <= later.start_time


def test_the_route_span_lies_below_the_callers_own(api, shell, watched):
    api.enqueue(Reply.triage(0.9, "Yes."))
    with watched.tracer_provider.get_tracer("app").start_as_current_span("handle") as handle:
        shell.ask()
        assert trace.get_current_span() is handle
    assert only(watched.named("cheapdeep.route")).parent.span_id == handle.get_span_context().span_id


def test_attributes_of_a_shipped_call(api, shell, watched):
    usage = {"input_tokens": 300, "output_tokens": 40, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 5}
    api.enqueue(Reply.triage(0.9, "Yes.", usage=usage))
    routed = shell.ask(route="support", input_class="refund")
    chat, route = watched.spans
    absent = {"cheapdeep.reason", "cheapdeep.bypass.cause", "error.type"}
    assert types(route) == {name: kind for name, kind in ROUTE_TYPES.items() if name not in absent}
    assert dict(route.attributes) == {
        "cheapdeep.route": "support",
        "cheapdeep.input_class": "refund",
        "cheapdeep.tier": 0,
        "cheapdeep.model": HAIKU,
        "cheapdeep.confidence": 0.9,
        "cheapdeep.threshold": 0.8,
        "cheapdeep.policy.version": 0,
        "cheapdeep.outcome": "ship",
        "cheapdeep.base.outcome": "ship",
        "cheapdeep.call.id": routed.decision.call_id,
        "cheapdeep.sampled": False,  # nothing is recorded here, so nothing is graded
        "cheapdeep.cost.usd": routed.decision.cost_usd,
        "cheapdeep.baseline.cost.usd": routed.decision.baseline_cost_usd,
    }
    assert types(chat) == CHAT_TYPES
    assert dict(chat.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": HAIKU,
        "gen_ai.request.max_tokens": 1024 + 64,
        "gen_ai.response.id": routed.message.id,
        "gen_ai.response.model": f"{HAIKU}-20251001",
        "gen_ai.response.finish_reasons": ("end_turn",),
        "gen_ai.usage.input_tokens": 325,
        "gen_ai.usage.output_tokens": 40,
        "gen_ai.usage.cache_read.input_tokens": 20,
        "gen_ai.usage.cache_creation.input_tokens": 5,
        "cheapdeep.call.kind": "triage",
        "cheapdeep.prompt.version": triage_prompt().version,
        "cheapdeep.stop_reason": "end_turn",
        "cheapdeep.tier": 0,
        "cheapdeep.confidence": 0.9,
        "cheapdeep.outcome": "ship",
        "cheapdeep.cost.usd": routed.decision.cost_usd,
    }
    assert {span.status.status_code for span in watched.spans} == {StatusCode.UNSET}


def test_attributes_of_an_escalated_call(api, shell, watched):
    api.enqueue(Reply.triage(0.2, None), Reply.text("Deep."))
    shell.ask()
    triage, deep, route = watched.spans
    absent = {"cheapdeep.input_class", "cheapdeep.bypass.cause", "error.type"}
    assert types(route) == {name: kind for name, kind in ROUTE_TYPES.items() if name not in absent}
    seen = [route.attributes[f"cheapdeep.{name}"] for name in ("outcome", "base.outcome", "reason", "tier", "model")]
    assert seen == ["escalate", "escalate", "low_confidence", 1, OPUS]
    assert [span.attributes["cheapdeep.call.kind"] for span in (triage, deep)] == ["triage", "original"]
    assert {type(value) for value in route.attributes.values()} <= {str, int, float, bool}  # no enum members


VERDICT = ("cheapdeep.tier", "cheapdeep.confidence", "cheapdeep.outcome")


def verdict_on(span):
    return tuple(span.attributes.get(name) for name in VERDICT)


@pytest.mark.parametrize("way", ["route", "streamed_text"])
@pytest.mark.parametrize(
    ("replies", "on_chats", "on_route"),
    [
        ((Reply.triage(0.3, None), Reply.triage(0.9, "Yes.")), [(0, 0.3, "escalate"), (1, 0.9, "ship")], (1, 0.9)),
        ((Reply.error(529), Reply.triage(0.9, "Yes.")), [(0, None, "escalate"), (1, 0.9, "ship")], (1, 0.9)),
        (
            (Reply.triage(0.3, None), Reply.triage(0.6, "Yes.")),
            [(0, 0.3, "escalate"), (1, 0.6, "escalate"), (2, None, None)], (2, 0.3),
        ),
        ((Reply.triage(0.9, "Yes."), Reply.error(500)), [(0, 0.9, "ship")], (0, 0.9)),
    ],
)  # fmt: skip
def test_each_tiers_verdict_is_on_its_own_span_and_the_answering_ones_on_the_calls(
    api, open_shell, watched, way, *, replies, on_chats, on_route
):
    for model, reply in zip((HAIKU, SONNET), replies, strict=True):
        api.enqueue(reply, model=model)
    api.enqueue(Reply.text("Deep."), model=OPUS)
    shell = open_shell(tiers=(HAIKU, SONNET, OPUS), router={"telemetry": watched.telemetry})
    getattr(shell, way)(max_tokens=99, messages=[{"role": "user", "content": "x"}])
    *chats, route = watched.spans
    assert [verdict_on(span) for span in chats] == on_chats
    assert verdict_on(route)[:2] == on_route
    for span in chats:
        assert ("cheapdeep.cost.usd" in span.attributes) == ("error.type" not in span.attributes)


def test_an_answer_that_goes_wrong_after_its_beginning_went_out_has_shipped(api, shell, watched):
    begun = '{"confidence": 0.9, "answer": "' + "Open the menu. " * 20
    api.enqueue(Reply.text(begun, stop_reason="max_tokens"))
    # Whether the stream then ends with an error is not the subject here.
    with suppress(anthropic.APIError):
        shell.streamed_text(max_tokens=999, messages=[{"role": "user", "content": "x"}])
    assert verdict_on(watched.spans[0]) == (0, 0.9, "ship")


def test_the_distribution_of_confidence_is_the_first_tiers(api, open_shell, watched):
    for stated in (0.3, None):
        api.enqueue(Reply.error(529) if stated is None else Reply.triage(stated, None), model=HAIKU)
        api.enqueue(Reply.triage(0.9, "Yes."), model=SONNET)
        open_shell(tiers=(HAIKU, SONNET, OPUS), router={"telemetry": watched.telemetry}).ask()
    point = only(watched.points("cheapdeep.confidence").values())
    assert (point.count, point.sum) == (1, 0.3)


def test_what_a_call_was_billed_without_a_price_is_named_on_its_span(api, shell, watched):
    usage = {"input_tokens": 1, "output_tokens": 1, "server_tool_use": {"code_execution_requests": 2}}
    api.enqueue(Reply.triage(0.2, None), Reply.text("Deep.", usage=usage))
    shell.ask()
    triage, deep, route = watched.spans
    assert deep.attributes["cheapdeep.usage.unpriced"] == ("code_execution_requests",)
    assert "cheapdeep.usage.unpriced" not in triage.attributes
    for span in (deep, route):
        assert not {"cheapdeep.cost.usd", "cheapdeep.baseline.cost.usd"} & span.attributes.keys()


def test_attributes_of_a_bypassed_call(api, shell, watched):
    shell.route(max_tokens=9, messages=[{"role": "user", "content": "x"}], stop_sequences=["END"])
    route = only(watched.named("cheapdeep.route"))
    assert (route.attributes["cheapdeep.reason"], route.attributes["cheapdeep.bypass.cause"]) == (
        "bypass",
        "stop_sequences",
    )
    assert not {"cheapdeep.confidence", "cheapdeep.base.outcome"} & route.attributes.keys()


def test_a_failed_call_is_marked_on_the_spans_that_failed(api, shell, watched):
    api.enqueue(Reply.error(529), Reply.error(400))
    with pytest.raises(anthropic.BadRequestError):
        shell.ask()
    triage, deep, route = watched.spans
    assert [span.attributes["error.type"] for span in watched.spans] == [
        "OverloadedError", "BadRequestError", "BadRequestError",
    ]  # fmt: skip
    assert {span.status.status_code for span in watched.spans} == {StatusCode.ERROR}
    assert route.attributes["cheapdeep.outcome"] == "error"
    assert types(triage) == {
        name: CHAT_TYPES.get(name, str) for name in triage.attributes
    }  # fmt: skip
    assert "gen_ai.response.id" not in deep.attributes


def test_a_failed_triage_call_leaves_the_whole_call_unmarked(api, shell, watched):
    api.enqueue(Reply.error(529))
    shell.ask()
    assert only(watched.named("cheapdeep.route")).status.status_code is StatusCode.UNSET


def test_our_model_spans_step_back_where_the_client_traces_itself(api, open_shell, watched):
    tracing = {"open_telemetry": {"tracer_provider": watched.tracer_provider}}
    api.enqueue(Reply.triage(0.2, None), Reply.text("Deep."))
    open_shell(router={"telemetry": watched.telemetry}, client=tracing).ask()
    *theirs, route = watched.spans
    assert [span.name for span in theirs] == ["anthropic.messages.create"] * 2
    assert {span.parent.span_id for span in theirs} == {route.context.span_id}
    assert route.name == "cheapdeep.route"
    assert sum(point.count for point in watched.points("gen_ai.client.operation.duration").values()) == 2


X = {"max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}


@pytest.mark.parametrize("way", ["streamed_text", "streamed_events", "final_message"])
class TestTheSdksOwnSpanOfAStream:
    OF_ONE_CALL = frozenset({"gen_ai.response.id", "gen_ai.response.time_to_first_chunk", "anthropic.request.id"})

    def tracing(self, watched):
        traces = {"content_mode": "content"}
        return {"open_telemetry": {"tracer_provider": watched.tracer_provider, "traces": traces}}

    def last(self, watched):
        return [span for span in watched.spans if span.name == "anthropic.messages.create"][-1]

    def test_of_the_deep_tier_tells_what_it_tells_without_a_router(self, api, open_shell, bare, watched, way):
        api.always(lambda request: Reply.triage(0.2, None) if request.is_triage else Reply.text("piece by piece"))
        getattr(open_shell(client=self.tracing(watched)), way)(**X)
        routed = self.last(watched)
        client = bare.with_options(**self.tracing(watched))
        if way == "streamed_events":
            list(client.messages.create(model=OPUS, stream=True, **X))
        else:
            with client.messages.stream(model=OPUS, **X) as stream:
                stream.until_done()
        alone = self.last(watched)
        expected = {name: value for name, value in alone.attributes.items() if name not in self.OF_ONE_CALL}
        assert {name: routed.attributes.get(name) for name in expected} == expected
        assert routed.status.status_code is StatusCode.OK

    def test_of_a_triage_tier_tells_what_that_tier_sent(self, api, open_shell, watched, way):
        api.always(Reply.triage(0.9, "Yes."))
        getattr(open_shell(client=self.tracing(watched)), way)(**X)
        told = self.last(watched).attributes
        assert told["gen_ai.response.model"].startswith(HAIKU)
        assert told["gen_ai.usage.output_tokens"] > 0


def test_a_stream_has_its_spans_too(api, shell, watched):
    api.enqueue(Reply.triage(0.3, None), Reply.text("piece by piece"))
    shell.streamed_text(max_tokens=9, messages=[{"role": "user", "content": "x"}])
    triage, deep, route = watched.spans
    assert (triage.name, deep.name) == (f"chat {HAIKU}", f"chat {OPUS}")
    assert {each.parent.span_id for each in (triage, deep)} == {route.context.span_id}
    assert (triage.attributes[names.USAGE_ESTIMATED], names.USAGE_ESTIMATED in deep.attributes) == (True, False)
    assert deep.attributes["gen_ai.usage.output_tokens"] > 0
    assert route.attributes["cheapdeep.cost.usd"] == pytest.approx(
        sum(each.attributes["cheapdeep.cost.usd"] for each in (triage, deep))
    )


# No content

SECRETS = ("prompt-7f3a", "system-c0de", "answer-91bc", "metadata-4a11", "deep-answer-5eed")


def test_no_text_of_prompt_or_answer_is_in_spans_metrics_or_logs(api, shell, watched, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG, logger="cheapdeep_ops")
    prompt, system, answer, user, deep = SECRETS
    params = {
        "max_tokens": 99,
        "system": system,
        "metadata": {"user_id": user},
        "messages": [{"role": "user", "content": prompt}],
    }
    api.enqueue(Reply.triage(0.9, answer))
    api.enqueue(Reply.text(f"not JSON: {answer}"), Reply.text(deep))
    api.enqueue(Reply.text(json.dumps({"confidence": answer, "answer": answer})), Reply.text(deep))
    api.enqueue(Reply.error(400, message=f"{prompt} is not allowed"), Reply.text(deep))
    for _ in range(4):
        shell.route(**params)
    api.enqueue(Reply.error(529), Reply.error(400, message=f"{prompt} is not allowed"))
    with pytest.raises(anthropic.BadRequestError):
        shell.route(**params)

    def fail(*_args, **_kwargs):
        raise RuntimeError("broken")

    monkeypatch.setattr(shell.router._core.recorder, "put", fail)
    monkeypatch.setattr(PriceBook, "prices", fail)
    api.enqueue(Reply.triage(0.9, answer))
    shell.route(**params)
    own = [record for record in caplog.records if record.name.startswith("cheapdeep_ops")]
    assert len(own) >= 2  # the last call's failures
    format_record = logging.Formatter().format
    written = [span.to_json() for span in watched.spans] + [format_record(record) for record in own]
    written += [metric.to_json() for metric in watched.metrics().values()]
    assert len(written) > 20
    for text, secret in itertools.product(written, SECRETS):
        assert secret not in text


# Metrics


def some_of_everything(api, shell, watched):
    api.enqueue(Reply.triage(0.9, "Yes."))
    shell.ask(route="support", input_class="refund")
    api.enqueue(Reply.triage(0.2, None), Reply.text("Deep."))
    shell.ask(route="support")
    api.enqueue(Reply.error(529), Reply.error(400))
    with pytest.raises(anthropic.BadRequestError):
        shell.ask()
    api.enqueue(Reply.body(b"event: ping\ndata: {}\n\n"))  # a stream that says nothing of its tokens
    shell.streamed_text(max_tokens=9, messages=[{"role": "user", "content": "x"}], stop_sequences=["."])
    watched.telemetry.record_dropped(3)
    watched.telemetry.record_guard_age(1.5)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_duration_leads_to_the_span_of_its_call(api, shell, watched, streamed):
    api.enqueue(Reply.triage(0.9, "Yes."))
    params = {"max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    shell.streamed_text(**params) if streamed else shell.route(**params)
    (exemplar,) = only(watched.points("cheapdeep.call.duration").values()).exemplars
    (route,) = watched.named("cheapdeep.route")
    assert (exemplar.trace_id, exemplar.span_id) == (route.context.trace_id, route.context.span_id)


def test_metrics_have_their_names_units_and_labels_and_no_others(api, shell, watched):
    some_of_everything(api, shell, watched)
    found = watched.metrics()
    assert {name: metric.unit for name, metric in found.items()} == UNITS
    assert all(metric.description for metric in found.values())
    seen = {
        name: set().union(*({label for label, _ in labels} for labels in watched.points(name))) for name in found
    }  # fmt: skip
    assert seen == LABELS
    assert {type(value) for name in found for labels in watched.points(name) for _, value in labels} == {str}


def test_counts_are_those_of_the_decisions(api, shell, watched, ledger):
    some_of_everything(api, shell, watched)
    calls = watched.points("cheapdeep.calls")
    assert calls[labelled(route="support", input_class="refund", outcome="ship", model=HAIKU)].value == 1
    assert calls[labelled(route="support", input_class="", outcome="escalate", model=OPUS)].value == 1
    assert calls[labelled(route="default", input_class="", outcome="error", model=OPUS)].value == 1
    assert sum(point.value for point in calls.values()) == 4
    by_reason = {
        dict(labels)["reason"]: point.value for labels, point in watched.points("cheapdeep.escalations").items()
    }
    assert by_reason == {"low_confidence": 1, "triage_error": 1, "bypass": 1}
    base = {
        dict(labels)["reason"]: point.value for labels, point in watched.points("cheapdeep.base.escalations").items()
    }
    assert base == {"low_confidence": 1, "triage_error": 1}
    costs = sum(point.value for point in watched.points("cheapdeep.cost").values())
    assert costs == pytest.approx(sum(decision.cost_usd or 0 for decision in ledger.decisions))
    baseline = sum(point.value for point in watched.points("cheapdeep.baseline.cost").values())
    assert baseline == pytest.approx(sum(decision.baseline_cost_usd or 0 for decision in ledger.decisions))
    assert only(watched.points("cheapdeep.unpriced").values()).value == 1  # the stream
    assert only(watched.points("cheapdeep.recorder.dropped").values()).value == 3
    assert only(watched.points("cheapdeep.overhead.duration").values()).count == 4
    errors = {dict(labels).get("error.type") for labels in watched.points("gen_ai.client.operation.duration")}
    assert errors == {None, "OverloadedError", "BadRequestError"}


def test_a_withheld_answer_escalates_but_not_at_base(api, shell, watched, ledger):
    raising = act_on(ScopeState(scope="support", version=3), PolicyAct.RAISE, cause="FalseConfidenceClimbing")
    ledger.book = blank_book().with_scope(raising)
    api.enqueue(Reply.triage(0.85, "Maybe."), model=HAIKU)
    shell.ask(route="support")
    assert dict(only(watched.points("cheapdeep.escalations")))["reason"] == "raised_threshold"
    assert watched.points("cheapdeep.base.escalations") == {}


def test_the_threshold_of_each_route_is_shown_and_follows_the_policy(api, shell, watched, ledger):
    api.always(Reply.triage(0.95, "Yes."))
    shell.ask(route="support")
    shell.ask(route="billing")
    raising = act_on(ScopeState(scope="support", version=3), PolicyAct.RAISE, cause="EscalationStorm")
    ledger.book = blank_book().with_scope(raising)
    shell.ask(route="support")
    points = watched.points("cheapdeep.threshold")
    assert {dict(labels)["route"]: point.value for labels, point in points.items()} == {"support": 0.9, "billing": 0.8}


def test_tokens_are_counted_per_model_call_with_the_whole_prompt(api, shell, watched):
    usage = {"input_tokens": 300, "output_tokens": 40, "cache_read_input_tokens": 20}
    api.enqueue(Reply.triage(0.1, None, usage=usage), Reply.text("x", usage={"input_tokens": 7, "output_tokens": 8}))
    shell.ask()
    sums = {
        (dict(labels)["gen_ai.request.model"], dict(labels)["gen_ai.token.type"]): point.sum
        for labels, point in watched.points("gen_ai.client.token.usage").items()
    }
    assert sums == {(HAIKU, "input"): 320, (HAIKU, "output"): 40, (OPUS, "input"): 7, (OPUS, "output"): 8}


@pytest.mark.parametrize(
    ("metric", "edges"),
    [
        ("cheapdeep.confidence", names.CONFIDENCE_EDGES),
        ("cheapdeep.call.duration", names.DURATION_EDGES),
        ("cheapdeep.overhead.duration", names.OVERHEAD_EDGES),
        ("gen_ai.client.operation.duration", names.DURATION_EDGES),
        ("gen_ai.client.token.usage", names.TOKEN_EDGES),
    ],
)
def test_histograms_have_the_buckets_that_are_promised(api, shell, watched, metric, edges):
    api.enqueue(Reply.triage(0.9, "Yes."))
    shell.ask()
    for point in watched.points(metric).values():
        assert tuple(point.explicit_bounds) == edges


def test_lumpy_confidences_have_buckets_of_their_own():
    for lower, upper in ((0.79, 0.8), (0.89, 0.9), (0.94, 0.95)):
        assert bisect.bisect_left(names.CONFIDENCE_EDGES, lower) < bisect.bisect_left(names.CONFIDENCE_EDGES, upper)


# Bounds


@pytest.mark.thorough
def test_without_a_store_ten_thousand_routes_become_two_hundred_and_other(api, shell, watched, ledger):
    api.enqueue(Reply.triage(0.9, "Yes."))
    decision = shell.ask(input_class="first", route="first").decision
    plan = shell.router._core.planner
    params = {"max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    for n in range(10_000):
        call = plan.begin(params, route=f"route-{n}", input_class=f"ticket-{n}", book=ledger.book)
        seen = replace(decision, counted=call.labels.counted)
        watched.telemetry.record_decision(trace.INVALID_SPAN, seen, provider="anthropic", hop_s=[0.1], waited_s=0.1)
    labels = [dict(labels) for labels in watched.points("cheapdeep.calls")]
    for name in ("input_class", "route"):
        values = {one[name] for one in labels}
        assert {"first", "other"} <= values
        assert len(values) <= 202
    assert sum(point.value for point in watched.points("cheapdeep.calls").values()) == 10_001


def test_a_long_label_is_cut_and_the_scope_of_all_routes_is_no_route(api, shell):
    api.always(Reply.triage(0.9, "Yes."))
    decision = shell.ask(input_class="c" * 1_000, route="*").decision
    assert (len(decision.input_class), decision.route) == (100, "all")


def test_a_model_has_one_label_under_all_its_names_and_its_own_name_on_spans(api, shell, watched):
    dated = f"{HAIKU}-20251001"
    for name in (HAIKU, dated):
        assert shell.ask(model=name).decision.model == name
        assert watched.named(f"chat {name}")
    for metric, label in (("cheapdeep.calls", "model"), ("gen_ai.client.operation.duration", "gen_ai.request.model")):
        assert {dict(labels)[label] for labels in watched.points(metric)} == {HAIKU}


@pytest.mark.thorough
def test_models_that_callers_name_are_bounded_on_metrics_and_exact_in_the_decision(api, shell, watched):
    api.enqueue(Reply.triage(0.9, "Yes."))
    decision = shell.ask().decision
    for n in range(10_000):
        model = f"model-{n}"
        hop = replace(decision.hops[0], tier=replace(decision.hops[0].tier, model=model))
        seen = replace(decision, model=model, hops=(hop,))
        watched.telemetry.record_decision(trace.INVALID_SPAN, seen, provider="anthropic", hop_s=[0.1], waited_s=0.1)
    for metric, label in (("cheapdeep.calls", "model"), ("gen_ai.client.operation.duration", "gen_ai.request.model")):
        values = {dict(labels)[label] for labels in watched.points(metric)}
        assert {HAIKU, "other"} <= values
        assert len(values) <= 101
    api.enqueue(Reply.triage(0.1, None))
    assert shell.ask(model="claude-opus-5-5").decision.model == "claude-opus-5-5"
    assert watched.named("chat claude-opus-5-5")


# Names


def test_gen_ai_names_are_those_of_the_conventions():
    conventions = {
        value
        for module in (gen_ai_attributes, gen_ai_metrics, error_attributes)
        for value in vars(module).values()
        if isinstance(value, str)
    } | {"gen_ai.evaluation.result"}  # an event: the package has constants for attributes and metrics alone
    ours = {
        value for name, value in vars(names).items()
        if name.isupper() and isinstance(value, str) and value.startswith(("gen_ai.", "error."))
    }  # fmt: skip
    assert len(ours) >= 15
    assert ours - conventions == set()


def test_names_are_of_our_namespace_or_the_conventions():
    prefixes = ("cheapdeep", "gen_ai.", "error.")
    plain = {names.OPERATION, names.OTHER, *(value for name, value in vars(names).items() if name.startswith("LABEL_"))}
    for name, value in vars(names).items():
        if name.isupper() and isinstance(value, str):
            assert value.startswith(prefixes) or value in plain, name


# Setting providers up

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize(
    ("environ", "traces", "metrics"),
    [
        ({}, False, False),
        (ENDPOINT, True, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c"}, True, False),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c"}, False, True),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, False, True),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, False, True),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "True"}, False, False),
    ],
)
def test_exporting_is_asked_for_by_the_standard_variables(environ, traces, metrics):
    assert (is_asked_for("traces", environ), is_asked_for("metrics", environ)) == (traces, metrics)


def test_nothing_is_set_up_where_nothing_is_asked_for():
    before = trace.get_tracer_provider()
    configure("cheapdeep")()
    assert trace.get_tracer_provider() is before
