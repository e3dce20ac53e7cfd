"""The replies to valid requests: scripted by a test, or simulated."""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from cheapdeep_ops.model_names import model_name
from cheapdeep_ops.testing.messages_api import wire
from cheapdeep_ops.testing.messages_api.models import Catalogue
from cheapdeep_ops.testing.messages_api.received import THINKING_OFF, ReceivedRequest, thinking_type
from cheapdeep_ops.testing.messages_api.replies import Reply
from cheapdeep_ops.testing.messages_api.script import GroundTruth, Script
from cheapdeep_ops.testing.traffic.kinds import TrafficClass, checked_classes, draw_answer
from cheapdeep_ops.testing.traffic.simulated_grader import SimulatedGrader, grade_text

TRUTH_LIMIT: Final = 200_000


class Simulation:
    """Replies from the script first; then from the grader or from the question's traffic class.

    Raises ValueError if `classes` is empty or ambiguous.
    """

    def __init__(
        self,
        *,
        seed: int,
        classes: Iterable[TrafficClass],
        triage_models: Collection[str],
        catalogue: Catalogue,
        grader: SimulatedGrader,
    ) -> None:
        self.script = Script()
        self.truth = GroundTruth(TRUTH_LIMIT)
        self._seed = seed
        self._classes = checked_classes(classes)
        self._triage_models = frozenset(model_name(model).name for model in triage_models)
        self._catalogue = catalogue
        self._grader = grader

    def reply_to(self, received: ReceivedRequest) -> Reply:
        """Return the reply to a valid request."""
        # A test's own script always wins over the simulation.
        return self.script.reply_to(received) or self._simulated(received)

    def _simulated(self, received: ReceivedRequest) -> Reply:
        max_tokens, thought = received.body["max_tokens"], self._thought(received)
        if received.is_grading:
            return _limited(self._grade(received.graded_answer), max_tokens, thought)
        is_cheap = model_name(received.model).name in self._triage_models
        drawn = draw_answer(
            received.question, model=received.model, seed=self._seed, classes=self._classes, is_cheap=is_cheap
        )
        if not received.is_triage:
            reply = _limited(drawn.answer, max_tokens, thought)
            # The truncated text, because that is the answer that a grader sees.
            self.truth.record(reply.content or "", correct=drawn.correct)
            return reply
        if not drawn.withheld and drawn.confidence is not None:
            self.truth.record(drawn.answer, correct=drawn.correct)
        return _limited(drawn.triage_text, max_tokens, thought)

    def _thought(self, received: ReceivedRequest) -> int:
        """The tokens of the model's thinking about this request."""
        model = self._catalogue.by_id.get(received.model)
        return 0 if model is None or thinking_type(received.body) in THINKING_OFF else model.thinks

    def _grade(self, answer: str | None) -> str:
        correct = None if answer is None else self.truth.is_correct(answer)
        return grade_text(self._grader.verdict(answer or "", correct=correct, seed=self._seed))


def _limited(text: str, max_tokens: int, thought: int) -> Reply:
    """The reply with as much of `text` as `max_tokens` leaves after `thought` tokens of thinking."""
    room = max(max_tokens - thought, 0)
    if wire.tokens_in(text) <= room:
        return Reply.text(text, usage=_thinking_usage(wire.tokens_in(text), thought))
    if room == 0:
        return Reply(kind="message", stop_reason="max_tokens", usage={"output_tokens": max_tokens})
    usage = _thinking_usage(room, thought)
    return Reply.text(text[: room * wire.CHARS_PER_TOKEN], stop_reason="max_tokens", usage=usage)


def _thinking_usage(written: int, thought: int) -> Mapping[str, object] | None:
    """The usage of a reply with thinking; None without it, because that is estimated from the text."""
    details = {"thinking_tokens": thought}
    return {"output_tokens": written + thought, "output_tokens_details": details} if thought else None
