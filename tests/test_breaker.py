import threading

from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops.breaker import Breaker


def breaker(failures=3, pause_s=10.0, longest_pause_s=40.0):
    return Breaker(failures=failures, pause_s=pause_s, longest_pause_s=longest_pause_s)


def opened(at=0.0, **how):
    found = breaker(**how)
    for _ in range(how.get("failures", 3)):
        found.failed(at, at)
    return found


class TestABreaker:
    def test_lets_all_calls_through_while_failures_are_not_in_a_row(self):
        found = breaker()
        for _ in range(10):
            found.failed(0, 0)
            found.failed(0, 0)
            assert found.may_ask(0)
            found.succeeded(0)
        assert not found.is_open

    def test_opens_after_so_many_in_a_row_and_lets_one_call_try_after_the_pause(self):
        found = opened()
        assert found.is_open
        assert not found.may_ask(9.9)
        assert found.may_ask(10)
        assert not found.may_ask(10)
        assert not found.may_ask(19.9)

    def test_closes_when_the_try_succeeds(self):
        found = opened()
        assert found.may_ask(10)
        found.succeeded(10)
        assert found.may_ask(10)
        found.failed(11, 11)
        assert found.may_ask(11)

    def test_waits_twice_as_long_after_each_failed_try_up_to_a_limit(self):
        found, now, pauses = opened(), 0.0, []
        for _ in range(5):
            began = now
            while not found.may_ask(now):
                now += 1
            pauses.append(now - began)
            found.failed(now, now)
        assert pauses == [10, 20, 40, 40, 40]

    def test_lets_another_try_where_the_first_one_never_told_how_it_went(self):
        found = opened()
        assert found.may_ask(10)
        assert not found.may_ask(15)
        assert found.may_ask(20)

    def test_hears_nothing_from_calls_that_began_before_it_opened(self):
        found = opened(at=5.0)
        for _ in range(30):
            found.failed(1.0, 6.0)
        found.succeeded(1.0)
        assert not found.may_ask(14.9)
        assert found.may_ask(15)

    def test_never_opens_where_it_is_turned_off(self):
        assert opened(failures=0).may_ask(0)

    def test_of_many_threads_lets_one_try(self):
        found, asked = opened(), []
        threads = [threading.Thread(target=lambda: asked.append(found.may_ask(10))) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(asked) == 1

    @given(st.lists(st.tuples(st.sampled_from(["ask", "fail", "succeed"]), st.floats(0, 30)), max_size=60))
    def test_asks_again_within_the_longest_pause_whatever_happens(self, acts):
        found, now = breaker(), 0.0
        for act, seconds in acts:
            now += seconds
            if act == "ask":
                found.may_ask(now)
            elif act == "fail":
                found.failed(now, now)
            else:
                found.succeeded(now + 0.1)
                assert not found.is_open
        assert found.may_ask(now + 40)
