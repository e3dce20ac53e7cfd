"""What a guard's HTTP server refuses before it reads or parses: large and slow bodies, slow heads, foreign pages."""

import json
import socket
import threading
import tracemalloc
from contextlib import contextmanager

import httpx2
import pytest
import uvicorn
from pydantic import SecretStr

from cheapdeep_ops.access.guesses import MOST_GUESSES, PERIOD_S, Guesses
from cheapdeep_ops.guard.http import bodies, connections
from cheapdeep_ops.guard.http.access import Access
from cheapdeep_ops.guard.http.api import make_api
from cheapdeep_ops.guard.http.connections import BoundedConnection
from cheapdeep_ops.guard.http.senders import Senders
from cheapdeep_ops.guard.notify.buttons import CLICKS_PATH
from cheapdeep_ops.listening import listen
from cheapdeep_ops.recorder.wire import FLUSHES_PATH, LARGEST_BODY
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate

pytestmark = pytest.mark.thorough

LONG, SHORT = "t" * 32, "s3same"
PIN = "/api/v1/policy/pin"
BY = {"threshold": 0.7, "author": "ann", "why": "trial"}
JSON = {"Content-Type": "application/json"}


class Clock:
    now = 1_000.0

    def __call__(self):
        return self.now


@pytest.fixture(scope="module")
def clock():
    return Clock()


@pytest.fixture(scope="module")
def port(tmp_path_factory, clock):
    """The port of a guard that is not on loopback by its settings, so that reading needs a token too."""
    url = f"sqlite:///{tmp_path_factory.mktemp('doors')}/store.db"
    settings = Settings(store_url=url, host="0.0.0.0", api_tokens=(SecretStr(LONG), SecretStr(SHORT)))
    store = Store(url)
    migrate(store)
    served = Senders(url, settings, clock)
    access = Access(settings, monotonic=clock)
    parts = {"settings": settings, "collector": None, "is_ready": str, "access": access, "served": served}
    with serving(make_api(store, clock=clock, **parts)) as port:
        yield port
    served.close()
    store.close()


@contextmanager
def serving(api):
    with listen("127.0.0.1", 0, setting="CHEAPDEEP_PORT") as listener:
        server = uvicorn.Server(uvicorn.Config(api, log_level="error", http=BoundedConnection))
        running = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        running.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            running.join(20)


@pytest.fixture
def client(port, clock):
    clock.now += PERIOD_S
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        yield client


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def sent(port, *parts, head=b""):
    """What a server sends until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        for part in (head, *parts):
            connection.sendall(part)
        received = b""
        try:
            while part := connection.recv(65_536):
                received += part
        except ConnectionResetError:
            pass
        return received


@pytest.mark.parametrize("token", [None, "wrong" * 8, LONG])
@pytest.mark.parametrize("declares", [True, False])
@pytest.mark.parametrize(
    ("path", "size"), [(PIN, 64_001), ("/api/v1/outcomes/batch", 1_000_001), (FLUSHES_PATH, LARGEST_BODY + 1)]
)
def test_a_body_that_is_too_large_for_its_path_is_refused_with_and_without_a_token(client, token, declares, path, size):
    body = b" " * size
    method = "PUT" if path == PIN else "POST"
    headers = JSON | ({} if token is None else bearer(token))
    answer = client.request(method, path, content=body if declares else iter([body[:-1], body[-1:]]), headers=headers)
    # A body without a declared length is measured, and beyond 64 kB only for a caller with a token.
    lacks_role = 403 if path == FLUSHES_PATH else 413
    expected = 413 if declares or path == PIN else lacks_role if token == LONG else 401
    assert answer.status_code == expected, answer.text
    assert answer.headers["cheapdeep-api-version"]


def test_a_click_that_slack_posts_may_bring_a_long_message_without_a_token(client):
    # There is no such path, because this guard takes no clicks.
    assert client.post(CLICKS_PATH, content=b" " * 256_000).status_code == 404
    assert client.post(CLICKS_PATH, content=b" " * 256_001).status_code == 413


@pytest.mark.parametrize("declares", [True, False])
def test_a_body_that_is_large_is_not_read_without_a_token(client, declares):
    body = b"[" + b"{}," * 200_000 + b"{}]"
    answer = client.post("/api/v1/outcomes/batch", content=body if declares else iter([body]), headers=JSON)
    assert (answer.status_code, answer.json()["detail"]) == (401, "needs a token with the role read")


SPACES, OBJECTS = (b" " * 100_000, 1_000), (b"{}," * 32_000, 500)
"""A body of 100 MB, and one of 48 MB that would be 16 million objects; both in parts."""


@pytest.mark.parametrize("declares", [True, False])
@pytest.mark.parametrize(
    ("path", "parts"), [(PIN, SPACES), ("/api/v1/outcomes/batch", OBJECTS), (FLUSHES_PATH, OBJECTS)]
)
def test_a_huge_body_without_a_token_is_refused_and_takes_no_memory(port, path, parts, declares):
    part, times = parts
    framing = f"Content-Length: {len(part) * times}" if declares else "Transfer-Encoding: chunked"
    method = "PUT" if path == PIN else "POST"
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{framing}\r\n\r\n"
    one = part if declares else b"%x\r\n%s\r\n" % (len(part), part)
    tracemalloc.start()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(head.encode())
            received = refused_at(connection, one, times)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert received.startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 401 ")), received[:200]
    assert most < 20_000_000


def refused_at(connection, part, times):
    """What the server says of a body in so many parts; it may say so, and close, before all are sent."""
    try:
        for _ in range(times):
            connection.sendall(part)
        connection.shutdown(socket.SHUT_WR)
    except (BrokenPipeError, ConnectionResetError):
        pass
    received = b""
    try:
        while more := connection.recv(65_536):
            received += more
    except ConnectionResetError:
        pass
    return received


def test_a_click_may_be_larger_than_an_order_and_needs_no_token(client):
    assert client.post(CLICKS_PATH, content=b" " * 100_000).status_code not in (401, 413)
    assert client.post(CLICKS_PATH, content=b" " * 256_001).status_code == 413


def test_a_body_that_is_just_small_enough_is_read(client):
    body = json.dumps(BY).encode()
    answer = client.put(PIN, content=body + b" " * (64_000 - len(body)), headers=JSON | bearer(LONG))
    assert answer.status_code == 200, answer.text


def test_a_body_that_does_not_arrive_is_not_waited_for(port, monkeypatch):
    monkeypatch.setattr(bodies, "WITHIN_S", 0.2)
    head = f"PUT {PIN} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{{".encode()
    answer = sent(port, head=head)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"the body did not arrive within 0.2 seconds" in answer


@pytest.mark.parametrize("head", [b"", b"GET /healthz HTTP/1.1\r\nHost: loc"])
def test_a_head_that_does_not_arrive_is_not_waited_for(port, monkeypatch, head):
    monkeypatch.setattr(connections, "HEAD_WITHIN_S", 0.2)
    assert sent(port, head=head) == b""


def test_a_head_without_an_end_is_refused(port):
    answer = sent(port, b"X: " + b"x" * 60_000, b"x" * 60_000, head=b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
    assert answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


def test_a_connection_that_waits_makes_room_for_a_new_one(port, client, monkeypatch):
    monkeypatch.setattr(BoundedConnection, "most", 3)
    idle = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(6)]
    try:
        assert client.get("/healthz").status_code == 200
        assert idle[0].recv(1) == b"", "the one that waited longest is closed"
    finally:
        for each in idle:
            each.close()


def test_guesses_are_limited_and_who_holds_a_token_that_cannot_be_guessed_is_not(client, clock):
    def status(token):
        return client.get("/api/v1/policy", headers=bearer(token)).status_code

    assert [status("always the same")] * 30 == [401] * 30
    assert [status(f"guess {number}") for number in range(MOST_GUESSES - 1)] == [401] * (MOST_GUESSES - 1)
    refused = client.get("/api/v1/policy", headers=bearer("one more"))
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    assert (status(SHORT), status(LONG)) == (429, 200)
    clock.now += PERIOD_S
    assert (status(SHORT), status("one more")) == (200, 401)


def test_the_guesses_of_many_peers_take_a_bounded_memory(clock):
    guesses = Guesses(clock)
    for number in range(10_000):
        guesses.note(f"10.{number >> 8}.{number & 255}.1", "hash")
    assert len(guesses._peers) == 4_096
    for number in range(MOST_GUESSES):
        guesses.note(f"2001:db8::{number:x}", f"hash {number}")
    assert guesses.wait_s("2001:db8::ffff") > 0, "a network of IPv6 is one peer"
    assert guesses.wait_s("2001:db8:0:1::1") == 0


FOREIGN = (
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
)


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_page_of_another_origin_reads_and_changes_nothing(client, headers):
    for method, path in (("GET", "/api/v1/policy"), ("PUT", PIN), ("GET", "/metrics"), ("GET", "/healthz")):
        answer = client.request(method, path, headers=headers | bearer(LONG), json=None if method == "GET" else BY)
        assert (answer.status_code, answer.json()) == (
            403, {"detail": "requests of pages from other origins are refused"},
        )  # fmt: skip


def test_a_page_of_the_guard_itself_and_a_link_are_no_other_origin(client, port):
    own = {"Origin": f"http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"}
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    for headers in (own, link, {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}):
        assert client.get("/api/v1/policy", headers=headers | bearer(LONG)).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/api/v1/policy", "/api/v1/nosuch", "/nosuch", "/openapi.json"])
def test_every_answer_says_what_a_browser_may_do_with_it(client, path):
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["x-frame-options"] == "DENY"


def test_a_path_that_does_not_exist_a_method_that_it_lacks_and_head(client):
    assert (client.get("/api/v1/nosuch").status_code, client.post("/api").status_code) == (404, 404)
    for method, path, allowed in (
        ("DELETE", "/api/v1/policy", "GET, HEAD"),
        ("GET", PIN, "DELETE, PUT"),
        ("PATCH", "/api/v1/incidents/1/ack", "POST"),
        ("POST", "/openapi.json", "GET, HEAD"),
        ("OPTIONS", "/metrics", "GET, HEAD"),
    ):
        answer = client.request(method, path)
        assert (answer.status_code, answer.headers.get("allow")) == (405, allowed), path
        assert answer.json()["detail"]
    whole, head = (client.request(method, "/healthz") for method in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.content))
    assert client.head("/api/v1/policy").status_code == 401
