import asyncio
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cheapdeep_ops.flow import Ask, Bypass, CascadeResult, Flow, adrive, cascade, drive
from cheapdeep_ops.values import BypassCause, Outcome, Reason, Tier, TierReply, Verdict
from cheapdeep_ops.verdict import decide

steady = settings(derandomize=True, deadline=None, max_examples=300, database=None)

HAIKU = Tier(model="claude-haiku-4-5", index=0, is_deep=False)
SONNET = Tier(model="claude-sonnet-4-6", index=1, is_deep=False)
OPUS = Tier(model="claude-opus-4-7", index=1, is_deep=True)
OPUS_THIRD = Tier(model="claude-opus-4-7", index=2, is_deep=True)
TWO = (HAIKU, OPUS)
THREE = (HAIKU, SONNET, OPUS_THIRD)

DEEP = TierReply(message="the deep answer")

Scripted = TierReply | BaseException


def sure(confidence: float, answer: str = "Paris") -> TierReply:
    return TierReply(verdict=Verdict(confidence=confidence, answer=answer))


def unusable(problem: Reason, confidence: float | None = None) -> TierReply:
    return TierReply(verdict=Verdict(confidence=confidence, problem=problem))


def begin(
    tiers: Sequence[Tier] = TWO, *, threshold: float = 0.8, base: float = 0.8, bypass: Bypass | None = None
) -> Flow:
    return cascade(tiers, threshold=threshold, base_threshold=base, bypass=bypass)


def end_of(flow: Flow, reply: Scripted) -> CascadeResult:
    """The course of a flow that ends with this reply, or with this error."""
    with pytest.raises(StopIteration) as stopped:
        flow.throw(reply) if isinstance(reply, BaseException) else flow.send(reply)
    return stopped.value.value


class Performer:
    """Answers each ask with the next thing in its script and keeps what was asked."""

    def __init__(self, script: Iterable[Scripted]) -> None:
        self.script = iter(script)
        self.asks: list[Ask] = []

    def __call__(self, ask: Ask) -> TierReply:
        self.asks.append(ask)
        result = next(self.script)
        if isinstance(result, BaseException):
            raise result
        return result

    async def later(self, ask: Ask) -> TierReply:
        await asyncio.sleep(0)
        return self(ask)


class TestByHand:
    def test_a_sure_answer_ships_and_the_deep_tier_is_not_asked(self):
        flow = begin()
        assert next(flow) == Ask(tier=HAIKU, kind="triage")
        reply = sure(0.8)
        course = end_of(flow, reply)
        assert course.answer is reply
        assert (course.reason, course.error, course.confidence) == (None, None, 0.8)
        assert (course.base_outcome, course.base_reason) == (Outcome.SHIP, None)
        assert [step.ask.tier for step in course.steps] == [HAIKU]

    @pytest.mark.parametrize(
        ("reply", "reason"),
        [
            (sure(0.79), Reason.LOW_CONFIDENCE),
            (unusable(Reason.NO_ANSWER, 0.9), Reason.NO_ANSWER),
            (unusable(Reason.NO_ANSWER, 0.3), Reason.LOW_CONFIDENCE),
            (unusable(Reason.MALFORMED), Reason.MALFORMED),
            (unusable(Reason.TRUNCATED), Reason.TRUNCATED),
            (unusable(Reason.REFUSAL), Reason.REFUSAL),
            (TierReply(verdict=None), Reason.MALFORMED),
        ],
    )
    def test_any_other_reply_replays_the_original_request(self, reply, reason):
        flow = begin()
        next(flow)
        assert flow.send(reply) == Ask(tier=OPUS, kind="original")
        course = end_of(flow, DEEP)
        assert course.answer is DEEP
        assert course.reason is reason
        assert (course.base_outcome, course.base_reason) == (Outcome.ESCALATE, reason)
        assert [step.reason for step in course.steps] == [reason, None]

    def test_a_failed_triage_goes_deep(self):
        flow, failure = begin(), RuntimeError("overloaded")
        next(flow)
        assert flow.throw(failure) == Ask(tier=OPUS, kind="original")
        course = end_of(flow, DEEP)
        assert course.answer is DEEP
        assert course.error is None
        assert course.reason is Reason.TRIAGE_ERROR
        assert (course.base_outcome, course.base_reason) == (Outcome.ESCALATE, Reason.TRIAGE_ERROR)
        assert course.steps[0].error is failure
        assert course.confidence is None

    def test_a_failed_deep_call_is_the_very_exception(self):
        flow, failure = begin(), RuntimeError("overloaded")
        next(flow)
        flow.send(sure(0.4))
        course = end_of(flow, failure)
        assert course.error is failure
        assert course.answer is None
        assert course.reason is Reason.LOW_CONFIDENCE
        assert course.base_outcome is Outcome.ESCALATE
        assert course.confidence == 0.4

    def test_of_two_failures_the_deep_one_is_told(self):
        flow, first, second = begin(), RuntimeError("first"), RuntimeError("second")
        next(flow)
        flow.throw(first)
        course = end_of(flow, second)
        assert course.error is second
        assert [step.error for step in course.steps] == [first, second]

    @pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), asyncio.CancelledError(), SystemExit(1)])
    def test_an_interrupted_triage_ends_the_course_at_once(self, interrupt):
        flow = begin(THREE)
        next(flow)
        course = end_of(flow, interrupt)
        assert course.error is interrupt
        assert course.answer is None
        assert (course.base_outcome, course.base_reason, course.reason) == (None, None, None)
        assert len(course.steps) == 1

    def test_an_interrupt_at_the_second_tier_keeps_what_the_first_one_said(self):
        flow, interrupt = begin(THREE), KeyboardInterrupt()
        next(flow)
        flow.send(sure(0.4))
        course = end_of(flow, interrupt)
        assert course.error is interrupt
        assert (course.base_outcome, course.reason) == (Outcome.ESCALATE, Reason.LOW_CONFIDENCE)
        assert [step.ask.tier for step in course.steps] == [HAIKU, SONNET]

    def test_an_error_that_is_named_an_interruption_ends_the_flow_at_any_tier(self):
        interruption, failure = RuntimeError("a worker's time limit"), RuntimeError("a failed request")
        for before in ([], [failure]):
            flow = cascade(THREE, threshold=0.8, base_threshold=0.8, interrupts=lambda error: error is interruption)
            next(flow)
            for error in before:
                flow.throw(error)
            course = end_of(flow, interruption)
            assert (course.error, course.answer) == (interruption, None)
            assert [step.error for step in course.steps] == [*before, interruption]
            assert course.reason is (Reason.TRIAGE_ERROR if before else None)

    def test_a_flow_that_is_closed_early_ends_quietly(self):
        for replies in ([], [sure(0.1)]):
            flow = begin()
            next(flow)
            for reply in replies:
                flow.send(reply)
            flow.close()
            with pytest.raises(StopIteration):
                next(flow)


class TestThreeTiers:
    def test_the_second_triage_tier_may_ship(self):
        flow, second = begin(THREE), sure(0.85, "from Sonnet")
        assert next(flow) == Ask(tier=HAIKU, kind="triage")
        assert flow.send(sure(0.3)) == Ask(tier=SONNET, kind="triage")
        course = end_of(flow, second)
        assert course.answer is second
        assert course.reason is Reason.LOW_CONFIDENCE
        assert course.base_outcome is Outcome.ESCALATE
        assert course.confidence == 0.3

    def test_the_deep_tier_comes_last(self):
        flow = begin(THREE)
        next(flow)
        assert flow.throw(TimeoutError()) == Ask(tier=SONNET, kind="triage")
        assert flow.send(unusable(Reason.REFUSAL)) == Ask(tier=OPUS_THIRD, kind="original")
        course = end_of(flow, DEEP)
        assert [step.reason for step in course.steps] == [Reason.TRIAGE_ERROR, Reason.REFUSAL, None]
        assert course.reason is Reason.TRIAGE_ERROR

    def test_a_withheld_answer_may_be_followed_by_a_surer_one(self):
        flow = begin(THREE, threshold=0.9)
        next(flow)
        assert flow.send(sure(0.85)) == Ask(tier=SONNET, kind="triage")
        course = end_of(flow, sure(0.95))
        assert course.reason is Reason.RAISED_THRESHOLD
        assert course.base_outcome is Outcome.SHIP
        assert course.steps[0].reason is Reason.LOW_CONFIDENCE


class TestTheBaseOutcome:
    def test_is_computed_at_base_while_the_threshold_is_raised(self):
        flow = begin(threshold=0.9)
        next(flow)
        flow.send(sure(0.85))
        course = end_of(flow, DEEP)
        assert course.answer is DEEP
        assert course.reason is Reason.RAISED_THRESHOLD
        assert (course.base_outcome, course.base_reason) == (Outcome.SHIP, None)
        assert course.steps[0].reason is Reason.LOW_CONFIDENCE

    def test_of_an_exact_base_confidence_is_ship_while_raised(self):
        flow = begin(threshold=0.9)
        next(flow)
        flow.send(sure(0.8))
        assert end_of(flow, DEEP).reason is Reason.RAISED_THRESHOLD

    def test_of_a_reply_without_an_answer_is_escalate_however_the_threshold_stands(self):
        flow = begin(threshold=0.9)
        next(flow)
        flow.send(unusable(Reason.NO_ANSWER, 0.85))
        course = end_of(flow, DEEP)
        assert course.reason is Reason.LOW_CONFIDENCE
        assert (course.base_outcome, course.base_reason) == (Outcome.ESCALATE, Reason.NO_ANSWER)

    def test_is_escalate_for_an_answer_that_ships_below_base_by_a_pin(self):
        flow, reply = begin(threshold=0.5), sure(0.6)
        next(flow)
        course = end_of(flow, reply)
        assert course.answer is reply
        assert course.reason is None
        assert (course.base_outcome, course.base_reason) == (Outcome.ESCALATE, Reason.LOW_CONFIDENCE)


class TestBypass:
    def test_sends_the_original_request_to_its_tier_at_once(self):
        flow = begin(bypass=Bypass(cause=BypassCause.TOOLS, tier=OPUS))
        assert next(flow) == Ask(tier=OPUS, kind="original")
        course = end_of(flow, DEEP)
        assert course.answer is DEEP
        assert course.reason is Reason.BYPASS
        assert (course.base_outcome, course.base_reason, course.confidence) == (None, None, None)

    def test_may_name_a_triage_tier(self):
        flow = begin(bypass=Bypass(cause=BypassCause.CHEAP_REQUESTED, tier=HAIKU))
        assert next(flow) == Ask(tier=HAIKU, kind="original")
        assert end_of(flow, DEEP).reason is Reason.BYPASS

    def test_that_fails_is_the_very_exception(self):
        flow, failure = begin(bypass=Bypass(cause=BypassCause.TOOLS, tier=OPUS)), RuntimeError()
        next(flow)
        course = end_of(flow, failure)
        assert course.error is failure
        assert course.reason is Reason.BYPASS


class TestDriver:
    def test_runs_a_course_to_its_end(self):
        performer = Performer([sure(0.2), DEEP])
        course = drive(begin(), performer)
        assert course.answer is DEEP
        assert performer.asks == [Ask(tier=HAIKU, kind="triage"), Ask(tier=OPUS, kind="original")]

    def test_hands_errors_to_the_flow_and_gives_them_back(self):
        failure = RuntimeError("deep")
        course = drive(begin(), Performer([ValueError("cheap"), failure]))
        assert course.error is failure

    @pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), asyncio.CancelledError()])
    def test_asks_nothing_more_after_an_interrupt(self, interrupt):
        performer = Performer([interrupt])
        assert drive(begin(), performer).error is interrupt
        assert len(performer.asks) == 1

    async def test_of_a_cancelled_task_gives_the_cancellation_back(self):
        asked, courses = asyncio.Event(), []

        async def never(_: Ask) -> TierReply:
            asked.set()
            return await asyncio.Future()

        async def call() -> None:
            courses.append(await adrive(begin(), never))

        task = asyncio.create_task(call())
        await asked.wait()
        task.cancel()
        await task
        assert isinstance(courses[0].error, asyncio.CancelledError)
        assert courses[0].base_outcome is None

    def test_survives_a_stop_iteration_of_the_call_itself(self):
        course = drive(begin(), Performer([StopIteration("not the end"), DEEP]))
        assert course.answer is DEEP
        assert course.reason is Reason.TRIAGE_ERROR


verdicts = st.builds(
    Verdict, confidence=st.sampled_from([0.0, 0.5, 0.79, 0.8, 0.85, 0.9, 1.0]), answer=st.just("Paris")
)
problems = st.builds(
    Verdict,
    confidence=st.none() | st.floats(0, 1),
    problem=st.sampled_from([Reason.MALFORMED, Reason.NO_ANSWER, Reason.TRUNCATED, Reason.REFUSAL]),
)
triage_results = st.one_of(
    st.builds(TierReply, verdict=verdicts),
    st.builds(TierReply, verdict=problems),
    st.builds(RuntimeError),
    st.just(TierReply()),
)
thresholds = st.sampled_from([0.5, 0.8, 0.85, 0.9]) | st.floats(0, 1)
tier_lists = st.sampled_from([TWO, THREE])


@st.composite
def scripts(draw: st.DrawFn) -> tuple[tuple[Tier, ...], list[Scripted]]:
    tiers = draw(tier_lists)
    results = [draw(triage_results) for _ in tiers[:-1]]
    return tiers, [*results, draw(st.just(DEEP) | st.builds(OSError))]


def ships(result: Scripted, threshold: float) -> bool:
    verdict = None if isinstance(result, BaseException) else result.verdict
    return verdict is not None and decide(verdict, threshold=threshold)[0] is Outcome.SHIP


class TestAnyCourse:
    @steady
    @given(script=scripts(), threshold=thresholds, base=thresholds)
    def test_ships_exactly_what_the_judge_ships(self, script, threshold, base):
        tiers, results = script
        course = drive(begin(tiers, threshold=threshold, base=base), Performer(results))
        shipping = next((result for result in results[:-1] if ships(result, threshold)), None)
        if shipping is not None:
            assert course.answer is shipping
            assert course.error is None
        elif isinstance(results[-1], BaseException):
            assert course.error is results[-1]
        else:
            assert course.answer is results[-1]

    @steady
    @given(script=scripts(), threshold=thresholds, base=thresholds)
    def test_asks_in_tier_order_and_the_deep_tier_once_when_nothing_ships(self, script, threshold, base):
        tiers, results = script
        performer = Performer(results)
        course = drive(begin(tiers, threshold=threshold, base=base), performer)
        assert [ask.tier for ask in performer.asks] == list(tiers[: len(performer.asks)])
        assert [step.ask for step in course.steps] == performer.asks
        deep = [ask for ask in performer.asks if ask.tier.is_deep]
        assert len(deep) == (0 if any(ships(result, threshold) for result in results[:-1]) else 1)
        assert all((ask.kind == "original") == ask.tier.is_deep for ask in performer.asks)

    @steady
    @given(script=scripts(), threshold=thresholds, base=thresholds)
    def test_has_a_reason_exactly_when_it_left_the_first_tier(self, script, threshold, base):
        tiers, results = script
        course = drive(begin(tiers, threshold=threshold, base=base), Performer(results))
        assert (course.reason is None) == ships(results[0], threshold)
        assert (course.base_outcome is Outcome.SHIP) == ships(results[0], base)
        assert (course.base_reason is None) == (course.base_outcome is Outcome.SHIP)
        withheld = ships(results[0], base) and not ships(results[0], threshold)
        assert (course.reason is Reason.RAISED_THRESHOLD) == withheld

    @steady
    @given(script=scripts(), threshold=thresholds, base=thresholds)
    def test_is_the_same_when_it_is_awaited(self, script, threshold, base):
        tiers, results = script
        waiting, direct = Performer(results), Performer(results)
        awaited = asyncio.run(adrive(begin(tiers, threshold=threshold, base=base), waiting.later))
        assert awaited == drive(begin(tiers, threshold=threshold, base=base), direct)
        assert waiting.asks == direct.asks
