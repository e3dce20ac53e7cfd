import json
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from random import Random
from typing import Any

import pytest

from cheapdeep_ops.errors import DeliveryError
from cheapdeep_ops.guard.actions.operation import ActionContext, Operation
from cheapdeep_ops.guard.grading.grader import Grader
from cheapdeep_ops.guard.grading.version import grader_version
from cheapdeep_ops.guard.guard import Guard
from cheapdeep_ops.guard.notify.sender import MessageRef
from cheapdeep_ops.guard.rules.book import Rulebook, read_rulebook
from cheapdeep_ops.recorder import Recorder
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import grades
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.testing import FrozenClock
from cheapdeep_ops.values import (
    Decision,
    Exchange,
    Grade,
    GradeResult,
    Hop,
    Outcome,
    Reason,
    TextTurn,
    Tier,
    Usage,
    Verdict,
)
from cheapdeep_ops.verdict import decide
from tests.stores import migrated

START = 1_800_000_000.0
CHEAP = Tier(model="claude-haiku-4-5", index=0, is_deep=False)
DEEP = Tier(model="claude-opus-4-7", index=1, is_deep=True)


def town_rules() -> Rulebook:
    """The packaged rules without the two that a town sets off: time jumps there, and all calls fare the same."""
    without = {"SchedulerStalled", "InertGate"}
    return Rulebook(rules=tuple(rule for rule in read_rulebook().rules if rule.alert not in without))


def without(alert: str) -> Rulebook:
    """The town's rules without one."""
    return Rulebook(rules=tuple(rule for rule in town_rules().rules if rule.alert != alert))


class Inbox:
    """A sender that keeps what it is given, and fails when told to."""

    def __init__(self) -> None:
        self.payloads: list[dict] = []
        self.places: list[MessageRef] = []
        self.failures: list[DeliveryError] = []

    def accepts(self, payload) -> bool:
        return True

    def send(self, payload, place: MessageRef) -> MessageRef:
        if self.failures:
            raise self.failures.pop(0)
        self.payloads.append(dict(payload))
        self.places.append(place)
        return place if place.ts else MessageRef(channel="C1", ts=f"{len(self.payloads)}.0")

    @property
    def kinds(self) -> list[str]:
        return [payload["kind"] for payload in self.payloads]


class Town:
    """A store, a recorder and a guard in virtual time: calls come second by second."""

    def __init__(self, store: Store, settings: Settings, rulebook: Rulebook, inbox: Inbox) -> None:
        self.store, self.settings, self.inbox = store, settings, inbox
        self.senders: dict | None = None
        """The senders of a guard that is made from now on, in place of the inbox."""
        self.clock = FrozenClock(START)
        self.recorder = Recorder(settings, clock=self.clock, background=False)
        self.guard = self.another_guard(rulebook)
        self.decisions: list[Decision] = []

    def another_guard(self, rulebook: Rulebook | None = None, settings: Settings | None = None) -> Guard:
        return Guard(
            self.store,
            settings=settings or self.settings,
            rulebook=rulebook or town_rules(),
            senders=self.senders or {"inbox": self.inbox},
            started_at=self.clock(),
            monotonic=self.clock,
        )

    def run(
        self,
        seconds: int,
        confidences: Sequence[float | None],
        *,
        route: str = "support",
        cls: str = "",
        look_every_s: int = 15,
    ) -> None:
        """`confidences` are one second's calls; None is a malformed reply. The guard evaluates every `look_every_s`.

        The product evaluates every 5 s; a test whose subject is the delay passes that.
        """
        self.recorder.refresh(self.clock())
        for second in range(1, seconds + 1):
            for confidence in confidences:
                self.put(confidence, route=route, cls=cls)
            self.clock.advance(1)
            self.recorder.fold(self.clock())  # as its thread does: calls are counted in their own second
            if second % look_every_s == 0 or second == seconds:
                self.look()

    def look(self) -> None:
        self.recorder.drain(self.clock())
        self.guard.step(self.clock())
        self.guard.deliver(self.clock())
        self.recorder.refresh(self.clock())

    def put(self, confidence: float | None, *, route: str = "support", cls: str = "") -> None:
        decision = decided(confidence, self.recorder.book.for_route(route), route=route, cls=cls, at=self.clock())
        self.decisions.append(decision)
        self.recorder.put(decision)

    def do(self, operation: Operation[Any], **given: object) -> Any:
        """What a person does, in the API, the console or on the command line."""
        context = ActionContext(store=self.store, settings=self.settings, clock=self.clock)
        return operation.perform(context, **given)

    def threshold(self, route: str = "support") -> float:
        self.recorder.refresh(self.clock())
        return self.recorder.book.for_route(route).threshold


def decided(confidence, policy, *, route="support", cls="", at=START, base=0.8) -> Decision:
    verdict = (
        Verdict(problem=Reason.MALFORMED) if confidence is None else Verdict(confidence=confidence, answer="an answer")
    )
    base_outcome, base_reason = decide(verdict, threshold=base)
    outcome, reason = decide(verdict, threshold=policy.threshold)
    if base_outcome is Outcome.SHIP and outcome is Outcome.ESCALATE:
        reason = Reason.RAISED_THRESHOLD
    escalated = outcome is Outcome.ESCALATE
    hops = [Hop(tier=CHEAP, usage=Usage(), cost_usd=0.0004, verdict=verdict, reason=reason)]
    if escalated:
        hops.append(Hop(tier=DEEP, usage=Usage(), cost_usd=0.004))
    return Decision(
        call_id="id",
        route=route,
        input_class=cls,
        tier=hops[-1].tier.index,
        model=hops[-1].tier.model,
        confidence=confidence,
        threshold=policy.threshold,
        policy_version=policy.version,
        escalated=escalated,
        reason=reason,
        bypass_cause=None,
        base_outcome=base_outcome,
        base_reason=base_reason,
        cost_usd=sum(hop.cost_usd for hop in hops),
        triage_cost_usd=0.0004,
        baseline_cost_usd=0.004,
        baseline_basis="",
        started_at=at,
        duration_s=0.0,
        triage_duration_s=0.0,
        hops=tuple(hops),
    )


class Bench:
    """A grader's API that knows the truth: answers say themselves whether they are right."""

    def __init__(self):
        self.asked = 0
        self.error = None
        self.failure = None

    def grade(self, request):
        self.asked += 1
        if self.error is not None:
            raise self.error
        if self.failure is not None:
            return GradeResult(failure=self.failure, usage=Usage(input_tokens=10, output_tokens=1))
        answer = json.loads(request["messages"][0]["content"])["answer"]
        return GradeResult(grade=Grade(answer), reason="as it says", usage=Usage(input_tokens=10, output_tokens=1))

    def submit(self, requests):
        pytest.fail("no batch is asked for here")

    def results(self, batch_id):
        pytest.fail("no batch is asked for here")

    def close(self):
        pass


class School(Town):
    """A town whose answers are right or wrong, and graded every minute."""

    def __init__(self, store, settings, rulebook, inbox):
        self.bench = Bench()
        self._numbers = count()
        super().__init__(store, settings, rulebook, inbox)

    def another_guard(self, rulebook=None, settings=None):
        settings = settings or self.settings
        grader = Grader(self.store, settings=settings, api=self.bench)
        return Guard(
            self.store,
            settings=settings,
            rulebook=rulebook or town_rules(),
            senders=self.senders or {"inbox": self.inbox},
            make_grader=lambda _: grader,
            started_at=self.clock(),
        )

    def answer(self, confidence, grade, *, route="support", cls=""):
        policy = self.recorder.book.for_route(route)
        decision = decided(confidence, policy, route=route, cls=cls, at=self.clock())
        decision = self._named(decision)
        self.decisions.append(decision)
        # Each question is another one: a repeated question is bounded evidence.
        turns = (TextTurn(role="user", text=f"How much is it? {decision.call_id}"),)
        self.recorder.put(decision, lambda: Exchange(turns=turns, answer=grade, response_id="msg_1"))

    def _named(self, decision):
        fields = {name: getattr(decision, name) for name in decision.__slots__}
        return type(decision)(**{**fields, "call_id": f"call-{next(self._numbers)}"})

    def teach(self, answers, wrong_rate, *, seed=0, route="support", confidences=(0.95,), cls="", wrong=None):
        """So many answers at ten a second, wrong at that rate, each tenth of the confidences in turn."""
        random = Random(seed)
        for number in range(answers):
            confidence = confidences[number % len(confidences)]
            rate = (wrong or {}).get(confidence, wrong_rate)
            self.answer(confidence, "incorrect" if random.random() < rate else "correct", route=route, cls=cls)
            if number % 10 == 9:
                self.clock.advance(1)
            if number % 50 == 49:
                self.look()
            if number % 100 == 99:
                self.mark()
        self.mark()
        self.look()

    def learn(self, answers, wrong_rate, *, seed=0, route="support", confidence=0.95, cls=""):
        """What `teach` leaves behind in grades, stored at once: for what a test needs and does not look at.

        Nothing is sampled, asked or counted, so receipts know nothing of it.
        """
        random, judge, policy = Random(seed), grader_version(self.settings), self.recorder.book.for_route(route)
        rows = [
            {"call_id": f"call-{next(self._numbers)}", "grader_model": judge.model, "grader_prompt": judge.prompt,
             "verdict": "incorrect" if random.random() < wrong_rate else "correct", "failure": "", "reason": "",
             "called_at": self.clock() + number / 10, "at": self.clock() + answers / 10, "route": route,
             "input_class": cls, "shipped": True, "confidence": confidence, "policy_version": policy.version,
             "inclusion": 1.0, "cost_nusd": 0}
            for number in range(answers)
        ]  # fmt: skip
        self.clock.advance(answers / 10)
        self.store.transact(lambda connection: [grades.add(connection, row) for row in rows])
        self.look()

    def drift(self, wrong_rate=0.6, **more):
        """Answers at that rate until the threshold is raised."""
        for turn in range(20):
            self.teach(50, wrong_rate, seed=1_000 + turn, **more)
            if self.threshold() == 0.9:
                return
        pytest.fail("never raised")

    def mark(self):
        """Have what waits graded."""
        self.recorder.drain(self.clock())
        self.guard.grade(self.clock())


@pytest.fixture
def settings(either_url: str) -> Settings:
    return Settings(store_url=either_url)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    store = migrated(settings.store_url)
    yield store
    store.close()


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def make_town(store: Store, settings: Settings, inbox: Inbox) -> Iterator[Callable[..., Town]]:
    towns: list[Town] = []

    def make(**changes) -> Town:
        changed = settings.model_copy(update=changes)
        towns.append(Town(store, changed, town_rules(), inbox))
        return towns[-1]

    yield make
    for town in towns:
        town.recorder.close()


@pytest.fixture
def town(make_town) -> Town:
    return make_town()


@pytest.fixture
def make_school(store, settings, inbox):
    schools = []

    def make(**changes):
        kept = {"sample_rate": 1.0, "grade_concurrency": 1, "grade_every_s": 60.0}
        schools.append(School(store, settings.model_copy(update={**kept, **changes}), town_rules(), inbox))
        schools[-1].look()
        return schools[-1]

    yield make
    for school in schools:
        school.recorder.close()


@pytest.fixture
def school(make_school):
    return make_school()
