"""The replies to valid requests: scripted by a test, or simulated."""

from collections.abc import Collection, Iterable
from typing import Final

from cheapdeep_ops.model_names import model_name
from cheapdeep_ops.testing.messages_api import wire
from cheapdeep_ops.testing.messages_api.received import ReceivedRequest
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
        self, *, seed: int, classes: Iterable[TrafficClass], triage_models: Collection[str], grader: SimulatedGrader
    ) -> None:
        self.script = Script()
        self.truth = GroundTruth(TRUTH_LIMIT)
        self._seed = seed
        self._classes = checked_classes(classes)
        self._triage_models = frozenset(model_name(model).name for model in triage_models)
        self._grader = grader

    def reply_to(self, received: ReceivedRequest) -> Reply:
        """Return the reply to a valid request."""
        # A test's own script always wins over the simulation.
        return self.script.reply_to(received) or self._simulated(received)

    def _simulated(self, received: ReceivedRequest) -> Reply:
        max_tokens = received.body["max_tokens"]
        if received.is_grading:
            return _limited(self._grade(received.graded_answer), max_tokens)
        is_cheap = model_name(received.model).name in self._triage_models
        drawn = draw_answer(
            received.question, model=received.model, seed=self._seed, classes=self._classes, is_cheap=is_cheap
        )
        if not received.is_triage:
            reply = _limited(drawn.answer, max_tokens)
            # The truncated text, because that is the answer that a grader sees.
            self.truth.record(reply.content or "", correct=drawn.correct)
            return reply
        if not drawn.withheld and drawn.confidence is not None:
            self.truth.record(drawn.answer, correct=drawn.correct)
        return _limited(drawn.triage_text, max_tokens)

    def _grade(self, answer: str | None) -> str:
        correct = None if answer is None else self.truth.is_correct(answer)
        return grade_text(self._grader.verdict(answer or "", correct=correct, seed=self._seed))


def _limited(text: str, max_tokens: int) -> Reply:
    if wire.tokens_in(text) <= max_tokens:
        return Reply.text(text)
    if max_tokens == 0:
        return Reply(kind="message", stop_reason="max_tokens", usage={"output_tokens": 0})
    return Reply.text(text[: max_tokens * wire.CHARS_PER_TOKEN], stop_reason="max_tokens")
