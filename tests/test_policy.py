import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cheapdeep_ops.errors import PolicyError
from cheapdeep_ops.policy import EffectivePolicy, PolicyAct, PolicyBook, ScopeState, act_on, blank_book
from cheapdeep_ops.values import ALL_ROUTES

steady = settings(derandomize=True, deadline=None, max_examples=300, database=None)

STORM, WRONG = "EscalationStorm", "FalseConfidenceClimbing"
RAISE, RELEASE, PIN, UNPIN = PolicyAct.RAISE, PolicyAct.RELEASE, PolicyAct.PIN, PolicyAct.UNPIN


def book_of(*scopes: ScopeState) -> PolicyBook:
    book = blank_book()
    for scope in scopes:
        book = book.with_scope(scope)
    return book


def scope_of(name: str = "support", *, pin: float | None = None, causes: tuple[str, ...] = (), version: int = 1):
    return ScopeState(scope=name, version=version, pin=pin, causes=frozenset(causes))


class TestTheThresholdInForce:
    def test_is_the_base_before_anything_has_happened(self):
        assert blank_book().for_route("support") == EffectivePolicy(threshold=0.8, version=0)

    @pytest.mark.parametrize(
        ("own", "everywhere", "threshold", "pinned"),
        [
            ({}, {}, 0.8, False),
            ({"causes": (STORM,)}, {}, 0.9, False),
            ({}, {"causes": (STORM,)}, 0.9, False),
            ({"causes": (STORM,)}, {"causes": (WRONG,)}, 0.9, False),
            ({}, {"pin": 0.7}, 0.7, True),
            ({"causes": (STORM,)}, {"pin": 0.7}, 0.7, True),
            ({"pin": 0.6}, {"pin": 0.7}, 0.6, True),
            ({"pin": 0.6, "causes": (STORM,)}, {"causes": (WRONG,)}, 0.6, True),
            ({"pin": 0.0}, {"pin": 0.7}, 0.0, True),
            ({}, {"pin": 0.0}, 0.0, True),
        ],
    )
    def test_is_the_nearest_pin_else_raised_by_any_cause_else_the_base(self, own, everywhere, threshold, pinned):
        policy = book_of(scope_of(**own), scope_of(ALL_ROUTES, **everywhere)).for_route("support")
        assert (policy.threshold, policy.pinned) == (threshold, pinned)

    def test_of_one_route_does_not_touch_another(self):
        book = book_of(scope_of("support", pin=0.99), scope_of("sales", causes=(STORM,)))
        assert [book.for_route(route).threshold for route in ("support", "sales", "other")] == [0.99, 0.9, 0.8]

    def test_names_all_causes_also_under_a_pin(self):
        book = book_of(scope_of(pin=0.5, causes=(STORM,)), scope_of(ALL_ROUTES, causes=(WRONG,)))
        assert book.for_route("support").causes == {STORM, WRONG}

    def test_can_be_asked_for_all_routes(self):
        assert book_of(scope_of(ALL_ROUTES, causes=(STORM,), version=4)).for_route(ALL_ROUTES) == EffectivePolicy(
            threshold=0.9, version=4, causes=frozenset({STORM})
        )

    def test_carries_the_newest_version_that_touched_it(self):
        book = book_of(scope_of(version=3), scope_of(ALL_ROUTES, version=7), scope_of("sales", version=9))
        assert [book.for_route(route).version for route in ("support", "sales", "other")] == [7, 9, 7]

    def test_uses_the_levels_of_its_book(self):
        book = blank_book(base=0.6, raised=0.7).with_scope(scope_of(causes=(STORM,)))
        assert (book.for_route("other").threshold, book.for_route("support").threshold) == (0.6, 0.7)


class TestActs:
    def test_of_release_let_go_only_their_own_cause(self):
        held = act_on(act_on(ScopeState(scope="support"), RAISE, cause=STORM), RAISE, cause=WRONG)
        one = act_on(held, RELEASE, cause=STORM)
        none = act_on(one, RELEASE, cause=WRONG)
        assert [book_of(scope).for_route("support").threshold for scope in (held, one, none)] == [0.9, 0.9, 0.8]

    def test_of_raise_count_a_cause_once(self):
        twice = act_on(act_on(ScopeState(scope="support"), RAISE, cause=STORM), RAISE, cause=STORM)
        assert act_on(twice, RELEASE, cause=STORM).causes == frozenset()

    def test_of_release_without_a_raise_change_nothing(self):
        assert act_on(scope_of(), RELEASE, cause=STORM) == scope_of()

    def test_of_unpin_bring_a_raise_back_that_held_on_meanwhile(self):
        pinned = act_on(act_on(ScopeState(scope="support"), PIN, threshold=0.7), RAISE, cause=STORM)
        assert book_of(pinned).for_route("support").threshold == 0.7
        assert book_of(act_on(pinned, UNPIN)).for_route("support").threshold == 0.9

    def test_leave_the_version_for_the_store_to_number(self):
        for act in (RAISE, RELEASE, PIN, UNPIN):
            assert act_on(scope_of(version=5), act, cause=STORM, threshold=0.7).version == 5

    @pytest.mark.parametrize("threshold", [None, -0.01, 1.01, math.nan, math.inf, 80])
    def test_of_pin_refuse_what_is_no_threshold(self, threshold):
        with pytest.raises(PolicyError, match="between 0 and 1"):
            act_on(scope_of(), PIN, threshold=threshold)

    @pytest.mark.parametrize("threshold", [0, 0.8, 1])
    def test_of_pin_take_both_ends(self, threshold):
        assert act_on(scope_of(), PIN, threshold=threshold).pin == threshold

    def test_change_nothing_that_was_read_before(self):
        before = book_of(scope_of())
        before.with_scope(scope_of(pin=0.1))
        assert before.for_route("support").threshold == 0.8


acts = st.tuples(
    st.sampled_from(["support", "sales", ALL_ROUTES]),
    st.sampled_from(list(PolicyAct)),
    st.sampled_from([STORM, WRONG]),
    st.floats(0, 1),
)


class TestAnyHistory:
    @steady
    @given(st.lists(acts, max_size=20))
    def test_leaves_base_or_raised_or_a_pin_in_force(self, history):
        book, pins, causes = blank_book(), {}, set()
        for version, (name, act, cause, threshold) in enumerate(history, 1):
            scope = book.scopes.get(name) or ScopeState(scope=name)
            changed = act_on(scope, act, cause=cause, threshold=threshold)
            book = book.with_scope(ScopeState(scope=name, version=version, pin=changed.pin, causes=changed.causes))
            if act in (PIN, UNPIN):
                pins[name] = threshold if act is PIN else None
            elif act is RAISE:
                causes.add((name, cause))
            else:
                causes.discard((name, cause))
        for route in ("support", "sales", "quiet"):
            policy, own, everywhere = book.for_route(route), pins.get(route), pins.get(ALL_ROUTES)
            held = {cause for name, cause in causes if name in (route, ALL_ROUTES)}
            assert policy.causes == held
            if own is not None or everywhere is not None:
                assert policy.threshold == (everywhere if own is None else own)
            else:
                assert policy.threshold == (0.9 if held else 0.8)
            touched = [number for number, (name, *_) in enumerate(history, 1) if name in (route, ALL_ROUTES)]
            assert policy.version == max(touched, default=0)
