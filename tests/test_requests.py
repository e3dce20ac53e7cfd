import json
from dataclasses import replace

import anthropic
import httpx2
import pytest
from anthropic.types import TextBlock, ThinkingBlock, ToolUseBlock
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops import BypassCause
from cheapdeep_ops.claude.features import bypass_cause
from cheapdeep_ops.claude.profiles import PROFILES, UNKNOWN, profile_of
from cheapdeep_ops.claude.prompt import CONTRACT, SCHEMA, triage_prompt
from cheapdeep_ops.claude.requests import (
    ENVELOPE_ALLOWANCE,
    LARGEST_UNTIMED,
    original_request,
    texts,
    triage_request,
)
from cheapdeep_ops.claude.requests import given as without_marks
from cheapdeep_ops.testing.models import MODELS

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
PROMPT = triage_prompt()


def request(content="hello", **more):
    return {"max_tokens": 100, "messages": [{"role": "user", "content": content}], **more}


def triaged(params, *, model=HAIKU, prompt=PROMPT):
    return translated(params, model=model, prompt=prompt)[0]


def translated(params, *, model=HAIKU, prompt=PROMPT):
    return triage_request(params, model=model, prompt=prompt, timeout_s=30.0)


# What is not triaged


@pytest.mark.parametrize(
    "params",
    [
        request(),
        request([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        request([TextBlock(type="text", text="a")]),
        request(system="Be brief.", metadata={"user_id": "u"}, service_tier="auto"),
        request(cache_control={"type": "ephemeral"}, extra_headers={"x": "y"}, extra_query={"q": "1"}, timeout=5),
        request(output_config={"effort": "high"}, thinking={"type": "disabled"}),
        request(extra_body={"temperature": 0.1, "top_p": 0.5, "top_k": 3}),
        request(stream=True),
        request(tools=[], stop_sequences=[], stream=False, output_config={}, extra_body={}, thinking=None),
    ],
)
def test_plain_requests_are_triaged(params):
    assert bypass_cause(params) is None


@pytest.mark.parametrize(
    ("cause", "params"),
    [
        (BypassCause.TOOLS, request(tools=[{"name": "f"}])),
        (BypassCause.TOOLS, request(tool_choice={"type": "any"})),
        (BypassCause.TOOLS, request(container="c")),
        (BypassCause.TOOLS, request([{"type": "tool_result", "tool_use_id": "t"}])),
        (BypassCause.TOOLS, request([ToolUseBlock(type="tool_use", id="t", name="f", input={})])),
        (BypassCause.TOOLS, request([{"type": "a_block_of_tomorrow"}])),
        (BypassCause.TOOLS, request(["a bare string"])),
        (BypassCause.IMAGES, request([{"type": "text", "text": "a"}, {"type": "image"}])),
        (BypassCause.DOCUMENTS, request([{"type": "document"}])),
        (BypassCause.DOCUMENTS, request([{"type": "search_result"}])),
        (BypassCause.THINKING, request([ThinkingBlock(type="thinking", thinking="hm", signature="s")])),
        (BypassCause.THINKING, request([{"type": "redacted_thinking", "data": "x"}])),
        (BypassCause.THINKING, request(thinking={"type": "enabled", "budget_tokens": 1024})),
        (BypassCause.THINKING, request(thinking={"type": "adaptive"})),
        (BypassCause.STRUCTURED_OUTPUT, request(output_config={"format": {"type": "json_schema"}})),
        (BypassCause.STRUCTURED_OUTPUT, request(output_format=dict)),
        (BypassCause.STOP_SEQUENCES, request(stop_sequences=["END"])),
        (BypassCause.PARAMETERS, request(extra_body={"temperature": 0, "brand_new": 1})),
        (BypassCause.PARAMETERS, request(an_option_of_tomorrow=1)),
        (BypassCause.PARAMETERS, request(speed="fast")),
        (BypassCause.PARAMETERS, request() | {"max_tokens": 0}),
        (BypassCause.PREFILL, request() | {"messages": [{"role": "assistant", "content": "So"}]}),
        (BypassCause.MALFORMED_REQUEST, request() | {"messages": []}),
        (BypassCause.MALFORMED_REQUEST, request() | {"messages": "hello"}),
        (BypassCause.MALFORMED_REQUEST, request() | {"messages": ["hello"]}),
        (BypassCause.MALFORMED_REQUEST, request() | {"messages": None}),
    ],
)
def test_what_triage_would_damage_is_named(cause, params):
    assert bypass_cause(params) is cause


def test_a_cause_anywhere_in_the_conversation_counts():
    turns = [
        {"role": "user", "content": [{"type": "image"}]},
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": "And what colour?"},
    ]
    assert bypass_cause(request() | {"messages": turns}) is BypassCause.IMAGES


# Reading the caller's arguments


def test_marks_for_not_given_are_removed_and_iterators_can_be_read_again():
    blocks = iter([{"type": "text", "text": "a"}])
    params = without_marks(
        request(system=anthropic.omit, tools=anthropic.NOT_GIVEN)
        | {"messages": (turn for turn in [{"role": "user", "content": blocks}])}
    )
    assert params == {"max_tokens": 100, "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}
    assert texts(params) == texts(params) == "a"


def test_all_text_of_the_caller_is_gathered():
    params = request([{"type": "text", "text": "b"}, TextBlock(type="text", text="c")], system="a")
    params["messages"].insert(0, {"role": "user", "content": None})
    assert texts(params) == "a\nb\nc"
    assert texts(request("x", system=[{"type": "text", "text": "s"}])) == "s\nx"


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
    ],
)
def test_what_a_model_refuses_is_translated_and_named(model, given_params, sent, names):
    sent_request, translated = original_request(request(**given_params), model=model)
    assert sent_request == {**request(), "model": model, **sent}
    assert translated == names


# Profiles


def test_the_longest_prefix_decides():
    assert profile_of("claude-opus-4-7-20260416").prefix == "claude-opus-4-7"
    assert profile_of("claude-haiku-5-5").prefix == "claude-haiku-5"
    assert profile_of("gpt-9") is UNKNOWN


def test_profiles_are_one_per_model_line():
    prefixes = [profile.prefix for profile in PROFILES]
    assert len(set(prefixes)) == len(prefixes)
    assert replace(PROFILES[0]) == PROFILES[0]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.id)
def test_profiles_and_the_simulated_api_agree_on_what_a_model_refuses(model):
    profile = profile_of(model.id)
    assert profile.effort is ("effort" not in model.refuses)
    assert profile.sampling is ("sampling" not in model.refuses)
    assert ("enabled" in profile.thinking) is ("thinking_enabled" not in model.refuses)
    assert ("adaptive" in profile.thinking) is ("thinking_adaptive" not in model.refuses)


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
