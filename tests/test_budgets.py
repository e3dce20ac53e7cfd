"""Budgets: slices, shares and days, without a store."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops.budgets import (
    BudgetName,
    charged_key,
    charged_to,
    day_of,
    end_of,
    granted,
    is_low,
    limits_of,
    slice_of,
    smaller_limit,
)

LIMIT = 1_000_000
amounts = st.integers(0, 2 * LIMIT)


@given(st.integers(0, LIMIT), st.integers(1, LIMIT), st.integers(1, 500))
def test_a_slice_is_a_share_of_what_is_left_and_never_more(left, limit, processes):
    found = slice_of(left, limit=limit, processes=processes)
    assert 0 <= found <= left
    assert found <= max(left // 8, limit // 1000)
    assert slice_of(left, limit=limit, processes=processes + 1) <= found
    assert found <= slice_of(left + 1, limit=limit, processes=processes)


@given(amounts, amounts, amounts, st.integers(1, 100))
def test_a_grant_never_exceeds_what_others_leave(spent, ceiling, others, processes):
    found = granted(LIMIT, spent=spent, ceiling=ceiling, taken=others, processes=processes)
    assert found.kept == max(found.ceiling, ceiling)
    assert found.ceiling >= spent
    assert found.ceiling == spent or found.ceiling + others <= LIMIT


@dataclass
class Process:
    """One that spends up to its ceiling; an answer may come late or never, and requests may overtake each other."""

    ceiling: int = 0
    spent: int = 0
    number: int = 0
    on_the_way: list = field(default_factory=list)


@dataclass
class Ledger:
    """The store's side: what each process has taken, and the number of its last request."""

    held: dict = field(default_factory=dict)
    numbers: dict = field(default_factory=dict)

    def ask(self, name, number, spent, ceiling):
        if self.numbers.get(name, -1) > number:
            return None
        others = [held for each, held in self.held.items() if each != name]
        grant = granted(LIMIT, spent=spent, ceiling=ceiling, taken=sum(others), processes=len(others) + 1)
        self.held[name], self.numbers[name] = max(grant.kept, spent), number
        return grant.ceiling


steps = st.lists(
    st.tuples(
        st.integers(0, 3), st.sampled_from(["spend", "spend", "send", "arrive", "lose", "swap"]), st.floats(0, 1)
    ),
    max_size=60,
)


@given(steps)
def test_ceilings_never_add_up_to_more_than_the_budget_however_answers_travel(events):
    processes, ledger = [Process() for _ in range(4)], Ledger()
    for index, event, share in events:
        one = processes[index]
        if event == "spend":
            one.spent += int(share * (one.ceiling - one.spent))
        elif event == "send":
            one.number += 1
            one.on_the_way.append((one.number, one.spent, one.ceiling))
        elif event == "swap":
            one.on_the_way.reverse()
        elif one.on_the_way:
            request = one.on_the_way.pop(0)
            answer = ledger.ask(index, *request)
            # A process takes the answer to its last request alone.
            if event == "arrive" and answer is not None and request[0] == one.number:
                one.ceiling = answer
        assert sum(max(each.ceiling, each.spent) for each in processes) <= LIMIT


@given(st.floats(0, 4e9))
def test_a_day_begins_at_midnight_of_utc(now):
    assert end_of(day_of(now) - 1) <= now < end_of(day_of(now))
    assert day_of(end_of(day_of(now))) == day_of(now) + 1


@given(st.sampled_from(["all", "deep"]), st.sampled_from(["route", "key"]), st.text(min_size=1))
def test_a_budgets_name_is_read_as_it_was_written(kind, of, name):
    for each in (BudgetName(kind), BudgetName(kind, of, name)):
        assert BudgetName.read(str(each)) == each


@pytest.mark.parametrize("text", ["", "cheap", "all route", "all route ", "deep team a", "all  a"])
def test_other_text_is_no_budgets_name(text):
    with pytest.raises(ValueError, match="no name of a budget"):
        BudgetName.read(text)


def test_limits_have_names_and_are_whole_billionths_of_a_dollar():
    assert limits_of(usd_per_day=None, deep_usd_per_day=None) == {}
    assert limits_of(usd_per_day=1.0, deep_usd_per_day=0.1, of="route", name="a b") == {
        "all route a b": 1_000_000_000,
        "deep route a b": 100_000_000,
    }
    assert limits_of(usd_per_day=1e-12, deep_usd_per_day=None) == {"all": 1}
    assert (smaller_limit(None, 3, 2), smaller_limit(None, None)) == (2, None)


def test_a_slice_of_which_a_quarter_is_spent_is_low():
    assert not is_low(spent=2, ceiling=12, slice_nusd=12)
    assert is_low(spent=3, ceiling=12, slice_nusd=12)


def test_a_key_pays_inside_its_block_alone():
    with charged_to("mobile"):
        with charged_to("web"):
            assert charged_key.get() == "web"
        assert charged_key.get() == "mobile"
    assert charged_key.get() == ""
