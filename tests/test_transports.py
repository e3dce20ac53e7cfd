"""The HTTP clients under an `AsyncRouter`: aiohttp, its default, does what httpx2 does, in every loop and process."""

import asyncio
import gc
import os
import socket
import ssl
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import anthropic
import httpx2
import pytest
from anthropic import DefaultAioHttpClient, DefaultAsyncHttpxClient

from cheapdeep_ops import AsyncRouter, Settings
from cheapdeep_ops.claude import aiohttp_client
from cheapdeep_ops.claude.aiohttp_client import LoopAioHttpClient
from cheapdeep_ops.claude.lean_requests import ENDS_WITHIN_S
from cheapdeep_ops.testing import Reply
from tests.raw_server import STREAM, WHOLE, always, answer, forward, hang, reset, talking

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
QUESTION = {"max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
BYPASSED = {**QUESTION, "stop_sequences": ["END"]}
CERTIFICATE = Path(__file__).with_name("loopback.pem")

both = pytest.mark.parametrize("make", [LoopAioHttpClient, DefaultAsyncHttpxClient])


def router_at(url, **options):
    return AsyncRouter(settings=Settings(record=False), base_url=url, **{"api_key": "any", "max_retries": 0, **options})


async def answers(router, count=3):
    routed = await asyncio.gather(*(router.ask(f"FAQ ticket {number}") for number in range(count)))
    return all(each.decision.reason != "triage_error" for each in routed)


async def failure_of(call):
    """The class of the error."""
    with pytest.raises(Exception) as failure:  # noqa: PT011 - compared, whatever it is
        await call
    return type(failure.value)


class TestTheDefault:
    def test_is_aiohttp_with_a_pool_for_triage_and_escalation(self):
        router = router_at("http://127.0.0.1:1")
        assert isinstance(router._sdk._client, DefaultAioHttpClient)
        assert router._connections == 1000

    def test_is_httpx2_where_a_caller_says_so(self):
        own = DefaultAsyncHttpxClient()
        assert router_at("http://127.0.0.1:1", http_client=own)._sdk._client is own

    def test_leaves_a_client_of_the_callers_own_as_it_is(self):
        own = anthropic.AsyncAnthropic(
            api_key="any", http_client=DefaultAioHttpClient(limits=httpx2.Limits(max_connections=7))
        )
        router = AsyncRouter(client=own, settings=Settings(record=False))
        assert router._sdk is own
        assert router._connections == 7

    def test_is_shared_by_views(self):
        router = router_at("http://127.0.0.1:1")
        assert router.with_options(max_retries=5)._sdk._client is router._sdk._client

    @pytest.mark.thorough
    def test_is_httpx2_where_aiohttp_is_not_installed(self, api):
        code = f"""
import sys
sys.modules["aiohttp"] = None
import asyncio
import anthropic
from cheapdeep_ops import AsyncRouter, Settings

async def main():
    async with AsyncRouter(settings=Settings(record=False), base_url={api.url!r}, api_key="any") as router:
        assert isinstance(router._sdk._client, anthropic.DefaultAsyncHttpxClient)
        assert (await router.ask("FAQ ticket")).decision.reason != "triage_error"

asyncio.run(main())
"""
        assert ran(code) == (0, "", "")


def ran(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # the interpreter's, of sockets of a closed loop
class TestLoops:
    @pytest.fixture(autouse=True)
    def _collected(self):
        yield
        gc.collect()

    @pytest.mark.thorough
    def test_one_after_another_have_connections_of_their_own(self, api):
        router, loops = router_at(api.url), weakref.WeakSet()

        async def run():
            loops.add(asyncio.get_running_loop())
            return await answers(router)

        assert [asyncio.run(run()) for _ in range(3)] == [True] * 3
        gc.collect()
        assert len(loops) == 1  # what belongs to the last one goes with the next, or with the router

    @pytest.mark.thorough
    def test_at_once_in_threads_have_connections_of_their_own(self, api):
        router, together, found = router_at(api.url), threading.Barrier(4), []

        async def run():
            found.append(await answers(router))
            await asyncio.to_thread(together.wait, 10)  # while every loop has connections
            found.append(await answers(router, 10))

        threads = [threading.Thread(target=asyncio.run, args=(run(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [True] * 8

    @both
    def test_that_stood_still_do_not_use_what_the_server_closed_meanwhile(self, make, monkeypatch):
        monkeypatch.setattr(aiohttp_client, "_PAUSE_S", 0.0)
        answered, hung_up = threading.Event(), threading.Event()

        def closed(connection):
            answered.wait(60)
            connection.close()
            hung_up.set()

        with talking(answer(WHOLE, then=closed)) as server, asyncio.Runner() as runner:
            router = router_at(server.url, http_client=make(verify=False))
            for _ in range(3):
                assert runner.run(router.messages.create(**BYPASSED)).content[0].text == "Deep."
                answered.set()
                assert hung_up.wait(60)
                answered.clear()
                hung_up.clear()
            runner.run(router.aclose())
        assert server.connections == 3

    @pytest.mark.thorough
    def test_log_nothing_of_a_router_that_nobody_closed(self, api):
        code = f"""
import asyncio, gc, os, sys, threading
from cheapdeep_ops import AsyncRouter, Settings

def made():
    return AsyncRouter(settings=Settings(record=False), base_url={api.url!r}, api_key="any")

async def ask(router):
    await asyncio.gather(*(router.ask(f"FAQ ticket {{number}}") for number in range(2)))

async def collected():
    router = made()
    await ask(router)
    del router
    gc.collect()
    await asyncio.sleep(0)

async def left_stream():
    stream = await made().messages.create(stream=True, max_tokens=9, messages=[{{"role": "user", "content": "FAQ"}}])
    gc.collect()
    await anext(aiter(stream))
    cycle = [stream]
    cycle.append(cycle)
    del stream, cycle
    gc.collect()

def in_a_thread():
    loop = asyncio.new_event_loop()
    loop.set_debug(True)  # it checks that nobody closes a connection from another thread
    loop.slow_callback_duration = 60
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    router = made()
    asyncio.run_coroutine_threadsafe(ask(router), loop).result()
    return router, loop, thread

asyncio.run(collected())
asyncio.run(left_stream())

after_its_loop = made()
asyncio.run(ask(after_its_loop))
del after_its_loop
gc.collect()

before_its_loop, loop = made(), asyncio.new_event_loop()
loop.run_until_complete(ask(before_its_loop))
del before_its_loop
gc.collect()
loop.close()

from_another_thread, loop, thread = in_a_thread()
del from_another_thread
gc.collect()
loop.call_soon_threadsafe(loop.stop)
thread.join()
loop.close()

at_exit, its_loop, its_thread = in_a_thread()
loop = asyncio.new_event_loop()
loop.run_until_complete(ask(at_exit))
"""
        assert ran(code) == (0, "", "")


@pytest.mark.thorough
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.parametrize("scheme", ["https", "http"])
def test_a_child_that_ends_leaves_the_parents_connections_alone(scheme):
    code = """
import asyncio, atexit, gc, os, sys
from cheapdeep_ops import AsyncRouter, Settings
from cheapdeep_ops.router import forks

async def ask(router):
    return (await router.messages.create(max_tokens=9, stop_sequences=["END"], messages=[
        {"role": "user", "content": "hello"}])).content[0].text

with asyncio.Runner() as runner:
    router = AsyncRouter(settings=Settings(record=False), base_url=sys.argv[1], api_key="any")
    assert runner.run(ask(router)) == "Deep."
    if os.fork() == 0:
        assert asyncio.run(ask(router)) == "Deep."
        # What the end of a process does to the objects of this package, without what it does to the parent's loop.
        atexit._run_exitfuncs()
        forks._inherited.clear()
        del router
        gc.collect()
        os._exit(0)
    assert os.wait()[1] == 0
    assert runner.run(ask(router)) == "Deep."
    runner.run(router.aclose())
"""
    with talking(always, tls=certified() if scheme == "https" else None) as server:
        done = subprocess.run(
            [sys.executable, "-c", code, server.url], env={**os.environ, "SSL_CERT_FILE": str(CERTIFICATE)},
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert server.connections == 2


def certified():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


class TestFailures:
    """Each is the same error on both, and the SDK's own."""

    @pytest.mark.thorough
    @both
    @pytest.mark.parametrize(
        ("talk", "expected"),
        [
            (answer(b"no HTTP\r\n\r\n"), anthropic.APIConnectionError),
            (answer(b""), anthropic.APIConnectionError),
            (answer(b"", then=reset), anthropic.APIConnectionError),
            (answer(WHOLE[:-9]), anthropic.APIConnectionError),
            (answer(b"", then=hang), anthropic.APITimeoutError),
            (answer(WHOLE[:-9], then=hang), anthropic.APITimeoutError),
        ],
    )
    async def test_of_a_whole_answer(self, make, talk, expected):
        with talking(talk) as server:
            async with router_at(server.url, http_client=make(verify=False)) as router:
                with pytest.raises(expected) as failure:
                    await router.messages.create(
                        **BYPASSED, timeout=0.3 if expected is anthropic.APITimeoutError else 60
                    )
        assert type(failure.value) is expected
        assert isinstance(failure.value.__cause__, httpx2.TransportError)

    @both
    @pytest.mark.parametrize(
        ("rest", "then", "expected"),
        [
            (b"", socket.socket.close, httpx2.RemoteProtocolError),
            (b"", hang, httpx2.ReadTimeout),
        ],
    )
    async def test_of_a_stream_that_has_begun(self, make, rest, then, expected):
        asked = threading.Event()

        def broken(connection):
            asked.wait(60)
            connection.sendall(rest)
            then(connection)

        with talking(answer(STREAM, then=broken)) as server:
            async with router_at(server.url, http_client=make(verify=False)) as router:
                within_s = 0.6 if expected is httpx2.ReadTimeout else 60
                stream = await router.messages.create(**BYPASSED, stream=True, timeout=within_s)
                await anext(stream)
                asked.set()
                assert await failure_of(anext(stream)) is expected

    @pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp's advice to the SDK
    @both
    async def test_of_a_server_that_does_not_take_the_request(self, make):
        big = {**BYPASSED, "messages": [{"role": "user", "content": "x" * 20_000_000}]}
        over = threading.Event()
        with talking(lambda _server, _connection: over.wait(60)) as server:
            async with router_at(server.url, http_client=make(verify=False)) as router:
                assert await failure_of(router.messages.create(**big, timeout=0.1)) is anthropic.APITimeoutError
            over.set()

    @pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
    @pytest.mark.parametrize(("within_s", "expected"), [(0.1, TimeoutError), (60.0, httpx2.WriteTimeout)])
    async def test_of_such_a_server_are_found_by_the_timer_that_ends_first(self, monkeypatch, within_s, expected):
        monkeypatch.setattr(aiohttp_client, "_limit", lambda _timeouts: 0.2)
        over = threading.Event()
        with talking(lambda _server, _connection: over.wait(60)) as server:
            async with LoopAioHttpClient(verify=False) as client:

                async def post():
                    async with asyncio.timeout(min(2 * within_s, 30)):  # the sender's own timer
                        await client.post(server.url, content=bytes(20_000_000), extensions={ENDS_WITHIN_S: within_s})

                assert await failure_of(post()) is expected
            over.set()

    @both
    async def test_of_a_server_that_is_not_there(self, make):
        async with router_at("http://127.0.0.1:1", http_client=make(verify=False)) as router:
            assert await failure_of(router.messages.create(**BYPASSED)) is anthropic.APIConnectionError

    @both
    async def test_of_a_certificate_that_nobody_signed(self, make):
        with talking(always, tls=certified()) as server:
            async with router_at(server.url, http_client=make()) as router:
                assert await failure_of(router.messages.create(**BYPASSED)) is anthropic.APIConnectionError
        assert server.requests == []

    @both
    async def test_do_not_come_from_a_long_header(self, make):
        long = WHOLE.replace(b"content-type", b"x-long: " + b"a" * 20_000 + b"\r\ncontent-type", 1)
        with talking(answer(long)) as server:
            async with router_at(server.url, http_client=make(verify=False)) as router:
                assert (await router.messages.create(**BYPASSED)).content[0].text == "Deep."


class TestTheEnvironment:
    @both
    async def test_names_certificates(self, make, monkeypatch):
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        with talking(always, tls=certified()) as server:
            async with router_at(server.url, http_client=make()) as router:
                assert (await router.messages.create(**BYPASSED)).content[0].text == "Deep."

    @pytest.fixture
    def proxy(self, monkeypatch):
        for name in ("all", "http", "https", "no"):
            monkeypatch.delenv(f"{name}_proxy", raising=False)
            monkeypatch.delenv(f"{name}_proxy".upper(), raising=False)
        with talking(forward) as proxy:
            yield proxy

    @pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")  # how the SDK passes it to aiohttp
    @both
    @pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
    async def test_names_a_proxy(self, make, monkeypatch, proxy, name):
        monkeypatch.setenv(name, proxy.url.replace("//", "//me:secret@"))
        async with router_at("http://api.example", http_client=make(verify=False)) as router:
            assert (await router.messages.create(**BYPASSED)).content[0].text == "Deep."
        (request,) = proxy.requests
        assert request.startswith("POST http://api.example/v1/messages HTTP/1.1")
        assert "proxy-authorization: basic bwu6c2vjcmv0" in request.lower()

    @both
    async def test_names_a_proxy_that_tunnels(self, make, monkeypatch, proxy):
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        with talking(always, tls=certified()) as server:
            async with router_at(server.url, http_client=make()) as router:
                assert (await router.messages.create(**BYPASSED)).content[0].text == "Deep."
        (request,) = proxy.requests
        assert request.startswith(f"CONNECT {server.url.removeprefix('https://')} HTTP/1.1")

    @both
    async def test_names_hosts_that_need_none(self, make, monkeypatch, proxy):
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with talking(always) as server:
            async with router_at(server.url, http_client=make(verify=False)) as router:
                assert (await router.messages.create(**BYPASSED)).content[0].text == "Deep."
        assert (len(server.requests), proxy.requests) == (1, [])

    def test_names_a_proxy_that_only_httpx2_speaks_to(self, monkeypatch, proxy):
        monkeypatch.setattr(httpx2, "AsyncHTTPTransport", lambda **options: options["proxy"])
        monkeypatch.setenv("ALL_PROXY", proxy.url.replace("http", "socks5"))
        client = LoopAioHttpClient(verify=False)
        assert client._transport_for_url(httpx2.URL("https://api.example")).url.scheme == "socks5"


class TestStreams:
    """A pool of one connection: what does not give it back, stops the next call."""

    @pytest.fixture(params=[LoopAioHttpClient, DefaultAsyncHttpxClient])
    def narrow(self, request, api):
        http_client = request.param(verify=False, limits=httpx2.Limits(max_connections=1))
        return router_at(api.url, http_client=http_client, timeout=httpx2.Timeout(5.0))

    @pytest.mark.parametrize("left", ["read", "closed", "cancelled", "unread"])
    async def test_give_their_connection_back(self, api, narrow, left):
        begun = asyncio.Event()

        async def read(stream):
            async for _ in stream:
                begun.set()
                if left == "cancelled":
                    await asyncio.Event().wait()

        async with narrow as router:
            for _ in range(2):
                begun.clear()
                api.enqueue(Reply.triage(0.9, "An answer. " * 200))
                stream = await router.messages.create(**{**QUESTION, "max_tokens": 1_000}, stream=True)
                if left == "read":
                    await read(stream)
                elif left == "cancelled":
                    reading = asyncio.create_task(read(stream))
                    await begun.wait()
                    reading.cancel()
                    await asyncio.wait([reading])
                elif left == "closed":
                    await anext(stream)
                await stream.close()
            assert (await router.ask("FAQ ticket")).decision.reason != "triage_error"

    async def test_that_escalate_give_the_triage_tiers_back(self, api, narrow):
        async with narrow as router:
            api.enqueue(Reply.triage(0.4, "An answer. " * 200), Reply.text("Deep."))
            async with router.messages.stream(**{**QUESTION, "max_tokens": 1_000}) as stream:
                assert await stream.get_final_text() == "Deep."


@both
async def test_the_url_is_sent_as_it_was_written(make):
    with talking(always) as server:
        path, query = "/a%3Ab%7E", {"s": "a/b", "t": "~"}
        async with router_at(server.url + path, http_client=make(), default_query=query) as router:
            await router.messages.create(**BYPASSED)
            await router.messages.create(**BYPASSED)
    lines = {request.splitlines()[0] for request in server.requests}
    assert lines == {"POST /a%3Ab%7E/v1/messages?s=a%2Fb&t=~ HTTP/1.1"}
