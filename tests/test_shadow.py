"""Shadow mode: the deep tier answers every call, and triage is tried beside some of them."""

import asyncio
import json
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anthropic
import httpx2
import pytest

from cheapdeep_ops import AsyncRouter, BypassCause, Outcome, Reason, Settings
from cheapdeep_ops.recorder.tally import Tally
from cheapdeep_ops.telemetry import names
from cheapdeep_ops.testing import Reply, SimulatedAnthropic

HAIKU, SONNET, OPUS = "claude-haiku-4-5", "claude-sonnet-4-6", "claude-opus-4-7"
QUESTION = {"max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
SMALL, LARGE = {"input_tokens": 300, "output_tokens": 40}, {"input_tokens": 400, "output_tokens": 50}
TRIAGE_USD, DEEP_USD = (300 * 1 + 40 * 5) / 1e6, (400 * 5 + 50 * 25) / 1e6


@pytest.fixture
def shell(open_shell, ledger, watched):
    given = {"recorder": ledger, "telemetry": watched.telemetry}
    return open_shell(router=given, mode="shadow", shadow_share=1.0, record=True, sample_rate=1.0)


def scripted(api, cheap):
    api.always(cheap, model=HAIKU)
    api.always(Reply.text("Deep.", usage=LARGE), model=OPUS)


def sure(answer="Cheap."):
    return Reply.triage(0.95, answer, usage=SMALL)


def unsure():
    return Reply.triage(0.3, None, usage=SMALL)


def tried(shell):
    """Let what is tried beside the last call come to its end."""
    if isinstance(shell.router, AsyncRouter):
        if shell.router._readers:
            shell._run(asyncio.wait(shell.router._readers))
    else:
        shell.router._readers.join(60)


def models(api):
    return sorted(request.model for request in api.requests)


@pytest.mark.parametrize(
    ("tiers", "most_s"),
    [(["claude-haiku-4-5", "claude-opus-4-7"], 5), (["claude-haiku-4-5", "claude-sonnet-4-6", "claude-opus-4-7"], 9)],
)
def test_what_runs_beside_a_call_may_take_its_timeouts_and_a_second(open_shell, tiers, most_s):
    shell = open_shell(tiers=tiers, triage_timeout_s=4.0)
    assert shell.router._core.planner.background_limit_s == most_s


class TestACall:
    @pytest.mark.parametrize("cheap", [sure(), unsure(), Reply.text("no JSON", usage=SMALL)])
    def test_is_answered_by_the_deep_tier_whatever_triage_says(self, api, bare, shell, cheap):
        scripted(api, cheap)
        expected = bare.messages.create(model=OPUS, **QUESTION)
        routed = shell.route(**QUESTION)
        shell.close()
        assert routed.message.model_dump(exclude={"id"}) == expected.model_dump(exclude={"id"})
        bodies = [request.body for request in api.requests if request.model == OPUS]
        assert bodies[0] == bodies[1]
        assert models(api) == [HAIKU, OPUS, OPUS]

    def test_that_would_ship_tells_what_it_would_have_cost(self, api, shell, ledger):
        scripted(api, sure())
        told = shell.route(**QUESTION).decision
        shell.close()
        (decision,) = ledger.decisions
        assert (told.bypass_cause, told.cost_usd, told.is_shadow) == (
            BypassCause.SHADOW,
            pytest.approx(DEEP_USD),
            False,
        )
        assert (decision.is_shadow, decision.base_outcome, decision.confidence) == (True, Outcome.SHIP, 0.95)
        assert (decision.model, decision.shipped, decision.escalated) == (OPUS, False, True)
        assert (decision.reason, decision.bypass_cause) == (Reason.BYPASS, BypassCause.SHADOW)
        assert decision.routed_cost_usd == pytest.approx(TRIAGE_USD)
        assert decision.cost_usd == pytest.approx(TRIAGE_USD + DEEP_USD)
        assert decision.baseline_cost_usd == pytest.approx(DEEP_USD)
        assert [hop.tier.model for hop in decision.hops] == [HAIKU, OPUS]
        assert ledger.tells[0]().answer == "Cheap."

    def test_that_would_escalate_does_too(self, api, shell, ledger):
        scripted(api, unsure())
        shell.route(**QUESTION)
        shell.close()
        (decision,) = ledger.decisions
        assert (decision.base_outcome, decision.base_reason) == (Outcome.ESCALATE, Reason.LOW_CONFIDENCE)
        assert decision.routed_cost_usd == pytest.approx(TRIAGE_USD + DEEP_USD)

    def test_whose_triage_fails_is_none_of_the_callers_affair(self, api, shell, ledger):
        scripted(api, Reply.error(529))
        assert shell.route(**QUESTION).text == "Deep."
        shell.close()
        assert ledger.decisions[0].base_reason is Reason.TRIAGE_ERROR
        assert ledger.decisions[0].routed_cost_usd == pytest.approx(DEEP_USD)

    def test_that_fails_tells_nothing_of_routing(self, api, shell, ledger):
        api.always(sure(), model=HAIKU)
        api.always(Reply.error(529), model=OPUS)
        with pytest.raises(anthropic.OverloadedError):
            shell.route(**QUESTION)
        shell.close()
        (decision,) = ledger.decisions
        assert (decision.error, decision.base_outcome, decision.is_shadow) == ("OverloadedError", None, False)
        assert models(api) == [OPUS]

    def test_that_is_streamed_is_streamed_by_the_deep_tier(self, api, bare, shell, ledger):
        scripted(api, sure())
        with bare.messages.stream(model=OPUS, **QUESTION) as stream:
            expected = stream.get_final_message()
        assert shell.final_message(**QUESTION).content == expected.content
        shell.close()
        (decision,) = ledger.decisions
        assert (decision.is_shadow, decision.base_outcome) == (True, Outcome.SHIP)
        assert "stream" not in next(each for each in api.requests if each.model == HAIKU).body

    def test_that_cannot_be_triaged_is_not(self, api, shell, ledger):
        scripted(api, sure())
        shell.route(**QUESTION, stop_sequences=["END"])
        shell.close()
        assert (ledger.decisions[0].bypass_cause, models(api)) == (BypassCause.STOP_SEQUENCES, [OPUS])

    def test_goes_through_all_tiers_as_it_would(self, api, open_shell, ledger):
        given = {"recorder": ledger}
        shell = open_shell(router=given, mode="shadow", shadow_share=1.0, tiers=(HAIKU, SONNET, OPUS))
        scripted(api, unsure())
        api.always(sure("Middle."), model=SONNET)
        shell.route(**QUESTION)
        shell.close()
        (decision,) = ledger.decisions
        assert [hop.tier.model for hop in decision.hops] == [HAIKU, SONNET, OPUS]
        assert decision.routed_cost_usd == decision.triage_cost_usd < decision.cost_usd

    def test_is_traced_as_one(self, api, shell, watched):
        scripted(api, sure())
        shell.route(**QUESTION)
        shell.close()
        (route,) = watched.named("cheapdeep.route")
        chats = [*watched.named(f"chat {HAIKU}"), *watched.named(f"chat {OPUS}")]
        assert {chat.parent.span_id for chat in chats} == {route.context.span_id}
        assert len(chats) == 2
        assert route.attributes[names.SHADOW] is True
        assert route.attributes[names.SHADOW_COST] == pytest.approx(TRIAGE_USD)


class TestTheCaller:
    def test_does_not_wait_for_triage(self, open_shell, ledger):
        with SimulatedAnthropic() as api:
            shell = open_shell(
                router={"recorder": ledger}, client={"base_url": api.url}, mode="shadow", shadow_share=1.0
            )
            scripted(api, sure().slow(60))
            begun = time.monotonic()
            assert shell.route(**QUESTION).text == "Deep."
            answered_s = time.monotonic() - begun
            assert ledger.decisions == []  # the call is recorded once triage has failed
        shell.close()
        assert ledger.decisions[0].base_reason is Reason.TRIAGE_ERROR
        assert ledger.decisions[0].duration_s <= answered_s

    def test_is_not_counted_late(self, api, shell, ledger, watched):
        scripted(api, sure().slow(0.3))
        begun = time.monotonic()
        shell.route(**QUESTION)
        answered_s = time.monotonic() - begun
        shell.close()
        assert ledger.decisions[0].duration_s <= answered_s
        (route,) = watched.named("cheapdeep.route")
        assert route.end_time - route.start_time < answered_s * 1e9 + 1e6  # another clock, and so a millisecond more
        ((_, overhead),) = watched.points(names.OVERHEAD_DURATION).items()
        assert overhead.sum <= answered_s

    @pytest.mark.thorough
    def test_of_many_calls_has_only_so_many_tried(self, api, shell, ledger):
        scripted(api, sure().slow(0.4))
        routed = shell.ask_all([f"question {n}" for n in range(40)])
        shell.close()
        assert len(routed) == len(ledger.decisions) == 40
        tried = sum(decision.is_shadow for decision in ledger.decisions)
        assert 1 <= tried == models(api).count(HAIKU)
        if isinstance(shell.router, AsyncRouter):  # all forty were under way together
            assert tried == 16
        assert threading.active_count() < 40


class TestTheShare:
    @pytest.mark.thorough
    def test_is_drawn_by_a_hash_of_its_own(self, api, open_shell, ledger):
        ids = iter(f"call-{n}" for n in range(300))
        given = {"recorder": ledger, "new_id": lambda: next(ids)}
        shell = open_shell(router=given, mode="shadow", shadow_share=0.1)
        scripted(api, sure())
        for n in range(300):
            shell.ask(f"question {n}")
        shell.close()
        tried = sum(decision.is_shadow for decision in ledger.decisions)
        assert 15 <= tried <= 47  # 99.9% of a binomial with n 300 and p 0.1
        assert len(ledger.decisions) == 300
        assert models(api).count(HAIKU) == tried

    def test_is_nothing_in_the_other_modes(self, api, open_shell, ledger):
        shell = open_shell(router={"recorder": ledger}, mode="observe", shadow_share=1.0)
        scripted(api, sure())
        assert shell.ask().text == "Cheap."
        assert models(api) == [HAIKU]


class TestTheClient:
    @pytest.mark.thorough
    @pytest.mark.parametrize("case", [(3, 0), (8, 2), (None, 4)])
    def test_keeps_most_of_its_connections_for_callers(self, api, open_shell, ledger, caplog, case):
        connections, tried_calls = case
        shell = open_shell(router={"recorder": ledger}, mode="shadow", shadow_share=1.0)
        is_async = isinstance(shell.router, AsyncRouter)
        pool = anthropic.DefaultAsyncHttpxClient if is_async else anthropic.DefaultHttpxClient
        limited = pool(limits=httpx2.Limits(max_connections=connections), verify=False)
        client = shell.router._sdk
        shell.router._use(client.with_options(http_client=limited), 30.0)
        scripted(api, sure().slow(1.5))
        shell.ask_all(["hello"] * 4)
        shell.close()
        shell._run(client.close())
        # Of two threads that come together both may give way.
        least = tried_calls if is_async or not connections else min(tried_calls, 1)
        assert least <= sum(decision.is_shadow for decision in ledger.decisions) <= tried_calls
        assert ("too small" in caplog.text) == (connections == 3)

    def test_may_be_a_view_whose_trials_are_the_routers(self, api, open_shell, store_url):
        shell = open_shell(mode="shadow", shadow_share=1.0, record=True, store_url=store_url)
        scripted(api, sure().slow(0.2))
        for number in range(5):
            view = shell.router.with_options(default_headers={"x-number": str(number)})
            assert shell._run(view.ask("hello")).text == "Deep."
            shell._run(view.close())
        shell.close()
        assert stored(store_url) == (5, 5)


class TestARecord:
    @pytest.mark.thorough
    def test_of_an_answer_that_drips_is_made_in_time(self, open_shell, ledger, dripping):
        given = {"recorder": ledger}
        shell = open_shell(router=given, mode="shadow", shadow_share=1.0, triage_timeout_s=0.2, tiers=(HAIKU, OPUS))
        shell.router._use(shell.router._sdk.with_options(base_url=dripping), 0.2)
        assert shell.route(**QUESTION).text == "Deep."
        shell.close()
        (decision,) = ledger.decisions
        # A thread cannot be stopped, so its trial is given up; a task can.
        expected = (True, Reason.TRIAGE_ERROR) if isinstance(shell.router, AsyncRouter) else (False, None)
        assert (decision.model, decision.is_shadow, decision.base_reason) == (OPUS, *expected)

    def test_is_of_what_was_asked_whatever_became_of_it_since(self, api, shell, ledger):
        scripted(api, sure().slow(0.2))
        blocks = [{"type": "text", "text": "Capital of France?"}]
        messages = [{"role": "user", "content": blocks}]
        shell.route(max_tokens=100, messages=messages)
        blocks[0]["text"] = "Capital of Peru?"
        messages.append({"role": "assistant", "content": "Lima."})
        shell.close()
        assert [turn.text for turn in ledger.tells[0]().turns] == ["Capital of France?"]
        asked = next(each for each in api.requests if each.model == HAIKU)
        assert asked.body["messages"][0]["content"][0]["text"] == "Capital of France?"

    def test_is_made_where_arguments_cannot_be_copied(self, api, shell, ledger):
        class Stubborn(dict):
            def __deepcopy__(self, _memo):
                raise TypeError("there is one of me")

        scripted(api, sure())
        assert shell.route(max_tokens=9, messages=[Stubborn(role="user", content="hello")]).text == "Deep."
        shell.close()
        assert (ledger.decisions[0].is_shadow, models(api)) == (False, [OPUS])

    @pytest.mark.thorough
    def test_is_made_where_a_loop_is_closed_over_it(self, api, store_url):
        scripted(api, sure().slow(30))
        run(
            api,
            store_url,
            """
import anthropic, asyncio
client = anthropic.AsyncAnthropic(base_url=url, api_key="any", open_telemetry=False)
router = AsyncRouter(client=client, settings=settings)
for _ in range(3):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(router.ask("hello"))
    loop.close()
asyncio.run(router.aclose())
assert not router._readers
""",
        )
        assert stored(store_url) == (3, 0)

    @pytest.mark.thorough
    def test_is_made_where_the_interpreter_ends_without_a_word(self, api, store_url):
        scripted(api, sure().slow(30))
        run(
            api,
            store_url,
            """
router = Router(base_url=url, api_key="any", settings=settings)
for _ in range(3):
    router.ask("hello")
""",
        )
        assert stored(store_url) == (3, 0)

    @pytest.mark.thorough
    def test_without_the_second_of_three_tiers_is_of_the_deep_one_alone(self, api, open_shell, ledger):
        tiers = (HAIKU, SONNET, OPUS)
        given = {"recorder": ledger}
        shell = open_shell(router=given, mode="shadow", shadow_share=1.0, tiers=tiers, triage_timeout_s=1.0)
        scripted(api, unsure())
        api.always(sure().slow(60), model=SONNET)
        shell.route(**QUESTION)
        shell.router._core.record_pending()
        shell.close()
        (decision,) = ledger.decisions
        assert (decision.is_shadow, decision.base_outcome, decision.routed_cost_usd) == (False, None, None)


def run(api, store_url, script):
    """A process of its own: what is left behind in it is nobody's business here."""
    given = f"""
from cheapdeep_ops import AsyncRouter, Router, Settings
url, settings = {api.url!r}, Settings(mode="shadow", shadow_share=1.0, store_url={store_url!r})
"""
    subprocess.run([sys.executable, "-c", given + script], check=True, timeout=300, stderr=subprocess.DEVNULL)


def stored(url):
    """Calls, and those on which triage was tried, as the store has them."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        return connection.execute("SELECT sum(calls), sum(shadowed) FROM bucket").fetchone()


@pytest.fixture
def dripping():
    """A Messages API whose cheap model answers byte by byte, so that no read takes long, and the whole a minute."""

    class Drips(BaseHTTPRequestHandler):
        def log_message(self, *_arguments):
            pass

        def do_POST(self):
            model = json.loads(self.rfile.read(int(self.headers["content-length"])))["model"]
            message = {
                "id": "msg_1", "type": "message", "role": "assistant", "model": model, "stop_reason": "end_turn",
                "stop_sequence": None, "content": [{"type": "text", "text": "Deep."}],
                "usage": {"input_tokens": 1, "output_tokens": 1},
            }  # fmt: skip
            body = json.dumps(message).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if model == OPUS:
                self.wfile.write(body)
                return
            with suppress(OSError):
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    if leaving.wait(0.1):
                        return

    leaving = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Drips)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    leaving.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_what_is_interrupted_is_recorded_as_what_it_was(api, ledger):
    async def left():
        async with anthropic.AsyncAnthropic(base_url=api.url, api_key="any", open_telemetry=False) as client:
            settings = Settings(record=False, mode="shadow", shadow_share=1.0)
            router = AsyncRouter(client=client, recorder=ledger, settings=settings)
            return (await router.ask("hello")).text

    scripted(api, sure().slow(30))
    assert asyncio.run(left()) == "Deep."
    (decision,) = ledger.decisions
    assert (decision.is_shadow, decision.bypass_cause, decision.base_outcome) == (False, BypassCause.SHADOW, None)


def test_counters_keep_what_was_tried_apart_from_what_was_bypassed(api, shell, ledger):
    scripted(api, sure())
    shell.route(**QUESTION)
    tried(shell)
    scripted(api, unsure())
    shell.route(**QUESTION)
    tried(shell)
    shell.route(**QUESTION, stop_sequences=["END"])
    shell.close()
    tally = Tally()
    for decision in ledger.decisions:
        tally.add(decision)
    assert (tally.calls, tally.triaged, tally.base_escalated, tally.shipped) == (3, 2, 1, 0)
    assert (tally.bypassed, dict(tally.bypass_causes), tally.shadowed) == (1, {"stop_sequences": 1}, 2)
    assert tally.shadow_cost_nusd == round((2 * TRIAGE_USD + DEEP_USD) * 1e9)
    assert tally.shadow_baseline_nusd == round(2 * DEEP_USD * 1e9)
    assert sum(tally.added_latency.values()) == 0
