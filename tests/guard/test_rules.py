import math
from collections import deque
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cheapdeep_ops.guard.rules.escalation.detection import (
    CLIMBS,
    DetectorRun,
    SecondOfCalls,
    WindowReading,
    climb_of,
    decided_by,
    level_of,
)
from cheapdeep_ops.guard.rules.escalation.rule import StormRule
from cheapdeep_ops.guard.rules.escalation.windows import EscalationWindows
from cheapdeep_ops.guard.rules.model import AlertState, Level, ScopedAlert, Transition, seconds, step
from cheapdeep_ops.guard.statistics.intervals import Proportion
from cheapdeep_ops.guard.statistics.sequential import Bets, Detector
from cheapdeep_ops.store.second_counts import SecondCounts

steady = settings(derandomize=True, deadline=None, max_examples=300, database=None)

ABOVE, BELOW, UNCLEAR, NO_DATA = Level.ABOVE, Level.BELOW, Level.UNCLEAR, Level.NO_DATA
I, P, F = AlertState.INACTIVE, AlertState.PENDING, AlertState.FIRING  # noqa: E741 - columns of the tables below
STARTED, RESOLVED = Transition.STARTED, Transition.RESOLVED


def rule_of(**changes: object) -> StormRule:
    known = {
        "alert": "EscalationStorm",
        "signal": "base_escalation_rate",
        "limit": "max_escalation_rate",
        "windows": {"long": 300.0, "short": 60.0},
        "min_calls": 100,
        "keep_firing_for": 120.0,
        "actions": ["notify", "raise_threshold"],
    }
    return StormRule.model_validate({**known, **changes})


def reading_of(
    long: tuple[int, int], short: tuple[int, int] | None = None, *, seconds: int = 60, limit: float | None = 0.35
) -> WindowReading:
    short = long if short is None else short
    return WindowReading(
        long=Proportion(hits=long[0], n=long[1]),
        short=Proportion(hits=short[0], n=short[1]),
        seconds=seconds,
        limit=limit,
    )


def fresh() -> ScopedAlert:
    return ScopedAlert(rule="EscalationStorm", scope="support")


TIMELINES = {
    "fires at once without a hold, resolves after its own": (
        {},
        [
            (0, BELOW, I, None),
            (5, ABOVE, F, STARTED),
            (10, ABOVE, F, None),
            (15, BELOW, F, None),
            (130, BELOW, F, None),
            (135, BELOW, I, RESOLVED),
            (140, BELOW, I, None),
        ],
    ),
    "holds before it fires": (
        {"for": 10.0},
        [
            (0, ABOVE, P, None),
            (5, ABOVE, P, None),
            (10, ABOVE, F, STARTED),
            (15, ABOVE, F, None),
        ],
    ),
    "begins its hold anew after a look that was not above": (
        {"for": 10.0},
        [
            (0, ABOVE, P, None),
            (5, UNCLEAR, I, None),
            (10, ABOVE, P, None),
            (15, ABOVE, P, None),
            (20, ABOVE, F, STARTED),
        ],
    ),
    "begins its hold anew after a gap in the data": (
        {"for": 10.0},
        [
            (0, ABOVE, P, None),
            (5, NO_DATA, P, None),
            (50, NO_DATA, P, None),
            (55, ABOVE, P, None),
            (60, ABOVE, F, STARTED),
        ],
    ),
    "neither fires nor resolves without data": (
        {},
        [
            (0, NO_DATA, I, None),
            (500, NO_DATA, I, None),
            (505, ABOVE, F, STARTED),
            (510, NO_DATA, F, None),
            (9_000, NO_DATA, F, None),
            (9_005, BELOW, F, None),
            (9_125, BELOW, I, RESOLVED),
        ],
    ),
    "is kept firing anew by a gap in the data": (
        {},
        [
            (0, ABOVE, F, STARTED),
            (5, BELOW, F, None),
            (100, NO_DATA, F, None),
            (125, BELOW, F, None),
            (240, BELOW, F, None),
            (245, BELOW, I, RESOLVED),
        ],
    ),
    "is kept firing anew by a look that is unclear or above": (
        {},
        [
            (0, ABOVE, F, STARTED),
            (5, BELOW, F, None),
            (120, UNCLEAR, F, None),
            (125, BELOW, F, None),
            (240, ABOVE, F, None),
            (245, BELOW, F, None),
            (360, BELOW, F, None),
            (365, BELOW, I, RESOLVED),
        ],
    ),
    "does not flap while the rate goes up and down": (
        {},
        [(0, ABOVE, F, STARTED), *((5 * turn, (ABOVE, BELOW)[turn % 2], F, None) for turn in range(1, 40))],
    ),
    "resolves at once without a hold": (
        {"keep_firing_for": 0.0},
        [(0, ABOVE, F, STARTED), (5, UNCLEAR, F, None), (10, BELOW, I, RESOLVED), (15, ABOVE, F, STARTED)],
    ),
    "stays quiet while nothing is above": (
        {},
        [(0, UNCLEAR, I, None), (5, BELOW, I, None), (10, NO_DATA, I, None), (15, UNCLEAR, I, None)],
    ),
}


class TestAnAlert:
    @pytest.mark.parametrize("timeline", TIMELINES)
    def test(self, timeline):
        changes, rows = TIMELINES[timeline]
        rule, alert, lived = rule_of(**changes), fresh(), []
        for now, level, *_ in rows:
            alert, turn = step(rule, alert, level, float(now))
            lived.append((now, level, alert.state, turn))
        assert lived == rows

    def test_knows_since_when_it_has_been_in_its_state(self):
        rule = rule_of(**{"for": 10.0})
        pending, _ = step(rule, fresh(), ABOVE, 100.0)
        still, _ = step(rule, pending, ABOVE, 105.0)
        firing, _ = step(rule, still, ABOVE, 110.0)
        assert [alert.since for alert in (pending, still, firing)] == [100.0, 100.0, 110.0]
        waiting, _ = step(rule, firing, BELOW, 115.0)
        assert (waiting.since, waiting.below_since) == (110.0, 115.0)
        resolved, _ = step(rule, waiting, BELOW, 235.0)
        assert (resolved.since, resolved.below_since) == (235.0, None)

    def test_keeps_its_names_through_all_of_it(self):
        alert = ScopedAlert(rule="EscalationStorm", scope="support", incident_id=7)
        for now, level in enumerate((ABOVE, BELOW, NO_DATA, UNCLEAR)):
            alert, _ = step(rule_of(), alert, level, float(now))
            assert (alert.rule, alert.scope, alert.incident_id) == ("EscalationStorm", "support", 7)

    @steady
    @given(
        looks=st.lists(st.tuples(st.floats(0.1, 200), st.sampled_from(Level)), max_size=40),
        hold=st.sampled_from([0.0, 30.0]),
        keep=st.sampled_from([0.0, 120.0]),
    )
    def test_begins_only_above_and_ends_only_below_and_never_without_data(self, looks, hold, keep):
        rule, alert, now = rule_of(**{"for": hold, "keep_firing_for": keep}), fresh(), 0.0
        above_for, below_for = 0.0, 0.0
        last: Level | None = None
        for wait, level in looks:
            now += wait
            above_for = above_for + wait if last is level is ABOVE else 0.0
            below_for = below_for + wait if last is level is BELOW else 0.0
            before, (alert, turn) = alert, step(rule, alert, level, now)
            last = level
            assert (turn is STARTED) == (before.state is not F and alert.state is F)
            assert (turn is RESOLVED) == (before.state is F and alert.state is not F)
            if turn is STARTED:
                assert level is ABOVE
            if turn is RESOLVED:
                assert level is BELOW
                assert below_for >= keep - 1e-6
            if level is NO_DATA:
                assert alert.state is before.state
            if alert.state is I:
                assert alert.below_since is None

    @steady
    @given(st.lists(st.sampled_from([BELOW, UNCLEAR, NO_DATA]), max_size=50), st.sampled_from([0.0, 10.0]))
    def test_never_fires_without_a_look_above(self, levels, hold):
        rule, alert = rule_of(**{"for": hold}), fresh()
        for number, level in enumerate(levels):
            alert, turn = step(rule, alert, level, number * 5.0)
            assert (alert.state, turn) == (I, None)

    @steady
    @given(
        st.lists(st.sampled_from([ABOVE, NO_DATA, UNCLEAR, BELOW]), max_size=60), st.sampled_from([10.0, 15.0, 30.0])
    )
    def test_fires_only_after_looks_above_for_the_whole_hold(self, levels, hold):
        rule, alert = rule_of(**{"for": hold}), fresh()
        for number, level in enumerate(levels):
            alert, turn = step(rule, alert, level, number * 5.0)
            if turn is STARTED:
                needed = int(hold / 5)
                assert levels[number - needed + 1 : number + 1] == [ABOVE] * needed


class TestTheLevel:
    @pytest.mark.parametrize(
        ("reading", "level"),
        [
            (reading_of((60, 100)), ABOVE),
            (reading_of((600, 1_000), (120, 200)), ABOVE),
            (reading_of((200, 1_000), (40, 200)), BELOW),
            (reading_of((36, 100)), UNCLEAR),
            (reading_of((450, 1_000), (75, 200)), UNCLEAR),  # the short window's interval reaches below the limit
            (reading_of((370, 1_000), (120, 200)), UNCLEAR),  # the long one's does
            (reading_of((600, 1_000), (20, 200)), BELOW),  # it was a storm, and it is over
            (reading_of((600, 1_000), (0, 10)), UNCLEAR),  # too few lately to say that it is over
            (reading_of((200, 1_000), (10, 10)), BELOW),  # too few lately to say that it has begun
            (reading_of((60, 99)), NO_DATA),
            (reading_of((0, 0)), NO_DATA),
            (reading_of((600, 1_000), (0, 0)), NO_DATA),  # a route that fell silent
            (reading_of((60, 100), limit=None), NO_DATA),
            (reading_of((1_000, 1_000), limit=1.0), BELOW),
            (reading_of((100, 100), limit=0.0), ABOVE),
            (reading_of((0, 100), limit=0.0), BELOW),
        ],
    )
    def test_follows_the_interval(self, reading, level):
        assert level_of(rule_of(), reading) is level

    def test_of_7_in_20_at_a_limit_below_that_is_not_above(self):
        rule = rule_of(min_calls=20)
        assert level_of(rule, reading_of((7, 20), limit=0.2)) is UNCLEAR
        assert level_of(rule, reading_of((7, 20))) is BELOW

    @pytest.mark.parametrize("n", [100, 1_000, 100_000, 10_000_000])
    def test_of_exactly_35_percent_is_below_however_many_there_are(self, n):
        assert level_of(rule_of(), reading_of((n * 35 // 100, n))) is BELOW

    @pytest.mark.parametrize(("distinct", "level"), [(1, UNCLEAR), (2, UNCLEAR), (3, ABOVE)])
    def test_of_one_burst_is_not_above(self, distinct, level):
        assert level_of(rule_of(), reading_of((1_000, 1_000), seconds=distinct)) is level

    @pytest.mark.parametrize(("n", "level"), [(99, NO_DATA), (100, ABOVE)])
    def test_needs_enough_calls(self, n, level):
        assert level_of(rule_of(), reading_of((n, n))) is level

    def test_of_the_same_calls_depends_on_the_confidence_asked_for(self):
        reading = reading_of((45, 100))
        assert level_of(rule_of(confidence=0.9), reading) is ABOVE
        assert level_of(rule_of(confidence=0.9999), reading) is UNCLEAR

    @steady
    @given(
        st.integers(0, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
        st.integers(0, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
        st.integers(0, 10),
        st.none() | st.floats(0, 1),
    )
    def test_above_needs_all_of_it(self, long, short, distinct, limit):
        level = level_of(rule_of(), reading_of(long, short, seconds=distinct, limit=limit))
        if level is ABOVE:
            assert limit is not None
            assert long[1] >= 100
            assert distinct >= 3
            assert long[0] > limit * long[1]
            assert short[0] > limit * short[1]
        if limit is None or not short[1]:
            assert level is NO_DATA


def base_escalations(rng: Random, rate: float, calls: int) -> int:
    return sum(rng.random() < rate for _ in range(calls))


class Windows:
    """Per-second counts, summed over the last so many seconds."""

    def __init__(self, length: int) -> None:
        self.kept: deque[tuple[int, int]] = deque(maxlen=length)
        self.hits = self.n = 0

    def add(self, hits: int, n: int) -> None:
        if len(self.kept) == self.kept.maxlen:
            self.hits, self.n = self.hits - self.kept[0][0], self.n - self.kept[0][1]
        self.kept.append((hits, n))
        self.hits, self.n = self.hits + hits, self.n + n


def turns_of(rates, *, calls: int, seed: int) -> list[tuple[int, Transition]]:
    """When the packaged storm rule's twin turns, over one rate for each second."""
    rng, rule, alert, turns = Random(seed), rule_of(), fresh(), []
    long, short = Windows(300), Windows(60)
    for second, rate in enumerate(rates, 1):
        hits = base_escalations(rng, rate, calls)
        long.add(hits, calls)
        short.add(hits, calls)
        if second % 5 == 0:
            reading = reading_of((long.hits, long.n), (short.hits, short.n), seconds=len(long.kept))
            alert, turn = step(rule, alert, level_of(rule, reading), float(second))
            turns += [(second, turn)] if turn else []
    return turns


class TestADayOfTraffic:
    @pytest.mark.parametrize("seed", [1, 2])
    def test_at_a_steady_30_percent_never_fires(self, seed):
        assert turns_of([0.30] * 86_400, calls=10, seed=seed) == []

    def test_at_30_percent_with_a_daily_rhythm_never_fires(self):
        rhythm = [0.30 + 0.03 * math.sin(second / 86_400 * math.tau) for second in range(86_400)]
        assert turns_of(rhythm, calls=10, seed=3) == []

    def test_with_a_storm_fires_once_soon_and_resolves_once_after_it(self):
        rates = [0.15] * 3_600 + [0.60] * 1_200 + [0.15] * 3_600
        (began, started), (ended, resolved) = turns_of(rates, calls=10, seed=4)
        assert (started, resolved) == (STARTED, RESOLVED)
        assert 3_600 < began <= 3_600 + 180
        assert 4_800 + 120 <= ended <= 4_800 + 240


class TestARule:
    def test_takes_prometheus_durations_and_seconds(self):
        rule = rule_of(windows={"long": "5m", "short": "1m30s"}, keep_firing_for=2, **{"for": "500ms"})
        assert (rule.windows.long, rule.windows.short, rule.keep_firing_for, rule.pending_for) == (300, 90, 2, 0.5)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [("30s", 30), ("5m", 300), ("1h30m", 5_400), ("1d", 86_400), ("2w", 1_209_600), ("1.5h", 5_400),
         ("250ms", 0.25), ("0s", 0), (7, 7), (None, None)],
    )  # fmt: skip
    def test_reads_a_duration(self, text, expected):
        assert seconds(text) == expected

    @pytest.mark.parametrize("text", ["", "5", "5 m", "m", "-5m", "5m!", "five minutes", "5M", "1h 30m", " 5m", "5m\n"])
    def test_refuses_what_is_no_duration(self, text):
        with pytest.raises(ValueError, match="not a duration"):
            seconds(text)

    @pytest.mark.parametrize(
        "changes",
        [
            {"keep_firing_for": True}, {"for": False}, {"for": -1}, {"for": math.inf}, {"for": math.nan}, {"for": None},
            {"for": "9" * 400 + "s"}, {"windows": {"long": "0s", "short": "0s"}}, {"windows": {"long": "5m"}},
            {"windows": {"long": math.inf, "short": 1}}, {"min_calls": True}, {"min_calls": "100"}, {"min_calls": 0},
            {"min_seconds": 0}, {"confidence": 1}, {"confidence": 0.5}, {"confidence": "0.99"}, {"alert": "two words"},
            {"signal": "mood"}, {"limit": 35}, {"windows": {"long": "1m", "short": "5m"}},
            {"actions": ["shout"]}, {"labels": {"severity": 5}}, {"expr": "1 > 0"},
        ],
    )  # fmt: skip
    def test_refuses_what_it_cannot_mean(self, changes):
        with pytest.raises(ValidationError):
            rule_of(**changes)


def seconds_of(*counts: tuple[int, int], begin: int = 0) -> list[SecondOfCalls]:
    return [SecondOfCalls(begin + at, hits, n) for at, (hits, n) in enumerate(counts)]


def climb(*counts: tuple[int, int], limit: float | None = 0.35, **changes: object) -> DetectorRun:
    return climb_of(rule_of(**changes), limit, seconds_of(*counts), until=float(len(counts)))


class TestAClimb:
    """What the sequential test says, second by second."""

    @steady
    @given(st.lists(st.booleans(), min_size=1, max_size=80), st.sampled_from([0.05, 0.35, 0.7]))
    def test_of_one_call_a_second_is_worth_what_the_detector_says(self, calls, limit):
        detector, bets = Detector(), Bets.on_climb(limit, CLIMBS)
        for hit in calls:
            detector = detector.after(bets, int(hit), 1)
        found = climb(*((int(hit), 1) for hit in calls), limit=limit, min_seconds=1, alpha=1e-9)
        assert found.evidence == pytest.approx(detector.evidence, abs=1e-9)

    @steady
    @given(st.lists(st.tuples(st.integers(0, 8), st.just(8)), min_size=2, max_size=60), st.integers(1, 59))
    def test_is_never_worth_more_in_a_shorter_window(self, counts, cut):
        cut = min(cut, len(counts) - 1)
        assert climb(*counts[cut:]).evidence <= climb(*counts).evidence + 1e-9

    @pytest.mark.parametrize("n", [10, 1_000, 100_000, 10_000_000])
    @pytest.mark.parametrize("bursts", [1, 2])
    def test_of_a_burst_or_two_is_never_enough_whatever_their_size(self, n, bursts):
        counts = [(0, 2)] * 50 + [(n, n)] * bursts
        for quiet in range(20):
            found = climb(*counts, *[(1, 10)] * quiet)
            assert found.evidence < rule_of().evidence_limit

    def test_begins_where_the_rate_changed(self):
        found = climb(*[(1, 10)] * 100, *[(6, 10)] * 15)
        assert (found.lasted, found.seconds, found.calls) == (15, 15, Proportion(hits=90, n=150))
        assert found.evidence > rule_of().evidence_limit

    def test_over_a_long_storm_stays_a_number(self):
        found = climb(*[(100, 100)] * 300, min_seconds=1)
        assert math.isfinite(found.evidence)
        assert math.isfinite(climb(*[(0, 100_000)] * 300).evidence)

    @pytest.mark.parametrize("limit", [None, 0.0, 1.0])
    def test_over_no_limit_or_one_that_nothing_can_be_above_is_unknown(self, limit):
        assert climb((1, 1), limit=limit) == DetectorRun()

    def test_of_no_calls_is_unknown(self):
        assert climb() == DetectorRun()


def test_calls_before_the_last_incident_s_end_are_no_evidence_for_the_windows():
    reading = reading_of((180, 300), (25, 50))
    assert decided_by(rule_of(), reading) == "window"
    assert decided_by(rule_of(), replace(reading, fresh=Proportion(hits=30, n=100))) is None


class TestTheSequence:
    """Where the windows do not say yet that the rate is above."""

    CALM, STORM = Proportion(hits=450, n=3_000), Proportion(hits=140, n=600)

    def level(self, long=CALM, short=STORM, *, evidence=15.0, lasted=9.0, distinct=9):
        found = DetectorRun(evidence=evidence, lasted=lasted, seconds=distinct)
        reading = WindowReading(long=long, short=short, seconds=60, limit=0.35, climb=found)
        return level_of(rule_of(), reading), decided_by(rule_of(), reading)

    def test_fires_before_the_windows_do(self):
        assert self.level() == (ABOVE, "sequence")

    @pytest.mark.parametrize(
        "changes",
        [{"evidence": 14.5}, {"evidence": None}, {"distinct": 2}, {"lasted": 61.0}],
        ids=["too little", "none", "from two seconds", "old, and the recent rate is back"],
    )
    def test_does_not(self, changes):
        assert self.level(**changes) == (BELOW, None)

    def test_goes_on_while_the_recent_rate_is_above(self):
        assert self.level(short=Proportion(hits=240, n=600), lasted=200.0) == (ABOVE, "sequence")

    def test_says_nothing_of_few_calls(self):
        few = Proportion(hits=60, n=99)
        assert self.level(few, few) == (NO_DATA, None)

    def test_leaves_the_word_to_the_windows_where_they_say_so_too(self):
        assert self.level(Proportion(hits=600, n=1_000), Proportion(hits=60, n=100)) == (ABOVE, "window")

    @pytest.mark.parametrize(
        ("over", "scope", "fires"),
        [
            ({}, "support", True),
            ({"support": 260.0}, "support", True),
            ({"support": 298.0}, "support", False),
            ({"support": 298.0}, "*", False),  # a route that comes back to the others brings nothing of its own storm
            ({"*": 298.0}, "*", False),
            ({"*": 298.0}, "support", True),
        ],
    )
    def test_hears_only_what_came_after_the_last_storm_was_over(self, over, scope, fires):
        calm, storm = ([SecondCounts(at, 10, hits, hits) for at in range(*span)] for hits, span in SPANS)
        seconds = {"support": [*calm, *storm]}
        windows = EscalationWindows(rule=rule_of(), until=300.0, seconds=seconds, over=over)
        reading = windows.reading({"support"}, limit=0.35, scope=scope)
        assert (decided_by(rule_of(), reading) == "sequence") is fires


SPANS = ((1, (0, 280)), (7, (280, 300)))
"""Base escalations in ten calls a second: calm, then a storm of twenty seconds."""
