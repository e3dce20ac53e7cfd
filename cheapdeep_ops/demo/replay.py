"""Recorded reality through the whole product: router, simulator over HTTP, guard and Slack, in virtual time."""

import heapq
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Final, Self

from cheapdeep_ops.claude.clients import make_client_for
from cheapdeep_ops.claude.grading import GraderApi
from cheapdeep_ops.claude.sdk import Anthropic
from cheapdeep_ops.demo.recording import Recorded
from cheapdeep_ops.demo.report import Answered, report_of
from cheapdeep_ops.demo.world import no_proxy_on_loopback
from cheapdeep_ops.guard.grading import MOST_AT_ONCE, Grader
from cheapdeep_ops.guard.guard import Guard
from cheapdeep_ops.guard.rulebook import read_rulebook
from cheapdeep_ops.guard.slack import sender_for
from cheapdeep_ops.recorder import Recorder
from cheapdeep_ops.router import Router
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate
from cheapdeep_ops.testing import FrozenClock, Judge, Reply, SimulatedAnthropic, SimulatedSlack
from cheapdeep_ops.testing.judge import judgement
from cheapdeep_ops.testing.received import ReceivedRequest

ROUTE: Final = "replay"
_START: Final = 1_790_000_000.0
"""When every replay begins: prices are dated, and the same file must give the same report."""

_FOLD_EVERY: Final = 200
_ANSWER: Final = re.compile(r"Recorded answer ([0-9]+)\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """How a recording is played: calls a second of virtual time, what is drawn, and how well the judge sees."""

    rate: float = 10.0
    seed: int = 0
    judge: Judge


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


class Simulators:
    """The simulated Claude API and Slack, and a client for the former; use it as a context manager.

    Replays may share them, one after another: starting and stopping them takes longer than a short replay does.
    """

    def __init__(self) -> None:
        no_proxy_on_loopback()
        self._clock = FrozenClock(_START)
        with ExitStack() as opening:
            self.api = opening.enter_context(SimulatedAnthropic(clock=self._now))
            self.slack = opening.enter_context(SimulatedSlack(clock=self._now))
            self.client = opening.enter_context(make_client_for(self.api.url, api_key="simulated"))
            self._open = opening.pop_all()

    def reset(self, models: RecordedModels) -> FrozenClock:
        """Forget what was played, and have `models` answer; returns a clock at the beginning."""
        self.api.clear()
        self.slack.clear()
        self.api.always(models)
        self._clock = FrozenClock(_START)
        return self._clock

    def _now(self) -> float:
        return self._clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()


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
        self.outcomes: list[Answered] = []
        with ExitStack() as opening:
            simulators = simulators or opening.enter_context(Simulators())
            folder = opening.enter_context(TemporaryDirectory(prefix="cheapdeep-replay-"))
            self._clock = simulators.reset(self._models)
            self._settings = _own(settings, Path(folder), simulators.slack)
            self._make_guard(opening, simulators.client)
            self._make_router(opening, simulators.client)
            self._open = opening.pop_all()
        self._ticks = self._timetable()

    def _make_guard(self, opening: ExitStack, client: Anthropic) -> None:
        settings = self._settings
        self._store = Store(settings.store_url)
        opening.callback(self._store.close)
        migrate(self._store)
        self._guard = Guard(
            self._store,
            settings=settings,
            rulebook=read_rulebook(settings.rules_file),
            sender=sender_for(settings),
            grader=Grader(self._store, settings=settings, api=GraderApi(client)),
            started_at=_START,
        )

    def _make_router(self, opening: ExitStack, client: Anthropic) -> None:
        self._recorder = Recorder(self._settings, clock=self._clock, background=False)
        opening.callback(self._recorder.close)
        ids = (f"replay-{self._options.seed}-{number}" for number in count())
        router = Router(
            settings=self._settings,
            client=client,
            route=ROUTE,
            recorder=self._recorder,
            clock=self._clock,
            new_id=lambda: next(ids),
        )
        self._router = opening.enter_context(router)

    def run(self) -> Iterator[int]:
        """Play all rows; yields how many are done, now and then."""
        for row in self._rows:
            self._go_to(_START + row.number / self._options.rate)
            self._call(row)
            if (row.number + 1) % _FOLD_EVERY == 0:
                self._recorder.drain(self._clock())
                yield row.number + 1
        for work in (self._evaluate, self._grade, self._evaluate):  # only a guard that has acted may grade
            work(self._clock.advance(self._settings.evaluate_every_s))
        yield len(self._rows)

    def report(self) -> dict[str, Any]:
        """What became of the rows played so far."""
        played = {"rate": self._options.rate, "seed": self._options.seed, "sample_rate": self._settings.sample_rate}
        return {**report_of(self.outcomes, self._store, self._settings, since=_START, until=self._clock()), **played}

    def _call(self, row: Recorded) -> None:
        self._models.row = row
        question = row.question or "A question that was not recorded."
        routed = self._router.ask(f"{question}\n\n(recorded call {row.number})", input_class=row.domain)
        self._recorder.fold(self._clock())  # at once, so that the real time it took moves it into no other second
        correct = row.cheap_correct if routed.decision.shipped else row.deep_correct
        self.outcomes.append(
            Answered(
                routed=routed,
                begun_at=self._clock(),
                finished_at=self._clock(),
                correct=correct,
                is_comparable=row.deep_correct is not None,
            )
        )

    def _go_to(self, moment: float) -> None:
        """Let time pass, with everything that the guard does before; a call comes before what is due when it begins."""
        while self._ticks[0][0] < moment:
            at, order, every_s, work = self._ticks[0]
            self._clock.set(at)
            work(at)
            heapq.heapreplace(self._ticks, (at + every_s, order, every_s, work))
        self._clock.set(moment)

    def _timetable(self) -> list[tuple[float, int, float, Callable[[float], None]]]:
        """What is due when: a grade counts in the evaluation of the same moment."""
        settings = self._settings
        return [
            (_START + settings.evaluate_every_s, 2, settings.evaluate_every_s, self._evaluate),
            (_START + settings.grade_every_s, 1, settings.grade_every_s, self._grade),
        ]

    def _grade(self, now: float) -> None:
        self._recorder.drain(now)
        while self._guard.grade(now) >= MOST_AT_ONCE:
            pass

    def _evaluate(self, now: float) -> None:
        self._recorder.drain(now)
        self._guard.step(now)
        self._guard.deliver(now)
        self._recorder.refresh(now)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()


def _own(settings: Settings, folder: Path, slack: SimulatedSlack) -> Settings:
    """The caller's settings, with a store, a Slack and a purse of the replay's own."""
    own = {
        "store_url": f"sqlite:///{folder}/replay.db",
        "record": True,
        "slack_bot_token": slack.token,
        "slack_channel": "C0REPLAY",
        "slack_base_url": slack.url,
        "slack_webhook_url": None,
        "grade_by": "direct",
        "grade_concurrency": 1,
        "max_grader_usd_per_day": 1e9,
        "max_candidates": 10_000_000,
        "retain_content_days": 3650,
    }
    return Settings(**{**settings.model_dump(), **own})
