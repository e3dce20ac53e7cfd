"""The charts of the console as options: where their labels are, and that an incident has one chart everywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("nicegui", reason="NiceGUI is not installed; the extra dev has it")

from cheapdeep_ops.guard.console import charts, readings
from cheapdeep_ops.guard.console.charts import Mark, Marks, Span, lanes
from cheapdeep_ops.guard.pictures import incident_chart
from cheapdeep_ops.store import incidents

TIMES = st.lists(st.floats(0, 3_600), max_size=40).map(sorted)


@pytest.mark.thorough
@given(TIMES, st.integers(1, 6), st.booleans())
def test_no_label_covers_another_however_close_the_incidents_are(times, most, is_centred):
    labels = [(at, f"#{number}") for number, at in enumerate(times, 1)]
    found = lanes(labels, (0.0, 3_600.0), most=most, is_centred=is_centred)
    placed: dict[int, float] = {}
    for (at, text), lane in zip(labels, found, strict=True):
        left = at / 3_600 * charts._NARROWEST
        width = len(text) * charts._LETTER
        left -= width * (1 if at > charts._NEAR_THE_END * 3_600 else 0.5) if is_centred else 0
        if lane is None:
            assert all(end > left - charts._SPACE for end in placed.values()), "there was room"
            assert len(placed) == most
            continue
        assert left >= placed.get(lane, -1e9)
        placed[lane] = left + width


def test_labels_of_incidents_that_begin_together_are_one_below_another():
    spans = tuple(Span(incident=number, since=600.0 + number, until=None) for number in (2, 3))
    changes = (Mark(at=600.0, threshold=0.9), Mark(at=660.0, threshold=0.8, is_human=True))
    line = charts._marked({"name": "x"}, Marks(changes=changes, incidents=spans), 0.0, 3_600.0)
    labels = [begin["label"] for begin, _ in line["markArea"]["data"]]
    assert [(each["formatter"], each["offset"], each["show"]) for each in labels] == [
        ("#2", [0, 0], True), ("#3", [0, 14], True),
    ]  # fmt: skip
    assert [each["label"]["distance"] for each in line["markLine"]["data"]] == [2, 16]


@pytest.mark.thorough
@pytest.mark.parametrize("engine", ["sqlite"])
def test_an_incident_has_one_chart_on_the_console_and_in_messages(town):
    town.run(300, [0.95] * 8 + [0.5] * 2)
    town.run(90, [0.95] * 2 + [0.5] * 8)
    with town.store.reading() as connection:
        (incident,) = incidents.incidents(connection)
        picture = incident_chart.chart_of(connection, incident["announced"], now=town.clock())
        options = readings.chart_of(connection, incident, now=town.clock())
    base = options["series"][0]
    shown = [(at, rate) for at, rate in base["data"] if rate is not None]
    assert len(shown) == sum(map(len, picture.runs))
    assert shown[-1][1] == pytest.approx(picture.runs[-1][-1].rate * 100, abs=0.1)
    limit, *marks = base["markLine"]["data"]
    assert limit["yAxis"] == picture.limit * 100
    assert [mark["xAxis"] / 1000 for mark in marks] == [mark.at for mark in picture.marks]
    assert base["markArea"]["data"][0][0]["xAxis"] / 1000 == picture.began
