from dataclasses import replace

import anthropic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops.testing import FrozenClock, Reply, SimulatedAnthropic
from cheapdeep_ops.testing.messages_api.models import MODELS
from cheapdeep_ops.testing.messages_api.prompt_cache import LOOKS_BACK, PromptCache
from cheapdeep_ops.testing.messages_api.received import input_tokens

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
FIVE, HOUR = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}
MODEL = next(model for model in MODELS if model.id == HAIKU)


@pytest.fixture
def clock():
    return FrozenClock()


@pytest.fixture
def api(clock):
    with SimulatedAnthropic(clock=clock) as api:
        yield api


@pytest.fixture
def client(api):
    with anthropic.Anthropic(base_url=api.url, api_key="any", max_retries=0, open_telemetry=False) as client:
        yield client


def block(tokens, mark=None, *, letter="a"):
    return {"type": "text", "text": letter * (4 * tokens), **({"cache_control": mark} if mark else {})}


def turns(*contents):
    return [{"role": ("user", "assistant")[at % 2], "content": content} for at, content in enumerate(contents)]


def ask(client, *, model=HAIKU, messages=None, **more):
    usage = client.messages.create(model=model, max_tokens=64, messages=messages or turns("hello"), **more).usage
    return counted(usage)


def counted(usage):
    """Tokens that came as they are, were read, written for five minutes, and for an hour."""
    written = usage.cache_creation
    assert usage.cache_creation_input_tokens == written.ephemeral_5m_input_tokens + written.ephemeral_1h_input_tokens
    return (
        usage.input_tokens,
        usage.cache_read_input_tokens,
        written.ephemeral_5m_input_tokens,
        written.ephemeral_1h_input_tokens,
    )


# What is written and read


def test_a_prefix_is_written_once_and_read_from_then_on(client):
    system = [block(5_000, FIVE)]
    assert ask(client, system=system) == (2, 0, 5_000, 0)
    assert ask(client, system=system) == (2, 5_000, 0, 0)
    assert ask(client, system=system, messages=turns("another question")) == (4, 5_000, 0, 0)


def test_each_model_has_a_cache_of_its_own_and_an_alias_shares_that_of_its_snapshot(client):
    system = [block(5_000, FIVE)]
    ask(client, system=system)
    assert ask(client, model=OPUS, system=system) == (2, 0, 5_000, 0)
    assert ask(client, model=f"{HAIKU}-20251001", system=system) == (2, 5_000, 0, 0)


def test_one_byte_before_the_breakpoint_is_another_prefix_and_one_behind_it_is_not(client):
    ask(client, system=[block(5_000, FIVE), block(10)])
    assert ask(client, system=[block(5_000, FIVE), block(10, letter="b")]) == (12, 5_000, 0, 0)
    other = {**block(5_000, FIVE), "text": "a" * 19_999 + "b"}
    assert ask(client, system=[other, block(10)]) == (12, 0, 5_000, 0)


def test_tools_stand_before_the_system_prompt_and_that_before_the_turns(client):
    tool = {"name": "t", "description": "x" * 20_000, "input_schema": {"type": "object"}}
    _, _, tools_only, _ = ask(client, tools=[{**tool, "cache_control": FIVE}])
    assert tools_only > 5_000
    system, first = [block(100)], turns([block(200, FIVE)])
    assert ask(client, tools=[tool], system=system, messages=first) == (0, tools_only, 300, 0)
    assert ask(client, system=system, tools=[{**tool, "name": "u"}], messages=first)[:2] == (0, 0)


def test_a_growing_conversation_reads_its_past_and_writes_what_is_new(client):
    first = [block(5_000, FIVE)]
    assert ask(client, messages=turns(first)) == (0, 0, 5_000, 0)
    grown = turns([block(5_000)], "b" * 400, [block(50, FIVE)])
    assert ask(client, messages=grown) == (0, 5_000, 150, 0)
    assert ask(client, messages=turns([block(5_000)], "b" * 400, [block(50)])) == (5_150, 0, 0, 0)


def test_a_mark_on_the_request_is_one_on_its_last_block(client):
    assert ask(client, system="a" * 20_000, cache_control=FIVE) == (0, 0, 5_002, 0)
    grown = turns("hello", "b" * 400, "c" * 40)
    assert ask(client, system="a" * 20_000, messages=grown, cache_control=FIVE) == (0, 5_002, 110, 0)
    marked = turns([block(4, FIVE)])
    assert ask(client, system="a" * 20_000, messages=marked, cache_control=FIVE) == (0, 0, 5_004, 0)


def test_text_is_the_same_as_a_string_and_as_a_block_of_any_role_but_not_elsewhere(client):
    ask(client, system="a" * 20_000, messages=turns([block(9, FIVE)]))
    assert ask(client, system=[block(5_000)], messages=turns("a" * 36), cache_control=FIVE)[1] == 5_009
    moved = {"system": [block(5_000), block(9)], "cache_control": FIVE}
    assert ask(client, **moved)[1] == 0


def test_a_prefix_is_found_so_many_blocks_before_a_breakpoint_and_no_more(client):
    ask(client, system=[block(5_000, FIVE)])
    near = [block(1) for _ in range(LOOKS_BACK - 2)]
    assert ask(client, system=[block(5_000), *near, block(1, FIVE)])[1] == 5_000
    far = [block(1, letter="b") for _ in range(LOOKS_BACK - 1)]
    assert ask(client, system=[block(5_000), *far, block(1, FIVE)])[1] == 0


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("model", "smallest"),
    [
        (HAIKU, 4_096), (OPUS, 2_048), ("claude-sonnet-4-6", 2_048), ("claude-opus-4-6", 4_096),
        ("claude-opus-4-8", 1_024), ("claude-sonnet-5", 1_024), ("claude-opus-5", 512), ("claude-haiku-5-5", 512),
        ("claude-sonnet-5-5", 512), ("claude-opus-5-5", 512), ("claude-fable-5-1", 512), ("claude-mythos-5-1", 512),
    ],
)  # fmt: skip
def test_below_a_models_smallest_prefix_nothing_is_cached_and_nothing_is_said(client, model, smallest):
    short = {"model": model, "system": [block(smallest - 1, FIVE)]}
    assert [ask(client, **short) for _ in range(2)] == [(smallest + 1, 0, 0, 0)] * 2
    enough = {"model": model, "system": [block(smallest, FIVE)]}
    assert ask(client, **enough) == (2, 0, smallest, 0)


def test_another_output_schema_reads_nothing_and_other_thinking_reads_no_turns(client):
    prompt = {"system": [block(5_000, FIVE)], "messages": turns([block(10, FIVE)])}
    ask(client, **prompt)
    schema = {"type": "object", "properties": {"confidence": {}, "answer": {}}}
    wanted = {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
    assert ask(client, **prompt, **wanted) == (0, 0, 5_010, 0)
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1_024}}
    assert ask(client, **prompt, **thinking) == (0, 5_000, 10, 0)


# How long it stays


@pytest.mark.parametrize(("mark", "lifetime_s"), [(FIVE, 300), (HOUR, 3_600)])
def test_a_prefix_lives_on_from_each_use_and_ends_with_its_time(client, clock, mark, lifetime_s):
    system = [block(5_000, mark)]
    written = ask(client, system=system)
    assert written == ((2, 0, 0, 5_000) if mark is HOUR else (2, 0, 5_000, 0))
    for _ in range(3):
        clock.advance(lifetime_s - 1)
        assert ask(client, system=system) == (2, 5_000, 0, 0)
    clock.advance(lifetime_s)
    assert ask(client, system=system) == written


def test_what_is_kept_for_an_hour_outlives_what_stands_behind_it(client, clock):
    prompt = {"system": [block(5_000, HOUR)], "messages": turns([block(200, FIVE), block(1)])}
    assert ask(client, **prompt) == (1, 0, 200, 5_000)
    assert ask(client, **prompt) == (1, 5_200, 0, 0)
    clock.advance(300)
    assert ask(client, **prompt) == (1, 5_000, 200, 0)


def test_a_use_of_the_whole_keeps_its_beginning_alive(client, clock):
    prompt = {"system": [block(5_000, FIVE)], "messages": turns([block(200, FIVE)])}
    for _ in range(3):
        ask(client, **prompt)
        clock.advance(200)
    assert ask(client, system=prompt["system"]) == (2, 5_000, 0, 0)


def test_clearing_forgets_prompts(api, client):
    ask(client, system=[block(5_000, FIVE)])
    api.clear()
    assert ask(client, system=[block(5_000, FIVE)]) == (2, 0, 5_000, 0)


# How it is told


def test_streams_and_whole_replies_tell_the_same(client):
    request = {"model": HAIKU, "max_tokens": 64, "messages": turns("hello")}
    for expected in ((2, 0, 100, 5_000), (2, 5_100, 0, 0)):
        prompt = {**request, "system": [block(5_000, HOUR), block(100, FIVE)]}
        with client.messages.stream(**prompt) as stream:
            events = list(stream)
        assert counted(stream.get_final_message().usage) == expected
        first = next(event.message.usage for event in events if event.type == "message_start")
        last = next(event.usage for event in events if event.type == "message_delta")
        assert counted(first) == expected
        told = (last.input_tokens, last.cache_read_input_tokens, last.cache_creation_input_tokens)
        assert told == (*expected[:2], sum(expected[2:]))


def test_a_scripted_reply_keeps_what_it_tells_of_its_prompt_and_its_prompt_is_cached(api, client):
    prompt = {"system": [block(5_000, FIVE)]}
    api.enqueue(Reply.text("a", usage={"input_tokens": 7, "cache_read_input_tokens": 3}), Reply.text("b"))
    assert ask(client, **prompt) == (7, 3, 0, 0)
    assert ask(client, **prompt) == (2, 5_000, 0, 0)
    api.enqueue(Reply.text("c", usage={"output_tokens": 9}), Reply.error(529))
    assert ask(client, **prompt) == (2, 5_000, 0, 0)


def test_a_call_that_fails_caches_nothing(api, client):
    api.enqueue(Reply.error(529))
    with pytest.raises(anthropic.InternalServerError):
        ask(client, system=[block(5_000, FIVE)])
    assert ask(client, system=[block(5_000, FIVE)]) == (2, 0, 5_000, 0)


def test_warming_the_cache_is_a_call_without_an_answer(client):
    prompt = {"model": HAIKU, "system": [block(5_000, FIVE)], "messages": turns("hello")}
    assert counted(client.messages.create(max_tokens=0, **prompt).usage) == (2, 0, 5_000, 0)
    assert ask(client, system=prompt["system"]) == (2, 5_000, 0, 0)


# What is refused


def with_marks(count):
    return [block(1, FIVE) for _ in range(count)]


ORDER = (
    "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. "
    "Note that blocks are processed in the following order: `tools`, `system`, `messages`."
)


@pytest.mark.parametrize(
    ("request_", "fault"),
    [
        (
            {"system": with_marks(3), "messages": turns(with_marks(2))},
            "A maximum of 4 blocks with cache_control may be provided. Found 5.",
        ),
        (
            {"system": with_marks(4), "cache_control": FIVE},
            "A maximum of 4 blocks with cache_control may be provided. Found 5.",
        ),
        (
            {"system": with_marks(1), "messages": turns([block(1), block(1, HOUR)])},
            f"messages.0.content.1.cache_control.ttl: {ORDER}",
        ),
        (
            {"system": [block(1, {"type": "ephemeral", "ttl": "2h"})]},
            "system.0.cache_control.ttl: Input should be '5m' or '1h'",
        ),
        ({"system": [block(1, {"type": "lasting"})]}, "system.0.cache_control.type: Input should be 'ephemeral'"),
        (
            {"messages": turns([block(1), block(0, FIVE)])},
            "messages.0.content.1: cache_control cannot be set for empty text blocks",
        ),
    ],
)
def test_breakpoints_that_the_api_refuses(client, request_, fault):
    with pytest.raises(anthropic.BadRequestError) as refused:
        ask(client, **request_)
    assert refused.value.body["error"]["message"] == fault


def test_four_breakpoints_of_falling_lifetimes_are_taken(client):
    prompt = {"system": [block(5_000, HOUR), block(1, HOUR)], "messages": turns([block(1, FIVE), block(1, FIVE)])}
    assert ask(client, **prompt) == (0, 0, 2, 5_001)


# Always


marks = st.sampled_from([None, None, FIVE, HOUR])
blocks = st.lists(st.tuples(st.integers(0, 3_000), marks, st.sampled_from("ab")), max_size=6)
requests = st.lists(st.tuples(blocks, blocks, st.integers(0, 400)), min_size=1, max_size=12)


@given(requests)
def test_every_token_is_counted_once_and_what_was_just_asked_is_read(asked):
    cache, now, seen = PromptCache(100), 0.0, 0
    for system, content, seconds in asked:
        now += seconds
        body = {
            "system": [block(tokens, mark, letter=letter) for tokens, mark, letter in system],
            "messages": turns([block(tokens, mark, letter=letter) for tokens, mark, letter in content]),
        }
        used = cache.use(body, MODEL, now=now)
        assert used.total == input_tokens(body)
        assert min(used.uncached, used.read, used.written_5m, used.written_1h) >= 0
        assert used.read <= seen
        seen = max(seen, used.total)
        again = cache.use(body, MODEL, now=now)
        cached = used.read + used.written_5m + used.written_1h
        assert (again.read, again.written_5m, again.written_1h) == (cached, 0, 0)
        assert cached == 0 or cached >= MODEL.smallest_cached


def test_the_prefixes_used_last_are_kept():
    cache = PromptCache(2)
    prompts = [{"system": [block(5_000, FIVE, letter=letter)]} for letter in "abc"]
    for prompt in prompts:
        cache.use(prompt, MODEL, now=0.0)
    assert [cache.use(prompt, MODEL, now=0.0).read for prompt in (prompts[1], prompts[2])] == [5_000, 5_000]
    assert cache.use(prompts[0], MODEL, now=0.0).read == 0


def test_a_model_whose_cache_takes_less_caches_less():
    cache, prompt = PromptCache(9), {"system": [block(600, FIVE)]}
    assert cache.use(prompt, replace(MODEL, smallest_cached=512), now=0.0).written_5m == 600
