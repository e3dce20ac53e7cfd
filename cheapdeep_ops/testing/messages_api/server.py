"""A simulated Claude API: a real HTTP server whose models have known confidence and known correctness."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from cheapdeep_ops.testing._log import Log
from cheapdeep_ops.testing._server import Delivery, PacedStream, ServedApp, SimulatedServer
from cheapdeep_ops.testing.messages_api.batch_endpoints import BatchApi
from cheapdeep_ops.testing.messages_api.batch_faults import BatchFaults
from cheapdeep_ops.testing.messages_api.batches import Batches, other_result
from cheapdeep_ops.testing.messages_api.endpoints import MessageApi, ModelApi
from cheapdeep_ops.testing.messages_api.file_endpoints import FileApi
from cheapdeep_ops.testing.messages_api.models import MODELS, Catalogue, Refused, SimulatedModel
from cheapdeep_ops.testing.messages_api.received import ReceivedRequest, without_secrets
from cheapdeep_ops.testing.messages_api.replies import Reply
from cheapdeep_ops.testing.messages_api.responses import Responses
from cheapdeep_ops.testing.messages_api.script import Answerer
from cheapdeep_ops.testing.messages_api.simulation import Simulation
from cheapdeep_ops.testing.messages_api.validation import batched_fault, key_fault
from cheapdeep_ops.testing.traffic.kinds import TrafficClass
from cheapdeep_ops.testing.traffic.ready_made import CLASSES
from cheapdeep_ops.testing.traffic.simulated_grader import PERFECT, SimulatedGrader

TRIAGE_MODELS: Final = (
    "claude-haiku-4-5",
    "claude-haiku-4-5-20251001",
    "claude-haiku-5-5",
    "claude-sonnet-4-6",
)
BATCH_LIMIT: Final = 1_000


class SimulatedAnthropic(SimulatedServer):
    """Serve the Messages API on loopback, for the real SDK: `Anthropic(base_url=api.url, api_key="any")`.

    A request is validated as the API does. A valid one gets a scripted reply (`enqueue`, `always`), or a reply from
    its traffic class, equal for equal texts; a grading request is answered by `judge`. Prompts with cache breakpoints
    are cached by `clock` as the API does, unless a scripted reply states its prompt's tokens. The requests of a batch
    are answered, and counted as received, when the batch has ended. Use it as a context manager.
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

        Models outside `triage_models` answer correctly, with confidence 0.97. Each message takes `latency_s` of real
        time longer. `clock` stamps `requests`; a batch ends `batch_delay_s` of its seconds after its creation, and its
        requests expire after 24 hours. Raises ValueError if `classes` is empty or ambiguous, or `batch_delay_s` is
        below 0.
        """
        self.requests: Log[ReceivedRequest] = Log(keep_requests)
        """The newest `keep_requests` requests, oldest first; `.clear()` empties it."""
        self.streams: Log[PacedStream] = Log(keep_requests)
        """The newest `keep_requests` paced streams (`Reply.paced`), in the order of their start."""
        self.batch_faults = BatchFaults()
        """The faults that a test orders for the creation and the reads of batches."""
        if not batch_delay_s >= 0:
            raise ValueError(f"batch_delay_s must be 0 or more, not {batch_delay_s!r}")
        self.latency_s = latency_s
        self.keys: Collection[str] | None = None
        """The keys that it accepts; None accepts any. A request with another one gets a 401."""
        self._clock = clock
        self._batch_delay_s = batch_delay_s
        self._batches = Batches(BATCH_LIMIT)
        self._catalogue = Catalogue(models)
        self._simulation = Simulation(
            seed=seed, classes=classes, triage_models=triage_models, catalogue=self._catalogue, grader=judge
        )
        # A response needs the server and the server needs the app, so the server is looked up later.
        self._responses = Responses(
            seed=seed, catalogue=self._catalogue, streams=self.streams, served=lambda: self._served
        )
        self._files = FileApi(
            new_id=self._responses.file_id, record=self._record, deliver=self._deliver, key_fault=self._key_fault
        )
        self._served = ServedApp(self._app(), host=host, port=port, name="simulated-anthropic")

    @property
    def url(self) -> str:
        """The base URL for the SDK; RuntimeError before the first `start`."""
        return self._served.url

    @property
    def enqueued(self) -> int:
        """The number of scripted replies that are still queued."""
        return self._simulation.script.queued()

    def enqueue(self, *replies: Reply, model: str | None = None) -> None:
        """Answer the next valid message requests (of `model`, unless None) with `replies`, in order."""
        self._simulation.script.enqueue(replies, model)

    def always(self, reply: Reply | Answerer | None, *, model: str | None = None) -> None:
        """Answer every valid message request (of `model`, unless None) with `reply`, once the queue is empty.

        A function gets the request; if it returns None, the simulation replies. `always(None)` removes all standing
        replies, and `always(None, model=m)` that of `m`.
        """
        self._simulation.script.set_standing(reply, model)

    def clear(self) -> None:
        """Remove received requests, batches, files, prompts, keys, models of `put_model`, replies and refusals."""
        self.requests.clear()
        self.streams.clear()
        self._batches.clear()
        self._files.clear()
        self.keys = None
        self.batch_faults.clear()
        self._simulation.script.clear()
        self._catalogue.restore()
        self._responses.cache.clear()

    def put_model(self, model: SimulatedModel) -> None:
        """Add a model to the catalogue, or replace one: `replace(MODELS[0], lifecycle="retired")`."""
        self._catalogue.put(model)

    def refuse(self, *parameters: Refused, model: str) -> None:
        """Let `model` answer 400 to requests with one of `parameters`, as on a platform that lacks them.

        `clear` ends it. Raises KeyError if the catalogue does not have the model.
        """
        self._catalogue.refuse(model, parameters)

    def was_correct(self, answer_text: str) -> bool | None:
        """Whether a simulated answer is correct; None if it is not one of the server's recent answers."""
        return self._simulation.truth.is_correct(answer_text)

    def _app(self) -> Starlette:
        record, deliver, reply_to = self._record, self._deliver, self._simulation.reply_to
        keyed = self._key_fault
        message_api = MessageApi(
            catalogue=self._catalogue,
            record=record,
            reply_to=reply_to,
            deliver=deliver,
            key_fault=keyed,
            latency_s=lambda: self.latency_s,
        )
        batch_api = BatchApi(
            batches=self._batches,
            faults=self.batch_faults,
            delay_s=self._batch_delay_s,
            clock=self._clock,
            new_id=self._responses.batch_id,
            record=record,
            key_fault=keyed,
            answer=self._batch_result,
            deliver=deliver,
        )
        return Starlette(
            routes=[
                *message_api.routes(),
                *batch_api.routes(),
                *ModelApi(catalogue=self._catalogue, record=record, deliver=deliver, key_fault=keyed).routes(),
                *self._files.routes(),
                Route("/healthz", _healthz, methods=["GET"]),
                # Unknown paths get the API's error object and not Starlette's plain text.
                Route("/{path:path}", self._no_such_route, methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]),
            ],
        )

    def _batch_result(self, params: Mapping[str, object], headers: Mapping[str, str]) -> Mapping[str, object]:
        received = ReceivedRequest(method="POST", path="/v1/messages", headers=headers, body=params, at=self._clock())
        self.requests.append(received)
        version = headers.get("anthropic-version", "")
        fault = batched_fault(params, models=self._catalogue.by_id, version=version)
        if fault is not None:
            return other_result(fault, request_id=None)
        return self._responses.batch_result(self._simulation.reply_to(received), received)

    async def _no_such_route(self, request: Request) -> Delivery:
        return self._deliver(Reply.error(404), self._record(request, None, await request.body()))

    def _key_fault(self, headers: Mapping[str, str]) -> Reply | None:
        return key_fault(headers, self.keys)

    def _deliver(self, reply: Reply, received: ReceivedRequest) -> Delivery:
        return self._responses.deliver(reply, received)

    def _record(self, request: Request, body: dict[str, object] | None, raw: bytes) -> ReceivedRequest:
        received = ReceivedRequest(
            method=request.method,
            path=request.url.path,
            headers=without_secrets(request.headers.items()),
            body=body or {},
            at=self._clock(),
            query=request.url.query,
            raw=raw,
        )
        self.requests.append(received)
        return received


async def _healthz(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")
