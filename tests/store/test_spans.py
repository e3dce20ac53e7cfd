"""Which folded rows answer for a period."""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from cheapdeep_ops.store.spans import WIDTHS, finest, spans_of

DAY = 86_400
edges = (
    st.integers(0, 20 * DAY)
    | st.integers(0, 20 * 24 * 60).map(lambda minute: minute * 60)
    | st.integers(0, 20 * 24).map(lambda hour: hour * 3_600)
)
hours = st.integers(0, 20 * 24).map(lambda hour: hour * 3_600)
days = st.integers(0, 20).map(lambda day: day * DAY)


def stored(hour, day):
    """The horizons of a store; minutes are never kept for longer than hours."""
    return {1: max(hour, day) + 3_600, 60: max(hour, day), 3_600: day}


def finest_width(at, horizons):
    return next((width for width in WIDTHS[:-1] if at >= horizons[width]), DAY)


def aligned(edge, horizons):
    width = finest_width(edge, horizons)
    return -(-edge // width) * width


@given(since=edges, until=edges, hour=hours, day=days, step=st.none() | st.sampled_from([60, 900, 3_600, 7_200, DAY]))
@example(since=DAY + 1, until=3 * DAY, hour=2 * DAY, day=0, step=None)
def test_a_period_is_covered_once_by_rows_that_are_stored(since, until, hour, day, step):
    horizons = stored(hour, day)
    spans = spans_of(since, until, horizons, step_s=step)
    begin, end = aligned(since, horizons), aligned(until, horizons)
    # Each span begins where the one before ends.
    assert [at for span in spans for at in span[1:]] == sorted(at for span in spans for at in span[1:])
    covered = [(span.begin, span.end) for span in spans]
    assert all(one[1] == next_[0] for one, next_ in pairwise(covered))
    assert (covered[0][0], covered[-1][1]) == (begin, end) if begin < end else not covered
    for width, first, last in spans:
        assert first % width == last % width == 0
        assert first >= horizons.get(width, 0)
        assert step is None or width == finest_width(first, horizons) or step % width == 0


@given(edge=edges, lasts=st.integers(0, 5 * DAY), more=st.integers(0, 5 * DAY), hour=hours, day=days)
def test_periods_that_follow_each_other_share_no_row_and_lose_none(edge, lasts, more, hour, day):
    horizons = stored(hour, day)
    middle, end = edge + lasts, edge + lasts + more

    def seconds(since, until):
        return sum(span.end - span.begin for span in spans_of(since, until, horizons))

    assert seconds(edge, middle) + seconds(middle, end) == seconds(edge, end)


def test_days_answer_inside_and_hours_and_minutes_at_the_edges():
    spans = spans_of(DAY - 3_661, 2 * DAY + 3_720, {})
    hour = 3_600
    assert spans == [
        (1, DAY - 3_661, DAY - 3_660), (60, DAY - 3_660, DAY - hour), (hour, DAY - hour, DAY), (DAY, DAY, 2 * DAY),
        (hour, 2 * DAY, 2 * DAY + hour), (60, 2 * DAY + hour, 2 * DAY + 3_720),
    ]  # fmt: skip


def test_the_finest_rows_of_each_age_are_found():
    assert finest(0, 4 * DAY + 61, {1: 4 * DAY + 60, 60: 3 * DAY, 3_600: 2 * DAY}) == [
        (DAY, 0, 2 * DAY), (3_600, 2 * DAY, 3 * DAY), (60, 3 * DAY, 4 * DAY + 60), (1, 4 * DAY + 60, 4 * DAY + 61),
    ]  # fmt: skip
