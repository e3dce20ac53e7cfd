"""A thread's alarm clock, which costs a third less CPU time than `threading.Event`."""

import select
import socket
import threading
from contextlib import suppress
from typing import Any


class Wake:
    """Lets one thread sleep until a time is over, another thread wakes it, or a socket has something to read."""

    def __init__(self) -> None:
        # A lock that is held until another thread wakes this one: waiting for it is one call into C.
        self._asleep = threading.Lock()
        self._asleep.acquire()
        self._bell: tuple[socket.socket, ...] = ()
        self._beside: int | None = None
        self._poller: Any = None

    def set(self) -> None:
        """End the sleep; if the thread is not asleep, its next sleep ends at once."""
        with suppress(RuntimeError):  # it is released already
            self._asleep.release()
            if self._bell:
                with suppress(OSError):  # it is full or closed
                    self._bell[1].send(b"!")

    def wait(self, seconds: float, *, beside: int | None = None) -> bool:
        """Sleep for `seconds`, or until `set` was called; returns whether it was.

        The sleep also ends when there is something to read from `beside`, the number of an open socket.
        """
        if beside is None or not self._can_watch(beside):
            return self._asleep.acquire(timeout=seconds)
        # It may have been set before there was a bell.
        if self._asleep.acquire(blocking=False):
            return True
        if any(number != beside for number, _ in self._poller.poll(seconds * 1000)):
            with suppress(OSError):
                self._bell[0].recv(16)
        return self._asleep.acquire(blocking=False)

    def close(self) -> None:
        """Close what a sleep beside a socket needs; `set` may still be called."""
        for each in self._bell:
            each.close()

    def _can_watch(self, beside: int) -> bool:
        """Whether `beside` is watched now: Windows cannot, nor a process that has no room for further files."""
        if beside != self._beside and hasattr(select, "poll"):
            with suppress(OSError):
                if not self._bell:
                    self._bell = socket.socketpair()
                    for each in self._bell:
                        each.setblocking(False)
                self._poller, self._beside = select.poll(), beside
                for number in (self._bell[0].fileno(), beside):
                    self._poller.register(number, select.POLLIN)
        return beside == self._beside
