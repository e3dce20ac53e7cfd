import threading

from cheapdeep_ops.router.background import BackgroundTask


def test_what_waits_is_done_once_it_is_over_and_only_once():
    done, beside = [], BackgroundTask(lambda _: None)
    beside.then(lambda: done.append(1))
    assert done == []
    beside.over()
    beside.over()
    beside.then(lambda: done.append(2))
    assert done == [1, 2]


def test_a_record_that_fails_is_logged_and_not_raised_at_whoever_ends_it(caplog):
    done, beside = [], BackgroundTask(lambda _: None)
    beside.then(lambda: 1 / 0)
    beside.then(lambda: done.append(1))
    beside.over()
    assert done == [1]
    assert "could not be recorded" in caplog.text


def test_whoever_says_it_again_waits_for_the_record_that_is_being_written():
    writing, may_go_on, done, beside = threading.Event(), threading.Event(), [], BackgroundTask(lambda _: None)

    def write():
        writing.set()
        may_go_on.wait(60)
        done.append(1)

    beside.then(write)
    first = threading.Thread(target=beside.over)
    first.start()
    assert writing.wait(60)
    again = threading.Thread(target=lambda: (beside.over(), done.append(2)))
    again.start()
    may_go_on.set()
    first.join(60)
    again.join(60)
    assert done == [1, 2]
