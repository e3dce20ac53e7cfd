"""A router is a client of the SDK: what asks for one takes it, and what is not routed is the SDK's own."""

import copy
import gc
import inspect
import weakref
from typing import ClassVar

import anthropic
import httpx2
import pytest
from anthropic.resources.messages import AsyncMessages, Messages

from cheapdeep_ops import AsyncRouter, Router, Settings
from cheapdeep_ops.testing import Reply

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
HELLO = {"max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}


def router(api, kind=Router, **options):
    return kind(settings=Settings(record=False), base_url=api.url, api_key="first", max_retries=0, **options)


def over(client, **options):
    return Router(settings=Settings(record=False), client=client, **options)


def models(api):
    return [request.model for request in api.requests]


@pytest.fixture
def keys():
    """The keys that requests were sent with: the simulator keeps none."""
    return []


@pytest.fixture
def client(api, keys):
    def note(request):
        keys.append(request.headers["authorization"].removeprefix("Bearer "))

    pool = anthropic.DefaultHttpxClient(verify=False, event_hooks={"request": [note]})
    options = {"base_url": api.url, "api_key": "first", "max_retries": 0, "open_telemetry": False}
    with anthropic.Anthropic(http_client=pool, **options) as client:
        yield client


async def test_it_is_of_the_sdks_classes(api):
    with router(api) as threads:
        assert isinstance(threads, anthropic.Anthropic)
        assert isinstance(threads.messages, Messages)
        assert isinstance(threads.with_options(timeout=1).messages, Messages)
    async with router(api, AsyncRouter) as loop:
        assert isinstance(loop, anthropic.AsyncAnthropic)
        assert isinstance(loop.messages, AsyncMessages)


def test_it_reads_what_a_client_is_made_of_from_the_one_that_it_is_given(client):
    with over(client.with_options(timeout=3.0, default_headers={"x-team": "shop"})) as given:
        assert (given.timeout, given.api_key, given.max_retries) == (3.0, "first", 0)
        assert given.default_headers["x-team"] == "shop"
        assert given.base_url == client.base_url
        assert given._client is client._client
        assert given.user_agent == client.user_agent
        assert given.webhook_key is client.webhook_key
        assert given.open_telemetry == client.open_telemetry
        with pytest.raises(AttributeError, match="mesages"):
            _ = given.mesages


def test_it_reads_attributes_for_which_the_sdk_has_defaults_as_well(client):
    with over(client.with_options(webhook_key="whsec_1")) as given:
        assert given.webhook_key == "whsec_1"


class TestACallThatIsNotRouted:
    def test_uses_the_key_that_the_client_has_now(self, client, keys):
        with over(client) as given:
            given.models.retrieve(OPUS)
            client.api_key = "second"
            given.models.retrieve(OPUS)
            given.messages.count_tokens(model=OPUS, messages=HELLO["messages"])
        assert keys == ["first", "second", "second"]

    def test_is_sent_as_a_subclass_sends_it(self, api):
        class Signed(anthropic.Anthropic):
            def _prepare_request(self, request):
                request.headers["x-signature"] = "signed"

        with Signed(base_url=api.url, api_key="any") as signed, over(signed) as given:
            api.enqueue(Reply.triage(0.9, "Yes."))
            given.models.retrieve(OPUS)
            assert given.ask("hello").text == "Yes."
        assert [request.headers.get("x-signature") for request in api.requests] == ["signed"] * 2

    def test_runs_the_middleware_of_the_client(self, api, client):
        seen = []

        def note(request, call_next):
            seen.append(request.url)
            return call_next(request)

        with over(client.with_middleware(note)) as given:
            given.models.retrieve(OPUS)
        assert len(seen) == 1

    def test_says_who_the_client_is(self, api, client):
        with over(client) as given:
            given.models.retrieve(OPUS)
        client.models.retrieve(OPUS)
        first, second = (request.headers["user-agent"] for request in api.requests)
        assert first == second

    @pytest.mark.parametrize("way", ["of the messages", "of the client"])
    def test_gives_its_raw_response(self, api, way):
        with router(api) as made:
            raw = (made.messages if way == "of the messages" else made).with_raw_response
            created = raw.create if way == "of the messages" else raw.messages.create
            api.enqueue(Reply.text("Deep."))
            assert created(model=OPUS, **HELLO).parse().content[0].text == "Deep."
        assert models(api) == [OPUS]

    async def test_gives_its_raw_response_under_asyncio(self, api):
        async with router(api, AsyncRouter) as made:
            api.enqueue(Reply.text("Deep."))
            raw = await made.messages.with_raw_response.create(model=OPUS, **HELLO)
            assert (await raw.parse()).content[0].text == "Deep."
            async with made.messages.with_streaming_response.create(model=OPUS, **HELLO) as response:
                assert response.headers["request-id"].startswith("req_")
        assert models(api) == [OPUS, OPUS]


class TestAView:
    def test_is_a_client_with_resources_of_its_own(self, api):
        with router(api) as made:
            made.models.retrieve(OPUS)
            view = made.copy(default_headers={"x-team": "shop"}).with_middleware(lambda request, rest: rest(request))
            view.models.retrieve(OPUS)
            api.enqueue(Reply.triage(0.9, "Yes."))
            assert view.messages.create(**HELLO).content[0].text == "Yes."
            assert type(view) is Router
            view.close()
            assert not made.is_closed()
        assert made.is_closed()
        assert [request.headers.get("x-team") for request in api.requests] == [None, "shop", "shop"]

    def test_may_have_another_key(self, client, keys):
        with over(client) as made:
            made.with_options(api_key="second").models.retrieve(OPUS)
            made.models.retrieve(OPUS)
        assert keys == ["second", "first"]


class TestAParsedAnswer:
    PARAMS: ClassVar = {
        "model": OPUS,
        "output_format": dict[str, int],
        "route": "support",
        "input_class": "figures",
        **HELLO,
    }

    @pytest.mark.parametrize("kind", [Router, AsyncRouter])
    async def test_is_a_call_like_others(self, api, ledger, kind):
        api.enqueue(Reply.text('{"a": 1}'))
        made = router(api, kind, recorder=ledger)
        parsed = made.messages.parse(**self.PARAMS)
        parsed = await parsed if inspect.isawaitable(parsed) else parsed
        assert (type(parsed).__name__.split("[")[0], parsed.parsed_output) == ("ParsedMessage", {"a": 1})
        (decision,) = ledger.decisions
        assert (decision.route, decision.input_class, decision.bypass_cause) == (
            "support", "figures", "structured_output",
        )  # fmt: skip
        assert decision.cost_usd > 0
        closed = made.close()
        if inspect.isawaitable(closed):
            await closed

    def test_without_a_format_is_the_sdks_own(self, api, ledger):
        api.enqueue(Reply.text("Deep."))
        with router(api, recorder=ledger) as made:
            assert made.messages.parse(model=OPUS, **HELLO).content[0].text == "Deep."
        assert ledger.decisions == []


def test_what_is_set_on_it_is_set_on_the_client_and_holds_for_all_calls(api, client, keys):
    api.always(lambda request: Reply.triage(0.2, None) if request.is_triage else Reply.text("Deep."))
    with over(client) as given:
        view = given.with_options(max_retries=1)
        given.api_key = "second"
        given.ask("hello")
        given.models.retrieve(OPUS)
        view.models.retrieve(OPUS)
        view.api_key = "third"
        view.ask("hello")
        given.timeout = 3.0
        assert (client.timeout, client.api_key, view.max_retries) == (3.0, "second", 1)
        given.base_url = f"{api.url}/elsewhere"
        with pytest.raises(anthropic.NotFoundError):
            given.ask("hello")
    assert keys[:6] == ["second", "second", "second", "first", "third", "third"]


def test_a_schema_is_no_type_to_parse_into(client):
    with over(client) as given, pytest.raises(TypeError, match="must be a type"):
        given.messages.stream(model=OPUS, output_format={"type": "object"}, **HELLO)


async def test_a_tool_runner_of_the_sdk_runs_with_it(api):
    @anthropic.beta_async_tool
    async def now() -> str:
        """The time."""
        return "noon"

    api.enqueue(Reply.text("It is noon."))
    async with router(api, AsyncRouter) as made:
        runner = made.beta.messages.tool_runner(model=OPUS, tools=[now], **HELLO)
        assert (await runner.until_done()).content[0].text == "It is noon."


def test_it_may_be_copied_shallowly(api, client):
    with over(client) as given:
        twin = copy.copy(given)
        api.enqueue(Reply.triage(0.9, "Yes."))
        assert twin.ask("hello").text == "Yes."


def test_it_can_be_collected(client):
    given = over(client)
    given.messages  # noqa: B018 - the resource holds the router
    gone = weakref.ref(given)
    given.close()
    del given
    gc.collect()
    assert gone() is None


def test_a_given_http_client_is_used_and_left_to_the_routers_close(api):
    with httpx2.Client() as pool:
        made = router(api, http_client=pool)
        assert made._client is pool
        made.models.retrieve(OPUS)
        made.close()
        assert made.is_closed()
