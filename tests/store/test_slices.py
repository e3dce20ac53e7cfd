"""Slices of budgets in a store: granted, given back, freed, and never more than the limit."""

import random

import pytest

from cheapdeep_ops.budgets import FREED_AFTER_S, Slice, SliceRequest
from cheapdeep_ops.store import slices
from cheapdeep_ops.store.direct import DirectStore
from tests.stores import migrated

NOW = 1_800_000_000.0
DAY = 20_833
LIMIT = 1_000_000


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.thorough)])
def engine(request):
    return request.param


@pytest.fixture
def store(either_url, tmp_path):
    migrated(either_url).close()
    store = DirectStore(either_url, patience_s=5, folder=tmp_path)
    yield store
    store.close()


def asked(store, holder, number=1, *, now=NOW, **ask):
    ask = {"day": DAY, "budget": "all", "spent": 0, "ceiling": 0, "limit": LIMIT, **ask}
    return slices.ask(store, holder, number, [SliceRequest(**ask)], now=now)


def test_each_process_gets_a_share_of_what_is_left(store):
    assert asked(store, "a").granted == [Slice(DAY, "all", LIMIT // 8, LIMIT)]
    second = asked(store, "b").granted[0].ceiling
    assert second == (LIMIT - LIMIT // 8) // 8
    # Days and budgets are apart.
    assert asked(store, "b", 2, day=DAY + 1).granted[0].ceiling == LIMIT // 8
    assert asked(store, "b", 3, budget="deep").granted[0].ceiling == LIMIT // 8


def test_an_older_request_that_comes_late_changes_nothing(store):
    ceiling = asked(store, "a", 2).granted[0].ceiling
    assert asked(store, "a", 1, spent=5).granted == []
    again = asked(store, "a", 2).granted[0]
    assert again.ceiling == ceiling


def test_what_a_process_gives_back_and_what_a_dead_one_held_is_free_again(store):
    first = asked(store, "a").granted[0].ceiling
    asked(store, "b")
    last = asked(store, "a", 2, spent=10, ceiling=first, is_last=True).granted[0]
    assert last.ceiling == 10
    left = LIMIT - 10 - asked(store, "b", 2).granted[0].ceiling
    assert asked(store, "c").granted[0].ceiling == left // 8
    freed = asked(store, "d", now=NOW + FREED_AFTER_S + 1).granted[0].ceiling
    assert freed == (LIMIT - 10) // 8


def test_the_smaller_of_two_limits_holds_and_without_one_nothing_is_granted(store):
    assert asked(store, "a", limit=None).granted == []
    table = slices.table_name(store.dialect, "budget_limit")
    store.transact(lambda connection: connection.exec_driver_sql(f"INSERT INTO {table} VALUES ('all', 800)", ()))
    assert slices.read_limits(store) == {"all": 800}
    answer = asked(store, "a", 2)
    assert (answer.granted[0].limit, answer.granted[0].ceiling, answer.limits) == (800, 100, {"all": 800})
    assert asked(store, "b", limit=80).granted[0].limit == 80


@pytest.mark.thorough
def test_no_order_of_requests_grants_more_than_the_limit(store):
    rng = random.Random(7)
    held = {name: [0, 0, 0] for name in "abcdef"}  # ceiling, spent, number
    for _ in range(150):
        name = rng.choice("abcdef")
        ceiling, spent, number = held[name]
        spent += int(rng.random() * (ceiling - spent))
        answer = asked(store, name, number + 1, spent=spent, ceiling=ceiling).granted[0].ceiling
        # A lost answer leaves the process with what it had.
        held[name] = [answer if rng.random() < 0.8 else ceiling, spent, number + 1]
        assert sum(ceiling for ceiling, _, _ in held.values()) <= LIMIT
    assert sum(spent for _, spent, _ in held.values()) > LIMIT // 2
