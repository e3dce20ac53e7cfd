import threading
from itertools import count

import pytest

from cheapdeep_ops.guard.grading.workers import Workers

PATIENCE_S = 60  # how long a test that has gone wrong hangs before it fails


class Desk:
    """Work that ends item by item, when it is told to."""

    def __init__(self, items):
        self.taken = []
        self._items = items
        self._gates = {item: threading.Event() for item in items}

    def items(self):
        for item in self._items:
            self.taken.append(item)
            yield item

    def work(self, item):
        assert self._gates[item].wait(PATIENCE_S), f"nobody ended {item!r}"
        return item * 10

    def end(self, *items):
        for item in items:
            self._gates[item].set()


class Broken(BaseException):
    """No `Exception`: as what ends a thread may be."""


@pytest.mark.parametrize("size", [1, 2, 4, 50])
def test_each_item_comes_back_once_with_its_own_result(size):
    workers = Workers(lambda item: item * item, size=size)
    assert sorted(workers.results(iter(range(20)))) == [(item, item * item) for item in range(20)]


@pytest.mark.parametrize("size", [1, 4])
def test_of_no_items_there_are_no_results(size):
    assert list(Workers(str, size=size).results(iter(()))) == []


def test_results_come_as_they_are_done_and_not_as_they_were_begun():
    desk = Desk(range(3))
    results = Workers(desk.work, size=3).results(desk.items())
    heard = []
    for item in (2, 0, 1):
        desk.end(item)
        heard.append(next(results))
    assert heard == [(2, 20), (0, 0), (1, 10)]
    assert list(results) == []


def test_an_item_is_taken_only_when_there_is_a_hand_for_it():
    desk = Desk(range(5))
    results = Workers(desk.work, size=2).results(desk.items())
    assert desk.taken == []
    desk.end(1)
    assert next(results) == (1, 10)
    assert desk.taken == [0, 1]
    desk.end(2)
    assert next(results) == (2, 20)
    assert desk.taken == [0, 1, 2]
    desk.end(0, 3, 4)
    assert sorted(results) == [(0, 0), (3, 30), (4, 40)]


def test_as_many_are_at_work_as_there_are_hands_and_no_more():
    size, lock, at_work, most = 4, threading.Lock(), set(), []
    together = threading.Barrier(size)  # which nobody passes alone

    def work(item):
        with lock:
            at_work.add(item)
            most.append(len(at_work))
        together.wait(PATIENCE_S)
        with lock:
            at_work.remove(item)
        return item

    assert len(list(Workers(work, size=size).results(iter(range(3 * size))))) == 3 * size
    assert max(most) == size


def test_one_hand_works_on_one_after_another():
    log = []
    results = Workers(lambda item: log.append(item) or item, size=1).results(iter(range(3)))
    assert log == []
    assert next(results) == (0, 0)
    assert log == [0]
    assert list(results) == [(1, 1), (2, 2)]


def test_finishing_begins_nothing_more_and_waits_for_what_is_under_way():
    begun, go_on = threading.Barrier(3), threading.Event()

    def work(item):
        begun.wait(60)
        assert go_on.wait(60)
        return item

    workers, heard = Workers(work, size=2), []
    reader = threading.Thread(target=lambda: heard.extend(workers.results(iter(range(10)))))
    reader.start()
    begun.wait(60)
    workers.finish()
    go_on.set()
    reader.join(60)
    assert sorted(heard) == [(0, 0), (1, 1)]


def test_several_work_in_threads_that_no_process_waits_for():
    threads = Workers(lambda _: threading.current_thread(), size=2).results(iter(range(2)))
    assert all(thread.daemon and thread is not threading.current_thread() for _, thread in threads)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("error", [ValueError("no"), Broken("at all")])
def test_an_exception_reaches_the_reader(size, error):
    def work(item):
        if item == 2:
            raise error
        return item

    results = Workers(work, size=size).results(iter(range(3)))
    with pytest.raises(type(error), match=str(error)):
        list(results)


@pytest.mark.parametrize("size", [1, 3])
def test_an_exception_of_the_items_reaches_the_reader(size):
    def items():
        yield 0
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        list(Workers(str, size=size).results(items()))


def test_after_an_exception_nothing_is_begun():
    desk = Desk(range(9))

    def work(item):
        if item == 1:
            raise ValueError("no")
        return desk.work(item)

    with pytest.raises(ValueError, match="no"):
        list(Workers(work, size=2).results(desk.items()))
    assert desk.taken == [0, 1]
    desk.end(0)


def test_stopping_ends_the_results_at_once_while_work_is_under_way():
    desk, done = Desk(range(9)), threading.Event()

    def work(item):
        if item == 1:
            workers.stop()  # while the reader waits
        desk.work(item)
        done.set()

    workers = Workers(work, size=2)
    assert list(workers.results(desk.items())) == []
    assert not done.is_set()
    assert desk.taken == [0, 1]
    desk.end(0, 1)
    assert done.wait(PATIENCE_S)  # what was under way went on


def test_a_reader_who_stops_hears_nothing_of_what_is_still_under_way():
    desk, heard = Desk(range(9)), []
    workers = Workers(desk.work, size=3)
    desk.end(0)
    for item, _ in workers.results(desk.items()):
        heard.append(item)
        workers.stop()
    assert heard == [0]
    assert desk.taken == [0, 1, 2]
    desk.end(1, 2)


def test_one_alone_that_is_stopped_takes_no_further_items():
    taken, heard = [], []
    workers = Workers(str, size=1)

    def items():
        for item in count():
            assert item < 100, "took on and on"
            taken.append(item)
            yield item

    for item, _ in workers.results(items()):
        heard.append(item)
        if item == 2:
            workers.stop()
    assert heard == [0, 1, 2]
    assert len(taken) <= 4


@pytest.mark.parametrize("size", [1, 3])
def test_once_stopped_nothing_is_begun(size):
    worked = []
    workers = Workers(worked.append, size=size)
    workers.stop()
    assert list(workers.results(iter(range(5)))) == []
    assert worked == []
