"""What Slack's side may do to the guard over real sockets: storms, frames of any size, uploads that hang."""

import asyncio
import gc
import json
import logging
import socket
import struct
import threading
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk.socket_mode.builtin.internals import _receive_messages

from cheapdeep_ops.guard.notify.slack import BotSender
from cheapdeep_ops.guard.pictures.uploads import Pictures
from cheapdeep_ops.guard.slack_actions import socket_mode
from cheapdeep_ops.guard.slack_actions.connection import BoundedSocket
from cheapdeep_ops.guard.slack_actions.handler import Reply
from cheapdeep_ops.guard.slack_actions.socket_mode import SocketConnection
from cheapdeep_ops.testing import SimulatedSlack

from .test_pictures import CHART, World
from .test_socket_mode import UNCLOSED, until

pytestmark = [pytest.mark.thorough, UNCLOSED]
PATIENCE_S = 60.0
CLICK = {"type": "block_actions", "actions": [{"action_id": "of another app"}]}


class Nothing:
    """Takes clicks and does nothing."""

    def receive(self, _payload):
        return Reply(body={})


class Hold:
    """A connection of the guard to a simulated Slack, and what it holds of the machine."""

    def __init__(self, slack):
        self.slack, self.opened = slack, 0
        self._ticket = slack.socket_mode.ticket
        slack.socket_mode.ticket = self._count
        slack.interactivity.patience_s = 5.0
        self.before = self.held()
        self.connection = SocketConnection(
            app_token=slack.app_token, base_url=slack.url, handler=Nothing(), guards=lambda: 1
        )
        self.connection.start()
        slack.socket_mode.wait(1, PATIENCE_S)

    def _count(self):
        self.opened += 1
        return self._ticket()

    def is_heard(self):
        return self.slack.socket_mode.connections > 0 and self.slack.interactivity.deliver(CLICK).is_acknowledged

    def send(self, text):
        (link,) = self.slack.socket_mode._links
        asyncio.run_coroutine_threadsafe(link.websocket.send_text(text), link.loop).result(PATIENCE_S)

    @staticmethod
    def held():
        """How many threads of Socket Mode there are."""
        names = [each.name for each in threading.enumerate()]
        return sum("_run" in name or "slack-socket" in name or "ThreadPool" in name for name in names)

    def close(self):
        self.connection.ask_to_stop()
        self.connection.join(PATIENCE_S)


@pytest.fixture
def slack():
    with SimulatedSlack() as slack:
        yield slack


@pytest.fixture
def hold(slack, monkeypatch):
    monkeypatch.setattr(socket_mode, "_FRESH_S", 1.0)
    monkeypatch.setattr(socket_mode, "_FIRST_WAIT_S", 0.1)
    monkeypatch.setattr(socket_mode, "_LONGEST_WAIT_S", 0.8)
    hold = Hold(slack)
    yield hold
    hold.close()


def test_a_storm_of_requests_to_disconnect_is_one_connection_and_leaves_nothing(slack, hold):
    for _ in range(60):
        slack.socket_mode.disconnect("refresh_requested")
    until(lambda: hold.opened >= 2, "the connection is replaced")
    until(hold.is_heard, "clicks are heard")
    # The machine may be slow, so that the storm takes seconds.
    assert hold.opened <= 4
    hold.close()
    assert hold.held() == hold.before
    assert slack.socket_mode.connections == 0


def test_an_app_with_too_many_connections_is_tried_ever_more_rarely_and_said_once(slack, hold, caplog):
    caplog.set_level(logging.WARNING, "cheapdeep_ops.guard.slack_actions")
    slack.socket_mode.add_dead(12)
    (link,) = [each for each in slack.socket_mode._links if each]
    link.send({"type": "disconnect", "reason": "warning"})
    begun = time.monotonic()
    until(lambda: hold.opened >= 5, "it is tried again")
    # 0.1 s, 0.2 s, 0.4 s and then 0.8 s at least; a loop without waits would be done at once.
    assert time.monotonic() - begun >= 1.0
    assert caplog.text.count("too_many_websockets") == 1
    slack.socket_mode.remove_dead()
    until(hold.is_heard, "it is connected again")


def test_a_frame_that_is_too_large_ends_the_connection_which_is_made_again(slack, hold, caplog):
    caplog.set_level(logging.WARNING, "cheapdeep_ops.guard.slack_actions")
    hold.send(json.dumps({"type": "other", "text": "x" * 900_000}))
    until(hold.is_heard, "a large one is read")
    assert hold.opened == 1
    hold.send(json.dumps({"type": "other", "text": "x" * 2_000_000}))
    until(lambda: hold.opened == 2, "the connection is made again")
    until(hold.is_heard, "clicks are heard again")
    assert caplog.text.count("too large for a click") == 1


def test_a_frame_of_any_size_takes_little_memory():
    ours, theirs = socket.socketpair()
    sock = BoundedSocket(ours)
    ours.settimeout(PATIENCE_S)

    def read():
        lock = threading.Lock()
        return _receive_messages(sock, lock, logging.getLogger("unused"), receive_buffer_size=65_536)

    with ours, theirs:
        large = b"\n\x81\x7f" + struct.pack("!Q", 900_000) + b"x" * 900_000
        sending = threading.Thread(target=theirs.sendall, args=(large,))
        tracemalloc.start()
        sending.start()
        messages = read()
        sending.join()
        theirs.sendall(b"\x81\x7f" + struct.pack("!Q", 1 << 40) + b"x" * 1_000)
        with pytest.raises(OSError, match="more than 1000000 bytes"):
            read()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert [len(data) for _, data in messages][-1] == 900_000
    assert most < 20_000_000


@given(st.lists(st.integers(0, 70_000), max_size=4), st.lists(st.integers(1, 40_000), min_size=1), st.booleans())
def test_frames_are_followed_wherever_they_are_cut(lengths, cuts, masked):
    frames = [b"\n"]
    for given_length in lengths:
        length = given_length % 65_536
        size = bytes([length]) if length < 126 else b"\x7e" + struct.pack("!H", length)
        frames.append(b"\x81" + bytes([size[0] | (128 * masked)]) + size[1:] + b"\n" * (length + 4 * masked))
    whole = b"".join(frames)

    class Source:
        at = 0

        def recv(self, size):
            data = whole[self.at : self.at + size]
            self.at += len(data)
            return data

    source = Source()
    sock = BoundedSocket(source, largest=70_004)
    number = 0
    while source.at < len(whole):
        sock.recv(cuts[number % len(cuts)])
        number += 1
    assert (sock._left, sock._head) == (0, b"")


def test_a_frame_that_stops_in_the_middle_ends_the_connection():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0.01)
        sock = BoundedSocket(ours)
        with pytest.raises(TimeoutError):
            sock.recv(100)
        theirs.sendall(b"\x81\x05ab")
        assert sock.recv(100) == b"\x81\x05ab"
        with pytest.raises(ConnectionError, match="stopped in the middle"):
            sock.recv(100)


def test_an_upload_that_hangs_delays_no_message_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("cheapdeep_ops.guard.pictures.uploads.chart_of", lambda *_, **__: CHART)
    monkeypatch.setattr("cheapdeep_ops.guard.notify.http_endpoint._TIMEOUT_S", 0.5)
    world = World(f"sqlite:///{tmp_path / 'store.db'}")
    try:
        world.begin()
        held = []
        for number in range(4):
            waits = world.slack.hold("upload", "before")
            sender = BotSender(token=world.slack.token, channel="C1", base_url=world.slack.url)
            # A restart, because a receiver that takes no picture rests.
            drawing = Pictures(world.store, {"slack": sender})
            working = threading.Thread(target=drawing.run, args=(world.clock(),))
            working.start()
            assert waits.reached.wait(PATIENCE_S)
            world.clock.advance(301)
            assert world.say("changed") == 1, "the message does not wait for the picture"
            assert len(world.post.versions) == number + 2
            working.join(PATIENCE_S)
            assert not working.is_alive()
            waits.release()
            gc.collect()
            held.append((threading.active_count(), len([*Path("/proc/self/fd").iterdir()])))
        assert held[-1] <= held[1], "neither threads nor sockets become more"
        for _ in range(4):
            world.later(301)
        assert len(world.slack.files) == 1
        assert set(world.rows.values()) == {"shown"}
    finally:
        world.close()
