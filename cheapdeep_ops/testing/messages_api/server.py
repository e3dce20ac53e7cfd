"""A simulated Claude API: a real HTTP server whose models have known confidence and known truth."""

import itertools
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Any, Final, Self

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from cheapdeep_ops.testing._log import Log
from cheapdeep_ops.testing._server import Delivery, PacedStream, ServedApp
from cheapdeep_ops.testing.messages_api import wire
from cheapdeep_ops.testing.messages_api.batch_endpoints import BatchApi
from cheapdeep_ops.testing.messages_api.batches import Batches, other_result
from cheapdeep_ops.testing.messages_api.models import MODELS, SimulatedModel, model_info
from cheapdeep_ops.testing.messages_api.prompt_cache import PromptCache
from cheapdeep_ops.testing.messages_api.received import ReceivedRequest, input_tokens, json_object, without_secrets
from cheapdeep_ops.testing.messages_api.replies import Reply
from cheapdeep_ops.testing.messages_api.script import Answerer, Script, TruthBook
from cheapdeep_ops.testing.messages_api.validation import batched_fault, key_fault, message_fault
from cheapdeep_ops.testing.traffic.kinds import TrafficClass, checked_classes, outcome
from cheapdeep_ops.testing.traffic.ready_made import CLASSES
from cheapdeep_ops.testing.traffic.simulated_grader import PERFECT, SimulatedGrader, grade_text

TRIAGE_MODELS: Final = (
    "claude-haiku-4-5",
    "claude-haiku-4-5-20251001",
    "claude-haiku-5-5",
    "claude-sonnet-4-6",
)
BOOK_LIMIT: Final = 200_000
BATCH_LIMIT: Final = 1_000
CACHE_LIMIT: Final = 10_000
_EVENT_STREAM: Final = "text/event-stream; charset=utf-8"


class SimulatedAnthropic:
    """Serve the Messages API on loopback, for the real SDK: `Anthropic(base_url=api.url, api_key="any")`.

    Requests are checked as the API checks them; what passes takes a scripted reply (`enqueue`, `always`) or is
    answered from its traffic class, the same text always in the same way, and where it asks for a verdict on an
    answer of this server, by the judge. Prompts with cache breakpoints are cached as the API does, by `clock`; a
    scripted reply that tells of its prompt's tokens keeps them. Requests in a batch count as received once the batch
    has ended, and are answered likewise. Use it as a context manager.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        seed: int = 0,
        classes: Iterable[TrafficClass] = CLASSES,
        triage_models: Collection[str] = TRIAGE_MODELS,
        models: Iterable[SimulatedModel] = MODELS,
        latency_s: float = 0.0,
        batch_delay_s: float = 0.0,
        judge: SimulatedGrader = PERFECT,
        clock: Callable[[], float] = time.time,
        keep_requests: int = 10_000,
    ) -> None:
        """Prepare a server on `port` (0: any free one); nothing listens before `start`.

        Models outside `triage_models` answer rightly, and with confidence 0.97. `latency_s` is real seconds added to
        each message. A batch has ended when `clock`, which also stamps `requests`, has moved on `batch_delay_s` since
        it was created: with 0, at the first look at it; after 24 hours its requests expire. ValueError where `classes`
        is empty or ambiguous or `batch_delay_s` is below 0.
        """
        self.requests: Log[ReceivedRequest] = Log(keep_requests)
        """Requests received, oldest first; the newest `keep_requests` of them. `.clear()` empties it."""
        self.streams: Log[PacedStream] = Log(keep_requests)
        """Streams that take their time (`Reply.paced`), as many of them, in the order in which they began."""
        if not batch_delay_s >= 0:
            raise ValueError(f"batch_delay_s must be 0 or more, not {batch_delay_s!r}")
        self.latency_s = latency_s
        self._judge = judge
        self._seed = seed
        self._classes = checked_classes(classes)
        self._triage_models = frozenset(triage_models)
        self._models = {model.id: model for model in models}
        self._clock = clock
        self._script = Script()
        self._book = TruthBook(BOOK_LIMIT)
        self._cache = PromptCache(CACHE_LIMIT)
        self._serial = itertools.count(1)
        self._batches = Batches(BATCH_LIMIT)
        self._batch_delay_s = batch_delay_s
        self._served = ServedApp(self._app(), host=host, port=port, name="simulated-anthropic")

    @property
    def url(self) -> str:
        """The base URL for the SDK; RuntimeError before the first `start`."""
        return self._served.url

    @property
    def port(self) -> int:
        """The port that it listens on; RuntimeError before the first `start`."""
        return self._served.port

    @property
    def enqueued(self) -> int:
        """How many scripted replies nobody has taken yet."""
        return self._script.waiting()

    def start(self) -> Self:
        """Listen; after `stop`, again on the same port. OSError where the port is taken."""
        self._served.start()
        return self

    def stop(self) -> None:
        """Close every connection, replies that are still being delayed included."""
        self._served.stop()

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, *_exc_info: object) -> None:
        """Stop."""
        self.stop()

    def enqueue(self, *replies: Reply, model: str | None = None) -> None:
        """Have the next valid message requests (for `model`, if given) answered by `replies`, in order."""
        self._script.enqueue(replies, model)

    def always(self, reply: Reply | Answerer | None, *, model: str | None = None) -> None:
        """Have every valid message request (for `model`, if given) answered so, once the queue is empty.

        A function receives the request and may return None to leave it to the simulation. `always(None)` ends all
        standing replies, `always(None, model=m)` those for `m`.
        """
        self._script.stand(reply, model)

    def clear(self) -> None:
        """Forget received requests, batches, cached prompts and all scripted replies."""
        self.requests.clear()
        self.streams.clear()
        self._batches.clear()
        self._script.clear()
        self._cache.clear()

    def put_model(self, model: SimulatedModel) -> None:
        """Add a model to the catalogue, or change one: `replace(MODELS[0], lifecycle="retired")`."""
        self._models = {**self._models, model.id: model}

    def was_correct(self, answer_text: str) -> bool | None:
        """Tell whether a simulated answer was right; None where this server gave no such answer (lately)."""
        return self._book.read(answer_text)

    def _app(self) -> Starlette:
        batch_api = BatchApi(
            batches=self._batches,
            delay_s=self._batch_delay_s,
            clock=self._clock,
            new_id=lambda: f"msgbatch_{_identifier(self._seed, 'batch', next(self._serial))}",
            record=self._record,
            answer=self._batched,
            deliver=self._delivery,
        )
        return Starlette(
            routes=[
                Route("/v1/messages", self._create_message, methods=["POST"]),
                Route("/v1/messages/count_tokens", self._count_tokens, methods=["POST"]),
                *batch_api.routes(),
                Route("/v1/models", self._list_models, methods=["GET"]),
                Route("/v1/models/{model_id}", self._retrieve_model, methods=["GET"]),
                Route("/healthz", _healthz, methods=["GET"]),
                Route("/{path:path}", self._no_such_route, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
            ],
        )

    async def _create_message(self, request: Request) -> Delivery:
        body = json_object(await request.body())
        received = self._record(request, body)
        fault = self._fault(request, body)
        if fault is not None:
            return self._delivery(fault, received)
        reply = self._reply_to(received)
        return self._delivery(replace(reply, delay_s=reply.delay_s + self.latency_s), received)

    async def _count_tokens(self, request: Request) -> Delivery:
        body = json_object(await request.body())
        received = self._record(request, body)
        fault = self._fault(request, body, counting=True)
        if fault is None:
            ratio = self._models[received.model].tokens_ratio
            return self._delivery(Reply.body({"input_tokens": round(input_tokens(received.body) * ratio)}), received)
        return self._delivery(fault, received)

    def _batched(self, params: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
        received = ReceivedRequest(method="POST", path="/v1/messages", headers=headers, body=params, at=self._clock())
        self.requests.append(received)
        fault = batched_fault(params, models=self._models, version=headers.get("anthropic-version", ""))
        if fault is not None:
            return other_result(fault, request_id=None)
        reply, number = self._reply_to(received), next(self._serial)
        if reply.kind == "message":
            return {"type": "succeeded", "message": self._message(reply, received, number, service_tier="batch")}
        return other_result(reply, request_id=f"workerreq_{_identifier(self._seed, 'request', number)}")

    async def _list_models(self, request: Request) -> Delivery:
        received = self._record(request, None)
        fault = key_fault(request.headers)
        return self._delivery(fault or Reply.body(self._catalogue(request)), received)

    async def _retrieve_model(self, request: Request) -> Delivery:
        received = self._record(request, None)
        model_id = request.path_params["model_id"]
        model = self._models.get(model_id)
        found = Reply.error(404, message=f"model: {model_id}") if model is None else Reply.body(model_info(model))
        return self._delivery(key_fault(request.headers) or found, received)

    async def _no_such_route(self, request: Request) -> Delivery:
        return self._delivery(Reply.error(404), self._record(request, None))

    def _record(self, request: Request, body: dict[str, Any] | None) -> ReceivedRequest:
        received = ReceivedRequest(
            method=request.method,
            path=request.url.path,
            headers=without_secrets(request.headers.items()),
            body=body or {},
            at=self._clock(),
        )
        self.requests.append(received)
        return received

    def _fault(self, request: Request, body: dict[str, Any] | None, *, counting: bool = False) -> Reply | None:
        version = request.headers.get("anthropic-version", "")
        return key_fault(request.headers) or message_fault(
            body, models=self._models, version=version, counting=counting
        )

    def _reply_to(self, received: ReceivedRequest) -> Reply:
        return self._script.reply_to(received) or self._simulated(received)

    def _simulated(self, received: ReceivedRequest) -> Reply:
        if received.is_grading:
            return _limited(self._judgement(received.graded_answer), received.body["max_tokens"])
        is_cheap = received.model in self._triage_models
        found = outcome(
            received.question, model=received.model, seed=self._seed, classes=self._classes, is_cheap=is_cheap
        )
        if not received.is_triage:
            reply = _limited(found.answer, received.body["max_tokens"])
            self._book.enter(reply.content or "", correct=found.correct)
            return reply
        if not found.withheld and found.confidence is not None:
            self._book.enter(found.answer, correct=found.correct)
        return _limited(found.triage_text, received.body["max_tokens"])

    def _judgement(self, answer: str | None) -> str:
        correct = None if answer is None else self._book.read(answer)
        return grade_text(self._judge.verdict(answer or "", correct=correct, seed=self._seed))

    def _catalogue(self, request: Request) -> dict[str, Any]:
        query = request.query_params
        stages = query.getlist("lifecycle[]") + query.getlist("lifecycle") or ["active", "deprecated"]
        data = [model_info(model) for model in self._models.values() if model.lifecycle in stages]
        ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
        return {"data": data, "has_more": False, **ends}

    def _delivery(self, reply: Reply, received: ReceivedRequest) -> Delivery:
        number = next(self._serial)
        request_id = f"req_{_identifier(self._seed, 'request', number)}"
        pieces, content_type = self._rendered(reply, received, request_id, number)
        headers = {"content-type": content_type, "request-id": request_id, **reply.headers}
        return Delivery(
            served=self._served,
            pieces=pieces,
            status=reply.status,
            headers=headers,
            streamed=content_type.startswith("text/event-stream"),
            delay_s=reply.delay_s,
            cut_after=reply.cut_after,
            stream=self._paced(reply, received) if content_type == _EVENT_STREAM else None,
        )

    def _paced(self, reply: Reply, received: ReceivedRequest) -> PacedStream | None:
        if reply.pace_s is None:
            return None
        stream = PacedStream(model=received.model, pace_s=reply.pace_s, at_once=reply.at_once)
        self.streams.append(stream)
        return stream

    def _rendered(
        self, reply: Reply, received: ReceivedRequest, request_id: str, number: int
    ) -> tuple[tuple[bytes, ...], str]:
        if reply.kind == "error":
            return (wire.error_body(reply, request_id=request_id),), "application/json"
        if reply.kind == "verbatim":
            streams = reply.payload.startswith(b"event:")
            return (reply.payload,), _EVENT_STREAM if streams else "application/json"
        whole = self._message(reply, received, number)
        if received.body.get("stream") is True:
            return tuple(wire.event_stream(whole)), _EVENT_STREAM
        return (wire.encoded(whole),), "application/json"

    def _message(
        self, reply: Reply, received: ReceivedRequest, number: int, *, service_tier: wire.ServiceTier = "standard"
    ) -> dict[str, Any]:
        model = self._models[received.model]
        return wire.message(
            reply,
            message_id=f"msg_{_identifier(self._seed, 'message', number)}",
            model=model.reply_id,
            prompt=self._cache.use(received.body, model, now=received.at).times(model.tokens_ratio),
            tokens_ratio=model.tokens_ratio,
            service_tier=service_tier,
        )


async def _healthz(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


def _limited(text: str, max_tokens: int) -> Reply:
    if wire.tokens_in(text) <= max_tokens:
        return Reply.text(text)
    if max_tokens == 0:
        return Reply(kind="message", stop_reason="max_tokens", usage={"output_tokens": 0})
    return Reply.text(text[: max_tokens * wire.CHARS_PER_TOKEN], stop_reason="max_tokens")


def _identifier(seed: int, kind: str, number: int) -> str:
    return "01" + blake2b(f"{seed}\0{kind}\0{number}".encode(), digest_size=11).hexdigest()
