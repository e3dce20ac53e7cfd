"""A thread sleeps until it is woken, and beside a socket also until that has something to read."""

import socket
import threading

import pytest

from cheapdeep_ops.recorder.wake import Wake

LONG_S = 60.0


@pytest.fixture
def wake():
    wake = Wake()
    yield wake
    wake.close()


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def beside(pair, where):
    return pair[0].fileno() if where else None


@pytest.mark.parametrize("where", [False, True])
def test_a_call_ends_the_sleep_or_the_next_one_and_counts_once(wake, pair, where):
    number = beside(pair, where)
    wake.set()
    wake.set()
    assert wake.wait(LONG_S, beside=number)
    assert not wake.wait(0.0, beside=number)
    caller = threading.Timer(0.05, wake.set)
    caller.start()
    assert wake.wait(LONG_S, beside=number)
    caller.join()
    assert not wake.wait(0.01, beside=number)


def test_what_a_socket_has_ends_the_sleep_and_is_left_to_its_reader(wake, pair):
    ours, theirs = pair
    assert not wake.wait(0.0, beside=ours.fileno())
    theirs.send(b"x")
    assert not wake.wait(LONG_S, beside=ours.fileno())
    assert ours.recv(9) == b"x"
    wake.set()
    assert wake.wait(LONG_S)
    # What was rung for that sleep ends no other.
    assert not wake.wait(0.0, beside=ours.fileno())
    assert not wake.wait(0.01, beside=ours.fileno())


def test_a_call_after_the_end_is_harmless(wake, pair):
    wake.wait(0.0, beside=pair[0].fileno())
    wake.close()
    wake.set()


def test_without_room_for_another_file_it_sleeps_on(wake, pair, monkeypatch):
    def refused():
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socketpair", refused)
    wake.set()
    assert wake.wait(LONG_S, beside=pair[0].fileno())
    assert not wake.wait(0.0, beside=pair[0].fileno())
