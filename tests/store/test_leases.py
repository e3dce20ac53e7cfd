import pytest

from cheapdeep_ops.store import leases
from cheapdeep_ops.store.leases import LeaseState
from tests.stores import migrated


@pytest.fixture
def store(either_url):
    store = migrated(either_url)
    yield store
    store.close()


@pytest.fixture
def state(store):
    def state():
        with store.reading() as connection:
            return leases.states(connection).get("g", LeaseState())

    return state


@pytest.fixture
def take(store, state):
    def take(holder, seen=None):
        seen = state() if seen is None else seen
        return store.transact(lambda connection: leases.take(connection, "g", holder=holder, seen=seen))

    return take


@pytest.fixture
def renew(store):
    def renew(holder, number):
        return store.transact(lambda connection: leases.renew(connection, "g", holder=holder, number=number))

    return renew


def test_a_lease_is_taken_only_as_it_was_last_seen(take, renew, state):
    before = state()
    assert take("a", before) == 1
    assert take("b", before) is None
    seen = state()
    assert renew("a", 1)
    assert take("b", seen) is None
    assert (state().holder, state().number) == ("a", 1)
    assert take("b") == 2


def test_each_renewal_and_each_change_of_holder_moves_the_beats(take, renew, state, store):
    take("a")
    beats = [state().beats]
    for act in (
        lambda: renew("a", 1),
        lambda: take("b"),
        lambda: store.transact(lambda connection: leases.release(connection, "g", holder="b", number=2)),
        lambda: take("b"),
    ):
        act()
        beats.append(state().beats)
    assert beats == sorted(set(beats))
    assert state() == LeaseState(holder="b", number=3, beats=beats[-1])


def test_only_the_holder_with_the_present_number_renews_and_releases(take, renew, state, store):
    first, second = take("a"), take("b")
    assert not renew("a", first)
    assert not renew("b", first)
    store.transact(lambda connection: leases.release(connection, "g", holder="a", number=first))
    assert renew("b", second)
    store.transact(lambda connection: leases.release(connection, "g", holder="b", number=second))
    assert state().is_free
    assert not renew("b", second)
