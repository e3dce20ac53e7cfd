"""A router is a client of the SDK: what asks for one takes it, and what is not routed is the SDK's own."""

import copy
import gc
import inspect
import weakref
from typing import ClassVar
from unittest.mock import Mock

import anthropic
import httpx2
import pytest
from anthropic.resources.messages import AsyncMessages, Messages

from cheapdeep_ops import AsyncRouter, Router, Settings
from cheapdeep_ops.claude.clients import RESOURCES
from cheapdeep_ops.router import base
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


NAMED = {"model": OPUS, **HELLO}
UNROUTED = {
    "beta.messages": lambda made: made.beta.messages.create(**NAMED),
    "with_raw_response": lambda made: made.with_raw_response.messages.create(**NAMED),
    "messages.batches": lambda made: made.messages.batches.create(requests=[{"custom_id": "a", "params": NAMED}]),
    "messages.parse without output_format, or post": lambda made: made.messages.parse(**NAMED),
}


class TestACallThatCannotBeRouted:
    @pytest.fixture(autouse=True)
    def nothing_was_said(self, monkeypatch):
        monkeypatch.setattr(base, "_warned_of", set())

    @pytest.mark.parametrize("way", UNROUTED)
    def test_is_said_once(self, api, open_shell, caplog, way):
        api.always(Reply.text("Deep."))
        shell = open_shell()
        for _ in range(2):
            shell._run(UNROUTED[way](shell.router))
        (said,) = caplog.records
        assert (said.name.partition(".")[0], said.levelname) == ("cheapdeep_ops", "WARNING")
        assert said.getMessage().startswith(f"{way}: such calls are neither routed nor counted")

    def test_is_one_of_a_stream_helper_or_a_tool_runner_too(self, api, caplog):
        api.always(Reply.text("Deep."))
        with router(api) as made, made.beta.messages.stream(**NAMED) as stream:
            assert stream.get_final_text() == "Deep."
        assert len(caplog.records) == 1

    def test_is_none_of_a_router_whose_requests_were_replaced(self, api, open_shell, caplog):
        escalating(api)
        shell, sent = open_shell(), []
        with_its_requests_replaced(shell.router, sent)
        assert [ask(shell) for ask in WAYS.values()] == ["Deep."] * len(WAYS)
        assert sent == [HAIKU, OPUS] * len(WAYS)
        assert caplog.records == []

    def test_is_none_of_those_that_ask_for_no_answer_or_are_routed(self, api, client, caplog):
        api.always(Reply.triage(0.9, "Yes."))
        with over(client) as made:
            made.messages.create(**NAMED)
            made.models.retrieve(OPUS)
            made.messages.count_tokens(model=OPUS, messages=HELLO["messages"])
            client.beta.messages.create(**NAMED)
            client.messages.with_raw_response.create(**NAMED)
        assert caplog.records == []


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


WAYS = {
    "route": lambda shell: shell.route(**HELLO).text,
    "create": lambda shell: shell.create(**HELLO).content[0].text,
    "a stream of events": lambda shell: "".join(
        event.delta.text for event in shell.streamed_events(**HELLO) if event.type == "content_block_delta"
    ),
    "the stream helper": lambda shell: shell.streamed_text(**HELLO),
}


def of_a_tenant(client):
    """The client as one of a subclass whose constructor needs an argument, and that signs with its own attributes."""

    class Tenant(type(client)):
        __slots__ = ("secret",)

        def __init__(self, tenant):
            raise AssertionError("nobody may call it but the caller")

        @property
        def auth_headers(self):
            return {"x-key": f"{self.secret} {self.api_key}", "x-tenant": self.tenant, **super().auth_headers}

    made = object.__new__(Tenant)
    vars(made).update(vars(client), tenant="shop")
    made.secret = "s"
    return made


def escalating(api):
    api.always(lambda request: Reply.triage(0.2, None) if request.is_triage else Reply.text("Deep."))


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
class TestAClientOfTheCallers:
    def test_keeps_its_class_and_attributes_and_is_followed(self, api, open_shell, ask):
        escalating(api)
        shell = open_shell(change=of_a_tenant)
        client = shell.router._sdk
        changes = [("first", "s", "shop"), ("second", "t", "shop"), ("second", "t", "bank")]
        for client.api_key, client.secret, client.tenant in changes:
            assert ask(shell) == "Deep."
            shell.router.messages.count_tokens  # noqa: B018 - a resource that the client caches
        seen = [(request.headers["x-key"], request.headers["x-tenant"]) for request in api.requests]
        assert seen == [(f"{secret} {key}", tenant) for key, secret, tenant in changes for _ in range(2)]

    def test_is_followed_to_another_server(self, api, open_shell, ask):
        escalating(api)
        shell = open_shell(client={"base_url": "http://127.0.0.1:9/"})
        with pytest.raises(anthropic.APIConnectionError):
            ask(shell)
        shell.router._sdk.base_url = api.url
        assert ask(shell) == "Deep."

    @pytest.mark.thorough
    def test_is_followed_in_its_retries_and_timeouts(self, api, open_shell, ask):
        shell = open_shell(client={"timeout": 30.0})
        for asked in (lambda: Reply.error(529, retry_after=0.01), lambda: Reply.text("Deep.").slow(60)):
            api.always(lambda request, asked=asked: Reply.triage(0.2, None) if request.is_triage else asked())
            with pytest.raises((anthropic.OverloadedError, anthropic.APITimeoutError)):
                ask(shell)
            shell.router._sdk.max_retries, shell.router._sdk.timeout = 2, 0.3
        assert [request.is_triage for request in api.requests] == [True, False, True, False, False, False]

    def test_may_have_another_router_beside_this_one(self, api, open_shell, ask):
        escalating(api)
        shell = open_shell()
        client = shell.router._sdk
        before = dict(vars(client))
        other = type(shell.router)(client=client, settings=Settings(record=False, tiers=(OPUS,)))
        view = other.with_options(timeout=1.0)
        assert ask(shell) == "Deep."
        assert {**vars(client), "messages": None} == {**before, "messages": None}  # the SDK makes its `messages` late
        assert view._sdk is not client
        assert {type(each.messages) for each in (shell.router, other, view)} == {type(shell.router.messages)}


class Ours:
    """A `messages` of a library's own, such as PostHog's: it counts what is sent through it."""

    def __init__(self, client, sent):
        def counted(method):
            def send(**options):
                sent.append(options["model"])
                return method(**options)

            return send

        self.create, self.stream = counted(client.messages.create), counted(client.messages.stream)


def with_its_own_messages(client, sent):
    client.messages = Ours(client, sent)
    return client


def with_a_property(client, sent):
    ours = Ours(client, sent)
    client.__class__ = type("Wrapped", (type(client),), {"messages": property(lambda self: ours)})
    return client


def with_its_methods_replaced(client, sent):
    ours = Ours(client, sent)
    for name in ("create", "stream"):
        setattr(client.messages, name, getattr(ours, name))
    return client


def with_its_requests_replaced(client, sent):
    request = client.request

    def counted(cast_to, options, **more):
        sent.append(options.json_data["model"])
        return request(cast_to, options, **more)

    client.request = counted
    return client


def wrapped(client, sent):
    class Wrapper:
        def __init__(self):
            self.messages = Ours(client, sent)

        def __getattr__(self, name):
            return getattr(client, name)

    return Wrapper()


OWN_WAYS = [with_its_own_messages, with_its_methods_replaced, with_its_requests_replaced, with_a_property, wrapped]


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
class TestAClientThatSendsInItsOwnWay:
    @pytest.mark.parametrize("change", OWN_WAYS, ids=lambda change: change.__name__)
    def test_is_asked_as_it_is(self, api, open_shell, ask, change):
        escalating(api)
        sent = []
        shell = open_shell(change=lambda client: change(client, sent))
        assert ask(shell) == "Deep."
        assert sent == models(api) == [HAIKU, OPUS]
        shell.router.api_key = "second"
        assert shell.router._sdk.api_key == "second"

    @pytest.mark.parametrize("change", OWN_WAYS[:3], ids=lambda change: change.__name__)
    def test_may_be_made_so_when_a_router_has_it(self, api, open_shell, ask, change):
        escalating(api)
        shell, sent = open_shell(), []
        assert ask(shell) == "Deep."
        change(shell.router._sdk, sent)
        assert ask(shell) == "Deep."
        assert sent == [HAIKU, OPUS]

    @pytest.mark.thorough
    def test_retries_no_longer_than_a_triage_may_take(self, api, open_shell, ask):
        def change(client):
            return with_its_own_messages(client, [])

        api.always(lambda request: Reply.error(529, retry_after=60) if request.is_triage else Reply.text("Deep."))
        shell = open_shell(client={"max_retries": 1}, change=change, triage_timeout_s=1.0)
        assert ask(shell) == "Deep."
        assert [request.is_triage for request in api.requests] == [True, False]  # and no second attempt before it


def test_what_is_set_on_a_router_is_set_on_its_client_and_holds_for_all_calls(api, client, keys):
    escalating(api)
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
        client.api_key = None
        client.auth_token = "fourth"
        given.ask("hello")
        given.base_url = f"{api.url}/elsewhere"
        with pytest.raises(anthropic.NotFoundError):
            given.ask("hello")
    assert keys[:8] == ["second", "second", "second", "first", "third", "third", "fourth", "fourth"]


class TestASubclassOfARouter:
    class Own(Router):
        def __init__(self, team, **options):
            self.team = team
            super().__init__(**options)
            self.asked = 0

        def ask(self, *arguments, **options):
            self.asked += 1
            return super().ask(*arguments, **options)

    def test_keeps_its_attributes_and_so_do_its_views(self, api, client):
        api.always(Reply.triage(0.9, "Yes."))
        with self.Own("shop", client=client, settings=Settings(record=False)) as own:
            own.ask("hello")
            view = own.with_options(timeout=3.0)
            view.ask("hello")
            assert (own.team, own.asked, view.team, view.asked) == ("shop", 1, "shop", 2)
            assert type(view) is self.Own

    def test_has_other_attributes_than_the_next_one_over_its_client(self, client):
        settings = Settings(record=False)
        first, second = (self.Own(team, client=client, settings=settings) for team in ("shop", "bank"))
        first.asked, twin = 7, copy.copy(second)
        twin.team = "club"
        assert (first.team, second.team, twin.team) == ("shop", "bank", "club")
        assert (first.asked, second.asked, hasattr(client, "team")) == (7, 0, False)
        del twin.team
        assert not hasattr(twin, "team")


@pytest.mark.parametrize("kind", [anthropic.Anthropic, anthropic.AsyncAnthropic])
def test_all_that_the_sdks_classes_have_a_default_for_is_the_clients(kind):
    """A newer SDK may have more such attributes: they are in its `__dict__`, or in `_OF_ITS_CLASS`."""
    client = kind(api_key="any", open_telemetry=False, webhook_key="whsec_1")
    router = (Router if kind is anthropic.Anthropic else AsyncRouter)(client=client, settings=Settings(record=False))
    names = {name for base in kind.__mro__ for name in vars(base) if not name.startswith("__")}
    values = {name: getattr(client, name) for name in names - RESOURCES - {"qs"}}
    differing = {name for name, value in values.items() if not callable(value) and getattr(router, name) != value}
    assert differing == set()


def test_a_router_over_a_router_asks_its_client(api, client):
    api.enqueue(Reply.triage(0.9, "Yes."))
    with over(client) as inner, over(inner) as outer:
        assert outer.ask("hello").text == "Yes."
    assert models(api) == [HAIKU]


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


def test_it_may_be_copied_shallowly(api, client, keys):
    with over(client) as given:
        twin = copy.copy(given)
        api.enqueue(Reply.triage(0.9, "Yes."))
        twin.api_key = "second"
        assert twin.ask("hello").text == "Yes."
        twin.close()
        assert (given.is_closed(), keys) == (False, ["second"])


def test_it_is_closed_after_with_and_leaves_a_given_client_open(client):
    with over(client) as given:
        assert not given.is_closed()
    assert given.is_closed()
    assert not client.is_closed()


def test_a_double_can_be_made_of_its_class():
    double = Mock(spec=Router)
    assert isinstance(double, anthropic.Anthropic)
    assert double.models.retrieve(OPUS) is not None


def test_its_copy_has_the_signature_of_the_sdks():
    assert inspect.signature(Router.copy) == inspect.signature(anthropic.Anthropic.copy)
    assert (
        inspect.signature(AsyncRouter.with_options).parameters.keys()
        == inspect.signature(anthropic.AsyncAnthropic.with_options).parameters.keys()
    )


@pytest.mark.thorough
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
