"""Replay recorded outcomes through the router, the simulators, the guard and Slack, in virtual time."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Final

from cheapdeep_ops.demo.environment import START, ClosedAtExit, Environment, Simulators
from cheapdeep_ops.demo.recording import TOKENS, RecordedCall
from cheapdeep_ops.demo.report import FinishedCall, PlayedReport, money_of
from cheapdeep_ops.pricing import PriceBook
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.testing import Reply, SimulatedGrader
from cheapdeep_ops.testing.messages_api.received import ReceivedRequest
from cheapdeep_ops.testing.traffic.simulated_grader import grade_text
from cheapdeep_ops.values import Decision, Usage

ROUTE: Final = "replay"
_PLACEHOLDERS: Final = "placeholder lengths"
"""How `cost_basis` begins if the file has no tokens."""

_TOKENS_OF_THE_FILE: Final = "tokens of the file"
_ENOUGH: Final = 0.9
"""The share of calls that need tokens: calls without them may be of another kind, such as all that escalate."""

_STORED_EVERY: Final = 200
_USUAL_REPLY: Final = 1_024
_LONGEST_REPLY: Final = 20_000
"""Tokens; the SDK refuses to wait for a longer reply without a stream."""

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
        """The reply to one request, of any model; its usage is the recorded one, if there is one."""
        row = self.row
        if request.is_grading:
            return Reply.text(self._grade(request.graded_answer or ""))
        if not request.is_triage:
            return Reply.text(f"Recorded deep answer {row.number}.", usage=_usage(row.tokens.deep))
        if request.model != self._cheap_model:
            return Reply.triage(0.0, None)  # a recording has no answers of tiers in between
        usage = _usage(row.tokens.cheap)
        if row.confidence is None:
            return Reply.text("This reply could not be read when it was recorded.", usage=usage)
        return Reply.triage(row.confidence, f"Recorded answer {row.number}.", usage=usage)

    def _grade(self, answer: str) -> str:
        # The answer's text names its row.
        match = _ANSWER.fullmatch(answer)
        row = self._rows[int(match[1])] if match else None
        correct = row.cheap_correct if row else None
        verdict = self._options.grader.verdict(answer, correct=correct, seed=self._options.seed)
        return grade_text(verdict)


def _usage(tokens: tuple[int, int] | None) -> Mapping[str, object] | None:
    return None if tokens is None else {"input_tokens": tokens[0], "output_tokens": tokens[1]}


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
        self._prices = PriceBook(settings.price_overrides)
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

    @property
    def priced(self) -> list[Decision]:
        """The decisions on the calls whose tokens the file has; those on all calls if it lacks those of too many.

        Where the file has the deep model's tokens, they are the baseline.
        """
        known = self._calls_with_tokens()
        if len(known) < _ENOUGH * len(self.outcomes):
            return [each.decision for each in self.outcomes]
        return [self._with_baseline(row, each) for row, each in known]

    @property
    def cost_basis(self) -> str:
        """Where the tokens come from that the costs rest on, in words."""
        n, calls = len(self._calls_with_tokens()), len(self.outcomes)
        if n < _ENOUGH * calls:
            few = f"only {n:,} of {calls:,} calls have" if n else "no call has"
            return f"{_PLACEHOLDERS}, because {few} the tokens of its replies ({', '.join(TOKENS)})"
        return _TOKENS_OF_THE_FILE if n == calls else f"{_TOKENS_OF_THE_FILE}, which {n:,} of {calls:,} calls have"

    def report(self) -> PlayedReport:
        """The report of the rows that were replayed so far."""
        options, settings = self._options, self._environment.settings
        return {
            **self._environment.report(),
            **money_of(self.priced),
            "cost_basis": self.cost_basis,
            "rate": options.rate,
            "seed": options.seed,
            "sample_rate": settings.sample_rate,
        }

    def _calls_with_tokens(self) -> list[tuple[RecordedCall, Decision]]:
        """The calls for which the file has the tokens of each model that was asked."""
        pairs = zip(self._rows, (each.decision for each in self.outcomes), strict=False)
        return [(row, decision) for row, decision in pairs if self._has_tokens(row, decision)]

    def _has_tokens(self, row: RecordedCall, decision: Decision) -> bool:
        # A recording has no tokens of tiers in between.
        known = {0: row.tokens.cheap, len(self._environment.settings.tiers) - 1: row.tokens.deep}
        return all(known.get(hop.tier.index) is not None for hop in decision.hops)

    def _with_baseline(self, row: RecordedCall, decision: Decision) -> Decision:
        settings = self._environment.settings
        if row.tokens.deep is None:
            return decision
        usage = Usage(input_tokens=row.tokens.deep[0], output_tokens=row.tokens.deep[1])
        return replace(decision, baseline_cost_usd=self._prices.cost(settings.tiers[-1], usage, at=START))

    def _call(self, row: RecordedCall) -> None:
        self._models.row = row
        question = row.question or "A question that was not recorded."
        # As long as any recorded reply: otherwise its tokens would look like those of a reply that was cut.
        longest = max([_USUAL_REPLY, *(tokens[1] for tokens in (row.tokens.cheap, row.tokens.deep) if tokens)])
        # The number makes each row a call of its own, also if a question repeats.
        self._environment.call(
            START + row.number / self._options.rate,
            lambda router: router.ask(
                f"{question}\n\n(recorded call {row.number})",
                max_tokens=min(longest, _LONGEST_REPLY),
                input_class=row.domain,
            ),
            correct=lambda routed: row.cheap_correct if routed.decision.shipped else row.deep_correct,
            is_comparable=row.deep_correct is not None,
        )
