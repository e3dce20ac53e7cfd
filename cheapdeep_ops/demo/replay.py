"""Replay recorded outcomes through the router, the simulators, the guard and Slack, in virtual time."""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from cheapdeep_ops.demo.environment import START, ClosedAtExit, Environment, Simulators
from cheapdeep_ops.demo.recording import RecordedCall
from cheapdeep_ops.demo.report import FinishedCall, PlayedReport
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.testing import Reply, SimulatedGrader
from cheapdeep_ops.testing.messages_api.received import ReceivedRequest
from cheapdeep_ops.testing.traffic.simulated_grader import grade_text

ROUTE: Final = "replay"
_STORED_EVERY: Final = 200
_ANSWER: Final = re.compile(r"Recorded answer ([0-9]+)\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """How a recording is replayed."""

    rate: float = 10.0
    """Calls a second of virtual time."""
    seed: int = 0
    """Another seed draws another sample and other errors of the grader."""
    grader: SimulatedGrader


class RecordedModels:
    """The simulated API's replies during a replay; the current row decides what they are."""

    def __init__(self, rows: Sequence[RecordedCall], *, cheap_model: str, options: ReplayOptions) -> None:
        self._rows = rows
        self._cheap_model = cheap_model
        self._options = options
        self.row = rows[0]

    def __call__(self, request: ReceivedRequest) -> Reply:
        """The reply to one request, of any model."""
        if request.is_grading:
            return Reply.text(self._grade(request.graded_answer or ""))
        if not request.is_triage:
            return Reply.text(f"Recorded deep answer {self.row.number}.")
        if request.model != self._cheap_model:
            return Reply.triage(0.0, None)  # a recording has no answers of tiers in between
        if self.row.confidence is None:
            return Reply.text("This reply could not be read when it was recorded.")
        return Reply.triage(self.row.confidence, f"Recorded answer {self.row.number}.")

    def _grade(self, answer: str) -> str:
        # The answer's text names its row.
        match = _ANSWER.fullmatch(answer)
        row = self._rows[int(match[1])] if match else None
        correct = row.cheap_correct if row else None
        verdict = self._options.grader.verdict(answer, correct=correct, seed=self._options.seed)
        return grade_text(verdict)


class Replay(ClosedAtExit):
    """Replays rows in their order, with `simulators` or with its own; use it as a context manager."""

    def __init__(
        self,
        rows: Sequence[RecordedCall],
        *,
        settings: Settings,
        options: ReplayOptions,
        simulators: Simulators | None = None,
    ) -> None:
        self._rows = rows
        self._options = options
        self._models = RecordedModels(rows, cheap_model=settings.tiers[0], options=options)
        with ExitStack() as opening:
            simulators = simulators or opening.enter_context(Simulators())
            self._environment = opening.enter_context(
                Environment(simulators, settings=settings, route=ROUTE, ids=f"replay-{options.seed}")
            )
            simulators.api.always(self._models)
            self._open = opening.pop_all()

    @property
    def outcomes(self) -> Sequence[FinishedCall]:
        """The calls that were replayed so far."""
        return self._environment.outcomes

    def run(self) -> Iterator[int]:
        """Replay all rows; yields the number of finished rows, every 200 rows and at the end."""
        for row in self._rows:
            self._call(row)
            if (row.number + 1) % _STORED_EVERY == 0:
                self._environment.drain()
                yield row.number + 1
        self._environment.settle()
        yield len(self._rows)

    def report(self) -> PlayedReport:
        """The report of the rows that were replayed so far."""
        options, settings = self._options, self._environment.settings
        return {
            **self._environment.report(),
            "rate": options.rate,
            "seed": options.seed,
            "sample_rate": settings.sample_rate,
        }

    def _call(self, row: RecordedCall) -> None:
        self._models.row = row
        question = row.question or "A question that was not recorded."
        # The number makes each row a call of its own, also if a question repeats.
        self._environment.call(
            START + row.number / self._options.rate,
            lambda router: router.ask(f"{question}\n\n(recorded call {row.number})", input_class=row.domain),
            correct=lambda routed: row.cheap_correct if routed.decision.shipped else row.deep_correct,
            is_comparable=row.deep_correct is not None,
        )
