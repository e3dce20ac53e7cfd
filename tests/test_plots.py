"""The receipt's plots: what is drawn where, and what is said to those who cannot see it."""

from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cheapdeep_ops.cli.render.figures import change_words, figures, reasons, reliability
from cheapdeep_ops.cli.render.svg import SvgPlot, nice_top, time_ticks

HOSTILE = 'x<script>alert(1)</script>"&\n'
DAY_S = 86_400


def drawn(plot, kind, tag="path"):
    return [each for each in ET.fromstring(str(plot)).iter(tag) if kind in each.get("class", "").split()]


def plot(**more):
    return SvgPlot("title", "description", x=(0, 10), y=(0, 1), **more)


def point(at, **more):
    known = {"middle": at + 5, "calls": 10, "triaged": 8, "escalated": 4, "escalation_rate": 0.5}
    rest = {
        "base_escalation_rate": 0.4,
        "base_escalation_interval": [0.2, 0.6],
        "cost_per_call_usd": 0.001,
        "baseline_per_call_usd": 0.004,
        "saving": 0.75,
    }
    return {"at": at, **known, **rest, **more}


EMPTY = {
    "calls": 0,
    "triaged": 0,
    "escalated": 0,
    "escalation_rate": None,
    "base_escalation_rate": None,
    "base_escalation_interval": [0.0, 1.0],
    "cost_per_call_usd": None,
    "baseline_per_call_usd": None,
    "saving": None,
}


def change(**more):
    row = {"at": 25.0, "scope": "*", "act": "raise", "from_threshold": 0.8, "to_threshold": 0.9}
    return {**row, "cause": "EscalationStorm", "author": "", "why": "", **more}


def trends(points, **more):
    known = {"since": 0, "until": 40, "step_s": 10, "limit": 0.35, "objective": None, "changes": [], "quality": {}}
    return {**known, "points": points, **more}


def whole(course, **found):
    return ET.fromstring(figures({"reasons": {}, "confidence": {}, **found}, course).replace("&nbsp;", " "))


def figure(course, title, **found):
    return next(each for each in whole(course, **found) if each.findtext("h3") == title)


def marks(within, tag, kind):
    return [each for each in within.iter(tag) if kind in each.get("class", "").split()]


def test_a_gap_is_a_gap_and_a_point_alone_is_a_dot():
    canvas = plot()
    canvas.line("rate", [(0, 0.1), (1, 0.2), (2, None), (3, 0.3), (4, None), (5, 0.4), (6, 0.5)])
    assert len(drawn(canvas, "rate")) == 2
    assert len(drawn(canvas, "rate", "circle")) == 1


def test_a_band_has_the_same_gaps():
    canvas = plot()
    canvas.band("rate", [(0, (0.1, 0.2)), (1, (0.2, 0.3)), (2, None), (3, (0.1, 0.9)), (4, None)])
    assert len(drawn(canvas, "area")) == len(drawn(canvas, "whisker")) == 1


def test_what_lies_beyond_an_axis_stays_at_its_end():
    canvas = plot()
    canvas.dot("a", 99, 7)
    canvas.dot("a", 10, 1)
    first, second = drawn(canvas, "a", "circle")
    assert first.attrib == second.attrib


def test_higher_is_further_up_and_later_further_right():
    canvas = plot()
    canvas.dot("a", 2, 0.2)
    canvas.dot("a", 8, 0.8)
    low, high = drawn(canvas, "a", "circle")
    assert float(low.get("cx")) < float(high.get("cx"))
    assert float(low.get("cy")) > float(high.get("cy"))


def test_text_is_text():
    canvas = SvgPlot(HOSTILE, HOSTILE, x=(0, 1), y=(0, 1))
    canvas.upright("up", 0.5, HOSTILE)
    found = ET.fromstring(str(canvas))
    assert {each.tag for each in found.iter()} == {"svg", "title", "desc", "path"}
    assert found.findtext("title") == found.findtext("desc") == HOSTILE


@given(st.floats(1e-9, 1e12))
def test_an_axis_ends_at_a_round_number_that_is_no_less_and_not_twice_as_much(most):
    assert most * (1 - 1e-6) <= nice_top(most) <= most * 2 * (1 + 1e-6)


@example(5e-324, 6.0)
@given(st.floats(0, 4e9), st.floats(0.01, 3e9))
def test_ticks_lie_within_the_period_and_are_few(since, lasts_s):
    ticks = time_ticks(since, since + lasts_s)
    assert len(ticks) <= 6
    assert all(since <= at <= since + lasts_s for at, _ in ticks)


def test_ticks_say_the_day_where_one_begins():
    assert [label for _, label in time_ticks(20_000 * DAY_S - 7_000, 20_000 * DAY_S + 7_000)] == [
        "23:00",
        "04 Oct",
        "01:00",
    ]


def test_nothing_is_drawn_of_nothing():
    assert figures({"reasons": {}, "confidence": {}}, trends([])) == ""
    assert reliability([]) == reasons({}) == ""


def test_no_calls_are_a_gap_in_every_rate_and_cost_and_no_bar():
    found = trends([point(0), point(10), point(20, **EMPTY), point(30)])
    rates = figure(found, "Escalation rate")
    assert len(marks(rates, "path", "actual")) == len(marks(rates, "circle", "actual")) == 1
    assert len(marks(rates, "path", "area")) == len(marks(rates, "path", "whisker")) == 1
    assert len(marks(rates, "path", "limit")) == 1
    cost = figure(found, "Cost of a call")
    assert len(marks(cost, "path", "deep")) == len(marks(cost, "path", "area")) == 1
    assert len(marks(figure(found, "Calls in steps of 10 s"), "rect", "actual")) == 3


def test_bars_add_up_to_the_calls():
    bars = list(figure(trends([point(0)]), "Calls in steps of 10 s").iter("rect"))
    heights = {each.get("class"): float(each.get("height")) for each in bars}
    assert heights["actual"] == heights["base"] == pytest.approx(2 * heights["other"], abs=0.2)


def test_nothing_is_called_saved_where_routing_costs_more():
    dear = [point(at, cost_per_call_usd=0.005) for at in (0, 10)]
    assert not marks(figure(trends(dear), "Cost of a call"), "path", "area")


def test_a_change_is_marked_where_it_concerns_the_plot_and_says_what_it_was():
    points = [{"middle": 5, "graded": 9, "false_confident_rate": 0.1, "false_confident_interval": [0.0, 0.4]}]
    facts = {"points": points, "normal": None}
    changes = [change(scope="a"), change(to_threshold=0.8, from_threshold=0.9), change(to_threshold=0.8)]
    found = trends([point(0)], changes=changes, quality={"*": facts, "a": facts, HOSTILE: facts})
    rates = figure(found, "Escalation rate")
    assert marks(rates, "path", "up")[0].findtext("title") == change_words(change(scope="a"))
    assert [len(marks(rates, "path", kind)) for kind in ("up", "down")] == [1, 1]
    for scope, ups in {"all routes": 1, "route a": 1, 'route x<script>alert(1)</script>"&': 0}.items():
        assert len(marks(figure(found, f"False-confident rate, {scope}"), "path", "up")) == ups


def test_false_confidence_has_its_levels_and_the_description_says_them():
    points = [
        {"middle": 5, "graded": 0, "false_confident_rate": None, "false_confident_interval": [0.0, 1.0]},
        {"middle": 15, "graded": 9, "false_confident_rate": 0.1, "false_confident_interval": [0.02, 0.4]},
    ]
    normal = {"rate": 0.05, "alarm_level": 0.1}
    found = trends([point(0)], objective=0.2, quality={"a": {"points": points, "normal": normal}})
    quality = figure(found, "False-confident rate, route a")
    assert [len(marks(quality, "path", kind)) for kind in ("normal", "alarm", "limit", "whisker")] == [1, 1, 1, 1]
    told = quality.findtext("svg/desc")
    assert told.startswith("9 grades. Rate: 10.0% at first, 10.0% at last")
    assert told.endswith("normal 5.0%; alarm level 10.0%; limit 20.0%.")
    without = trends([point(0)], quality={"a": {"points": points[:1], "normal": None}})
    titles = [each.findtext("h3") for each in whole(without)]
    assert titles, "the others are drawn"
    assert not [title for title in titles if title.startswith("False-confident")], "without a grade it would be empty"


def test_reasons_have_share_interval_and_count_and_names_stay_names():
    found = ET.fromstring(reasons({"malformed": 1, HOSTILE: 3, "refusal": 0}))
    rows = [["".join(cell.itertext()) for cell in row] for row in found.iter("tr")]
    assert rows[1:] == [[HOSTILE, "75.0% (30.1% to 95.4%)", "3"], ["malformed", "25.0% (4.6% to 69.9%)", "1"]]
    assert found.findtext("h3") == "Why calls escalated (n 4)"


def test_a_dot_of_the_reliability_diagram_lies_where_claimed_and_right_meet():
    found = ET.fromstring(
        reliability([{"claims": 0.75, "is_right": 0.75, "is_right_interval": (0.5, 1.0), "share": 0.25, "graded": 12}])
    )
    (dot,), (line,) = marks(found, "circle", "actual"), marks(found, "path", "deep")
    (left, bottom), (right, top) = (map(float, pair.split()) for pair in line.get("d")[1:].split("L"))
    assert float(dot.get("cx")) == pytest.approx((left + right) / 2, abs=0.1)
    assert float(dot.get("cy")) == pytest.approx((bottom + top) / 2, abs=0.1)
    assert dot.get("r") == "6.0"
    assert found.findtext("svg/desc") == "claims 75.0%, 75.0% are right."
