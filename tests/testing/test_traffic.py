import collections

import pytest

from cheapdeep_ops.testing import CLASSES, FrozenClock, TrafficClass
from cheapdeep_ops.testing.traffic.kinds import draw_answer

DRAWS = 4_000
BY_NAME = {known.name: known for known in CLASSES}
MODEL = "claude-haiku-4-5"
ESCALATES = {
    "faq": (0.10, 0.36),
    "billing": (0.20, 0.45),
    "legal": (0.75, 0.83),
    "band30": (0.30, 0.60),
    "overconfident": (0.02, 0.04),
    "outdated": (0.10, 0.60),
    "boolq_claude3haiku": (0.019, 0.125),
}


def outcomes(known):
    return [draw_answer(known.prompt(n), model=MODEL, seed=0, classes=CLASSES) for n in range(DRAWS)]


def rate(flags):
    flags = list(flags)
    return sum(flags) / len(flags)


def test_every_ready_class_is_described_here():
    assert set(ESCALATES) == set(BY_NAME)


@pytest.mark.parametrize("name", BY_NAME)
def test_distribution_is_the_one_stated(name):
    known, drawn = BY_NAME[name], outcomes(BY_NAME[name])
    assert {one.traffic_class for one in drawn} == {name}
    total = sum(known.confidences.values())
    counted = collections.Counter(one.confidence for one in drawn)
    for confidence, weight in known.confidences.items():
        # 5 standard errors of a share over 4,000 draws are at most 0.04.
        assert counted[confidence] / DRAWS == pytest.approx(weight / total, abs=0.04)


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize(("threshold", "column"), [(0.8, 0), (0.9, 1)])
def test_escalation_by_threshold(name, threshold, column):
    escalated = rate(
        one.confidence is None or one.withheld or one.confidence < threshold for one in outcomes(BY_NAME[name])
    )
    assert escalated == pytest.approx(ESCALATES[name][column], abs=0.03)


@pytest.mark.parametrize(
    ("name", "wrong"), [("boolq_claude3haiku", 0.242), ("overconfident", 0.4), ("faq", 0.022), ("outdated", 0.358)]
)
def test_wrong_among_shipped(name, wrong):
    shipped = [one for one in outcomes(BY_NAME[name]) if (one.confidence or 0) >= 0.8]
    assert rate(not one.correct for one in shipped) == pytest.approx(wrong, abs=0.03)


def test_some_mass_lies_exactly_on_both_thresholds():
    assert {0.8, 0.9} <= {one.confidence for one in outcomes(BY_NAME["faq"])}


def test_prompts_and_answers_differ_by_question():
    for known in CLASSES:
        prompts = {known.prompt(n) for n in range(200)}
        assert len(prompts) == 200
        assert all(known.marker in prompt for prompt in prompts)
        assert not any(other.marker in prompt for prompt in prompts for other in CLASSES if other is not known)
    assert len({one.answer for one in outcomes(BY_NAME["faq"])}) == DRAWS


def test_model_and_seed_are_part_of_the_draw():
    text = CLASSES[0].prompt(1)
    seen = {
        draw_answer(text, model=model, seed=seed, classes=CLASSES).answer for model in ("a", "b") for seed in (0, 1)
    }
    assert len(seen) == 4


def test_prompt_without_a_marker_falls_to_the_first_class():
    assert draw_answer("good morning", model=MODEL, seed=0, classes=CLASSES).traffic_class == CLASSES[0].name


def test_answers_below_one_half_may_be_kept():
    keeping = TrafficClass(name="k", marker="k", confidences={0.2: 1}, escalating_answer=False)
    one = draw_answer("k", model=MODEL, seed=0, classes=[keeping])
    assert not one.withheld
    assert one.answer in one.triage_text


def test_both_ends_of_the_weights_are_reached():
    known = TrafficClass(name="k", marker="k", confidences={0.1: 1, 0.9: 1, 0.5: 0})
    assert known.confidence_at(0.0) == 0.1
    assert known.confidence_at(1.0) == 0.9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "needs a name and a marker"),
        ({"marker": ""}, "needs a name and a marker"),
        ({"confidences": {1.2: 1}}, "confidences must be None or from 0 to 1"),
        ({"confidences": {0.9: -1}}, "weights must be 0 or more"),
        ({"confidences": {0.9: float("nan")}}, "weights must be 0 or more"),
        ({"confidences": {}}, "at least one confidence"),
        ({"confidences": {0.9: 0}}, "at least one confidence"),
        ({"accuracy": 1.5}, "accuracy must be from 0 to 1"),
        ({"accuracy": {0.8: 1.0}}, r"accuracy lacks the confidences \[0.9\]"),
        ({"prompt_templates": ()}, "at least one prompt"),
        ({"answer_templates": ()}, "at least one prompt and one answer"),
        ({"prompt_templates": ("{n} only",)}, "the fields marker and n"),
    ],
)
def test_classes_that_cannot_be_drawn_from_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TrafficClass(**{"name": "k", "marker": "k", "confidences": {0.9: 1}, **change})


def test_frozen_clock_moves_forward_only():
    clock = FrozenClock(10.0)
    assert clock() == clock() == 10.0
    assert clock.advance(2.5) == clock() == 12.5
    assert clock.set(20) == clock() == 20.0
    for backwards in (lambda: clock.advance(-1), lambda: clock.set(19.9), lambda: clock.set(float("nan"))):
        with pytest.raises(ValueError, match="does not go backwards"):
            backwards()
    assert clock() == 20.0
