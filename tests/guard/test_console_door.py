"""The door of the console on a real server: its cookie, its websocket, foreign origins, a foreign page in a browser."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookies import SimpleCookie

import httpx2
import pytest
from pydantic import SecretStr

from cheapdeep_ops.guard.service import Service
from tests.console import serving_console

pytest.importorskip("nicegui", reason="NiceGUI is not installed; the extra dev has it")

from nicegui import Client
from nicegui.testing.general import nicegui_reset_globals
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from cheapdeep_ops.guard.console.door import COOKIE, ConsoleDoor, new_cookie
from cheapdeep_ops.guard.console.session import SESSIONS
from cheapdeep_ops.guard.console.sessions import LONGEST_S, Sessions
from cheapdeep_ops.guard.notify.buttons import CLICKS_PATH

pytestmark = pytest.mark.thorough

SOCKET = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
FOREIGN = "https://evil.example"


@pytest.fixture
def engine():
    return "sqlite"


@pytest.fixture
def school(make_school):
    return make_school(api_tokens=(SecretStr("s3same"),))


@pytest.fixture
def url(school, inbox) -> Iterator[str]:
    service = Service(school.settings, senders={"inbox": inbox})
    parts = (school.store, school.settings, school.clock, service._collector)
    with nicegui_reset_globals(), serving_console(*parts) as url:
        yield url
    service.store.close()


def opens(url, *, origin, cookie):
    """Whether a websocket opens, and else the status that refuses it, or the code that closes it."""
    headers = {"Cookie": f"{COOKIE}={cookie}"} if cookie else {}
    try:
        with connect(
            url.replace("http", "ws") + SOCKET, origin=origin, additional_headers=headers, proxy=None, open_timeout=60
        ) as socket:
            return socket.recv(timeout=60).startswith("0{")
    except InvalidStatus as refused:
        return refused.response.status_code
    except ConnectionClosed as closed:
        return closed.rcvd.code, closed.rcvd.reason


def test_a_websocket_needs_the_cookie_of_a_page_and_its_origin(url):
    answer = httpx2.get(f"{url}/", timeout=60)
    made = SimpleCookie(answer.headers["set-cookie"])[COOKIE]
    assert (made["httponly"], made["samesite"], made["path"], made["secure"]) == (True, "Lax", "/", "")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy, "no other host"
    assert answer.headers["x-content-type-options"] == "nosniff"
    again = httpx2.get(f"{url}/charts", headers={"Cookie": f"{COOKIE}={made.value}"}, timeout=60)
    assert "set-cookie" not in again.headers
    assert opens(url, origin=url, cookie=made.value) is True
    for origin, cookie in ((url, None), (url, "x"), (FOREIGN, made.value), (None, made.value), ("null", made.value)):
        assert opens(url, origin=origin, cookie=cookie) == 403, (origin, cookie)
    SESSIONS.end(made.value)
    for dead in (made.value, new_cookie()):
        closed = opens(url, origin=url, cookie=dead)
        assert closed == (3000, "this session has ended: load the page again"), "it was given out by no guard that runs"
        polling = f"{url}{SOCKET.replace('websocket', 'polling')}"
        assert httpx2.get(polling, headers={"Cookie": f"{COOKIE}={dead}"}, timeout=60).status_code == 403
    renewed = httpx2.get(f"{url}/", headers={"Cookie": f"{COOKIE}={made.value}"}, timeout=60)
    assert opens(url, origin=url, cookie=SimpleCookie(renewed.headers["set-cookie"])[COOKIE].value) is True
    polled = httpx2.get(f"{url}{SOCKET.replace('websocket', 'polling')}", timeout=60)
    assert polled.status_code == 403


async def test_behind_tls_the_cookie_is_secure():
    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "scheme": "https", "path": "/", "query_string": b"", "headers": []}
    await ConsoleDoor(app, Sessions(float, new_cookie))(scope, None, send)
    (cookie,) = [value for name, value in sent[0]["headers"] if name == b"set-cookie"]
    assert b"; Secure" in cookie


async def test_a_click_that_slack_posts_needs_no_room_for_a_page_and_gets_no_cookie(monkeypatch):
    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    sent = []

    async def send(message):
        sent.append(message)

    monkeypatch.setattr(Client, "instances", dict.fromkeys(range(300)))
    scope = {"type": "http", "method": "POST", "scheme": "https", "path": CLICKS_PATH, "headers": []}
    await ConsoleDoor(app, Sessions(float, new_cookie))(scope, None, send)
    assert sent == [{"type": "http.response.start", "status": 200, "headers": []}]


def test_only_so_many_pages_are_open(url, monkeypatch):
    monkeypatch.setattr(Client, "instances", dict.fromkeys(range(300)))
    assert httpx2.get(f"{url}/", timeout=60).status_code == 503
    assert httpx2.get(f"{url}/healthz", timeout=60).status_code == 200


def test_a_session_ends_unused_and_at_the_sign_out():
    now = [0.0]
    sessions = Sessions(lambda: now[0], new_cookie)
    first = sessions.redeem(sessions.start(author="ann", token_hash="hash"), "")
    now[0] += LONGEST_S
    assert sessions.of(first).author == "ann"
    second = sessions.redeem(sessions.start(author="bob", token_hash="hash"), first)
    assert sessions.of(first) is None, "the browser has one session"
    now[0] += LONGEST_S + 1
    assert sessions.of(second) is None
    third = sessions.redeem(sessions.start(author="bob", token_hash="hash"), second)
    sessions.end(third)
    assert sessions.of(third) is None
    for _ in range(1_001):
        sessions.redeem(sessions.start(author="x", token_hash="hash"), "")
    for _ in range(1_001):
        sessions.start(author="x", token_hash="hash")
    assert len(sessions._sessions) == len(sessions._tickets) == 1_000


def test_a_visitors_cookie_is_live_while_it_is_used_and_opens_no_session():
    now = [0.0]
    sessions = Sessions(lambda: now[0], new_cookie)
    visitor, other = sessions.visit(), sessions.visit()
    now[0] += LONGEST_S
    assert sessions.is_live(visitor)
    assert sessions.of(visitor) is None
    now[0] += 1
    assert (sessions.is_live(visitor), sessions.is_live(other), sessions.is_live(new_cookie())) == (True, False, False)
    own = sessions.redeem(sessions.start(author="ann", token_hash="hash"), visitor)
    assert (sessions.is_live(visitor), sessions.is_live(own)) == (False, True)
    sessions.end(own)
    assert not sessions.is_live(own)
    for _ in range(10_001):
        sessions.visit()
    assert len(sessions._visitors) == 10_000


def test_a_page_whose_session_has_ended_loads_itself_again(url, page):
    page.open(f"{url}/")
    page.see("No alert fires.")
    page.wait("window.did_handshake")
    page.run("window.isOld = true")
    SESSIONS._visitors.clear()
    # NiceGUI itself would load the page again after forty seconds.
    page.run("window.socket.off('connect_error'), window.socket.disconnect(), window.socket.connect(), 0")
    page.wait("!window.isOld && window.did_handshake")
    page.see("No alert fires.")


def test_a_cookie_that_others_may_know_never_opens_a_session_and_a_ticket_is_good_once_and_soon(url):
    planted = new_cookie()
    ticket = SESSIONS.start(author="ann", token_hash="hash")
    with httpx2.Client(base_url=url, cookies={COOKIE: planted}, timeout=60) as browser:
        answer = browser.get("/charts", params={"route": "a b", "sign_in": ticket})
        assert (answer.status_code, answer.headers["location"]) == (303, "./charts?route=a+b")
        own = SimpleCookie(answer.headers["set-cookie"])[COOKIE].value
    assert SESSIONS.of(planted) is None
    assert SESSIONS.of(own).author == "ann"
    again = httpx2.get(f"{url}/", params={"sign_in": ticket}, timeout=60)
    assert again.status_code == 303
    assert "set-cookie" not in again.headers
    now = [0.0]
    sessions = Sessions(lambda: now[0], new_cookie)
    late = sessions.start(author="ann", token_hash="hash")
    now[0] += 61
    assert sessions.redeem(late, "") is None


ATTACK = """<h1>attack</h1><script>
const told = [], target = %r, tell = (name, text) => told.push(name + ': ' + text);
const tries = [
  fetch(target + '/api/v1/status').then(r => r.text()).then(t => tell('read', t), () => tell('fetch', 'failed')),
  fetch(target + '/api/v1/status', {mode: 'no-cors', credentials: 'include'}).then(
    r => r.text()).then(t => tell('opaque', t), () => tell('no-cors', 'failed')),
  fetch(target + '/api/v1/policy/pin', {method: 'POST', mode: 'no-cors', credentials: 'include',
    headers: {'Content-Type': 'text/plain'}, body: '{"threshold": 0.1, "author": "eve", "why": "evil"}'}).then(
    () => tell('post', 'sent'), () => tell('post', 'failed')),
  new Promise(done => { const s = new WebSocket(target.replace('http', 'ws') + '%s');
    s.onmessage = m => { tell('socket', m.data); done(); }; s.onerror = () => { tell('socket', 'failed'); done(); }; }),
  new Promise(done => { const s = document.createElement('script'); s.src = target + '/metrics';
    s.onload = () => { tell('script', 'loaded'); done(); }; s.onerror = () => { tell('script', 'failed'); done(); };
    document.head.append(s); }),
  new Promise(done => { const f = document.createElement('iframe'); f.src = target + '/'; f.onload = () => {
    let seen = 'nothing'; try { seen = f.contentDocument ? f.contentDocument.body.innerText : 'nothing'; } catch (e) {}
    tell('frame', seen || 'nothing'); done(); }; document.body.append(f); }),
];
Promise.all(tries).then(() => document.title = told.join(' | '));
</script>"""


@contextmanager
def foreign_page(html):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_foreign_page_in_a_browser_reads_and_changes_nothing(school, url, page, host):
    page.open(f"{url}/")
    page.see("No alert fires.")
    with foreign_page(ATTACK % (url, SOCKET)) as port:
        page.open(f"http://{host}:{port}/")
        page.wait("document.title.includes('frame')")
        told = dict(each.split(": ", 1) for each in page.run("document.title").split(" | "))
    assert told.pop("post") in {"sent", "failed"}
    opaque = {name: told.pop(name) for name in ("opaque", "no-cors") if name in told}
    assert set(opaque.values()) <= {"", "failed"}
    assert told == {"fetch": "failed", "socket": "failed", "script": "failed", "frame": "nothing"}
    assert school.threshold() == 0.8
