import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops.treatment import BY_NAME, DEFAULTS, FEATURES, Treatment, checked, read_changes, treatments
from cheapdeep_ops.values import BypassCause

NO_FEATURES = {
    BypassCause.CHEAP_REQUESTED,
    BypassCause.DEEP_REQUESTED,
    BypassCause.NO_TRIAGE_TIER,
    BypassCause.SHADOW,
    BypassCause.UNKNOWN_MODEL,
}
"""Causes that lie in the router's tiers or in what a gateway knows, not in a request."""


def test_every_feature_has_one_row_with_a_sentence():
    assert len(BY_NAME) == len(FEATURES)
    assert all(each.means.endswith(".") and "|" not in each.means for each in FEATURES)


def test_every_cause_is_that_of_a_feature_or_of_the_tiers():
    assert {each.cause for each in FEATURES if each.cause} == set(BypassCause) - NO_FEATURES


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_what_can_be_bypassed_has_a_cause_and_what_never_is_has_none(feature):
    assert (feature.cause is not None) is (Treatment.BYPASS in feature.possible)
    assert len(set(feature.possible)) == len(feature.possible)


def test_what_a_cheap_answer_cannot_give_is_bypassed_by_default():
    assert {name for name, treatment in DEFAULTS.items() if treatment is not Treatment.BYPASS} == {
        "system", "conversation", "cache_control", "carried", "effort", "sampling", "thinking_off",
    }  # fmt: skip


@given(st.lists(st.sampled_from(FEATURES), unique=True).flatmap(lambda few: st.tuples(
    *(st.tuples(st.just(each.name), st.sampled_from(each.possible)) for each in few))))  # fmt: skip
def test_changes_that_are_possible_are_read_back_from_their_text(pairs):
    changes = dict(pairs)
    assert checked(read_changes(", ".join(f"{name} = {treatment}" for name, treatment in pairs))) == changes
    assert treatments(changes) == {**DEFAULTS, **changes}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("images", "needs pairs such as"),
        ("images=triage,images=bypass", "no feature twice"),
        ("pictures=triage", "pictures is no feature; conversation, effort, "),
        ("=triage", " is no feature"),
        ("images=", "images can only be bypass or triage. Triaged, they go along"),
        ("images=translate", "images can only be bypass or triage. "),
        ("effort=triage", "effort can only be translate or bypass. "),
        ("tools=triage", "tools can only be bypass. A triage reply is an answer or none"),
        ("system=bypass", "system can only be triage. "),
        ("images=TRIAGE", "images can only be bypass or triage. "),
    ],
)
def test_a_change_that_cannot_be_says_what_can(text, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        checked(read_changes(text))


def test_nothing_and_empty_parts_change_nothing():
    assert read_changes("") == read_changes(" , ,") == {}


@pytest.mark.parametrize("changes", [{"images": 1}, {"images": None}, {"images": ["triage"]}, {3: "triage"}])
def test_values_of_other_types_are_refused_as_values(changes):
    with pytest.raises(ValueError, match=r"images can only be|3 is no feature"):
        checked(changes)
