"""Recorded reality through the whole product: router, simulator over HTTP, guard and Slack, in virtual time."""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from cheapdeep_ops.demo.recording import Recorded
from cheapdeep_ops.demo.report import Answered, PlayedReport
from cheapdeep_ops.demo.world import START, Environment, Simulators
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.testing import Reply, SimulatedGrader
from cheapdeep_ops.testing.messages_api.received import ReceivedRequest
from cheapdeep_ops.testing.traffic.simulated_grader import judgement

ROUTE: Final = "replay"
_STORED_EVERY: Final = 200
_ANSWER: Final = re.compile(r"Recorded answer ([0-9]+)\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """How a recording is played: calls a second of virtual time, what is drawn, and how well the judge sees."""

    rate: float = 10.0
    seed: int = 0
    judge: SimulatedGrader


class RecordedModels:
    """What the simulated API says while a recording is played: the row under way decides."""

    def __init__(self, rows: Sequence[Recorded], *, cheap_model: str, options: ReplayOptions) -> None:
        self._rows = rows
        self._cheap_model = cheap_model
        self._options = options
        self.row = rows[0]

    def __call__(self, request: ReceivedRequest) -> Reply:
        """The reply of whichever model is asked."""
        if request.is_grading:
            return Reply.text(self._grade(request.graded_answer or ""))
        if not request.is_triage:
            return Reply.text(f"Recorded deep answer {self.row.number}.")
        if request.model != self._cheap_model:
            return Reply.triage(0.0, None)  # nothing is recorded of tiers in between
        if self.row.confidence is None:
            return Reply.text("This reply could not be read when it was recorded.")
        return Reply.triage(self.row.confidence, f"Recorded answer {self.row.number}.")

    def _grade(self, answer: str) -> str:
        found = _ANSWER.fullmatch(answer)
        row = self._rows[int(found[1])] if found else None
        correct = row.cheap_correct if row else None
        verdict = self._options.judge.verdict(answer, correct=correct, seed=self._options.seed)
        return judgement(verdict)


class Replay:
    """Plays rows one after another, between simulators of its own or given ones; use it as a context manager."""

    def __init__(
        self,
        rows: Sequence[Recorded],
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
            self._world = opening.enter_context(
                Environment(simulators, settings=settings, route=ROUTE, ids=f"replay-{options.seed}")
            )
            simulators.api.always(self._models)
            self._open = opening.pop_all()

    @property
    def outcomes(self) -> Sequence[Answered]:
        """The calls that were played so far."""
        return self._world.outcomes

    def run(self) -> Iterator[int]:
        """Play all rows; yields how many are done, now and then."""
        for row in self._rows:
            self._call(row)
            if (row.number + 1) % _STORED_EVERY == 0:
                self._world.drain()
                yield row.number + 1
        self._world.settle()
        yield len(self._rows)

    def report(self) -> PlayedReport:
        """The report of the rows played so far."""
        options, settings = self._options, self._world.settings
        return {
            **self._world.report(),
            "rate": options.rate,
            "seed": options.seed,
            "sample_rate": settings.sample_rate,
        }

    def _call(self, row: Recorded) -> None:
        self._models.row = row
        question = row.question or "A question that was not recorded."
        self._world.call(
            START + row.number / self._options.rate,
            lambda router: router.ask(f"{question}\n\n(recorded call {row.number})", input_class=row.domain),
            correct=lambda routed: row.cheap_correct if routed.decision.shipped else row.deep_correct,
            is_comparable=row.deep_correct is not None,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
