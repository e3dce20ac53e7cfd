import pytest
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops.guard.rules.cause_text import cause_text
from cheapdeep_ops.guard.statistics.attribution import Kind, as_facts, cause_of
from cheapdeep_ops.guard.statistics.contributions import BeforeAfter, Dimension, by_reason, contributions, surprise
from cheapdeep_ops.guard.statistics.intervals import Proportion

CLASS, ROUTE, MODEL, REASON = Dimension.INPUT_CLASS, Dimension.ROUTE, Dimension.MODEL, Dimension.REASON


def counts(**cells):
    return {name: Proportion(hits=hits, n=n) for name, (hits, n) in cells.items()}


def whole(side):
    return Proportion(hits=sum(each.hits for each in side.values()), n=sum(each.n for each in side.values()))


def cause(before, now, dimension=CLASS, **others):
    sides = {dimension: BeforeAfter(before=before, now=now)}
    return cause_of(whole(before), whole(now), {**sides, **others})


proportions = st.integers(1, 500).flatmap(
    lambda n: st.builds(Proportion, hits=st.integers(0, n), n=st.just(n)),
)
sides = st.dictionaries(st.text(max_size=8), proportions, min_size=1, max_size=6)
of_calls = st.sampled_from([each for each in Dimension if each is not REASON])


@given(sides, sides, of_calls)
def test_shares_add_up_to_one_and_mix_and_rate_to_the_whole_change(before, now, dimension):
    parts = contributions(dimension, BeforeAfter(before=before, now=now))
    change = whole(now).rate - whole(before).rate
    assert sum(part.mix + part.worse for part in parts) == pytest.approx(change, abs=1e-9)
    if change:
        assert sum(part.share * change for part in parts) == pytest.approx(change, abs=1e-9)


@given(
    st.dictionaries(st.text(max_size=8), st.integers(0, 50)), st.dictionaries(st.text(max_size=8), st.integers(0, 50))
)
def test_reasons_add_up_to_the_whole_change(before, now):
    parts = contributions(REASON, BeforeAfter(before=by_reason(before, 400), now=by_reason(now, 600)))
    change = sum(now.values()) / 600 - sum(before.values()) / 400
    assert sum(part.worse for part in parts) == pytest.approx(change if parts else 0, abs=1e-9)


@given(st.floats(-2, 3), st.floats(-2, 3))
def test_surprise_is_symmetric_and_bounded(fair, share):
    assert 0 <= surprise(fair, share) <= 0.3466
    assert surprise(fair, share) == pytest.approx(surprise(share, fair))
    assert surprise(share, share) == 0


@given(sides, sides)
def test_any_name_and_any_count_gives_a_cause_that_can_be_said(before, now):
    found = as_facts(cause(before, now))
    assert "\n" not in cause_text({**found, "compared_with": "the hour before"})


def test_a_small_class_that_went_bad_is_named_before_the_route_that_contains_it():
    before = counts(invoices=(3, 60), tickets=(30, 540), chat=(20, 400))
    now = counts(invoices=(60, 60), tickets=(28, 540), chat=(21, 400))
    routes = BeforeAfter(
        before=counts(support=(33, 600), shop=(20, 400)), now=counts(support=(88, 600), shop=(21, 400))
    )
    found = cause_of(whole(before), whole(now), {CLASS: BeforeAfter(before=before, now=now), ROUTE: routes})
    assert (found.kind, found.contributors[0].element, found.contributors[0].dimension) == (
        Kind.WORSE,
        "invoices",
        CLASS,
    )
    assert [part.element for part in found.also] == ["support"]


def test_a_route_whose_classes_all_got_worse_is_named_before_them():
    before = counts(a=(5, 100), b=(5, 100), c=(5, 100), x=(10, 200), y=(25, 500))
    now = counts(a=(50, 100), b=(48, 100), c=(53, 100), x=(11, 200), y=(24, 500))
    routes = BeforeAfter(before=counts(bad=(15, 300), good=(35, 700)), now=counts(bad=(151, 300), good=(35, 700)))
    found = cause_of(whole(before), whole(now), {CLASS: BeforeAfter(before=before, now=now), ROUTE: routes})
    assert (found.contributors[0].dimension, found.contributors[0].element) == (ROUTE, "bad")


def test_a_class_that_grew_is_a_mix_and_not_a_worse_class():
    before, now = counts(hard=(30, 50), easy=(47, 950)), counts(hard=(305, 500), easy=(25, 500))
    found = cause(before, now)
    assert (found.kind, found.contributors[0].element) == (Kind.MIX, "hard")
    assert found.mix > 0.9 * (found.mix + found.worse)
    assert "the mix changed: 5.0% -> 50.0% of the calls belong to it" in cause_text(
        {**as_facts(found), "compared_with": "the hour before"}
    )


def test_a_new_class_of_hard_calls_is_a_mix():
    found = cause(counts(easy=(50, 1000)), counts(easy=(50, 1000), hard=(400, 500)))
    assert (found.kind, found.contributors[0].element) == (Kind.MIX, "hard")
    assert "new -> 80.0%" in cause_text({**as_facts(found), "compared_with": "the hour before"})


def test_a_new_model_through_all_classes_is_named_and_got_worse():
    before, now = counts(a=(20, 400), b=(60, 600)), counts(a=(140, 400), b=(250, 600))
    models = BeforeAfter(before=counts(old=(80, 1000)), now=counts(old=(8, 100), new=(382, 900)))
    found = cause_of(whole(before), whole(now), {CLASS: BeforeAfter(before=before, now=now), MODEL: models})
    assert (found.kind, found.contributors[0].dimension, found.contributors[0].element) == (Kind.WORSE, MODEL, "new")


def test_a_model_and_a_prompt_that_came_together_are_both_told():
    models = BeforeAfter(before=counts(old=(50, 1000)), now=counts(new=(500, 1000)))
    prompts = BeforeAfter(before=counts(p1=(50, 1000)), now=counts(p2=(500, 1000)))
    found = cause_of(whole(models.before), whole(models.now), {MODEL: models, Dimension.PROMPT_VERSION: prompts})
    assert (found.contributors[0].element, [part.element for part in found.equivalent]) == ("new", ["p2"])
    assert "the same calls: prompt version p2" in cause_text({**as_facts(found), "compared_with": "the hour before"})


def test_where_all_calls_fail_in_one_way_the_reason_is_named():
    before, now = counts(a=(20, 400), b=(30, 600)), counts(a=(180, 400), b=(275, 600))
    reasons = BeforeAfter(
        before=by_reason({"low_confidence": 45, "malformed": 5}, 1000),
        now=by_reason({"low_confidence": 50, "malformed": 405}, 1000),
    )
    found = cause_of(whole(before), whole(now), {CLASS: BeforeAfter(before=before, now=now), REASON: reasons})
    assert (found.contributors[0].dimension, found.contributors[0].element) == (REASON, "malformed")
    assert "of all calls" in cause_text({**as_facts(found), "compared_with": "the hour before"})


def test_where_all_got_worse_alike_nothing_is_named():
    before, now = counts(a=(20, 400), b=(30, 600)), counts(a=(180, 400), b=(275, 600))
    found = cause(before, now)
    assert (found.kind, found.contributors) == (Kind.ALL, ())
    assert found.worse == pytest.approx(0.405, abs=1e-9)
    text = cause_text({**as_facts(found), "compared_with": "the hour before"})
    assert text == (
        "everything got worse: no single part of the calls stands out "
        "(5.0% (3.8% to 6.5%, n 1000) in the hour before, 45.5% (42.4% to 48.6%, n 1000) now)"
    )


def test_calls_without_a_name_are_never_to_blame():
    found = cause(
        {"": Proportion(hits=5, n=100), "a": Proportion(hits=40, n=900)},
        {"": Proportion(hits=95, n=100), "a": Proportion(hits=40, n=900)},
    )
    assert (found.kind, found.contributors) == (Kind.ALL, ())


def test_without_calls_before_or_now_or_a_rise_the_cause_is_unknown():
    some, few = counts(a=(50, 100)), counts(a=(5, 10))
    assert cause(few, some).kind is Kind.UNKNOWN
    assert cause(some, few).kind is Kind.UNKNOWN
    assert cause({}, some).kind is Kind.UNKNOWN
    same = cause(some, some)
    assert (same.kind, same.why) == (Kind.UNKNOWN, "the rate is no higher than before")
    assert cause_text(as_facts(same)) == "unknown: the rate is no higher than before"


def test_a_class_may_be_named_like_markup():
    name = "<!channel>\n*x*"
    found = cause(
        {name: Proportion(hits=1, n=100), "b": Proportion(hits=9, n=900)},
        {name: Proportion(hits=90, n=100), "b": Proportion(hits=9, n=900)},
    )
    text = cause_text({**as_facts(found), "compared_with": "the hour before"}, repr)
    assert repr(name) in text
