import itertools
import json
from base64 import b64encode
from datetime import date

import anthropic
import httpx2
import pytest
from anthropic.types import RedactedThinkingBlock, TextBlock
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from cheapdeep_ops import BypassCause
from cheapdeep_ops.claude.arguments import normalize_params as without_marks
from cheapdeep_ops.claude.features import bypass_cause
from cheapdeep_ops.claude.profiles import (
    EFFORTS,
    PROFILES,
    THINKING_ALLOWANCE,
    THINKING_OFF,
    UNKNOWN,
    is_assumed,
    profile_of,
)
from cheapdeep_ops.claude.prompt import CONTRACT, SCHEMA, triage_prompt
from cheapdeep_ops.claude.rubric import MAX_TOKENS, grading_request
from cheapdeep_ops.claude.tier_requests import (
    ENVELOPE_ALLOWANCE,
    LARGEST_UNTIMED,
    is_too_long,
    original_request,
    texts,
    triage_request,
    turns,
)
from cheapdeep_ops.model_names import model_name
from cheapdeep_ops.testing.messages_api.models import MODELS
from cheapdeep_ops.testing.messages_api.validation import message_fault
from cheapdeep_ops.values import TextTurn

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
PROMPT = triage_prompt()


def request(content="hello", **more):
    return {"max_tokens": 100, "messages": [{"role": "user", "content": content}], **more}


def triaged(params, *, model=HAIKU, prompt=PROMPT):
    return translated(params, model=model, prompt=prompt)[0]


def translated(params, *, model=HAIKU, prompt=PROMPT):
    return triage_request(params, model=model, prompt=prompt, timeout_s=30.0)


# Reading the caller's arguments


def test_marks_for_not_given_are_removed_and_iterators_can_be_read_again():
    blocks = iter([{"type": "text", "text": "a"}])
    params = without_marks(
        request(system=anthropic.omit, tools=anthropic.NOT_GIVEN)
        | {"messages": (turn for turn in [{"role": "user", "content": blocks}])}
    )
    assert params == {"max_tokens": 100, "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}
    assert texts(params) == texts(params) == "a"


def test_what_attached_blocks_hold_can_be_read_again_and_is_what_the_sdk_would_send(tmp_path):
    (tmp_path / "i.png").write_bytes(b"hi")
    text = {"type": "text", "text": "a"}

    def blocks(iterator, file):
        return [
            {"type": "document", "source": {"type": "content", "content": iterator([text])}, "title": "t"},
            {"type": "search_result", "source": "s", "title": "t", "content": iterator([text])},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": file}},
        ]

    with (tmp_path / "i.png").open("rb") as file:
        params = without_marks(request(blocks(iter, file)))
    assert params == request(blocks(list, b64encode(b"hi").decode()))
    assert texts(params) == "t\na\nt\ns\na"


def test_what_is_repeatable_is_handed_on_unchanged():
    block = TextBlock(type="text", text="a")
    params = request([block, {"type": "text", "text": "b"}])
    assert without_marks(params)["messages"][0] is params["messages"][0]


def test_all_text_of_the_caller_is_gathered():
    params = request([{"type": "text", "text": "b"}, TextBlock(type="text", text="c")], system="a")
    params["messages"].insert(0, {"role": "user", "content": None})
    assert texts(params) == "a\nb\nc"
    assert texts(request("x", system=[{"type": "text", "text": "s"}])) == "s\nx"


ATTACHED = [
    {"type": "image", "source": {"type": "url", "url": "https://example/i.png"}},
    {"type": "document", "title": "Lease", "source": {"type": "text", "data": "Rent is due."}},
    {"type": "document", "title": "Plan", "source": {"type": "url", "url": "https://example/p.pdf"}},
    {"type": "search_result", "title": "FAQ", "source": "https://s", "content": [{"type": "text", "text": "Yes."}]},
    {"type": "text", "text": "Is it?"},
]


def test_attached_text_is_the_callers_text_too():
    params = request(ATTACHED)
    assert texts(params) == "Lease\nRent is due.\nPlan\nFAQ\nhttps://s\nYes.\nIs it?"
    assert turns(params) == (TextTurn(role="user", text=texts(params), is_whole=False),)


@pytest.mark.parametrize(
    ("content", "is_whole"),
    [
        ("a", True),
        ([TextBlock(type="text", text="a")], True),
        ([ATTACHED[1], ATTACHED[3]], True),
        ([{"type": "document", "source": {"type": "content", "content": "a"}}], True),
        ([{"type": "document", "source": {"type": "content", "content": [ATTACHED[4]]}}], True),
        ([{"type": "document", "source": {"type": "content", "content": [ATTACHED[0]]}}], False),
        ([{"type": "document", "source": {"type": "base64", "data": "a"}}], False),
        ([ATTACHED[4], ATTACHED[0]], False),
        ([ATTACHED[2]], False),
        ([RedactedThinkingBlock(type="redacted_thinking", data="x"), ATTACHED[4]], True),
    ],
)
def test_a_turn_is_whole_where_its_text_is_all_that_was_in_it(content, is_whole):
    (turn,) = turns(request(content))
    assert turn.is_whole is is_whole


# The triage question


def test_the_question_asks_for_the_schema_where_the_model_knows_structured_outputs():
    assert triaged(request())["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}
    assert "output_config" not in triaged(request(), model="claude-of-another-vendor")


def test_the_question_drops_what_only_the_deep_tier_may_get():
    params = request(thinking={"type": "disabled"}, extra_body={"temperature": 0}, output_config={"effort": "max"})
    question = triaged(params)
    assert not {"thinking", "extra_body"} & question.keys()
    assert "effort" not in question["output_config"]
    assert triaged(params, model="claude-sonnet-4-6")["output_config"]["effort"] == "max"


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        (1, 1 + ENVELOPE_ALLOWANCE),
        (1024, 1024 + ENVELOPE_ALLOWANCE),
        (LARGEST_UNTIMED - 1, LARGEST_UNTIMED),
        (LARGEST_UNTIMED, LARGEST_UNTIMED),
        (100_000, LARGEST_UNTIMED),
    ],
)
def test_the_envelope_is_granted_up_to_what_the_sdk_sends_unstreamed(asked, granted):
    assert triaged(request() | {"max_tokens": asked})["max_tokens"] == granted


@pytest.mark.parametrize(("timeout", "kept"), [(5, 5), (600, 30.0), (None, 30.0)])
def test_the_stricter_timeout_holds(timeout, kept):
    assert triaged(request(timeout=timeout))["timeout"] == kept
    assert "timeout" not in triaged(request())


def test_a_template_wraps_the_last_turn_once():
    prompt = triage_prompt("<q>{{user_input}}</q>")
    params = request("a {{user_input}} b", system="s")
    params["messages"].insert(0, {"role": "user", "content": "first"})
    question = triaged(params, prompt=prompt)
    assert [turn["content"] for turn in question["messages"]] == ["first", "<q>a {{user_input}} b</q>"]
    assert question["system"] == "s"


EPHEMERAL = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


class OwnBlock(BaseModel):
    type: str = "text"
    text: str = "Own."
    cache_control: dict | None = None


def said(text):
    return {"type": "text", "text": text}


@pytest.mark.parametrize(
    ("template", "around"),
    [
        ("<q>{{user_input}}</q>", lambda blocks, _: [said("<q>"), *blocks, said("</q>")]),
        ("{{user_input}}", lambda blocks, _: blocks),
        ("Sort.\n{{user_input}}\n", lambda blocks, _: [said("Sort.\n"), *blocks]),
        ("A{{user_input}}B{{user_input}}C", lambda blocks, bare: [said("A"), *blocks, said("B"), *bare, said("C")]),
        ("{{user_input}} {{user_input}}{{user_input}}", lambda blocks, bare: [*blocks, *bare, *bare]),
    ],
)
def test_a_template_leaves_the_blocks_of_the_last_turn_as_they_are(template, around):
    own = OwnBlock(**EPHEMERAL)
    blocks = [*ATTACHED, {**said("{{user_input}}"), **EPHEMERAL}, TextBlock(type="text", text="b"), own]
    bare = [*ATTACHED, said("{{user_input}}"), blocks[-2], {"text": "Own.", "type": "text"}]
    bare[-1] = {name: value for name, value in own.model_dump(exclude_unset=True).items() if name != "cache_control"}
    question = triaged(request(blocks), prompt=triage_prompt(template))
    assert question["messages"] == [{"role": "user", "content": around(blocks, bare)}]


def breakpoints(value):
    """How many cache breakpoints a request has."""
    if isinstance(value, dict):
        return ("cache_control" in value) + sum(map(breakpoints, value.values()))
    return sum(map(breakpoints, value)) if isinstance(value, list) else 0


@pytest.mark.parametrize("template", [None, "Rate it.", "<q>{{user_input}}</q>", "{{user_input}} again {{user_input}}"])
def test_the_breakpoints_are_the_callers_and_no_others(template):
    content = [{**said("a"), **EPHEMERAL}, said("b"), {**said("c"), **EPHEMERAL}]
    params = request(content, system=[{**said("s"), **EPHEMERAL}], **EPHEMERAL)
    assert breakpoints(params) == breakpoints(triaged(params, prompt=triage_prompt(template))) == 4


def cached(question):
    """The prompt up to its last breakpoint, in the order in which the API caches it."""
    blocks = [("system", block) for block in question["system"]]
    blocks += [(turn["role"], block) for turn in question["messages"] for block in turn["content"]]
    last = max(index for index, (_, block) in enumerate(blocks) if "cache_control" in block)
    return [(role, {**block, "cache_control": None}) for role, block in blocks[: last + 1]]


@pytest.mark.parametrize("template", [None, "Rate it."])
def test_what_a_turn_has_cached_begins_the_next_triage_question(template):
    prompt = triage_prompt(template)
    first = request([{**said("a"), **EPHEMERAL}], system="s")
    second = request([{**said("c"), **EPHEMERAL}], system="s")
    second["messages"] = [
        {"role": "user", "content": [said("a")]}, {"role": "assistant", "content": [said("b")]}, *second["messages"],
    ]  # fmt: skip
    before, after = (cached(triaged(params, prompt=prompt)) for params in (first, second))
    assert after[: len(before)] == [(role, {**block, "cache_control": None}) for role, block in before]
    assert len(after) > len(before) >= 3


THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}


def thoughtful(*contents):
    roles = ["user", "assistant"] * len(contents)
    pairs = zip(roles, contents, strict=False)
    return request() | {"messages": [{"role": role, "content": content} for role, content in pairs]}


def test_thinking_of_earlier_turns_is_left_out_of_the_question_alone():
    sealed = RedactedThinkingBlock(type="redacted_thinking", data="x")
    params = thoughtful("a", [THOUGHT, said("b")], "c", [sealed, THOUGHT], "d")
    before = json.dumps(params, default=repr)
    question, changed = translated(params)
    assert [turn["content"] for turn in question["messages"]] == ["a", [said("b")], "c", "d"]
    assert changed == ("thinking_blocks: 3 -> dropped",)
    assert json.dumps(params, default=repr) == before
    assert original_request(params, model=OPUS) == ({**params, "model": OPUS}, ())


def test_without_thinking_the_turns_are_the_callers_own():
    params = thoughtful("a", [said("b")], "c")
    assert triaged(params)["messages"] is params["messages"]


@pytest.mark.parametrize(
    ("model", "asked", "granted", "changed"),
    [
        (HAIKU, {"stream": True, "max_tokens": 100_000}, 64_000, ("max_tokens: 100000 -> 64000",)),
        (HAIKU, {"stream": True, "max_tokens": 64_000}, 64_000, ()),
        ("claude-haiku-5-5", {"stream": True, "max_tokens": 100_000}, 100_000, ()),
        ("other", {"stream": True, "max_tokens": 1_000_000}, 1_000_000, ()),
        (HAIKU, {"max_tokens": 64_000}, LARGEST_UNTIMED, (f"max_tokens: 64000 -> {LARGEST_UNTIMED}",)),
    ],
)
def test_a_question_asks_for_no_more_than_the_model_can_write(model, asked, granted, changed):
    question, told = translated(request() | asked, model=model)
    assert (question["max_tokens"], told) == (granted, changed)


@pytest.mark.parametrize(
    ("model", "params", "kept", "changed"),
    [
        (HAIKU, {"thinking": {"type": "disabled"}}, {}, ("thinking: disabled -> dropped",)),
        ("claude-haiku-5-5", {"thinking": {"type": "disabled"}}, {"thinking": {"type": "disabled"}}, ()),
        ("claude-opus-5-5", {"thinking": {"type": "disabled"}}, {}, ("thinking: disabled -> dropped",)),
        (
            "claude-haiku-5-5",
            {"thinking": {"type": "enabled", "budget_tokens": 2_000, "display": "summarized"}},
            {},
            ("thinking: enabled -> dropped", "budget_tokens: 2000 -> dropped", "display: summarized -> dropped"),
        ),
        (HAIKU, {"extra_body": {"top_p": 0.2, "top_k": 5}}, {}, ("top_k: 5 -> dropped", "top_p: 0.2 -> dropped")),
        (HAIKU, {"output_config": {"effort": "high"}}, {}, ("effort: high -> dropped",)),
        ("claude-sonnet-4-6", {"output_config": {"effort": "high"}}, {}, ()),
    ],
)  # fmt: skip
def test_what_a_question_leaves_out_is_told(model, params, kept, changed):
    question, told = translated(request(**params), model=model)
    assert {name: question[name] for name in ("thinking", "extra_body") if name in question} == kept
    assert told == changed


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (0.25, "0.25"), (1, "1"), (True, "True"), (None, "NoneType"), (10**40, "int"), (-(10**40), "int"),
        (float("nan"), "nan"), ("My PIN is 1234", "str"), ({"a": "secret"}, "dict"), (["secret"], "list"),
        ("x" * 9_999, "str"), (type("T" * 99, (), {})(), "T" * 40),
    ],
)  # fmt: skip
def test_what_is_told_is_never_content_and_never_long(value, word):
    _, told = original_request(request(extra_body={"temperature": value}), model=OPUS)
    assert told == (f"temperature: {word} -> dropped",)


def test_a_number_that_cannot_even_be_written_is_told_as_well():
    _, told = translated(request(extra_body={"top_k": 10**5_000}) | {"max_tokens": 10**5_000})
    assert told == ("top_k: int -> dropped", f"max_tokens: int -> {LARGEST_UNTIMED}")


@given(st.recursive(st.none() | st.floats() | st.integers() | st.text(), st.lists), st.sampled_from([HAIKU, OPUS, "x"]))
def test_whatever_a_parameter_is_the_request_is_made_and_told_in_few_words(value, model):
    thinking, config = {"type": value, "budget_tokens": value}, {"effort": value}
    params = request(thinking=thinking, output_config=config, extra_body={"top_p": value, "other": value})
    for _, told in (original_request(params, model=model), translated(params, model=model)):
        assert all(len(each) < 100 for each in told)


# Length


def too_long(params, *, model=HAIKU, most=None, prompt=PROMPT):
    return is_too_long(params, model=model, prompt=prompt, max_input_tokens=most)


def test_a_question_must_fit_the_window_with_its_contract_and_its_answer():
    room = 200_000 - PROMPT.tokens - (1_000 + ENVELOPE_ALLOWANCE)
    fitting, longer = (request("a" * size) | {"max_tokens": 1_000} for size in (4 * room, 4 * room + 1))
    assert not too_long(fitting)
    assert too_long(longer)
    assert not too_long(longer, model="claude-haiku-5-5")
    assert not too_long(longer, model="a model without a row")


def test_a_setting_of_ones_own_counts_the_text_and_the_contract_alone():
    most = PROMPT.tokens + 10
    assert not too_long(request("a" * 40), most=most)
    assert too_long(request("a" * 41), most=most)
    assert too_long(request("a" * 41), most=most, model="a model without a row")
    assert too_long(request("a" * 900_000), most=10**9)
    assert too_long(request(""), most=1)


@given(st.text(), st.one_of(st.none(), st.text()), st.sampled_from([HAIKU, OPUS, "other"]))
def test_making_requests_changes_nothing_of_the_callers(text, system, model):
    params = request(text, system=system, output_config={"effort": "low"}, extra_body={"temperature": 0})
    before = json.dumps(params)
    triaged(params, model=model)
    triaged(params, model=model, prompt=triage_prompt("{{user_input}}"))
    original_request(params, model=model)
    assert json.dumps(params) == before


# The original request


def test_the_original_is_the_callers_request_with_a_model():
    params = request(system="s", metadata={"user_id": "u"}, brand_new=1)
    assert original_request(params, model=OPUS) == ({**params, "model": OPUS}, ())


@pytest.mark.parametrize(
    ("model", "given_params", "sent", "names"),
    [
        (OPUS, {"extra_body": {"temperature": 0, "a": 1}}, {"extra_body": {"a": 1}}, ("temperature: 0 -> dropped",)),
        (
            OPUS,
            {"extra_body": {"top_p": 1, "top_k": 1}},
            {"extra_body": None},
            ("top_k: 1 -> dropped", "top_p: 1 -> dropped"),
        ),
        (HAIKU, {"extra_body": {"temperature": 0}}, {"extra_body": {"temperature": 0}}, ()),
        (
            OPUS,
            {"thinking": {"type": "enabled", "budget_tokens": 9}},
            {"thinking": {"type": "adaptive"}},
            ("thinking: enabled -> adaptive", "budget_tokens: 9 -> dropped"),
        ),
        (OPUS, {"thinking": {"type": "disabled"}}, {"thinking": {"type": "disabled"}}, ()),
        (HAIKU, {"thinking": {"type": "adaptive"}}, {}, ("thinking: adaptive -> dropped",)),
        (HAIKU, {"output_config": {"effort": "low"}}, {}, ("effort: low -> dropped",)),
        (HAIKU, {"output_config": {"effort": "low", "f": 1}}, {"output_config": {"f": 1}}, ("effort: low -> dropped",)),
        ("other", {"thinking": {"type": "enabled"}}, {"thinking": {"type": "enabled"}}, ()),
        (OPUS, {"thinking": {"type": "of_tomorrow"}}, {"thinking": {"type": "of_tomorrow"}}, ()),
    ],
)
def test_what_a_model_refuses_is_translated_and_named(model, given_params, sent, names):
    sent_request, translated = original_request(request(**given_params), model=model)
    assert sent_request == {**request(), "model": model, **sent}
    assert translated == names


# Profiles


@pytest.mark.parametrize(
    ("model", "family", "version"),
    [
        ("claude-opus-4-7-20260416", "opus", (4, 7)),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "haiku", (4, 5)),
        ("claude-sonnet-5-5@default", "sonnet", (5, 5)),
        ("claude-sonnet-5", "sonnet", (5,)),
        ("claude-haiku-6", "haiku", (5, 5)),
        ("claude-opus-4-9", "opus", (5, 5)),
        ("claude-opus-latest", "opus", (5, 5)),
        ("claude-mythos-preview", "mythos", (5, 2)),
        ("claude-fable-7-1-20271231", "fable", (5, 2)),
        ("claude-opus-4-1", "", ()),
        ("claude-3-5-haiku-20241022", "", ()),
        ("claude-poem-6", "", ()),
        ("gpt-9", "", ()),
    ],
)
def test_a_model_has_its_own_row_or_the_newest_of_its_family(model, family, version):
    profile = profile_of(model)
    assert (profile.family, profile.version) == (family, version)
    assert (profile is UNKNOWN) is (family == "")
    assert is_assumed(model) is (bool(family) and model_name(model).version != version)


def test_profiles_are_one_per_model_and_in_order():
    rows = [(profile.family, profile.version) for profile in PROFILES]
    assert len(set(rows)) == len(rows)
    for family in {profile.family for profile in PROFILES}:
        versions = [version for name, version in rows if name == family]
        assert versions == sorted(versions)
    assert all(profile.known_since >= date(2026, 11, 29) for profile in PROFILES)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.id)
def test_profiles_and_the_simulated_api_agree_on_what_a_model_refuses(model):
    profile = profile_of(model.id)
    assert not is_assumed(model.id)
    assert bool(profile.efforts) is ("effort" not in model.refuses)
    assert profile.sampling is ("sampling" not in model.refuses)
    refused = {"between_tools": "between_tools"} | {
        kind: f"thinking_{kind}" for kind in ("enabled", "adaptive", "disabled")
    }
    assert profile.thinking == {kind for kind, name in refused.items() if name not in model.refuses}
    assert (profile.context_tokens, profile.output_tokens) == (model.max_input_tokens, model.max_tokens)


THINKING = [
    None,
    {"type": "enabled", "budget_tokens": 2_000},
    *({"type": kind} for kind in ("adaptive", *THINKING_OFF)),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.id)
def test_no_simulated_model_refuses_what_it_is_sent_whatever_the_caller_asked_for(model):
    for thinking, effort in itertools.product(THINKING, [None, *EFFORTS]):
        given = {"thinking": thinking, "output_config": {"effort": effort}, "extra_body": {"temperature": 0.5}}
        params = without_marks(request(**{name: value for name, value in given.items() if value}))
        for sent, _ in (original_request(params, model=model.id), translated(params, model=model.id)):
            body = {**sent, **(sent.pop("extra_body", None) or {})}
            fault = message_fault(body, models={model.id: model}, version="2023-06-01")
            assert fault is None, (thinking, effort, fault)


def test_what_a_model_accepts_is_left_alone():
    for model, thinking, effort in [
        (OPUS, {"type": "disabled"}, "max"),
        ("claude-opus-5", {"type": "disabled"}, "high"),
        ("claude-opus-5", {"type": "adaptive"}, "max"),
        ("claude-sonnet-5-5", {"type": "between_tools"}, "low"),
        ("claude-opus-4-5", {"type": "enabled", "budget_tokens": 1_024}, "high"),
    ]:
        params = request(thinking=thinking, output_config={"effort": effort, "a": 1})
        assert original_request(params, model=model) == ({**params, "model": model}, ())


@pytest.mark.parametrize(
    ("model", "given_params", "told"),
    [
        ("claude-sonnet-5-5", {"thinking": {"type": "disabled"}}, ("thinking: disabled -> between_tools",)),
        ("claude-opus-5", {"thinking": {"type": "between_tools"}}, ("thinking: between_tools -> disabled",)),
        ("claude-opus-5-5", {"thinking": {"type": "between_tools"}}, ("thinking: between_tools -> dropped",)),
        ("claude-mythos-5-1", {"thinking": {"type": "disabled"}}, ("thinking: disabled -> dropped",)),
        ("claude-opus-4-6", {"output_config": {"effort": "xhigh"}}, ("effort: xhigh -> high",)),
        ("claude-opus-4-5", {"output_config": {"effort": "max"}}, ("effort: max -> high",)),
        (
            "claude-opus-5",
            {"thinking": {"type": "disabled"}, "output_config": {"effort": "max"}},
            ("effort: max -> high",),
        ),
        (
            "claude-sonnet-5-5",
            {"thinking": {"type": "disabled"}, "output_config": {"effort": "xhigh"}},
            ("thinking: disabled -> between_tools", "effort: xhigh -> high"),
        ),
    ],
)
def test_what_a_newer_model_refuses_becomes_what_comes_nearest(model, given_params, told):
    assert original_request(request(**given_params), model=model)[1] == told


# Thinking counts towards max_tokens


@pytest.mark.parametrize(
    ("model", "more", "granted"),
    [
        (HAIKU, {}, 100 + ENVELOPE_ALLOWANCE),
        (OPUS, {}, 100 + ENVELOPE_ALLOWANCE),
        ("claude-haiku-5-5", {}, 100 + ENVELOPE_ALLOWANCE + THINKING_ALLOWANCE),
        ("global.anthropic.claude-haiku-5-5", {"stream": True}, 100 + ENVELOPE_ALLOWANCE + THINKING_ALLOWANCE),
        ("claude-haiku-9", {}, 100 + ENVELOPE_ALLOWANCE + THINKING_ALLOWANCE),
        ("claude-haiku-5-5", {"thinking": {"type": "disabled"}}, 100 + ENVELOPE_ALLOWANCE),
        ("claude-sonnet-5-5", {"thinking": {"type": "disabled"}}, 100 + ENVELOPE_ALLOWANCE),
        ("claude-opus-5-5", {"thinking": {"type": "disabled"}}, 100 + ENVELOPE_ALLOWANCE + THINKING_ALLOWANCE),
        ("claude-haiku-5-5", {"max_tokens": 20_000}, LARGEST_UNTIMED),
        ("claude-haiku-5-5", {"max_tokens": 127_999, "stream": True}, 127_999),
    ],
)
def test_a_model_that_thinks_has_room_for_it_beside_the_answer(model, more, granted):
    assert triaged(request() | more, model=model)["max_tokens"] == granted


@pytest.mark.parametrize(("model", "thinks"), [(OPUS, False), ("claude-opus-5-5", True), ("claude-opus-9", True)])
def test_a_grader_that_thinks_has_room_for_it_beside_the_grade(model, thinks):
    limit = grading_request(turns(request()), "An answer.", model=model)["max_tokens"]
    assert limit == MAX_TOKENS + (THINKING_ALLOWANCE if thinks else 0)


# The prompt


def test_the_contract_names_both_fields_and_both_bounds():
    for words in ('"confidence"', '"answer"', "0.8 or more", "below 0.5", "null"):
        assert words in CONTRACT
    assert list(SCHEMA["properties"]) == SCHEMA["required"] == ["confidence", "answer"]


def test_a_prompts_version_changes_with_its_text():
    assert triage_prompt().version == triage_prompt().version
    assert len({triage_prompt(text).version for text in (None, "a", "b", "a ")}) == 4
    assert triage_prompt("{{user_input}}").replaces_user_turn
    assert not triage_prompt("user_input").replaces_user_turn
    assert triage_prompt("four" * 10 + "{{user_input}}").tokens == 10


def test_a_timeout_object_is_capped_part_by_part():
    asked = triaged(request(timeout=httpx2.Timeout(60, connect=2)))
    assert asked["timeout"].as_dict() == {"connect": 2, "read": 30.0, "write": 30.0, "pool": 30.0}


@pytest.mark.parametrize("name", ["thinking", "output_config", "extra_body"])
@pytest.mark.parametrize("value", ["on", ["x"], object()])
def test_what_is_no_mapping_is_passed_on_unopened(name, value):
    params = request(**{name: value})
    assert bypass_cause(params) is BypassCause.PARAMETERS
    assert original_request(params, model=OPUS) == ({**params, "model": OPUS}, ())


def test_bytes_are_left_as_they_are():
    assert without_marks({"messages": [{"role": "user", "content": b"hi"}]})["messages"][0]["content"] == b"hi"
